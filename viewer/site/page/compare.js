// Two exams side by side: their images, one at a time, scrolled together if wished, and under each its reports in full.

import { fill, h } from './dom.js';
import { dateText, distanceText, t } from './text.js';
import { get, imageUrl, whyNotShown } from './session.js';
import { hospital, hospitalSign, keyOf, ownerOf, partialSign, severalPatientsSign, titleOf } from './timeline.js';
import { reportsOf } from './reports.js';

const NOT_IMAGES = new Set(['SR', 'DOC', 'KO', 'PR', 'SEG', 'REG', 'RTSTRUCT', 'ECG']);
const VIEWPORT = 1400;
const KEPT = 48;

/** A pane of the comparison. `show(shown, study, reference)` puts an exam into it, or brings the one in it up to date. */
export class Pane {
  constructor(side, onscroll) {
    this.side = side;
    this.onscroll = onscroll;
    this.study = null;
    this.root = h(`section.pane.${side}`, { 'aria-label': t(side === 'left' ? 'current' : 'beside') });
    this.#empty();
  }

  /** Put an exam into the pane. `reference` is the exam to which its distance in time is told, or null. */
  async show(shown, study, reference) {
    const before = this.study;
    Object.assign(this, { shown, study, reference });
    if (!study) return this.#empty();
    if (!before || keyOf(before) !== keyOf(study)) return this.#fill();
    fill(this.header, this.#about());
    if (JSON.stringify(before.reports) !== JSON.stringify(study.reports)) {
      const reports = reportsOf(shown, study, this.root.getAttribute('aria-label'));
      this.reports.replaceWith(reports);
      this.reports = reports;
    }
    return before.instances === study.instances && before.complete === study.complete ? undefined : this.#load();
  }

  #empty() {
    Object.assign(this, { study: null, asked: null, series: [], chosen: null, positions: [], at: 0, image: null, loaded: new Map() });
    fill(this.root, this.side === 'right' && h('p.nothing', {}, t('noBeside')));
  }

  #fill() {
    const { shown, study } = this;
    Object.assign(this, { series: [], chosen: null, positions: [], at: 0, image: null, loaded: new Map() });
    this.header = h('header', {}, this.#about());
    this.picture = h('div.picture', { tabindex: 0, role: 'group', 'aria-label': titleOf(study) }, h('p.waiting', {}, t('loadingImage')));
    this.controls = h('div.controls');
    this.reports = reportsOf(shown, study, this.root.getAttribute('aria-label'));
    this.picture.addEventListener('wheel', event => this.#wheel(event), { passive: false });
    this.picture.addEventListener('keydown', event => this.#key(event));
    fill(this.root, this.header, this.picture, this.controls, this.reports);
    return this.#load();
  }

  /** Go to an image; `quietly` when the other pane led. */
  go(at, quietly = false) {
    if (!this.positions.length) return;
    const wanted = Math.min(Math.max(at, 0), this.positions.length - 1);
    if (wanted === this.at) return;
    this.at = wanted;
    this.#draw();
    if (!quietly) this.onscroll?.(this.side, wanted / Math.max(1, this.positions.length - 1));
  }

  /** Go to where the other pane is, as a fraction of the way. */
  follow(fraction) {
    this.go(Math.round(fraction * (this.positions.length - 1)), true);
  }

  /** Fetch again what could not be fetched. */
  retry() {
    if (!this.study || this.image) return undefined;
    return this.positions.length ? this.#draw() : this.#load();
  }

  #about() {
    const { shown, study, reference } = this;
    const distance = reference ? distanceText(study.study_date, reference.study_date) : '';
    return [
      h('div.row', {}, h('span.side', {}, t(this.side === 'left' ? 'current' : 'beside')), hospitalSign(shown, study.owner), severalPatientsSign(study), partialSign(study)),
      h('h2', {}, titleOf(study)),
      h('p.when', {}, dateText(study.study_date, study.study_time), distance && h('span.distance', {}, distance)),
    ];
  }

  async #load() {
    const { study } = this;
    const asked = (this.asked = {});
    try {
      const found = await get(`/view/studies/${study.study_instance_uid}/images?owner=${encodeURIComponent(study.owner)}`);
      if (asked !== this.asked) return;
      this.series = found.series.filter(series => !NOT_IMAGES.has(series.modality));
      this.#choose(this.series.find(one => one.series_instance_uid === this.chosen?.series_instance_uid) ?? this.series[0]);
    } catch {
      if (asked === this.asked && !this.image) fill(this.picture, h('p.waiting', {}, t('noImage')));
    }
  }

  /** Show a series: where it was if it is the one that is shown already, however much it has grown, else its first image. */
  #choose(series) {
    const shown = this.positions[this.at];
    this.positions = series ? series.instances.flatMap(one => Array.from({ length: one.frames }, (_, frame) => ({ series, one, frame: frame + 1 }))) : [];
    this.chosen = series ?? null;
    const same = shown ? this.positions.findIndex(place => place.one.sop_instance_uid === shown.one.sop_instance_uid && place.frame === shown.frame) : -1;
    this.at = Math.max(same, 0);
    this.#drawControls();
    if (!series) {
      this.image = null;
      fill(this.picture, h('p.waiting', {}, t('noImages')));
    } else if (same < 0 || !this.image) this.#draw();
  }

  #drawControls() {
    const focused = this.controls.contains(document.activeElement) && document.activeElement.localName;
    const many = this.positions.length > 1;
    this.label = h('output.position');
    this.slider = h('input', { type: 'range', min: 0, max: Math.max(0, this.positions.length - 1), 'aria-label': `${t('slice')}: ${titleOf(this.study)}`, oninput: () => this.go(Number(this.slider.value)) });
    const series = this.series.length > 1 && h('select', { 'aria-label': `${t('series')}: ${titleOf(this.study)}`, onchange: event => this.#choose(this.series[event.target.selectedIndex]) },
      this.series.map((one, index) => h('option', { selected: one === this.chosen }, `${index + 1}. ${one.description || one.modality} (${one.instances.length})`)));
    fill(this.controls, series, many && this.slider, many && this.label);
    if (focused) this.controls.querySelector(focused)?.focus();
    this.#tellPosition();
  }

  #tellPosition() {
    const text = t('position', { number: this.at + 1, count: this.positions.length });
    this.slider.value = this.at;
    this.slider.setAttribute('aria-valuetext', text);
    this.label.textContent = text;
  }

  #draw() {
    this.#tellPosition();
    const image = this.#fetch(this.at);
    this.wanted = image;
    image.decode().then(
      () => {
        if (image !== this.wanted) return;
        this.image = image;
        fill(this.picture, image);
        for (const near of [1, -1, 2]) if (this.positions[this.at + near]) this.#fetch(this.at + near);
      },
      () => {
        this.loaded.delete(image.src);
        if (image !== this.wanted) return;
        this.image = null;
        fill(this.picture, h('p.waiting', {}, t('noImage')));
        whyNotShown(image.src).then(reason => {
          if (!reason || image !== this.wanted || this.image) return;
          fill(this.picture, h('p.waiting.refused', {}, t('notDrawn'), h('br'), h('small', { lang: 'en' }, reason)));
        });
      });
  }

  /** The picture at a position, on its way or here; those looked at last are kept. */
  #fetch(at) {
    const { series, one, frame } = this.positions[at];
    const { study, shown } = this;
    const path = `/studies/${study.study_instance_uid}/series/${series.series_instance_uid}/instances/${one.sop_instance_uid}`;
    const address = imageUrl(`${path}${one.frames > 1 ? `/frames/${frame}` : ''}/rendered`, { ...ownerOf(study), viewport: `${VIEWPORT},${VIEWPORT}` });
    const image = this.loaded.get(address) ?? h('img', { decoding: 'async', referrerpolicy: 'no-referrer', draggable: 'false', src: address });
    image.alt = t('imageOf', { description: titleOf(study), hospital: hospital(shown, study.owner).name, date: dateText(study.study_date), number: at + 1, count: this.positions.length });
    this.loaded.delete(address);
    this.loaded.set(address, image);
    if (this.loaded.size > KEPT) this.loaded.delete(this.loaded.keys().next().value);
    return image;
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
