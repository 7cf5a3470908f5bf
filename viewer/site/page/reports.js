// Reports in full: text as text, whatever it looks like; a PDF in a frame of its own origin; versions newest first.

import { fill, h } from './dom.js';
import { dateText, t } from './text.js';
import { get, imageUrl } from './session.js';
import { ownerOf } from './timeline.js';

/** The reports of an exam, the newest version open, earlier ones to unfold. */
export function reportsOf(shown, study) {
  if (!study.reports.length) return h('section.reports', { 'aria-label': t('reports') }, h('p.none', {}, t('noReport')));
  const groups = new Map();
  for (const report of study.reports) {
    const group = report.set ?? report.title ?? '';
    groups.set(group, [...(groups.get(group) ?? []), report]);
  }
  return h('section.reports', { 'aria-label': t('reports') }, [...groups.values()].map(versions => {
    const [newest, ...older] = versions.sort((one, other) => (Number(other.version) || 0) - (Number(one.version) || 0) || (other.date ?? '').localeCompare(one.date ?? ''));
    return h('article.report', {}, reportBody(study, newest, versions.length > 1),
      older.length > 0 && h('details', {}, h('summary', {}, `${t('olderVersions')} (${older.length})`), older.map(report => {
        const details = h('details.older', {}, h('summary', {}, heading(report)));
        details.addEventListener('toggle', () => details.open && details.children.length === 1 && details.append(content(study, report)));
        return details;
      })));
  }));
}

function heading(report) {
  return [report.title || t('reports'), report.version && t('version', { number: report.version }), report.date && dateText(report.date.replace(/[-T:]/g, '').slice(0, 8))].filter(Boolean).join(' · ');
}

function reportBody(study, report, versioned) {
  const title = report.title || t('reports');
  const details = [versioned && report.version && t('version', { number: report.version }), report.date && dateText(report.date.replace(/[-T:]/g, '').slice(0, 8)), report.author].filter(Boolean);
  return [h('header', {}, h('h3', {}, title), details.length > 0 && h('p.when', {}, details.join(' · '))), content(study, report)];
}

function content(study, report) {
  const place = h('div.text', {}, h('p.waiting', {}, t('reportLoading')));
  load(study, report, place);
  return place;
}

async function load(study, report, place) {
  try {
    const query = new URLSearchParams(ownerOf(study));
    const found = await get(`/view/studies/${study.study_instance_uid}/reports/${report.sop_instance_uid}?${query}`);
    if (found.kind === 'pdf') {
      const path = `/studies/${study.study_instance_uid}/series/${found.series_instance_uid}/instances/${report.sop_instance_uid}/rendered`;
      fill(place, h('iframe.pdf', { src: imageUrl(path, { ...ownerOf(study), accept: 'application/pdf' }), title: report.title || t('reports'), referrerpolicy: 'no-referrer' }));
      return;
    }
    fill(place, found.sections.map(section => [section.heading && h('h4', {}, section.heading), ...section.text.split(/\n{2,}/).map(text => h('p', {}, text))]).flat());
  } catch {
    fill(place, h('p.waiting', {}, t('reportFailed')));
  }
}
