// What the reader had read and was corrected or withdrawn since, and what was on the screen and had to go: it stands above everything
// until they take note of it.

import { h } from './dom.js';
import { dateText, momentText, t } from './text.js';
import { hospital, keyOf, titleOf } from './timeline.js';

/**
 * A line for each correction, and for each exam that is `gone` from the screen; or null. `onshow(study)` leads to what stands now,
 * `onnote(correction)` says that note was taken of what the archive tells, `ontaken(gone)` that it was of an exam that is gone: of
 * one of which both tell there is one line.
 */
export function correctionList(shown, gone, { onshow, onnote, ontaken }) {
  const withdrawn = (correction, exam) => correction.kind === 'study-withdrawn' && keyOf(correction) === exam.key;
  const corrections = (shown.corrections ?? []).filter(correction => !gone.some(exam => withdrawn(correction, exam)));
  if (!corrections.length && !gone.length) return null;
  return h('ul.corrections', { 'aria-label': t('corrections') },
    gone.map(exam => goneLine(shown, exam, () => {
      for (const correction of (shown.corrections ?? []).filter(told => withdrawn(told, exam))) onnote(correction);
      ontaken(exam);
    })),
    corrections.map(correction => line(shown, correction, onshow, onnote)));
}

/** Which exam is gone, by its hospital and day: what it was called may not be shown any more. And which one stands in its place. */
function goneLine(shown, { side, named: { name, date, time }, now }, ontaken) {
  const instead = shown.studies.find(study => keyOf(study) === now);
  const named = { hospital: name, date: dateText(date, time) };
  const text = [
    t(side === 'left' ? 'goneCurrent' : 'goneBeside', named),
    instead && t(side === 'left' ? 'nowCurrent' : 'nowBeside', { what: titleOf(instead), date: dateText(instead.study_date, instead.study_time), hospital: hospital(shown, instead.owner).name }),
  ].filter(Boolean).join(' ');
  return h('li', {}, h('strong', {}, text), noted(text, ontaken));
}

const noted = (text, onclick) => h('button.primary', { type: 'button', 'aria-label': `${t('correctionNoted')}: ${text}`, onclick }, t('correctionNoted'));

function line(shown, correction, onshow, onnote) {
  const study = shown.studies.find(known => keyOf(known) === keyOf(correction));
  const said = { hospital: hospital(shown, correction.owner).name, when: momentText(correction.read_at) };
  const text = correction.kind === 'study-withdrawn' || !study ? t('correctionWithdrawn', said)
    : t('correctionOfReport', { ...said, what: `${titleOf(study)}, ${dateText(study.study_date)}` });
  return h('li', {}, h('strong', {}, text),
    correction.kind !== 'study-withdrawn' && study && h('button', { type: 'button', onclick: () => onshow(study) }, t('show')),
    noted(text, () => onnote(correction)));
}
