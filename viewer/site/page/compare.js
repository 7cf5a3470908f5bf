// Two exams side by side: their images, one at a time, scrolled together if wished, and under each its reports in full.

import { fill, h } from './dom.js';
import { dateText, distanceText, t } from './text.js';
import { get, imageUrl } from './session.js';
import { hospital, hospitalSign, keyOf, ownerOf, titleOf } from './timeline.js';
import { reportsOf } from './reports.js';

const NOT_IMAGES = new Set(['SR', 'DOC', 'KO', 'PR', 'SEG', 'REG', 'RTSTRUCT', 'ECG']);
const VIEWPORT = 1400;

/** A pane of the comparison. `show(shown, study, reference)` puts an exam into it; `refresh` says that it has changed. */
export class Pane {
  constructor(side, onscroll) {
    this.side = side;
    this.onscroll = onscroll;
    this.key = null;
    this.positions = [];
    this.at = 0;
    this.root = h(`section.pane.${side}`, { 'aria-label': t(side === 'left' ? 'current' : 'beside') });
  }

  /** Put an exam into the pane. `reference` is the exam to which its distance in time is told, or null. */
  async show(shown, study, reference) {
    const key = study ? `${keyOf(study)} ${study.instances} ${study.complete} ${JSON.stringify(study.reports)}` : null;
    if (key !== null && key === this.key) return;
    const same = this.study && study && keyOf(this.study) === keyOf(study);
    Object.assign(this, { key, shown, study, reference });
    if (!study) {
      this.positions = [];
      fill(this.root, h('p.nothing', {}, t('noBeside')));
      return;
    }
    if (!same) this.at = 0;
    this.picture = h('div.picture', { tabindex: 0, role: 'group', 'aria-label': titleOf(study) }, h('p.waiting', {}, t('loadingImage')));
    this.controls = h('div.controls');
    this.picture.addEventListener('wheel', event => this.#wheel(event), { passive: false });
    this.picture.addEventListener('keydown', event => this.#key(event));
    fill(this.root, this.#header(), this.picture, this.controls, reportsOf(shown, study));
    await this.#load(key);
  }

  /** Go to an image; `quietly` when the other pane led. */
  go(at, quietly = false) {
    if (!this.positions.length) return;
    const wanted = Math.min(Math.max(at, 0), this.positions.length - 1);
    if (wanted === this.at && this.image) return;
    this.at = wanted;
    this.#draw();
    if (!quietly) this.onscroll?.(this.side, wanted / Math.max(1, this.positions.length - 1));
  }

  /** Go to where the other pane is, as a fraction of the way. */
  follow(fraction) {
    this.go(Math.round(fraction * (this.positions.length - 1)), true);
  }

  #header() {
    const { shown, study, reference } = this;
    const distance = reference ? distanceText(study.study_date, reference.study_date) : '';
    return h('header', {},
      h('div.row', {},
        h('span.side', {}, t(this.side === 'left' ? 'current' : 'beside')), hospitalSign(shown, study.owner),
        !study.complete && h('span.partial', { title: t('partialWhy') }, t('partial'))),
      h('h2', {}, titleOf(study)),
      h('p.when', {}, dateText(study.study_date, study.study_time), distance && h('span.distance', {}, distance)));
  }

  async #load(key) {
    try {
      const found = await get(`/view/studies/${this.study.study_instance_uid}/images?owner=${encodeURIComponent(this.study.owner)}`);
      if (key !== this.key) return;
      this.series = found.series.filter(series => !NOT_IMAGES.has(series.modality));
      this.#choose(this.series[0]);
    } catch {
      if (key === this.key) fill(this.picture, h('p.waiting', {}, t('noImage')));
    }
  }

  #choose(series) {
    this.positions = series ? series.instances.flatMap(one => Array.from({ length: one.frames }, (_, frame) => ({ series, one, frame: frame + 1 }))) : [];
    this.chosen = series;
    if (!this.positions.length) {
      fill(this.picture, h('p.waiting', {}, t('noImages')));
      fill(this.controls);
      return;
    }
    this.at = Math.min(this.at, this.positions.length - 1);
    this.#drawControls();
    this.#draw();
  }

  #drawControls() {
    const many = this.positions.length > 1;
    this.label = h('output.position');
    this.slider = h('input', { type: 'range', min: 0, max: this.positions.length - 1, value: this.at, 'aria-label': `${t('slice')}: ${titleOf(this.study)}`, oninput: () => this.go(Number(this.slider.value)) });
    const series = this.series.length > 1 && h('select', { 'aria-label': `${t('series')}: ${titleOf(this.study)}`, onchange: event => { this.at = 0; this.#choose(this.series[event.target.selectedIndex]); } },
      this.series.map((one, index) => h('option', { selected: one === this.chosen }, `${index + 1}. ${one.description || one.modality} (${one.instances.length})`)));
    fill(this.controls, series, many && this.slider, many && this.label);
  }

  #draw() {
    const { series, one, frame } = this.positions[this.at];
    const { study, shown } = this;
    if (this.slider) this.slider.value = this.at;
    if (this.label) this.label.textContent = t('position', { number: this.at + 1, count: this.positions.length });
    const path = `/studies/${study.study_instance_uid}/series/${series.series_instance_uid}/instances/${one.sop_instance_uid}`;
    const image = h('img', { alt: t('imageOf', { description: titleOf(study), hospital: hospital(shown, study.owner).name, date: dateText(study.study_date), number: this.at + 1, count: this.positions.length }), decoding: 'async', referrerpolicy: 'no-referrer', draggable: 'false' });
    const wanted = (this.wanted = (this.wanted ?? 0) + 1);
    image.addEventListener('load', () => {
      if (wanted !== this.wanted) return;
      this.image = image;
      fill(this.picture, image);
    });
    image.addEventListener('error', () => {
      if (wanted !== this.wanted) return;
      this.image = null;
      fill(this.picture, h('p.waiting', {}, t('noImage')));
    });
    image.src = imageUrl(`${path}${one.frames > 1 ? `/frames/${frame}` : ''}/rendered`, { ...ownerOf(study), viewport: `${VIEWPORT},${VIEWPORT}` });
  }

  #wheel(event) {
    if (this.positions.length < 2) return;
    event.preventDefault();
    this.go(this.at + Math.sign(event.deltaY));
  }

  #key(event) {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    if (!(event.key in steps) || this.positions.length < 2) return;
    event.preventDefault();
    event.stopPropagation();
    this.go(this.at + steps[event.key]);
  }
}
