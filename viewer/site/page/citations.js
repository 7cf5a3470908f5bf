// Earlier exams that a report cites, in its text: one click puts that exam beside. What may be several offers each; what is not among
// the exams of this reading says so.

import { h } from './dom.js';
import { dateText, t } from './text.js';
import { hospital, keyOf, titleOf } from './timeline.js';

/** A section's text in pieces: strings, and an array of elements for each citation. `shown` is the timeline. */
export function withCitations(shown, { text, citations = [] }) {
  const pieces = [];
  let from = 0;
  for (const cited of citations) {
    const at = text.indexOf(cited.text, from);
    if (at < 0) continue;
    pieces.push(text.slice(from, at), citation(shown, cited));
    from = at + cited.text.length;
  }
  return [...pieces, text.slice(from)];
}

function citation(shown, { text, studies }) {
  const exams = studies.map(exam => shown.studies.find(study => keyOf(study) === keyOf(exam))).filter(Boolean);
  if (!exams.length) return [h('span.cited', {}, text), h('span.note', {}, () => ` (${t('citedAbsent')})`)];
  if (exams.length === 1) return [besideButton(shown, exams[0], text)];
  const choices = exams.flatMap((exam, index) => [index > 0 ? ' · ' : '', besideButton(shown, exam, () => named(shown, exam))]);
  return [h('span.cited', {}, text), h('span.note', {}, () => ` (${t('citedSeveral')} `, choices, ')')];
}

const named = (shown, exam) => `${titleOf(exam)}, ${dateText(exam.study_date, exam.study_time)}, ${hospital(shown, exam.owner).name}`;

/** What a click asks for goes to the page as an event: `contenitore:beside`, with the exam's key. */
function besideButton(shown, exam, text) {
  const name = () => t('citedBeside', { exam: named(shown, exam) });
  const said = () => (typeof text === 'function' ? text() : text);
  const ask = event => event.currentTarget.dispatchEvent(new CustomEvent('contenitore:beside', { bubbles: true, detail: keyOf(exam) }));
  return h('button.cite', { type: 'button', title: name, 'aria-label': () => `${said()}: ${name()}`, 'data-cited': exam.study_instance_uid, onclick: ask }, text);
}
