// How a picture is looked at: zoom, place, window, inversion; and what is told of it. Pure.

/** As it was sent: the whole image, its own window. `pan` is in parts of the image's width and height. */
export const NEUTRAL = Object.freeze({ zoom: 1, x: 0, y: 0, window: null, invert: false });
export const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

/** Windows of CT in Hounsfield units, by their keys: [centre, width]. */
export const PRESETS = { 1: [40, 400], 2: [-600, 1500], 3: [400, 1800], 4: [40, 80], 5: [60, 360] };

/** Another zoom, kept within what is useful; without any, the image lies where it did. */
export function zoomed(look, zoom) {
  const kept = Math.min(Math.max(zoom, 1), 12);
  return kept === 1 ? { ...look, zoom: 1, x: 0, y: 0 } : { ...look, zoom: kept };
}

/** The image moved by parts of its own size, never out of view. */
export function moved(look, x, y) {
  const within = value => Math.min(Math.max(value, -0.5), 0.5);
  return { ...look, x: within(look.x + x), y: within(look.y + y) };
}

/** A window changed by hand: brighter by parts of its own width, wider by a factor. What both panes share is this, not values. */
export function rewindowed(look, shift, factor) {
  const now = look.window?.factor ? look.window : { shift: 0, factor: 1 };
  return { ...look, window: { shift: Math.min(Math.max(now.shift + shift, -3), 3), factor: Math.min(Math.max(now.factor * factor, 0.02), 20) } };
}

/** [centre, width] with which an image is to be drawn, null for its own. A preset holds for CT alone. */
export function windowOf(look, modality, { window: own, inverse }) {
  const wished = look.window;
  if (!wished) return null;
  if (wished.preset) return modality === 'CT' ? wished.preset : null;
  if (!own) return null;
  return [own[0] + (inverse ? -1 : 1) * wished.shift * own[1], Math.max(1, own[1] * wished.factor)].map(value => Math.round(value * 100) / 100);
}

const OPPOSITE = { L: 'R', R: 'L', A: 'P', P: 'A', H: 'F', F: 'H' };
const opposite = letters => [...letters].map(letter => OPPOSITE[letter] ?? '').join('');
const AXES = [['L', 'R'], ['P', 'A'], ['H', 'F']];

/** What of the patient lies at the edges of an image, in DICOM's letters: `{left, right, top, bottom}`; null where it is not said. */
export function edgesOf({ toward, orientation }) {
  const [right, bottom] = toward ?? (orientation ? [orientation.slice(0, 3), orientation.slice(3, 6)].map(towards) : []);
  return right && bottom ? { left: opposite(right), right, top: opposite(bottom), bottom } : null;
}

/** The letters at the edges of an image that is turned (degrees, clockwise), and then mirrored. */
export function turnedEdges(edges, { rotation, flip }) {
  if (!edges) return null;
  const names = ['top', 'right', 'bottom', 'left'];
  const turned = Object.fromEntries(names.map((name, at) => [name, edges[names[(at + 4 - rotation / 90) % 4]]]));
  return flip ? { ...turned, left: turned.right, right: turned.left } : turned;
}

/** The letters of a direction, the nearest axis first; another one where it is oblique. */
function towards(cosines) {
  return cosines.map((value, axis) => ({ size: Math.abs(value), letter: AXES[axis][value > 0 ? 0 : 1] })).filter(({ size }) => size > 0.25).sort((a, b) => b.size - a.size).slice(0, 2).map(({ letter }) => letter).join('');
}

/** What is visible of an image of which a film of `width` × `height` lies at (left, top) in a box: parts of it, null for nothing. */
export function visiblePart(box, film) {
  const [left, top] = [Math.max(0, -film.left), Math.max(0, -film.top)];
  const [right, bottom] = [Math.min(film.width, box.width - film.left), Math.min(film.height, box.height - film.top)];
  if (right <= left || bottom <= top) return null;
  return { x: left / film.width, y: top / film.height, width: (right - left) / film.width, height: (bottom - top) / film.height };
}
