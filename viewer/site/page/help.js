// What one can do here, for who sees the page for the first time: how one compares, and every key.

import { h } from './dom.js';
import { t } from './text.js';

const STEPS = ['helpBeside', 'helpScale', 'helpBlink', 'helpReports'];
const KEYS = [
  ['← →', 'helpStep'], ['⇧ ← →', 'helpStepOther'], ['P', 'helpPin'], ['↑ ↓', 'helpImages'],
  ['M', 'helpScaleKey'], ['Space', 'helpBlinkKey'], ['L', 'helpAlign'], ['X', 'helpSwap'],
  ['Z + -', 'helpZoom'], ['W , . < >', 'helpWindow'], ['1 … 5, 0', 'helpPresets'], ['I', 'helpInvert'],
  ['K', 'helpKeyImages'], ['G', 'helpMarks'], ['R', 'helpReset'], ['C', 'helpCite'], ['/', 'helpSearch'], ['V, Esc', 'helpViewer'],
];

let shown = null;

/** Show it, or take it away again. */
export function help() {
  if (shown) return shown.close();
  const name = key => (key === 'Space' ? t('space') : key);
  const dialog = h('dialog.ask.help', { 'aria-labelledby': 'help-title' },
    h('h2', { id: 'help-title' }, t('helpTitle')),
    h('ol', {}, STEPS.map(step => h('li', {}, t(step)))),
    h('dl', {}, KEYS.map(([key, what]) => h('div', {}, h('dt', {}, h('kbd', {}, name(key))), h('dd', {}, t(what))))),
    h('p.row', {}, h('button.primary', { type: 'button', onclick: () => dialog.close() }, t('helpClose'))));
  dialog.addEventListener('keydown', event => {
    event.stopPropagation();
    if (event.key === '?') dialog.close();
  });
  dialog.addEventListener('close', () => {
    dialog.remove();
    shown = null;
  });
  document.body.append(dialog);
  shown = dialog;
  return dialog.showModal();
}
