// Reports in full: text as text, whatever it looks like; a PDF in a frame of its own origin; versions newest first.

import { fill, h } from './dom.js';
import { dateText, t } from './text.js';
import { get, reportUrl } from './session.js';
import { ownerOf } from './timeline.js';

/** The reports of an exam, the newest version open, earlier ones to unfold. */
export function reportsOf(shown, study) {
  if (!study.reports.length) return h('div.reports', {}, h('p.none', {}, t('noReport')));
  const documents = new Map();
  for (const report of study.reports) {
    const document = [report.series_instance_uid, report.kind, report.title].join(' ');
    documents.set(document, [...(documents.get(document) ?? []), report]);
  }
  return h('div.reports', {}, [...documents.values()].map(versions => {
    const [newest, ...older] = versions.sort((one, other) => Number(other.newest) - Number(one.newest) || other.version - one.version);
    return h('article.report', {}, h('header', {}, h('h3', {}, newest.title || t('reports')), h('p.when', {}, details(newest, older.length > 0))), content(study, newest),
      older.length > 0 && h('details', {}, h('summary', {}, `${t('olderVersions')} (${older.length})`), older.map(report => {
        const unfolded = h('details.older', {}, h('summary', {}, details(report, true)));
        unfolded.addEventListener('toggle', () => unfolded.open && unfolded.children.length === 1 && unfolded.append(content(study, report)));
        return unfolded;
      })));
  }));
}

function details(report, versioned) {
  return [dateText(report.date, report.time), versioned && t('version', { number: report.version })].filter(Boolean).join(' · ');
}

function content(study, report) {
  const place = h('div.text', {}, h('p.waiting', {}, t('reportLoading')));
  load(study, report, place);
  return place;
}

async function load(study, report, place) {
  const title = report.title || t('reports');
  if (report.kind === 'pdf') {
    fill(place, h('iframe.pdf', { src: reportUrl(study.study_instance_uid, report.sop_instance_uid, ownerOf(study)), title, referrerpolicy: 'no-referrer' }));
    return;
  }
  try {
    const query = new URLSearchParams(ownerOf(study));
    const { text } = await get(`/view/studies/${study.study_instance_uid}/reports/${report.sop_instance_uid}?${query}`);
    fill(place, text.trim().split(/\n{2,}/).map(paragraph => h('p', {}, paragraph)));
  } catch {
    fill(place, h('p.waiting', {}, t('reportFailed')));
  }
}
