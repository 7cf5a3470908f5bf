// What paper says that the screen does not: who printed it, at which hospital, and when.

import { h } from './dom.js';
import { momentText, t } from './text.js';

let line = null;
let reader = null;

/** The line, seen on paper only. */
export function printedLine(shown) {
  reader = { name: shown.session.practitioner.name, hospital: shown.session.institution.name };
  line = h('p.printed');
  tell();
  return line;
}

function tell() {
  if (line) line.textContent = t('printedBy', { ...reader, when: momentText(new Date().toISOString()) });
}

addEventListener('beforeprint', tell);
