// Tools for the page's pictures, both panes at once: zoom, place, window, inversion, one scale in millimetres, blinking, and laying a
// film on another.

import { aligned, greyOf } from './alignment.js';
import { h, say } from './dom.js';
import { NEUTRAL, PRESETS, ZOOMS, moved, rewindowed, zoomed } from './looks.js';
import { numberText, t } from './text.js';

const WHEEL = 1.2;
const PAN = 0.05;
const SHIFT = 0.05;
const FACTOR = 1.15;
/** What is laid on one another by itself: projections. */
const FILMS = new Set(['CR', 'DX', 'RG', 'MG']);
/** Pixels of the longer side of what is compared for it. */
const GREY = 96;
/** Pixels that a pointer moves before it drags. */
const STILL = 3;
/** Centimetres that a picture may have on paper: width and height. */
const PAPER = [13, 8.5];
/** What a double click enlarges to. */
const CLOSER = 2;

/** The tools of two panes in an element `sides`. `onswap()` changes which exam is where. */
export class Tools {
  constructor(panes, sides, onswap) {
    Object.assign(this, { panes, sides, onswap, look: NEUTRAL, offset: { x: 0, y: 0 }, millimetres: false, windowing: false, blinking: null, alignment: null });
    const button = (id, key, act, pressed = null) => {
      const shown = () => (key === 'Space' ? t('space') : key);
      return h('button.tool', { type: 'button', id: `tool-${id}`, 'aria-keyshortcuts': key, title: () => `${t(id)} (${shown()})`, 'aria-pressed': pressed === null ? null : String(pressed), onclick: act }, () => t(id), h('kbd', { 'aria-hidden': 'true' }, shown));
    };
    this.buttons = {
      zoom: button('zoom', 'Z', () => this.#zoomOn()),
      windowing: button('windowing', 'W', () => this.#mode(), false),
      invert: button('invert', 'I', () => this.#see({ ...this.look, invert: !this.look.invert }), false),
      millimetres: button('millimetres', 'M', () => this.#scale(), false),
      swap: button('swap', 'X', onswap, false),
      blink: button('blink', 'Space', () => (this.blinking ? this.still() : this.blink()), false),
      other: button('other', 'Space', () => this.blink()),
      align: button('align', 'L', () => this.align(), false),
      reset: button('reset', 'R', () => this.reset()),
    };
    this.buttons.other.hidden = true;
    this.paper = h('p.paper');
    this.bar = h('div.tools', { role: 'toolbar', 'aria-label': () => t('tools') }, Object.values(this.buttons));
    for (const kind of ['keydown', 'keyup']) this.buttons.blink.addEventListener(kind, event => this.#spaceOnBlink(event));
    sides.addEventListener('dblclick', event => this.#closer(event));
    sides.addEventListener('pointerdown', event => this.#drag(event));
    sides.addEventListener('contextmenu', event => event.target.closest('.picture') && event.preventDefault());
    sides.addEventListener('wheel', event => this.#wheel(event), { passive: false, capture: true });
    new ResizeObserver(() => this.apply()).observe(sides);
  }

  /** Lay the comparison on the current film by itself, or let it lie as it was sent. */
  async align() {
    if (this.alignment) {
      this.alignment = null;
      return this.apply();
    }
    const pictures = [this.panes.left, this.panes.right].map(pane => pane.picture);
    const images = pictures.map(picture => picture?.single ?? null);
    if (!images.every(image => image && FILMS.has(image.series.modality)) || !ofOneView(...images)) return this.ontrouble?.(t('alignFilms'));
    if (pictures.some(picture => picture.isTurned)) return this.ontrouble?.(t('alignTurned'));
    const [fixed, moving] = await Promise.all(pictures.map(async picture => greyOf(await picture.inPixels(GREY)))).catch(() => []);
    if (!images.every((image, index) => pictures[index].single === image)) return undefined; // others by now
    const found = fixed && aligned(fixed, moving, likelyScale(...images));
    if (!found) return this.ontrouble?.(t('alignNone'));
    this.alignment = { ...found, images };
    this.apply();
    return say(this.#howAligned());
  }

  #howAligned() {
    return t('aligned', { scale: numberText(this.alignment.scale, 2), turn: numberText(this.alignment.turn, 1) });
  }

  /** Everything as it was sent. */
  reset() {
    this.alignment = null;
    this.offset = { x: 0, y: 0 };
    this.millimetres = false;
    this.#see(NEUTRAL);
  }

  /** Another pair of exams: what was chosen for others says nothing of their windows and places. */
  another() {
    this.offset = { x: 0, y: 0 };
    if (this.look.window) this.look = { ...this.look, window: null };
    this.apply();
  }

  /** Bring both pictures to what is chosen. */
  apply() {
    const { left, right } = this.panes;
    if (this.alignment && [left, right].some((pane, index) => pane.picture?.single !== this.alignment.images[index])) this.alignment = null;
    left.see(this.look);
    this.buttons.align.setAttribute('aria-pressed', String(Boolean(this.alignment)));
    const on = this.alignment && left.picture.fitted && right.picture.fitted;
    if (!on) right.see(moved(this.look, this.offset.x, this.offset.y));
    const scales = [left, right].map(pane => pane.picture?.perMillimetre ?? null);
    this.unknown = !scales.every(Boolean);
    if (this.millimetres && this.unknown && left.study && right.study && !left.isComing && !right.isComing) {
      this.millimetres = false;
      this.ontrouble?.(t('scaleUnknown'));
    }
    const oneScale = (this.millimetres || this.blinking) && !this.unknown;
    const least = Math.min(...scales);
    if (on) this.#layOn(left, right);
    else [left, right].forEach((pane, index) => pane.picture?.scaleBy(oneScale ? least / scales[index] : 1));
    const pressed = { invert: this.look.invert, windowing: this.windowing, millimetres: this.millimetres, blink: Boolean(this.blinking) };
    for (const [id, on] of Object.entries(pressed)) this.buttons[id].setAttribute('aria-pressed', String(on));
    this.buttons.other.hidden = !this.blinking;
    this.#tellPaper(this.millimetres && !this.unknown);
    if (this.toldScale !== this.millimetres) this.onscale?.((this.toldScale = this.millimetres));
    this.sides.classList.toggle('windowing', this.windowing);
    this.sides.classList.toggle('zoomed', this.look.zoom > 1);
  }

  /** On paper both have one scale, too, where that is chosen; what is on paper says whether they have. */
  #tellPaper(oneScale) {
    const pictures = [this.panes.left, this.panes.right].map(pane => pane.picture).filter(Boolean);
    const sizes = oneScale ? pictures.map(picture => picture.millimetres) : [];
    const scale = Math.min(...sizes.flatMap(({ width, height }) => [PAPER[0] / width, PAPER[1] / height]));
    for (const picture of pictures) picture.printAt(oneScale ? scale : null);
    this.paper.textContent = pictures.length < 2 ? '' : t(oneScale ? 'paperOneScale' : 'paperFitted');
  }

  /** The comparison where the alignment says, whatever zoom and place are. */
  #layOn(left, right) {
    const { scale, turn, x, y } = this.alignment;
    const [fixed, moving] = [left.picture.fitted, right.picture.fitted];
    left.picture.scaleBy(1);
    const factor = (scale * fixed.width) / moving.width;
    const heights = fixed.height / (moving.height * factor);
    right.see({ ...this.look, x: (this.look.x + x) / scale + this.offset.x, y: (this.look.y + (y * fixed.width) / fixed.height) * heights + this.offset.y });
    right.picture.scaleBy(factor, turn, this.#howAligned());
  }

  /** The two in one place, in turn. */
  blink() {
    if (!this.panes.right.study) return;
    this.blinking = this.blinking === 'right' ? 'left' : 'right';
    this.sides.classList.add('blinking');
    this.sides.dataset.inView = this.blinking;
    this.apply();
    say(t('inView', { side: t(this.blinking === 'left' ? 'current' : 'beside') }));
  }

  /** Side by side again. */
  still() {
    if (!this.blinking) return;
    this.blinking = null;
    this.sides.classList.remove('blinking');
    this.apply();
  }

  /** Act on a key; answers whether it was one of these. */
  key(event) {
    const pans = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };
    if (event.ctrlKey && event.key in pans) return this.#done(event, () => this.#see(moved(this.look, ...pans[event.key])));
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const acts = {
      '+': () => this.#zoom(FACTOR), '=': () => this.#zoom(FACTOR), '-': () => this.#zoom(1 / FACTOR), z: () => this.#zoomOn(),
      ',': () => this.#see(rewindowed(this.look, SHIFT, 1)), '.': () => this.#see(rewindowed(this.look, -SHIFT, 1)),
      '<': () => this.#see(rewindowed(this.look, 0, 1 / FACTOR)), '>': () => this.#see(rewindowed(this.look, 0, FACTOR)),
      w: () => this.#mode(), i: () => this.#see({ ...this.look, invert: !this.look.invert }), m: () => this.#scale(),
      l: () => this.align(), x: () => this.onswap(), ' ': () => this.blink(), r: () => this.reset(), 0: () => this.#see({ ...this.look, window: null }),
    };
    const key = event.key.toLowerCase();
    if (key in PRESETS) return this.#done(event, () => this.#see({ ...this.look, window: { preset: PRESETS[key] } }));
    return key in acts ? this.#done(event, acts[key]) : false;
  }

  #done(event, act) {
    event.preventDefault();
    act();
    return true;
  }

  #see(look) {
    this.look = look;
    this.apply();
  }

  #mode() {
    this.windowing = !this.windowing;
    this.apply();
  }

  /** One scale in millimetres, or each as large as it fits. An image that is still on its way is waited for. */
  #scale() {
    if (!this.millimetres && !this.panes.right.study) return this.ontrouble?.(t('noBeside'));
    this.millimetres = !this.millimetres;
    return this.apply();
  }

  /** The space bar on the button shows the other one, as anywhere else. */
  #spaceOnBlink(event) {
    if (event.key !== ' ') return;
    event.preventDefault();
    if (event.type === 'keydown') this.blink();
  }

  /** A double click brings what is under it closer, and the whole image back. */
  #closer(event) {
    const picture = event.target.closest('.picture');
    if (!picture || event.target.closest('button')) return;
    this.#zoom(this.look.zoom > 1 ? 0 : CLOSER, picture, { x: event.clientX, y: event.clientY });
  }

  #zoomOn() {
    this.#see(zoomed(this.look, ZOOMS.find(zoom => zoom > this.look.zoom + 0.01) ?? 1));
  }

  /** Zoom; about a point of a picture, which stays where it is, else about the middle. */
  #zoom(factor, picture = null, at = null) {
    const look = zoomed(this.look, this.look.zoom * factor);
    const film = picture?.querySelector('.film')?.getBoundingClientRect();
    if (!film || look.zoom === 1) return this.#see(look);
    const box = picture.querySelector('.cell').getBoundingClientRect();
    const grown = look.zoom / this.look.zoom;
    const keep = (start, size, centre, point) => (point - centre) / (size * grown) - ((point - start) / size - 0.5);
    const wanted = [keep(film.left, film.width, box.left + box.width / 2, at.x), keep(film.top, film.height, box.top + box.height / 2, at.y)];
    return this.#see(moved({ ...look, x: 0, y: 0 }, ...wanted));
  }

  #wheel(event) {
    const picture = event.target.closest('.picture');
    if (!picture || !event.ctrlKey) return;
    event.preventDefault();
    this.#zoom(event.deltaY < 0 ? WHEEL : 1 / WHEEL, picture, { x: event.clientX, y: event.clientY });
  }

  /** Drag: the place; the window with the right button, or where W chose it; with Shift the comparison alone, to lay it on the other. */
  #drag(event) {
    const picture = event.target.closest('.picture');
    const film = picture?.querySelector('.film');
    if (!film || event.target.closest('button') || event.button === 1) return;
    const { width, height } = film.getBoundingClientRect();
    const windowing = this.windowing || event.button === 2;
    let [x, y, going] = [event.clientX, event.clientY, false];
    const move = moving => {
      const [dx, dy] = [moving.clientX - x, moving.clientY - y];
      if (!going && Math.hypot(dx, dy) < STILL) return;
      going = true;
      [x, y] = [moving.clientX, moving.clientY];
      if (windowing) this.#see(rewindowed(this.look, dy / 400, Math.exp(dx / 250)));
      else if (moving.shiftKey) {
        this.offset = { x: this.offset.x + dx / width, y: this.offset.y + dy / height };
        this.apply();
      } else this.#see(moved(this.look, dx / width, dy / height));
    };
    const end = () => {
      picture.removeEventListener('pointermove', move);
      picture.classList.remove('dragged');
    };
    picture.setPointerCapture(event.pointerId);
    picture.classList.add('dragged');
    picture.addEventListener('pointermove', move);
    for (const over of ['pointerup', 'pointercancel', 'lostpointercapture']) picture.addEventListener(over, end, { once: true });
  }
}

/** Whether two films may be of one view and side; one that does not say may, and AP is looked at beside PA. */
function ofOneView({ instance }, { instance: other }) {
  const alike = (a, b) => !a || !b || a === b;
  const frontal = view => (view === 'AP' ? 'PA' : view);
  return alike(frontal(instance.view), frontal(other.view)) && alike(instance.laterality, other.laterality);
}

/** How many times as wide one film is as another, in the patient's millimetres, where both say so. */
function likelyScale({ instance: fixed }, { instance: moving }) {
  if (!fixed.spacing || !moving.spacing) return 1;
  return (moving.columns * moving.spacing[1]) / (fixed.columns * fixed.spacing[1]);
}
