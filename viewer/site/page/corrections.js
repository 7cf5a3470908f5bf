// What the reader had read and was corrected or withdrawn since: it stands above everything until they take note of it.

import { h } from './dom.js';
import { dateText, momentText, t } from './text.js';
import { hospital, keyOf, titleOf } from './timeline.js';

/** A line for each correction, or null. `onshow(study)` leads to what stands now, `onnote(correction)` says that note was taken. */
export function correctionList(shown, { onshow, onnote }) {
  const corrections = shown.corrections ?? [];
  if (!corrections.length) return null;
  return h('ul.corrections', { 'aria-label': t('corrections') }, corrections.map(correction => line(shown, correction, onshow, onnote)));
}

function line(shown, correction, onshow, onnote) {
  const study = shown.studies.find(known => keyOf(known) === keyOf(correction));
  const said = { hospital: hospital(shown, correction.owner).name, when: momentText(correction.read_at) };
  const text = correction.kind === 'study-withdrawn' || !study ? t('correctionWithdrawn', said)
    : t('correctionOfReport', { ...said, what: `${titleOf(study)}, ${dateText(study.study_date)}` });
  return h('li', {}, h('strong', {}, text),
    correction.kind !== 'study-withdrawn' && study && h('button', { type: 'button', onclick: () => onshow(study) }, t('show')),
    h('button.primary', { type: 'button', 'aria-label': `${t('correctionNoted')}: ${text}`, onclick: () => onnote(correction) }, t('correctionNoted')));
}
