// What paper says that the screen does not: who printed it, at which hospital, and when.

import { h, respeak } from './dom.js';
import { momentText, t } from './text.js';

let line = null;

/** The line, seen on paper only. */
export function printedLine({ session: { practitioner, institution } }) {
  line = h('p.printed', {}, () => t('printedBy', { name: practitioner.name, hospital: institution.name, when: momentText(new Date().toISOString()) }));
  return line;
}

addEventListener('beforeprint', () => line && respeak(line));
