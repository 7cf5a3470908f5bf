// What paper says that the screen does not: who printed it, at which hospital, and when; and on every sheet whose it is, and what.

import { h, respeak } from './dom.js';
import { statusOf } from './reports.js';
import { dateText, momentText, t } from './text.js';
import { hospital, titleOf } from './timeline.js';

let lines = null;

/** The lines, seen on paper only; `pair()` answers the exams in view, the current one first. */
export function printedLines(shown, pair) {
  const { practitioner, institution } = shown.session;
  lines = h('div.printed', {},
    h('p', {}, () => t('printedBy', { name: practitioner.name, hospital: institution.name, when: momentText(new Date().toISOString()) })),
    h('p', {}, () => pair().map((study, index) => examText(shown, study, index)).join(' · ')));
  return lines;
}

/** An exam, with what a sheet that holds the rest of a report must not leave out. */
function examText(shown, study, index) {
  const preliminary = study.reports.some(report => report.newest && statusOf(report) === 'preliminary');
  const said = [titleOf(study), dateText(study.study_date, study.study_time), hospital(shown, study.owner).name, preliminary && t('paperPreliminary')];
  return `${t(index ? 'beside' : 'current')}: ${said.filter(Boolean).join(', ')}`;
}

addEventListener('beforeprint', () => lines && respeak(lines));
