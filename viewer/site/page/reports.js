// Reports in full: text as text, whatever it looks like; a PDF in a frame of its own origin; versions newest first.

import { fill, h } from './dom.js';
import { dateText, t } from './text.js';
import { get, reportUrl } from './session.js';
import { ownerOf, titleOf } from './timeline.js';

/** The reports of an exam: what stands, in full; the versions that it replaced, to unfold. A copy of one is not shown again. */
export function reportsOf(shown, study, side) {
  const region = { tabindex: 0, role: 'region', 'aria-label': `${side}, ${t('reports')}: ${titleOf(study)}` };
  if (!study.reports.length) return h('div.reports', region, h('p.none', {}, t('noReport')));
  const documents = new Map();
  for (const report of study.reports.filter(one => !one.same_as)) {
    documents.set(report.document ?? report.sop_instance_uid, [...(documents.get(report.document) ?? []), report]);
  }
  return h('div.reports', region, [...documents.values()].flatMap(versions => {
    const standing = versions.filter(one => one.newest);
    const [last, ...before] = standing.length ? standing : versions.slice(0, 1);
    const older = versions.filter(one => one !== last && !before.includes(one));
    return [last, ...before].map((report, index) => article(study, report, index === before.length ? older : []));
  }));
}

function article(study, report, older) {
  const versioned = report.version > 1 || older.length > 0;
  return h('article.report', {},
    h('header', {}, h('h3', {}, report.title || t('reports')), h('p.when', {}, details(report, versioned), status(report))),
    content(study, report),
    older.length > 0 && h('details', {}, h('summary', {}, `${t('olderVersions')} (${older.length})`), older.map(one => {
      const unfolded = h('details.older', {}, h('summary', {}, details(one, true), status(one)));
      unfolded.addEventListener('toggle', () => unfolded.open && unfolded.children.length === 1 && unfolded.append(content(study, one)));
      return unfolded;
    })));
}

const STATUSES = { preliminary: 'preliminary', partial: 'partialReport', addendum: 'addendum', corrected: 'corrected', cancelled: 'cancelled' };

/** What kind of version it is; one that is simply final says nothing. */
function status(report) {
  const said = report.status ?? (report.preliminary ? 'preliminary' : 'final');
  return STATUSES[said] ? h(`span.status.${said}`, {}, t(STATUSES[said])) : null;
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
    fill(place, h('iframe.pdf', { src: `${reportUrl(study.study_instance_uid, report.sop_instance_uid, ownerOf(study))}#navpanes=0&view=FitH`, title, referrerpolicy: 'no-referrer' }));
    return;
  }
  try {
    const query = new URLSearchParams(ownerOf(study));
    const { text } = await get(`/view/studies/${study.study_instance_uid}/reports/${report.sop_instance_uid}?${query}`);
    fill(place, text.trim().split(/\n{2,}/).map(paragraph => h('p', {}, labelled(paragraph))));
  } catch {
    fill(place, h('p.waiting', {}, t('reportFailed')), h('button', { type: 'button', onclick: () => { fill(place, h('p.waiting', {}, t('reportLoading'))); load(study, report, place); } }, t('retry')));
  }
}

/** A paragraph whose first words are a label, as in "Conclusioni: …", with the label to be found at a glance. */
function labelled(paragraph) {
  const label = /^\p{Lu}[\p{L}'’ ]{2,40}:(?=\s)/u.exec(paragraph)?.[0];
  return label ? [h('strong', {}, label), paragraph.slice(label.length)] : [paragraph];
}
