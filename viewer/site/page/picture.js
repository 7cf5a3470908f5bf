// What a pane shows at once: one image, or four of a mammography. What is told of it changes when it does, not before.

import { fill, h } from './dom.js';
import { imageUrl, whyNotShown } from './session.js';
import { t } from './text.js';

const VIEWPORT = 1400;
const KEPT = 48;
const AGAIN_AFTER = 1500;

/** The picture of an exam. `onshown(at)` is called when the place `at` is in view, with the number that belongs to it. */
export class Picture {
  constructor(label, { describe, onshown }) {
    Object.assign(this, { describe, onshown, loaded: new Map(), shown: null, wish: null });
    this.root = h('div.picture', { tabindex: 0, role: 'group', 'aria-label': label }, h('p.waiting', {}, t('loadingImage')));
  }

  /** Show a place of an exam; a wish that was not fulfilled yet is forgotten, and what is on its way for it is stopped. */
  show(place, at, exam) {
    const before = this.wish;
    const wish = (this.wish = { place, at, exam });
    const images = place.cells.map(cell => cell && this.#fetch(exam, cell, at));
    if (before && before !== this.shown) this.#stop(before, images);
    wish.images = images;
    this.root.setAttribute('aria-busy', 'true');
    clearTimeout(this.again);
    Promise.all(images.map(image => image?.decode())).then(
      () => {
        if (wish !== this.wish) return;
        this.shown = wish;
        this.#rest();
        fill(this.root, this.#grid(images));
        this.onshown(at);
      },
      () => wish === this.wish && this.#failed(wish));
  }

  /** Fetch what is likely to be looked at next. */
  expect(place, at, exam) {
    for (const cell of place.cells) if (cell) this.#fetch(exam, cell, at);
  }

  /** Words instead of a picture. */
  say(...children) {
    this.shown = this.wish = null;
    this.#rest();
    fill(this.root, h('p.waiting', {}, ...children));
  }

  /** Fetch again what could not be fetched; answers whether there was anything. */
  retry() {
    const { wish } = this;
    if (!wish || wish === this.shown || !wish.failed) return false;
    this.show(wish.place, wish.at, wish.exam);
    return true;
  }

  #grid(images) {
    return images.length === 1 ? images[0] : h('div.hung', {}, images.map(image => image ?? h('span')));
  }

  #rest() {
    this.root.removeAttribute('aria-busy');
  }

  /** What is on its way for a wish of before, and not for this one, is not waited for. */
  #stop(before, images) {
    for (const image of before.images ?? []) {
      if (!image || image.complete || images.includes(image)) continue;
      this.loaded.delete(image.dataset.address);
      image.removeAttribute('src');
    }
  }

  /** Tried once more by itself; then with words and a button, or with why it is not drawn. */
  #failed(wish) {
    for (const image of wish.images) if (image && !image.naturalWidth) this.loaded.delete(image.dataset.address);
    if (!wish.exam.tried.has(wish.at)) {
      wish.exam.tried.add(wish.at);
      this.again = setTimeout(() => wish === this.wish && this.root.isConnected && this.show(wish.place, wish.at, wish.exam), AGAIN_AFTER);
      this.#why(wish);
      return;
    }
    wish.failed = true;
    this.shown = null;
    this.#rest();
    fill(this.root, h('p.waiting', {}, t('noImage'), ' ', h('button', { type: 'button', onclick: () => this.retry() }, t('retry'))));
    this.onshown(wish.at);
    this.#why(wish);
  }

  async #why(wish) {
    const image = wish.images.find(one => one && !one.naturalWidth);
    const reason = image && await whyNotShown(image.dataset.address);
    if (!reason || wish !== this.wish || this.shown === wish) return;
    clearTimeout(this.again);
    this.shown = null;
    this.#rest();
    fill(this.root, h('p.waiting.refused', {}, t('notDrawn'), h('br'), h('small', { lang: 'en' }, reason)));
    this.onshown(wish.at);
  }

  /** An image, on its way or here; those looked at last are kept. */
  #fetch({ study, owner }, { series, one, frame }, at) {
    const path = `/studies/${study}/series/${series.series_instance_uid}/instances/${one.sop_instance_uid}`;
    const address = imageUrl(`${path}${one.frames > 1 ? `/frames/${frame}` : ''}/rendered`, { owner, viewport: `${VIEWPORT},${VIEWPORT}` });
    const image = this.loaded.get(address) ?? h('img', { decoding: 'async', referrerpolicy: 'no-referrer', draggable: 'false', src: address, 'data-address': address });
    image.alt = this.describe(at, one);
    this.loaded.delete(address);
    this.loaded.set(address, image);
    if (this.loaded.size > KEPT) this.loaded.delete(this.loaded.keys().next().value);
    return image;
  }
}
