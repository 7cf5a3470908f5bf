// Which images of one exam stand beside which of another: series by what they are, projections by side and view, slices by level.
// Pure. A place is what stands in a picture at once: `{cells: [{series, instance, frame}], key}`.

import { levelWith, normalOf, pairing, reversed, stackOf } from './levels.js';

/** Of a mammography, as it is hung: from the image's right side to its left, above and below. */
const HANGING = ['R CC', 'L CC', 'R MLO', 'L MLO'];

/** Whether an image only shows where others were planned (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1). */
export const isLocalizer = instance => (instance.image_type ?? []).some(value => String(value).toUpperCase() === 'LOCALIZER');

/** Side and view of a projection; empty for one without. */
export const viewOf = instance => (instance.view ? `${instance.laterality ?? ''} ${instance.view}`.trim() : '');

const localizing = series => series.instances.every(isLocalizer);
const middleOf = series => series.instances[Math.floor(series.instances.length / 2)];

/** The series with which one begins: the first that is no localizer. */
export const firstSeries = all => all.find(series => !localizing(series)) ?? all[0];

/** The series nearest to another exam's: in orientation, view and side, thickness, kernel, name. */
export function nearestSeries(all, reference) {
  if (!reference) return firstSeries(all);
  const scores = all.map(series => likeness(series, reference));
  return all[scores.indexOf(Math.max(...scores))];
}

function likeness(series, reference) {
  const [one, other] = [middleOf(series), middleOf(reference)];
  let points = localizing(series) === localizing(reference) ? 100 : 0;
  if (series.modality === reference.modality) points += 40;
  if (one.orientation && other.orientation) {
    const [a, b] = [normalOf(one.orientation), normalOf(other.orientation)];
    points += 30 * Math.abs(a.reduce((sum, value, index) => sum + value * b[index], 0));
  }
  const [mine, theirs] = [series, reference].map(each => new Set(each.instances.map(viewOf).filter(Boolean)));
  if ([...theirs].some(view => mine.has(view))) points += 30;
  if (series.description && series.description.toLowerCase() === reference.description?.toLowerCase()) points += 10;
  if (series.thickness && reference.thickness) points += 10 * Math.min(series.thickness / reference.thickness, reference.thickness / series.thickness);
  if (series.kernel && series.kernel === reference.kernel) points += 8;
  if ((series.instances.length > 2) === (reference.instances.length > 2)) points += 12;
  return points;
}

/** The places of a series, image by image; of a mammography, those of all its series, with its four views at once as the first. */
export function placesOf(series, all) {
  const cells = each => each.instances.flatMap(instance => Array.from({ length: instance.frames }, (_, frame) => ({ series: each, instance, frame: frame + 1 })));
  const single = cell => ({ cells: [cell], key: viewOf(cell.instance) });
  if (!isMammography(all)) return cells(series).map(single);
  const every = all.flatMap(cells);
  const hung = HANGING.map(view => every.find(cell => viewOf(cell.instance) === view));
  const ordered = [...hung.filter(Boolean), ...every.filter(cell => !hung.includes(cell))];
  return [...(hung.filter(Boolean).length > 1 ? [{ cells: hung.map(cell => cell ?? null), key: 'all' }] : []), ...ordered.map(single)];
}

export const isMammography = all => all.length > 0 && all.every(series => series.modality === 'MG');

/** Where one begins in a series: in the middle of a stack of slices, else with the first image. */
export const beginning = places => (stackOfPlaces(places) ? Math.floor(places.length / 2) : 0);

function stackOfPlaces(places) {
  return stackOf(places.map(({ cells: [cell] }) => ({ position: cell?.instance.position, orientation: cell?.instance.orientation, frame: cell?.instance.frame, echo: cell?.instance.echo_time })));
}

/** How two series go together: `levels`, or null where nothing pairs their slices. `body` is what each exam shows, head to foot. */
export function together(mine, theirs, body) {
  return { mine, theirs, levels: pairing(stackOfPlaces(mine), stackOfPlaces(theirs), body) };
}

/** The place of `theirs` beside the place `at` of `mine`: by level, by side and view, else as far along. Null: there is none. */
export function counterpart({ mine, theirs, levels }, at) {
  if (levels) return levelWith(levels, at);
  const { key } = mine[at];
  if (key && theirs.some(place => place.key)) {
    const same = theirs.findIndex(place => place.key === key);
    return same >= 0 ? same : null;
  }
  return Math.round((at / Math.max(1, mine.length - 1)) * (theirs.length - 1));
}

/** The same, seen from the other side. */
export const fromOtherSide = ({ mine, theirs, levels }) => ({ mine: theirs, theirs: mine, levels: levels && reversed(levels) });
