// The list of all exams of all hospitals, newest first, one line each: by year, narrowed by words and by chips.

import { fill, h } from './dom.js';
import { KINDS, PLACES } from './places.js';
import { currentLanguage, dateText, dayMonthText, reasonText, t } from './text.js';
import { addendumSign, aheadSign, countText, hospital, keyOf, modalitiesOf, newSign, partialSign, severalPatientsSign, shortName, shortSign, titleOf } from './timeline.js';

/** The list. `onchoose(study, side)` is called with 'left' or 'right'. */
export class ExamList {
  constructor(onchoose) {
    Object.assign(this, { onchoose, words: '', wanted: new Set() });
    this.count = h('span.count');
    this.search = h('input.search', { type: 'search', id: 'search', placeholder: () => t('search'), 'aria-label': () => t('search'), 'aria-keyshortcuts': '/', autocomplete: 'off', oninput: () => { this.words = this.search.value; this.#draw(); } });
    this.search.addEventListener('keydown', event => { if (event.key === 'Escape') this.#leaveSearch(event); });
    this.chips = h('div.chips', { role: 'group', 'aria-label': () => t('narrow') });
    this.list = h('ol.exams', { id: 'exams' });
    this.root = h('nav.timeline', { 'aria-label': () => t('exams') }, h('h2', {}, () => t('exams'), this.count), this.search, this.chips, this.list);
  }

  /** Show the exams; `chosen` has the keys left and right, `proposal` is the proposed prior or null, `news` has the keys of those that
   *  came or changed and were not looked at since. */
  show(shown, chosen, proposal, news) {
    Object.assign(this, { shown, chosen, proposal, news });
    this.#draw();
  }

  #leaveSearch(event) {
    event.stopPropagation();
    this.search.value = this.words = '';
    this.search.blur();
    this.#draw();
  }

  #draw() {
    const { studies } = this.shown;
    const focused = document.activeElement?.closest?.('[data-key]')?.dataset.key;
    const side = document.activeElement?.dataset?.side ?? 'left';
    const scroll = this.root.scrollTop;
    const found = studies.filter(study => this.#matches(study));
    this.count.textContent = found.length === studies.length ? t('examCount', { count: studies.length }) : t('examsOf', { found: found.length, count: studies.length });
    this.#drawChips();
    fill(this.list, found.map((study, index) => [yearOf(study) !== yearOf(found[index - 1]) && h('li.year', {}, yearOf(study) || t('undated')), this.#row(study, index)]).flat(), !found.length && h('li.none', {}, t('noneFound')));
    this.root.scrollTop = scroll;
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"] [data-side="${side}"]`)?.focus();
  }

  /** Whether an exam is among those wanted: every word, and of each sort of chip one. */
  #matches(study) {
    const text = textOf(this.shown, study);
    if (!this.words.trim().toLowerCase().split(/\s+/).every(word => text.includes(word))) return false;
    const tags = tagsOf(study);
    const sorts = new Set([...this.wanted].map(tag => tag.split(' ')[0]));
    return [...sorts].every(sort => tags.some(tag => tag.startsWith(`${sort} `) && this.wanted.has(tag)));
  }

  #drawChips() {
    const tags = [...new Set(this.shown.studies.flatMap(tagsOf))].sort();
    const sorts = new Map(tags.map(tag => [tag.split(' ')[0], tags.filter(other => other.split(' ')[0] === tag.split(' ')[0])]));
    const useful = [...sorts.values()].filter(all => all.length > 1).flat();
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.tag : null;
    fill(this.chips, useful.map(tag => h('button.chip', { type: 'button', 'data-tag': tag, 'aria-pressed': String(this.wanted.has(tag)), onclick: () => this.#toggle(tag) }, tagText(tag))));
    if (focused) this.chips.querySelector(`[data-tag="${CSS.escape(focused)}"]`)?.focus();
  }

  #toggle(tag) {
    if (!this.wanted.delete(tag)) this.wanted.add(tag);
    this.#draw();
  }

  #row(study, index) {
    const key = keyOf(study);
    const side = key === this.chosen.left ? 'left' : key === this.chosen.right ? 'right' : null;
    const reports = study.reports.filter(report => report.newest).length;
    const reasons = this.proposal && keyOf(this.proposal) === key ? this.proposal.reasons.map(reasonText).join(', ') : '';
    return h('li', {},
      h(`article.exam${side ? `.${side}` : ''}`, { 'aria-labelledby': `exam-${index}`, 'data-key': key, 'data-uid': study.study_instance_uid },
        h('span.day', { title: dateText(study.study_date, study.study_time) }, dayMonthText(study.study_date)),
        h('span.modality', {}, modalitiesOf(study)),
        h('h3', { id: `exam-${index}`, title: titleOf(study) }, titleOf(study)),
        h('span.facts', {}, this.news.has(key) && newSign(), aheadSign(this.shown, study), severalPatientsSign(study), partialSign(study),
          brief(countText(study)), reports > 0 && brief([t('reportLetter'), t('reportCount', { count: reports })], 'reported'), addendumSign(study)),
        shortSign(this.shown, study.owner),
        h('span.choices', {}, this.#choice(study, 'left', side), this.#choice(study, 'right', side)),
        reasons && h('p.reasons', { title: t('proposedBecause', { reasons }) }, h('strong', {}, t('proposed')), ' ', reasons)));
  }

  /** The button that puts an exam on a side, or says that it is there. */
  #choice(study, to, side) {
    const pressed = side === to;
    const label = to === 'left' ? t(pressed ? 'current' : 'putLeft') : t(pressed ? 'beside' : 'putBeside');
    return h('button.choice', {
      type: 'button', 'data-side': to, 'aria-pressed': String(pressed), title: label, 'aria-label': `${label}: ${titleOf(study)}, ${dateText(study.study_date)}`, onclick: () => this.onchoose(study, to),
    }, to === 'left' ? '◧' : '◨');
  }
}

const yearOf = study => study?.study_date.slice(0, 4);

/** What is told in short to the eye, and in full to a pointer and a screen reader. */
function brief([short, full], name = 'brief') {
  return h(`span.${name}`, { title: full }, h('span', { 'aria-hidden': 'true' }, short), h('span.unseen', {}, ` ${full}`));
}

const tagsOf = study => [
  ...(study.course?.kinds ?? []).map(kind => `kind ${kind}`),
  ...(study.course?.regions ?? []).map(region => `region ${region}`),
  `owner ${study.owner}`,
];

function tagText(tag) {
  const [sort, name] = tag.split(' ');
  const names = { kind: KINDS, region: PLACES }[sort];
  return names ? names[currentLanguage()][name] ?? name : shortName(name);
}

function textOf(shown, study) {
  const tags = tagsOf(study).flatMap(tag => [tagText(tag), tag.split(' ')[1]]);
  return [titleOf(study), dateText(study.study_date), study.study_date, hospital(shown, study.owner).name, ...study.modalities, ...tags].join(' ').toLowerCase();
}
