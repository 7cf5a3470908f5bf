// The course: every exam of the current one's region and kind, of both hospitals, oldest to newest, above the two that are compared.

import { courseName } from './places.js';
import { courseOf, coursesOf, withEvents } from './course.js';
import { fill, h } from './dom.js';
import { currentLanguage, dayOf, dayText, t } from './text.js';
import { addendumSign, aheadSign, firstOf, hospital, isAhead, keyOf, newSign, shortName, shortSign, thumbnail, titleOf } from './timeline.js';

const MOST_COURSES = 6;

/** The strip. `onstep(study, side)` is called with 'left' or 'right'; `onpin(pinned)` when the baseline is held or let go. */
export class Strip {
  constructor({ onstep, onpin }) {
    Object.assign(this, { onstep, onpin });
    this.courses = h('div.courses', { role: 'group', 'aria-label': () => t('courses') });
    this.pin = h('button.pin', { type: 'button', id: 'pin', 'aria-pressed': 'false', title: () => t('pinWhy'), onclick: () => this.onpin() }, () => t('pin'));
    this.back = h('button.pin.back', { type: 'button', id: 'back', hidden: true, onclick: () => this.onstep(this.first, 'left') });
    this.list = h('ol.course', { role: 'list', 'aria-label': () => t('course') });
    this.root = h('section.strip', { 'aria-label': () => t('course') }, h('div.row', {}, this.courses, this.back, this.pin), this.list);
  }

  /** Show the course of the current exam. `chosen` has the keys left and right, `news` the keys of what was not looked at yet. */
  show(shown, chosen, pinned, news) {
    const current = shown.studies.find(study => keyOf(study) === chosen.left);
    Object.assign(this, { shown, news });
    const course = current ? courseOf(shown.studies, current) : [];
    this.root.hidden = !current;
    this.pin.setAttribute('aria-pressed', String(pinned));
    this.pin.disabled = !chosen.right;
    this.first = firstOf(shown);
    this.back.hidden = !current || current === this.first;
    this.back.textContent = this.back.hidden ? '' : t('backTo', { what: titleOf(this.first), date: dayText(this.first.study_date) });
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest('[data-key]')?.dataset.key : null;
    fill(this.list, withEvents(course, this.#events()).map(({ study, event }) => (study ? this.#card(study, chosen) : this.#mark(event))));
    this.#showCourses(current);
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"] .step`)?.focus({ preventScroll: true });
    (this.list.querySelector('.card.left') ?? this.list.lastElementChild)?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  #showCourses(current) {
    const courses = coursesOf(this.shown.studies);
    const shown = courses.slice(0, MOST_COURSES);
    const mine = courses.find(({ studies }) => studies.includes(current));
    if (mine && !shown.includes(mine)) shown.push(mine);
    fill(this.courses, shown.map(course => h('button.chip', {
      type: 'button', 'aria-pressed': String(course === mine), onclick: () => course !== mine && this.onstep(course.studies.find(study => !isAhead(this.shown, study)) ?? course.newest, 'left'),
    }, courseName(course, currentLanguage()), ' ', h('span.count', {}, String(course.studies.length)))));
  }

  #card(study, chosen) {
    const side = keyOf(study) === chosen.left ? 'left' : keyOf(study) === chosen.right ? 'right' : null;
    const { name } = hospital(this.shown, study.owner);
    const when = dayText(study.study_date);
    return h(`li.card${side ? `.${side}` : ''}`, { 'data-key': keyOf(study) },
      h('button.step', { type: 'button', title: `${titleOf(study)}, ${name}`, 'aria-current': side === 'left' ? 'true' : null, 'aria-label': t('stepTo', { what: titleOf(study), date: when, hospital: name }), onclick: () => this.onstep(study, 'left') },
        thumbnail(study),
        h('span.what', {},
          h('span.row', {}, h('span.day', {}, when), h('span.views', {}, study.views?.join(' ') || '')),
          shortSign(this.shown, study.owner),
          this.news.has(keyOf(study)) && newSign(), aheadSign(this.shown, study), addendumSign(study),
          h('span.line', {}, lineOf(study)))),
      side ? h('span.side', {}, t(side === 'left' ? 'current' : 'beside')) : h('button.beside', { type: 'button', 'aria-label': t('putBesideThis', { what: titleOf(study), date: when }), onclick: () => this.onstep(study, 'right') }, t('putBeside')));
  }

  #events() {
    const named = shortName;
    return this.shown.transfers.filter(transfer => transfer.status === 'active').flatMap(transfer => [
      { at: transfer.opened_at, text: t('markOpened', { from: named(transfer.from), to: named(transfer.to) }) },
      transfer.accepted_at && { at: transfer.accepted_at, text: t('markAccepted', { to: named(transfer.to) }) },
    ].filter(Boolean));
  }

  #mark({ at, text }) {
    return h('li.mark', {}, h('span.day', {}, dayText(dayOf(at))), h('span', {}, text));
  }
}

/** The first line of what an exam's newest report concludes, as the archive read it when it came. */
function lineOf({ reports }) {
  const report = reports.find(candidate => candidate.newest && !candidate.same_as);
  if (!report) return t('noReportShort');
  return report.conclusion ?? (report.kind === 'pdf' ? t('reportIsPdf') : report.title);
}
