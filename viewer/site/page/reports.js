// Reports in full: text as text and by its sections, whatever it looks like; a PDF in a frame of its own origin; versions newest
// first, with what is new in each.

import { withCitations } from './citations.js';
import { fill, h } from './dom.js';
import { dateText, t } from './text.js';
import { openPdf } from './pdf-windows.js';
import { get, getPdf } from './session.js';
import { partsChanged, sectionParts } from './sections.js';
import { hospital, keyOf, ownerOf, titleOf } from './timeline.js';
import { marked, paired } from './versions.js';

const AGAIN_AFTER = 1500;

/** The reports of an exam, which `side()` it is: what stands, in full; the versions that it replaced, to unfold. A copy of one is not shown again. */
export function reportsOf(shown, study, side) {
  const region = { role: 'region', 'aria-label': () => `${side()}, ${t('reports')}: ${titleOf(study)}` };
  const whose = h('p.whose', {}, h('strong', {}, side), () => ` ${titleOf(study)}, ${dateText(study.study_date)}, ${hospital(shown, study.owner).name}`);
  if (!study.reports.length) return h('div.reports', region, whose, h('p.none', {}, () => t('noReport')));
  region['data-exams'] = examsOf(shown);
  const documents = new Map();
  for (const report of study.reports.filter(candidate => !candidate.same_as)) {
    documents.set(report.document ?? report.sop_instance_uid, [...(documents.get(report.document) ?? []), report]);
  }
  return h('div.reports', region, whose, [...documents.values()].flatMap(versions => {
    const standing = versions.filter(version => version.newest);
    const [last, ...before] = standing.length ? standing : versions.slice(0, 1);
    const older = versions.filter(version => version !== last && !before.includes(version));
    return [last, ...before].map((report, index) => article(shown, study, report, index === before.length ? older : []));
  }));
}

const examsOf = shown => shown.studies.map(keyOf).sort().join(' ');

/** Whether what reports cite has to be looked up again: other exams are there than when they were read. */
export const citesOthers = (reports, shown) => reports.dataset.exams !== examsOf(shown) && reports.querySelector('.cite, .cited') !== null;

function article(shown, study, report, older) {
  const versioned = report.version > 1 || older.length > 0;
  const text = content(shown, study, report);
  return h('article.report', {},
    h('header', {}, h('h3', {}, () => report.title || t('reports')),
      h('p.when', {}, () => details(report, versioned), status(report), older.length > 0 && [report, older[0]].every(version => version.kind !== 'pdf') && whatChanged(shown, study, report, older[0], text)),
      h('p.order')),
    text,
    older.length > 0 && h('details', {}, h('summary', {}, () => `${t('olderVersions')} (${older.length})`), older.map(version => {
      const unfolded = h('details.older', {}, h('summary', {}, () => details(version, true), status(version)));
      unfolded.addEventListener('toggle', () => unfolded.open && unfolded.children.length === 1 && unfolded.append(content(shown, study, version)));
      return unfolded;
    })));
}

const STATUSES = { preliminary: 'preliminary', partial: 'partialReport', addendum: 'addendum', corrected: 'corrected', cancelled: 'cancelled' };

/** What kind of version it is: a word of the contract's. */
export const statusOf = report => report.status ?? (report.preliminary ? 'preliminary' : 'final');

/** That, for people; one that is simply final says nothing. */
function status(report) {
  const said = statusOf(report);
  return STATUSES[said] ? h(`span.status.${said}`, {}, () => t(STATUSES[said])) : null;
}

function details(report, versioned) {
  return [dateText(report.date, report.time), versioned && t('version', { number: report.version })].filter(Boolean).join(' · ');
}

/** Words where a report is to stand. */
const waiting = key => h('p.waiting', {}, () => t(key));

function content(shown, study, report) {
  const place = h('div.text', {}, waiting('reportLoading'));
  load(shown, study, report, place);
  return place;
}

/** Put a report into its place; what fails is tried once more by itself, then with words and a button. Nothing but the report is
 *  ever shown there: no error, and no PDF that is none. */
async function load(shown, study, report, place, again = true) {
  place.classList.remove('failed');
  try {
    fill(place, report.kind === 'pdf' ? await pdf(study, report) : await text(shown, study, report));
    partsChanged(place);
  } catch (trouble) {
    if (trouble.kind === 'unreadable') {
      fill(place, waiting(report.kind === 'pdf' ? 'reportNoPdf' : 'reportUnreadable'));
      return;
    }
    if (again) {
      setTimeout(() => place.isConnected && load(shown, study, report, place, false), AGAIN_AFTER);
      return;
    }
    place.classList.add('failed');
    fill(place, waiting('reportFailed'), h('button', { type: 'button', onclick: () => { fill(place, waiting('reportLoading')); load(shown, study, report, place, false); } }, () => t('retry')));
  }
}

/** A report by its sections; of a text without headings there is one. */
async function text(shown, study, report) {
  const sections = await sectionsOf(study, report);
  return sections.length ? sectionParts(sections, section => paragraphs(withCitations(shown, section))) : waiting('reportEmpty');
}

/** A PDF in its frame, once it is here and is one: a frame by itself would show whatever came instead. */
async function pdf(study, report) {
  const content = await getPdf(study.study_instance_uid, report.sop_instance_uid, ownerOf(study));
  if (!content.size) return waiting('reportEmpty');
  if (!(await content.slice(0, 1024).text()).includes('%PDF-')) return waiting('reportNoPdf');
  const address = URL.createObjectURL(content);
  const frame = h('iframe.pdf', { src: `${address}#toolbar=0&navpanes=0&view=FitH`, title: () => report.title || t('reports'), referrerpolicy: 'no-referrer', onload: () => URL.revokeObjectURL(address) });
  const asSent = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => asSent.setAttribute('aria-pressed', String(frame.classList.toggle('as-sent'))) }, () => t('pdfAsSent'));
  return [h('p.pdf-tools', {}, h('button', { type: 'button', onclick: () => openPdf(study, report, content) }, () => t('pdfOpen')), ' ', asSent), h('p.pdf-note', {}, () => t('pdfPrint')), frame];
}

async function sectionsOf(study, report) {
  const query = new URLSearchParams(ownerOf(study));
  const { text: whole, sections } = await get(`/view/studies/${study.study_instance_uid}/reports/${report.sop_instance_uid}?${query}`);
  return sections.length || !whole.trim() ? sections : [{ kind: '', title: '', text: whole }];
}

/** Paragraphs from pieces of text, and from arrays of elements that stand within a paragraph. */
function paragraphs(pieces) {
  const found = [[]];
  for (const piece of pieces) {
    if (Array.isArray(piece)) found.at(-1).push(...piece);
    else {
      piece.split(/\n{2,}/).forEach((text, index) => {
        if (index) found.push([]);
        found.at(-1).push(...(found.at(-1).length ? [text] : labelled(text)));
      });
    }
  }
  return found.filter(all => all.some(piece => typeof piece !== 'string' || piece.trim())).map(all => h('p', {}, all));
}

/** The button that marks what is different from the version before, in the text itself, and takes the marks away. */
function whatChanged(shown, study, report, before, place) {
  const name = () => details(before, true);
  const button = h('button.changes', { type: 'button', 'aria-pressed': 'false', onclick: async () => {
    const wanted = button.getAttribute('aria-pressed') === 'false';
    button.setAttribute('aria-pressed', String(wanted));
    if (!wanted) return load(shown, study, report, place);
    try {
      const [was, is] = await Promise.all([before, report].map(version => sectionsOf(study, version)));
      if (button.getAttribute('aria-pressed') !== 'true') return undefined;
      const parts = sectionParts(paired(was, is).map(([section, old]) => ({ ...section, old })), section => marked(section.old, section.text));
      fill(place, parts);
      const equal = !place.querySelector('ins, del');
      parts[0]?.prepend(h('p.legend', { role: 'status' }, () => t(equal ? 'changesNone' : 'changesSince', { version: name() }),
        !equal && [' ', h('ins', {}, () => t('added')), ' ', h('del', {}, () => t('removed'))]));
      partsChanged(place);
    } catch {
      button.setAttribute('aria-pressed', 'false');
      load(shown, study, report, place);
    }
    return undefined;
  } }, () => t('changes'));
  return button;
}

/** A paragraph whose first words are a label, as in "Conclusioni: …", with the label to be found at a glance. */
function labelled(paragraph) {
  const label = /^\p{Lu}[\p{L}'’ ]{2,40}:(?=\s)/u.exec(paragraph)?.[0];
  return label ? [h('strong', {}, label), paragraph.slice(label.length)] : [paragraph];
}
