// Two exams side by side: their images, one at a time, scrolled together if wished, and under each its reports in full.

import { fill, h, respeak } from './dom.js';
import { beginning, counterpart, isMammography, nearestSeries, placesOf, together } from './matching.js';
import { NEUTRAL } from './looks.js';
import { Picture, expectPicture } from './picture.js';
import { dateText, distanceText, numberText, t } from './text.js';
import { imagesOfExam } from './exams.js';
import { othersAmong, seriesToLookAt } from './kinds.js';
import { Presentations } from './presentations.js';
import { aheadSign, hospital, keyOf, partialSign, severalPatientsSign, shortSign, titleOf } from './timeline.js';
import { citesOthers, reportsOf } from './reports.js';

/** Milliseconds a frame, where a cine says nothing. */
const FRAME_TIME = 40;

/** Milliseconds that an exam waits for the one beside it, to begin where that one does. */
const BESIDE_WITHIN = 500;

/** Fetch the picture with which an exam would begin, beside that of a pane where there is one. */
export function expectExam(study, { series: all, places: body }, beside) {
  const series = seriesToLookAt(all);
  const shown = nearestSeries(series, beside?.chosen);
  if (!shown) return;
  const places = placesOf(shown, series);
  const at = beside?.places.length ? counterpart(together(beside.places, places, [beside.body, body ?? []]), beside.wished) : null;
  expectPicture(places[at ?? beginning(places)], { study: study.study_instance_uid, owner: study.owner }, NEUTRAL, true);
}

/** The series that somebody chose by hand, by exam: it stays chosen, whatever arrives or is put beside it. */
const byHand = new Map();

/**
 * A pane of the comparison. `onscroll(pane)` is called when somebody leads it to another image, `onchoose(pane)` to another series;
 * `begin(pane)` answers where it begins, null for where one begins by itself; `onseen(pane)` hears that an image is in view.
 * `show(shown, study, reference, beside)` puts an exam into it, or brings the one in it up to date.
 */
export class Pane {
  constructor(side, { onscroll, onchoose, begin, onseen }) {
    Object.assign(this, { side, onscroll, onchoose, begin, onseen, study: null, loading: Promise.resolve(), look: NEUTRAL });
    this.root = h(`section.pane.${side}`, { 'aria-label': () => this.sideText() });
    this.lower = h(`div.pane.lower.${side}`); // its reports, in the place that scrolls for both
    this.#empty();
  }

  /** Put an exam into the pane. `reference` is the exam to which its distance in time is told, or null; `beside` the pane whose
   *  images its own are to match, or null; `nothing` what stands in an empty pane. */
  async show(shown, study, reference, beside = null, nothing = []) {
    const before = this.study;
    Object.assign(this, { shown, study, reference, beside });
    if (!study) return this.#empty(nothing);
    if (!before || keyOf(before) !== keyOf(study)) return this.#fill();
    fill(this.header, this.#about());
    if (JSON.stringify(before.reports) !== JSON.stringify(study.reports) || citesOthers(this.reports, shown)) {
      const reports = reportsOf(shown, study, this.sideText);
      this.reports.replaceWith(reports);
      this.reports = reports;
    }
    return before.instances === study.instances && before.complete === study.complete ? undefined : this.#load();
  }

  /** Which of the two it is, in the reader's language. */
  sideText = () => t(this.side === 'left' ? 'current' : 'beside');

  /** Another language is spoken: what is told of the images, which stay. */
  retell() {
    if (!this.study) return;
    this.picture.retell();
    if (!this.label) return; // its images are on their way
    this.#tellPosition();
    this.#tellPresentation();
  }

  #forget() {
    Object.assign(this, { series: [], body: [], keyImages: new Map(), chosen: null, places: [], at: 0, wished: 0 });
  }

  #empty(nothing = []) {
    this.study = this.asked = this.picture = null;
    this.#forget();
    fill(this.root, this.side === 'right' && h('div.nothing', {}, nothing));
    fill(this.lower);
  }

  #fill() {
    const { shown, study } = this;
    this.#forget();
    this.exam = { study: study.study_instance_uid, owner: study.owner, tried: new Set() };
    this.header = h('header', {}, this.#about());
    this.picture = new Picture(() => titleOf(study), { describe: at => this.#describe(at), onshown: at => this.#shown(at), note: cell => this.#whyKey(cell) });
    this.picture.see(this.look);
    this.controls = h('div.controls');
    this.reports = reportsOf(shown, study, this.sideText);
    this.picture.root.addEventListener('wheel', event => this.#wheel(event), { passive: false });
    this.picture.root.addEventListener('keydown', event => this.#key(event));
    fill(this.root, this.header, this.picture.root, this.controls);
    fill(this.lower, this.reports);
    return this.#load();
  }

  /** Look at the images otherwise. */
  see(look) {
    this.look = look;
    this.picture?.see(look);
  }

  /** Go to an image; `quietly` when the other pane led. */
  go(at, quietly = false) {
    if (!this.places.length) return;
    const wanted = Math.min(Math.max(at, 0), this.places.length - 1);
    if (wanted === this.wished) return;
    this.wished = wanted;
    this.#draw();
    if (!quietly) this.onscroll?.(this);
  }

  /** Show the series that is nearest to another pane's, unless one was chosen by hand. */
  match(other) {
    if (!this.series.length || !other.chosen || byHand.has(keyOf(this.study))) return;
    this.#choose(nearestSeries(this.series, other.chosen));
  }

  /** Whether what it is to show is still on its way. */
  get isComing() {
    return Boolean(this.study && (this.isLoading || this.picture.isComing));
  }

  /** Fetch again what could not be fetched. */
  retry() {
    if (!this.study) return;
    for (const place of this.reports.querySelectorAll('.failed button')) place.click();
    if (!this.picture.retry() && !this.places.length && !this.series.length) this.#load();
  }

  /** The images in view, as OHIF finds them: study, series and SOP Instance UID. */
  get shownImages() {
    const { cells = [] } = this.places[this.at] ?? {};
    return cells.filter(Boolean).map(({ series, instance }) => [this.study.study_instance_uid, series.series_instance_uid, instance.sop_instance_uid].join('/'));
  }

  /** Whether the views of a mammography are in view together. */
  get hung() {
    return this.places[this.at]?.cells.length > 1;
  }

  /** Why images of this exam are not drawn, by SOP Instance UID. */
  get faults() {
    return Object.fromEntries(this.series.flatMap(series => series.instances).filter(instance => instance.fault).map(instance => [instance.sop_instance_uid, instance.fault]));
  }

  #about() {
    const { shown, study, reference } = this;
    const distance = reference ? distanceText(study.study_date, reference.study_date) : '';
    return [
      h('span.side', {}, this.sideText),
      h('h2', {}, titleOf(study)),
      h('p.when', {}, dateText(study.study_date, study.study_time), distance && h('span.distance', {}, distance)),
      shortSign(shown, study.owner), aheadSign(shown, study), severalPatientsSign(study), partialSign(study),
    ];
  }

  #describe(at) {
    const { shown, study } = this;
    return t('imageOf', { description: titleOf(study), hospital: hospital(shown, study.owner).name, date: dateText(study.study_date), number: at + 1, count: this.places.length });
  }

  async #load() {
    const { study } = this;
    const asked = (this.asked = {});
    this.isLoading = true;
    let done = null;
    this.loading = new Promise(resolve => { done = resolve; });
    const images = imagesOfExam(study);
    try {
      const [found] = await Promise.all([images, this.beside && Promise.race([this.beside.loading, new Promise(go => setTimeout(go, BESIDE_WITHIN))])]);
      if (asked !== this.asked) return;
      this.alone = Boolean(this.beside && !this.beside.chosen);
      this.body = found.places ?? [];
      this.keyImages = keyImagesOf(found);
      this.presentations = new Presentations(found, this.exam, () => asked === this.asked && this.#presented());
      this.others = othersAmong(found.series);
      this.series = seriesToLookAt(found.series);
      this.#choose(this.series.find(candidate => candidate.series_instance_uid === this.#wanted()) ?? nearestSeries(this.series, this.beside?.chosen));
    } catch {
      if (this.root.isConnected && asked === this.asked && !this.places.length) this.picture.say(() => t('noImage'), ' ', h('button', { type: 'button', onclick: () => this.#load() }, () => t('retry')));
    } finally {
      if (asked === this.asked) this.isLoading = false;
      done();
    }
  }

  /** What an exam has instead of images to look at. */
  #whyNothing() {
    const kinds = this.others.map(({ text, modality }) => (modality ? `${t(text)} (${modality})` : t(text)));
    return kinds.length ? t('notShownHere', { kinds: kinds.join(', ') }) : t('noImages');
  }

  /** The series that stays: chosen by hand, or in view already. */
  #wanted() {
    return byHand.get(keyOf(this.study)) ?? this.chosen?.series_instance_uid;
  }

  /** Show a series: where it was if it is the one that is shown already, however much it has grown, else where one begins. */
  #choose(series) {
    const shown = this.places[this.wished]?.cells.find(Boolean);
    const before = this.chosen?.series_instance_uid;
    this.places = series ? placesOf(series, this.series) : [];
    this.chosen = series ?? null;
    const same = shown && before === series?.series_instance_uid ? this.places.findIndex(({ cells: [cell] }) => cell?.instance.sop_instance_uid === shown.instance.sop_instance_uid && cell.frame === shown.frame) : -1;
    this.at = this.wished = same >= 0 ? same : series ? this.begin(this) ?? beginning(this.places) : 0;
    this.#drawControls();
    if (!series) this.picture.say(() => this.#whyNothing());
    else if (same < 0 || !this.picture.shown) this.#draw();
  }

  #drawControls() {
    const focused = this.controls.contains(document.activeElement) && document.activeElement.localName;
    const many = this.places.length > 1;
    this.label = h('output.position');
    this.slider = h('input', { type: 'range', min: 0, max: Math.max(0, this.places.length - 1), 'aria-label': () => `${t('slice')}: ${titleOf(this.study)}`, oninput: () => this.go(Number(this.slider.value)) });
    const series = this.series.length > 1 && !isMammography(this.series) && h('select', { 'aria-label': () => `${t('series')}: ${titleOf(this.study)}`, onchange: event => this.#chosenByHand(this.series[event.target.selectedIndex]) },
      this.series.map((option, index) => h('option', { selected: option === this.chosen }, `${index + 1}. ${option.description || option.modality} (${option.instances.length})`)));
    this.marks = h('button.marked', { type: 'button', hidden: true, 'aria-keyshortcuts': 'G', title: () => `${t('presentedNext')} (G)`, onclick: () => this.nextPresentation() });
    fill(this.controls, series, this.#keyButton(), this.marks, this.#cine(), many && this.slider, many && this.label);
    if (focused) this.controls.querySelector(focused)?.focus();
    this.#tellPosition();
  }

  /** The button that leads to the next image that the sender singled out; null where there is none. */
  #keyButton() {
    const count = this.keyImages.size;
    if (!count) return null;
    return h('button.key-images', { type: 'button', 'aria-keyshortcuts': 'K', title: () => `${t('keyImageNext')} (K)`, 'aria-label': () => `${t('keyImages', { count })}: ${t('keyImageNext')}`, onclick: () => this.nextKeyImage() }, `★ ${count}`);
  }

  /** To the next image that the sender singled out, in whatever series it is. */
  nextKeyImage() {
    const marked = this.series.flatMap(series => series.instances.map(instance => ({ series, sop: instance.sop_instance_uid }))).filter(({ sop }) => this.keyImages.has(sop));
    if (!marked.length) return;
    const { cells = [] } = this.places[this.wished] ?? {};
    const here = cells.length === 1 ? marked.findIndex(({ sop }) => sop === cells[0].instance.sop_instance_uid) : -1;
    const { series, sop } = marked[(here + 1) % marked.length];
    const holds = ({ cells: [cell, ...more] }) => !more.length && cell.instance.sop_instance_uid === sop && this.keyImages.get(sop).shows(cell.frame);
    if (!this.places.some(holds)) this.#chosenByHand(series);
    this.go(this.places.findIndex(holds));
  }

  /** The image in view as the next of its presentation states shows it; after the last one as it was sent. */
  nextPresentation() {
    for (const cell of this.places[this.wished]?.cells ?? []) if (cell) this.presentations.next(cell);
    this.#presented();
  }

  /** Draw the image in view as it is presented now. */
  #presented() {
    if (this.places[this.wished]) this.#draw();
    this.#tellPresentation();
  }

  /** What the sender says of an image that it singled out, and how it is presented. */
  #whyKey(cell) {
    const key = this.keyImages.get(cell.instance.sop_instance_uid);
    const { presentation: as } = cell;
    const presented = as && t(as.partly ? 'presentedPartly' : 'presented', { label: as.label });
    return [key?.shows(cell.frame) && `★ ${key.text || t('keyImage')}`, presented].filter(Boolean).join(' · ');
  }

  #tellPresentation() {
    const cells = (this.places[this.at]?.cells ?? []).filter(Boolean);
    const count = Math.max(0, ...cells.map(cell => this.presentations.count(cell)));
    this.marks.hidden = !count;
    this.marks.textContent = t('presentations', { count });
    this.marks.setAttribute('aria-pressed', String(cells.some(cell => cell.presentation)));
  }

  /** The button that plays a cine at its own Frame Time; null for what is none. */
  #cine() {
    this.playing = clearInterval(this.playing);
    const { instance } = this.places[this.wished]?.cells.find(Boolean) ?? {};
    if (!(instance?.frames > 1)) return null;
    const named = () => t(this.playing ? 'stop' : 'play');
    const button = h('button.cine', { type: 'button', 'aria-label': named, title: named, onclick: () => this.#play(instance, button) }, '▶');
    return button;
  }

  /** Frame after frame, each once the one before is in view; a wheel, a key or the button stops it. */
  #play(instance, button) {
    const stopping = Boolean(this.playing);
    this.playing = clearInterval(this.playing);
    button.textContent = stopping ? '▶' : '■';
    if (stopping) return respeak(button);
    const frames = this.places.map((place, at) => ({ place, at })).filter(({ place }) => place.cells[0]?.instance === instance).map(({ at }) => at);
    this.playing = setInterval(() => {
      if (!this.root.isConnected || !this.picture) this.playing = clearInterval(this.playing);
      else if (this.at === this.wished) this.go(frames[(frames.indexOf(this.at) + 1) % frames.length]);
    }, instance.frame_time ?? FRAME_TIME);
    return respeak(button);
  }

  #chosenByHand(series) {
    byHand.set(keyOf(this.study), series.series_instance_uid);
    this.#choose(series);
    this.onchoose?.(this);
  }

  #tellPosition() {
    const text = [t('position', { number: this.at + 1, count: this.places.length }), this.#echo()].filter(Boolean).join(' · ');
    this.slider.value = this.wished;
    this.slider.setAttribute('aria-valuetext', text);
    this.label.textContent = text;
  }

  /** Which echo is in view of a series that has several, and of which series; empty for any other. */
  #echo() {
    const times = new Set(this.places.map(({ cells: [cell] }) => cell?.instance.echo_time ?? null));
    const time = this.places[this.at]?.cells[0]?.instance.echo_time;
    if (times.size < 2 || !time) return '';
    return [this.series.length < 2 && this.chosen.description, t('echoTime', { time: numberText(time, 1) })].filter(Boolean).join(' · ');
  }

  #draw() {
    this.slider.value = this.wished;
    const place = this.places[this.wished];
    for (const cell of place.cells) if (cell) cell.presentation = this.presentations.of(cell);
    this.picture.show(place, this.wished, this.exam);
  }

  #shown(at) {
    this.at = at;
    this.#tellPosition();
    this.#tellPresentation();
    for (const near of [1, -1, 2]) if (this.places[at + near]) expectPicture(this.places[at + near], this.exam, this.look);
    this.onseen?.(this);
  }

  #wheel(event) {
    if (event.ctrlKey || this.places.length < 2) return;
    event.preventDefault();
    this.go(this.wished + Math.sign(event.deltaY));
  }

  #key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey || this.places.length < 2) return;
    event.preventDefault();
    event.stopPropagation();
    this.go(this.wished + steps[event.key]);
  }
}

/** The images that the sender's documents single out, by SOP Instance UID: `{text, shows(frame)}`. */
function keyImagesOf({ key_images: documents = [] }) {
  const found = new Map();
  for (const { title, description, images } of documents) {
    for (const { sop_instance_uid: sop, frames } of images) {
      const { texts, all } = found.get(sop) ?? { texts: new Set(), all: [] };
      found.set(sop, { texts: texts.add([title, description].filter(Boolean).join(': ')), all: [...all, frames] });
    }
  }
  return new Map([...found].map(([sop, { texts, all }]) => [sop, {
    text: [...texts].filter(Boolean).join(' · '),
    shows: frame => all.some(frames => !frames.length || frames.includes(frame)),
  }]));
}
