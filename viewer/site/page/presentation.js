// Presentation states (PS3.3 A.33): how a sender meant an image to be looked at. Its window, how it is turned, and what is drawn over it,
// from the document's metadata in the DICOM JSON Model. Pure, but for `overlay`.

import { h } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const FUNCTIONS = { LINEAR: 'linear', LINEAR_EXACT: 'linear-exact', SIGMOID: 'sigmoid' };

const valuesOf = (data, tag) => data?.[tag]?.Value ?? [];
const firstOf = (data, tag) => valuesOf(data, tag)[0] ?? null;

/** Whether an item is of an image: it names it, or names none (and so is of all). */
function isOf(item, sop, frame) {
  const named = valuesOf(item, '00081140');
  if (!named.length) return true;
  return named.some(reference => firstOf(reference, '00081155') === sop && (!valuesOf(reference, '00081160').length || valuesOf(reference, '00081160').map(Number).includes(frame)));
}

/** Where a point of an image of `columns` × `rows` pixels lies once it is turned (degrees, clockwise), and then mirrored. */
export function placed([x, y], { columns, rows, rotation, flip }) {
  const [a, b] = { 0: [x, y], 90: [rows - y, x], 180: [columns - x, rows - y], 270: [y, columns - x] }[rotation];
  return [flip ? (rotation % 180 ? rows : columns) - a : a, b];
}

/** Which part of a turned image a part of the image as it lies is: the other way round. Parts are `{x, y, width, height}`, 0 to 1. */
export function unplaced({ x, y, width, height }, { rotation, flip }) {
  const left = flip ? 1 - x - width : x;
  return {
    0: { x: left, y, width, height },
    90: { x: y, y: 1 - left - width, width: height, height: width },
    180: { x: 1 - left - width, y: 1 - y - height, width, height },
    270: { x: 1 - y - height, y: left, width: height, height: width },
  }[rotation];
}

/**
 * How a document presents an image: `{label, window, inverted, rotation, flip, size, marks, partly}`; `window` is [centre, width,
 * function] or null, `size` the [width, height] of the turned image, which the points of `marks` count in; `partly`: there is more in
 * it, which is not drawn. `image` is `{sop, frame, rows, columns, inverse}`.
 */
export function presentationOf(document, image) {
  const { sop, frame, rows, columns, inverse } = image;
  const turned = Number(firstOf(document, '00700042') ?? 0);
  const rotation = [90, 180, 270].includes(turned) ? turned : 0;
  const lies = { columns, rows, rotation, flip: firstOf(document, '00700041') === 'Y' };
  const voi = valuesOf(document, '00283110').find(item => isOf(item, sop, frame));
  const [centre, width] = [firstOf(voi, '00281050'), firstOf(voi, '00281051')].map(value => (value === null ? null : Number(value)));
  const shape = firstOf(document, '20500020');
  const annotations = valuesOf(document, '00700001').filter(item => isOf(item, sop, frame));
  const area = displayedArea(document, image, lies);
  const all = annotations.flatMap(item => [
    ...valuesOf(item, '00700009').map(object => graphic(object, lies, area)),
    ...valuesOf(item, '00700008').map(object => text(object, lies, area)),
  ]);
  const tables = valuesOf(voi, '00283010').length || valuesOf(document, '20500010').length;
  const overlays = Object.keys(document).some(tag => /^60[0-9A-F]{2}3000$/.test(tag));
  const compound = annotations.some(item => valuesOf(item, '00700209').length);
  return {
    label: firstOf(document, '00700080') ?? '',
    window: centre !== null && width >= 1 ? [centre, width, FUNCTIONS[firstOf(voi, '00281056')] ?? 'linear'] : null,
    inverted: shape ? (shape === 'INVERSE') !== Boolean(inverse) : false, // the state's own word, whatever the image is (PS3.3 C.11.6)
    rotation,
    flip: lies.flip,
    size: rotation % 180 ? [rows, columns] : [columns, rows],
    marks: all.filter(Boolean),
    partly: Boolean(tables || overlays || compound || all.includes(null)),
  };
}

/** What the state shows of the image once it is turned: [left, top, right, bottom] (PS3.3 C.10.4). */
function displayedArea(document, { sop, frame, rows, columns }, lies) {
  const item = valuesOf(document, '0070005A').find(selection => isOf(selection, sop, frame));
  const [a, b] = ['00700052', '00700053'].map(tag => valuesOf(item, tag).map(Number));
  const known = a.length === 2 && b.length === 2;
  const [xs, ys] = known ? [[a[0], b[0]], [a[1], b[1]]] : [[1, columns], [1, rows]];
  const corners = [[Math.min(...xs) - 1, Math.min(...ys) - 1], [Math.max(...xs), Math.max(...ys)]].map(corner => placed(corner, lies));
  const [left, right] = corners.map(([x]) => x).sort((one, other) => one - other);
  const [top, bottom] = corners.map(([, y]) => y).sort((one, other) => one - other);
  return [left, top, right, bottom];
}

/** Points in the units of PS3.3 C.10.5.1.1 as points of the turned image; null where nobody can say. */
function pointsOf(numbers, units, lies, [left, top, right, bottom]) {
  const found = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) found.push([Number(numbers[at]), Number(numbers[at + 1])]);
  if (!found.length || found.flat().some(value => !Number.isFinite(value))) return null;
  if (units === 'PIXEL') return found.map(point => placed(point, lies));
  return units === 'DISPLAY' ? found.map(([x, y]) => [left + x * (right - left), top + y * (bottom - top)]) : null;
}

const FEWEST = { POINT: 1, POLYLINE: 2, INTERPOLATED: 2, CIRCLE: 2, ELLIPSE: 4 };

function graphic(item, lies, area) {
  const kind = firstOf(item, '00700023');
  const points = pointsOf(valuesOf(item, '00700022'), firstOf(item, '00700005'), lies, area);
  return points?.length >= (FEWEST[kind] ?? Infinity) ? { kind, points, filled: firstOf(item, '00700024') === 'Y' } : null;
}

function text(item, lies, area) {
  const words = (firstOf(item, '00700006') ?? '').trim();
  const box = pointsOf(valuesOf(item, '00700010'), firstOf(item, '00700003'), lies, area);
  const anchor = pointsOf(valuesOf(item, '00700014'), firstOf(item, '00700004'), lies, area);
  if (!words || (!box && !anchor)) return null;
  const leads = box && anchor && firstOf(item, '00700015') === 'Y';
  return { kind: 'TEXT', text: words, points: leads ? [box[0], anchor[0]] : [(box ?? anchor)[0]] };
}

const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);
const between = ([a, b], [c, d]) => [(a + c) / 2, (b + d) / 2];

/** What is drawn over an image, as large as the turned image is shown. */
export function overlay({ marks, size: [width, height] }) {
  const drawing = document.createElementNS(SVG, 'svg');
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none' })) drawing.setAttribute(name, value);
  for (const mark of marks) {
    const shape = shapeOf(mark);
    if (shape) for (const under of [true, false]) drawing.append(element(shape, mark, under));
  }
  const texts = marks.filter(({ kind }) => kind === 'TEXT').map(({ text: words, points: [[x, y]] }) => {
    const span = h('span', {}, words);
    Object.assign(span.style, { left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%` });
    return span;
  });
  return h('div.marks', { 'aria-hidden': 'true' }, drawing, texts);
}

/** [element of SVG, its attributes] of a mark; null for what has no lines. */
function shapeOf({ kind, points }) {
  const [first, second, third, fourth] = points;
  if (kind === 'POINT') return ['path', { d: `M ${first.join(' ')} h 0.001` }];
  if (kind === 'CIRCLE') return ['circle', { cx: first[0], cy: first[1], r: distance(first, second) }];
  if (kind === 'ELLIPSE') {
    const [cx, cy] = between(first, second);
    const angle = (Math.atan2(second[1] - first[1], second[0] - first[0]) * 180) / Math.PI;
    return ['ellipse', { cx, cy, rx: distance(first, second) / 2, ry: distance(third, fourth) / 2, transform: `rotate(${angle} ${cx} ${cy})` }];
  }
  return kind === 'TEXT' && !second ? null : ['polyline', { points: points.map(point => point.join(',')).join(' ') }];
}

function element([name, attributes], { kind, filled }, under) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.setAttribute('class', [under ? 'under' : 'line', kind === 'POINT' && 'point', filled && 'filled'].filter(Boolean).join(' '));
  return made;
}
