// What a pane shows at once: one image, or four of a mammography. What is told of it changes when it does, not before.

import { fill, h } from './dom.js';
import { NEUTRAL, edgesOf, turnedEdges, visiblePart, windowOf } from './looks.js';
import { viewOf } from './matching.js';
import { overlay, unplaced } from './presentation.js';
import { getPicture, imageUrl, whyNotShown } from './session.js';
import { numberText, t } from './text.js';

const VIEWPORT = 1400;
const KEPT = 64;
const AGAIN_AFTER = 1500;
const DETAIL_AFTER = 120;

/** Milliseconds that an image may be on its way while another one is wished in its place. */
const OVERTAKEN_AFTER = 2000;

/** Images looked at last, of whatever exam, by address. */
const kept = new Map();

/** Forget every image. */
export const forgetPictures = () => kept.clear();

/** Where a picture of an image is. `exam` is `{study, owner}`; `parameters` are of the rendered resource (PS3.18 8.3.5). */
function addressOf({ study, owner }, { series, instance, frame }, parameters) {
  const path = `/studies/${study}/series/${series.series_instance_uid}/instances/${instance.sop_instance_uid}`;
  return imageUrl(`${path}${instance.frames > 1 ? `/frames/${frame}` : ''}/rendered`, { owner, ...parameters });
}

/** An image, on its way or here; `ahead` of anybody's look, which the archive records as that. */
function fetchImage(exam, cell, parameters, ahead = false) {
  const address = addressOf(exam, cell, parameters);
  const image = kept.get(address) ?? h('img', { decoding: 'async', referrerpolicy: 'no-referrer', draggable: 'false', src: ahead ? `${address}&ahead=1` : address, 'data-address': address });
  kept.delete(address);
  kept.set(address, image);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return image;
}

/** How an image lies that nobody presents otherwise. */
const AS_SENT = { rotation: 0, flip: false, window: null, inverted: false, marks: [] };

/** [centre, width, function] with which an image is drawn, null for its own: chosen here, else as it is presented. */
function windowFor({ series, instance, presentation }, look) {
  const own = presentation?.window ?? null;
  return windowOf(look, series.modality, own ? { ...instance, window: own } : instance) ?? own;
}

const parametersOf = (cell, look) => {
  const window = windowFor(cell, look);
  return { viewport: `${VIEWPORT},${VIEWPORT}`, window: window ? `${window[0]},${window[1]},${window[2] ?? 'linear'}` : '' };
};

/** Fetch what is likely to be looked at next; `ahead`: of an exam that nobody looks at. */
export function expectPicture(place, exam, look = NEUTRAL, ahead = false) {
  for (const cell of place.cells) if (cell) fetchImage(exam, cell, parametersOf(cell, look), ahead);
}

/** The picture of an exam. `describe(at)` answers an image's text, `onshown(at)` hears that the place `at` is in view, `note(cell)`
 *  answers what else stands below an image, or an empty text. */
export class Picture {
  constructor(label, { describe, onshown, note }) {
    Object.assign(this, { describe, onshown, note, shown: null, wish: null, cells: [], look: NEUTRAL, scale: 1, turn: 0, alignedBy: '' });
    this.root = h('div.picture', { tabindex: 0, role: 'group', 'aria-label': label }, h('p.waiting', {}, () => t('loadingImage')));
    this.sized = new ResizeObserver(() => this.#layOut());
    this.sized.observe(this.root);
  }

  /** Show a place of an exam; a wish that was not fulfilled yet is forgotten, and what is on its way for it is stopped. */
  show(place, at, exam) {
    const before = this.wish;
    const wish = (this.wish = { place, at, exam, look: this.look });
    wish.images = place.cells.map(cell => cell && fetchImage(exam, cell, parametersOf(cell, this.look)));
    wish.images.forEach(image => { if (image) image.alt = this.describe(at); });
    if (before && before !== this.shown) this.#stop(before, wish.images);
    this.root.setAttribute('aria-busy', 'true');
    clearTimeout(this.again);
    Promise.all(wish.images.map(image => image?.decode())).then(
      () => wish === this.wish && this.#here(wish),
      () => wish === this.wish && this.#failed(wish));
  }

  /** Look at it otherwise. Zoom, place and inversion are there at once; another window is drawn by the archive. */
  see(look) {
    const other = look.window !== this.look.window;
    this.look = look;
    this.#layOut();
    const { wish } = this;
    if (!other || !wish) return;
    const anew = () => this.show(wish.place, wish.at, wish.exam);
    if (wish === this.shown || wish.failed) return anew();
    if (wish.changed) return;
    wish.changed = true; // drawn once the one on its way is there, so that a drag is seen while it goes on
    setTimeout(() => wish === this.wish && wish !== this.shown && this.root.isConnected && anew(), OVERTAKEN_AFTER);
  }

  /** Draw it so many times larger than it fits, for one scale in millimetres; turned by degrees, to lie on another one, which is said
   *  with `alignedBy`. */
  scaleBy(factor, turn = 0, alignedBy = '') {
    if (factor === this.scale && turn === this.turn && alignedBy === this.alignedBy) return;
    Object.assign(this, { scale: factor, turn, alignedBy });
    this.#layOut();
  }

  /** The one image in view: `{series, instance, frame}`; null where several are, or none is. */
  get single() {
    const [cell, more] = this.cells;
    return more ? null : cell?.of ?? null;
  }

  /** Whether the one image in view lies otherwise than its pixels do: turned or mirrored by its sender, or they are not square. */
  get isTurned() {
    return Boolean(this.single && (this.cells[0].as.rotation || this.cells[0].as.flip || Math.abs(pixelShape(this.single.instance) - 1) > 0.01));
  }

  /** Width and height, in screen pixels, of the one image in view where it just fits; null where several are, or none is. */
  get fitted() {
    const [cell] = this.cells;
    if (!this.single || !cell.fit) return null;
    const { rows, columns } = lyingSize(cell);
    return { width: columns * cell.fit, height: rows * cell.fit };
  }

  /** The one image in view in so many pixels, as a Blob. Raises Trouble. */
  inPixels(size) {
    return getPicture(addressOf(this.shown.exam, this.single, { viewport: `${size},${size}` }));
  }

  /** Screen pixels a millimetre where the image just fits; null where nobody knows how large a pixel is, or several are shown. */
  get perMillimetre() {
    const [cell, more] = this.cells;
    const spacing = cell?.of?.instance.spacing;
    return !cell?.of || more || !spacing ? null : cell.fit / spacing[1];
  }

  /** Whether an image is on its way that is not in view yet. */
  get isComing() {
    return this.root.hasAttribute('aria-busy');
  }

  /** The size of the one image in view in the patient's millimetres, as it lies; null as for `perMillimetre`. */
  get millimetres() {
    if (!this.perMillimetre) return null;
    const { rows, columns } = lyingSize(this.cells[0]);
    const [, size] = this.single.instance.spacing;
    return { width: columns * size, height: rows * size };
  }

  /** On paper: so many centimetres a millimetre, null for as large as it fits. */
  printAt(scale) {
    this.root.classList.toggle('to-scale', Boolean(scale));
    if (!scale) return;
    const { width, height } = this.millimetres;
    this.root.style.setProperty('--paper', `${(this.cells[0].as.rotation % 180 ? height : width) * scale}cm`);
  }

  /** Words instead of a picture. */
  say(...children) {
    this.shown = this.wish = null;
    this.cells = [];
    this.#rest();
    fill(this.root, h('p.waiting', {}, ...children));
  }

  /** Another language is spoken: what is told of the images in view and on their way. */
  retell() {
    for (const wish of [this.shown, this.wish]) for (const image of wish?.images ?? []) if (image) image.alt = this.describe(wish.at);
    this.#layOut();
  }

  /** Fetch again what could not be fetched; answers whether there was anything. */
  retry() {
    const { wish } = this;
    if (!wish || wish === this.shown || !wish.failed) return false;
    this.show(wish.place, wish.at, wish.exam);
    return true;
  }

  #here(wish) {
    const news = this.shown?.at !== wish.at || this.shown.place !== wish.place;
    this.shown = wish;
    wish.exam.tried.delete(wish.at);
    this.#rest();
    this.#put(wish);
    if (news) this.onshown(wish.at);
    if (wish.changed) this.show(wish.place, wish.at, wish.exam);
  }

  #put({ place, images }) {
    this.cells = place.cells.map((cell, index) => {
      const as = cell?.presentation ?? AS_SENT;
      const turned = cell && h('div.turned', {}, images[index]);
      return { of: cell, as, image: images[index], turned, element: h('div.cell', {}, cell && [h('div.film', {}, turned, as.marks.length > 0 && overlay(as)), letters(cell.instance, as), h('p.caption')]) };
    });
    const elements = this.cells.map(cell => cell.element);
    fill(this.root, elements.length > 1 ? h('div.hung', {}, elements) : elements);
    this.#layOut();
  }

  #rest() {
    this.root.removeAttribute('aria-busy');
  }

  /** What is on its way for a wish of before, and not for this one, is not waited for. */
  #stop(before, images) {
    for (const image of before.images ?? []) {
      if (!image || image.complete || images.includes(image)) continue;
      kept.delete(image.dataset.address);
      image.removeAttribute('src');
    }
  }

  #layOut() {
    for (const cell of this.cells) if (cell.of) this.#layOutCell(cell);
  }

  #layOutCell(cell) {
    const { element, of, as, turned } = cell;
    const [film] = element.children;
    const { rows, columns } = lyingSize(cell);
    const { clientWidth, clientHeight } = element;
    if (!clientWidth || !rows) return;
    cell.fit = Math.min(clientWidth / columns, clientHeight / rows);
    const zoom = this.look.zoom * this.scale;
    const [width, height] = [columns * cell.fit * zoom, rows * cell.fit * zoom];
    const box = { left: (clientWidth - width) / 2 + this.look.x * width, top: (clientHeight - height) / 2 + this.look.y * height, width, height };
    Object.assign(film.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${width}px`, height: `${height}px`, rotate: this.turn ? `${this.turn}deg` : '' });
    const [across, down] = as.rotation % 180 ? [height, width] : [width, height];
    const turn = `${as.flip ? 'scaleX(-1) ' : ''}rotate(${as.rotation}deg)`;
    Object.assign(turned.style, { width: `${across}px`, height: `${down}px`, transform: `translate(-50%, -50%) ${turn}` });
    turned.style.setProperty('--turn', turn); // on paper it takes its own size, and lies the same way
    turned.style.setProperty('--shape', `${across} / ${down}`);
    element.classList.toggle('inverted', this.look.invert !== as.inverted);
    element.lastChild.textContent = this.#captionOf(of, turned.children.length > 1);
    this.#detail(cell, box, [across, down], { clientWidth, clientHeight });
  }

  /** Where the preview has fewer pixels than are on the screen, what is in view is fetched as it was sent. */
  #detail(cell, box, [across, down], { clientWidth, clientHeight }) {
    clearTimeout(cell.soon);
    const { turned, of: { instance } } = cell;
    const wanted = across * devicePixelRatio > cell.image.naturalWidth * 1.15 && instance.columns > cell.image.naturalWidth;
    const seen = wanted ? visiblePart({ width: clientWidth, height: clientHeight }, box) : null;
    const part = seen && unplaced(seen, cell.as);
    if (!part) {
      turned.querySelector('.detail')?.remove();
      return;
    }
    cell.soon = setTimeout(() => {
      const [x, y] = [Math.floor(part.x * instance.columns), Math.floor(part.y * instance.rows)];
      const [w, hgt] = [Math.min(instance.columns - x, Math.ceil(part.width * instance.columns) + 1), Math.min(instance.rows - y, Math.ceil(part.height * instance.rows) + 1)];
      const size = [Math.min(w, Math.round(part.width * across * devicePixelRatio)), Math.min(hgt, Math.round(part.height * down * devicePixelRatio))].map(value => Math.max(1, value));
      const image = fetchImage(this.wish.exam, cell.of, { ...parametersOf(cell.of, this.look), viewport: `${size[0]},${size[1]},${x},${y},${w},${hgt}` });
      image.alt = '';
      image.className = 'detail';
      image.decode().then(() => {
        if (!turned.isConnected || cell.detail !== image) return;
        Object.assign(image.style, { left: `${(100 * x) / instance.columns}%`, top: `${(100 * y) / instance.rows}%`, width: `${(100 * w) / instance.columns}%`, height: `${(100 * hgt) / instance.rows}%` });
        turned.querySelector('.detail')?.remove();
        turned.append(image);
        cell.element.lastChild.textContent = this.#captionOf(cell.of, true);
      }, () => {});
      cell.detail = image;
    }, DETAIL_AFTER);
  }

  /** What a picture says of itself: whether it is a preview, its window, its view, how large a pixel is. */
  #captionOf(of, detailed) {
    const { series, instance } = of;
    const window = windowFor(of, this.look);
    const told = window ?? instance.window;
    const chosen = windowOf(this.look, series.modality, instance);
    const size = instance.spacing ? t(instance.at_detector ? 'pixelAtDetector' : 'pixelSize', { size: numberText(instance.spacing[1], 3) }) : t('pixelUnknown');
    return [
      t(detailed ? 'asSent' : 'preview'),
      told ? t(chosen || window ? 'windowChosen' : 'windowOwn', { width: numberText(told[1], 0), centre: numberText(told[0], 0) }) : t('windowNone'),
      viewOf(instance),
      size,
      this.alignedBy,
      this.note?.(of),
    ].filter(Boolean).join(' · ');
  }

  /** Tried once more by itself; then with words and a button, or with why it is not drawn. */
  #failed(wish) {
    for (const image of wish.images) if (image && !image.naturalWidth) kept.delete(image.dataset.address);
    if (!wish.exam.tried.has(wish.at)) {
      wish.exam.tried.add(wish.at);
      this.again = setTimeout(() => wish === this.wish && this.root.isConnected && this.show(wish.place, wish.at, wish.exam), AGAIN_AFTER);
      this.#why(wish);
      return;
    }
    wish.failed = true;
    this.#words(wish, h('p.waiting', {}, () => t('noImage'), ' ', h('button', { type: 'button', onclick: () => this.retry() }, () => t('retry'))));
    this.#why(wish);
  }

  async #why(wish) {
    const image = wish.images.find(loading => loading && !loading.naturalWidth);
    const reason = image && await whyNotShown(image.dataset.address);
    if (!reason || wish !== this.wish || this.shown === wish) return;
    clearTimeout(this.again);
    this.#words(wish, h('p.waiting.refused', {}, () => t('notDrawn'), h('br'), h('small', {}, () => t('technically'), ' ', h('span', { lang: 'en' }, reason))));
  }

  #words(wish, text) {
    this.shown = null;
    this.cells = [];
    this.#rest();
    fill(this.root, text);
    this.onshown(wish.at);
  }
}

/** Rows and columns of the image in a cell. */
const sizeOf = ({ image, of: { instance } }) => (instance.rows && instance.columns ? instance : { rows: image.naturalHeight, columns: image.naturalWidth });

/** How many times as high as wide a pixel is, as far as anybody says. */
const pixelShape = ({ spacing, aspect }) => (spacing ? spacing[0] / spacing[1] : aspect ?? 1);

/** The same as the image is turned, in units of a pixel's width: pixels need not be square. */
function lyingSize(cell) {
  const { columns, rows: count } = sizeOf(cell);
  const rows = count * (cell.of ? pixelShape(cell.of.instance) : 1);
  return cell.as.rotation % 180 ? { rows: columns, columns: rows } : { rows, columns };
}

/** The side letters of an image at its edges, as they are in the image, turned with it. */
function letters(instance, as) {
  const edges = turnedEdges(edgesOf(instance), as);
  return edges && h('div.letters', { 'aria-hidden': 'true' }, Object.entries(edges).map(([edge, text]) => h(`span.at-${edge}`, {}, text)));
}
