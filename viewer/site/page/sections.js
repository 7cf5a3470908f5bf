// The sections of reports, and those of two reports at one height. What was written is all there, in the order in which it was
// written; where the other report has another order, its section is drawn beside its like, and that is said.

import { fill, h } from './dom.js';
import { t } from './text.js';

const KINDS = new Set(['question', 'history', 'technique', 'comparison', 'findings', 'impression', 'recommendation', 'addendum']);

/** What a section is called: as it was written; where it has no title, by its kind. */
export const sectionTitle = section => section.title || (KINDS.has(section.kind) ? t(`section_${section.kind}`) : '');

/** Sections as elements; `told(section)` gives the paragraphs of one. */
export function sectionParts(sections, told) {
  return sections.map(section => h('section.part', { 'data-kind': section.kind, 'data-title': () => sectionTitle(section) },
    sectionTitle(section) && h('h4', {}, () => sectionTitle(section)), told(section)));
}

/** An article's sections have come, or have changed: whoever puts them beside others hears of it. */
export const partsChanged = element => element.dispatchEvent(new Event('contenitore:parts', { bubbles: true }));

/**
 * The reports of both panes in one place that scrolls, so that like sections stand at one height: below the pictures, and beside
 * the viewer while that is open. `left` and `right` hold the reports of each pane.
 */
export class ReportsOfBoth {
  constructor(left, right) {
    Object.assign(this, { left, right });
    this.both = h('div.both', { tabindex: 0, role: 'region', 'aria-label': () => t('reports') }, left, right);
    this.fold = h('button.fold', { type: 'button', 'aria-controls': 'reports', onclick: () => fold(!folded()) }, () => t('reports'));
    this.root = h('div.dock', { id: 'reports' }, h('div.dock-bar', {}, this.fold), this.both);
    this.both.addEventListener('contenitore:parts', () => this.#align());
    this.both.addEventListener('keydown', event => (event.key.startsWith('Arrow') || event.key === ' ') && event.stopPropagation()); // they scroll here
    for (const side of [left, right]) new MutationObserver(() => this.#align()).observe(side, { childList: true });
    const drawFold = () => this.fold.setAttribute('aria-expanded', String(!folded()));
    new MutationObserver(drawFold).observe(document.documentElement, { attributeFilter: ['data-dock'] });
    fold(folded());
    drawFold();
  }

  /** Rows for both: what stands before the two reports, their headers, their sections, what belongs to them, and what follows. */
  #align() {
    const sides = [this.left, this.right].map(side => [...side.querySelectorAll('.reports > .report')]);
    const mains = sides.map(mainOf);
    const parts = mains.map(partsOf);
    const [mine, theirs] = parts.map(keys);
    const common = theirs.filter(key => mine.includes(key));
    this.both.classList.toggle('aligned', common.length > 0);
    for (const report of sides.flat()) {
      report.classList.toggle('main', mains.includes(report));
      fill(report.querySelector('.order'));
    }
    if (!common.length) return;
    const sections = merged(mine, theirs);
    const first = 1 + Math.max(...sides.map((reports, side) => reports.indexOf(mains[side])));
    const last = first + sections.length + 1;
    const rows = Math.max(...sides.map((reports, side) => last + reports.length - 1 - reports.indexOf(mains[side])));
    for (const [name, number] of Object.entries({ rows, first, last, span: last - first + 1 })) this.both.style.setProperty(`--${name}`, number);
    [mine, theirs].forEach((names, side) => {
      names.forEach((key, index) => parts[side][index].style.setProperty('--row', sections.indexOf(key) + 2));
      const at = sides[side].indexOf(mains[side]);
      sides[side].forEach((report, index) => report.style.setProperty('--row', index < at ? first - at + index : last + index - at));
    });
    const placed = theirs.map(key => sections.indexOf(key));
    if (placed.some((row, index) => index > 0 && row < placed[index - 1])) {
      const titles = () => parts[1].map(part => part.dataset.title).filter(Boolean).join(', ');
      fill(mains[1].querySelector('.order'), () => t('sectionsOrder', { titles: titles() }));
    }
  }
}

const partsOf = report => [...(report?.querySelectorAll(':scope > .text > .part') ?? [])];

/** The report of an exam whose sections are compared: the one that has most of those that are known; an addendum is not it. */
function mainOf(reports) {
  const known = report => partsOf(report).filter(part => part.dataset.kind && part.dataset.kind !== 'addendum').length;
  return reports.reduce((best, report) => (best && known(best) >= known(report) ? best : report), null);
}

/** What each section is found by in the other report: its kind, and the how manieth of it; others stand alone. */
function keys(parts) {
  const seen = new Map();
  return parts.map((part, index) => {
    const { kind, title } = part.dataset;
    const name = kind || (index === 0 && !title ? 'beginning' : `${title.toLowerCase()} `);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return `${name} ${seen.get(name)}`;
  });
}

/** One order for both: that of the first, each one of the second alone after what it follows there. */
function merged(mine, theirs) {
  const rows = [...mine];
  let after = -1;
  for (const key of theirs) {
    const at = rows.indexOf(key);
    if (at >= 0) after = at;
    else rows.splice((after += 1), 0, key);
  }
  return rows;
}

const FOLDED = 'contenitore.dock';

/** Whether the reports beside the viewer are folded: as left last time, else where the window has no room for them. */
function folded() {
  return document.documentElement.dataset.dock ? document.documentElement.dataset.dock === 'folded' : kept() ?? innerWidth < 1600;
}

function kept() {
  try {
    return { folded: true, open: false }[localStorage.getItem(FOLDED)];
  } catch {
    return undefined;
  }
}

function fold(now) {
  const before = document.documentElement.dataset.dock;
  document.documentElement.dataset.dock = now ? 'folded' : 'open';
  if (!before) return;
  try {
    localStorage.setItem(FOLDED, now ? 'folded' : 'open');
  } catch {
    // a browser that keeps nothing begins anew each time
  }
}
