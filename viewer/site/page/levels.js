// Which slice of one exam lies at the level of which of another. Pure. Heights are mm along the normal of the slices, upwards.

/** Cosine from which on slices count as parallel. */
const PARALLEL = 0.95;
/** Share of the shorter range within the other from which on table positions are believed; of ranges as long as each other, more:
 *  there the same anatomy is the better guess. */
const OVERLAP = 0.5;
const OVERLAP_OF_LIKE = 0.75;
/** Share of the longer range from which on two are as long as each other. */
const LIKE = 0.8;

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
const cross = ([a, b, c], [d, e, f]) => [b * f - c * e, c * d - a * f, a * e - b * d];

/** The normal of a slice by its six direction cosines, towards the head, the back or the left, whichever it is nearest to. */
export function normalOf(orientation) {
  const normal = cross(orientation.slice(0, 3), orientation.slice(3, 6));
  const greatest = normal.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
  return greatest < 0 ? normal.map(value => -value) : normal;
}

/**
 * Where the slices of a stack lie: `{normal, positions, frame, echoes}`, from `[{position, orientation, frame, echo}]`; null where that is not
 * known of every one of at least two, or they are not parallel.
 */
export function stackOf(planes) {
  if (planes.length < 2 || planes.some(plane => plane?.position?.length !== 3 || plane?.orientation?.length !== 6)) return null;
  const normal = normalOf(planes[0].orientation);
  if (planes.some(plane => dot(normalOf(plane.orientation), normal) < PARALLEL)) return null;
  const positions = planes.map(plane => plane.position);
  const heights = positions.map(position => dot(position, normal));
  if (Math.max(...heights) - Math.min(...heights) < 1e-3) return null;
  return { normal, positions, frame: planes[0].frame ?? '', echoes: planes.map(plane => plane.echo ?? null) };
}

/** The heights of a stack's slices along a normal. */
const along = (stack, normal) => stack.positions.map(position => dot(position, normal));

/**
 * How two stacks go together: `{how, scale, shift, from, to, echoes}`; a slice of `one` at the height h lies at scale × h + shift in
 * `other`; `from` and `to` are the heights of their slices. `places` are what each shows of the body, head to foot. Null where
 * nothing puts them together. `how` is, in the order in which it is believed:
 *
 * `frame`: the same Frame of Reference. `position`: the table positions of one are the other's, too. `proportion`: as long as each
 * other, so that first and last are the same. `top`, `bottom`: where the longer one begins, or ends, with what the other shows.
 * `middle`: nothing is known.
 */
export function pairing(one, other, places = [[], []]) {
  if (!one || !other || dot(one.normal, other.normal) < PARALLEL) return null;
  const [from, to] = [one, other].map(stack => along(stack, one.normal));
  const [[low, high], [floor, roof]] = [from, to].map(heights => [Math.min(...heights), Math.max(...heights)]);
  const [length, its] = [high - low, roof - floor];
  const shifted = (how, shift, scale = 1) => ({ how, scale, shift, from, to, echoes: [one.echoes, other.echoes] });
  if (one.frame && one.frame === other.frame) return shifted('frame', 0);
  const like = Math.min(length, its) / Math.max(length, its) >= LIKE;
  const overlap = (Math.min(high, roof) - Math.max(low, floor)) / Math.min(length, its);
  if (overlap >= (like ? OVERLAP_OF_LIKE : OVERLAP)) return shifted('position', 0);
  if (like) return shifted('proportion', floor - (its / length) * low, its / length);
  const [mine, theirs] = places;
  if (mine.length && theirs.length) {
    if (mine[0] === theirs[0]) return shifted('top', roof - high);
    if (mine.at(-1) === theirs.at(-1)) return shifted('bottom', floor - low);
    if (!mine.some(place => theirs.includes(place))) return null;
  }
  return shifted('middle', (floor + roof - low - high) / 2);
}

/** The same pair, once somebody said that these two slices are the same level. */
export function realigned(pair, at, its) {
  const scale = pair.how === 'proportion' ? pair.scale : 1;
  return { ...pair, how: 'here', scale, shift: pair.to[its] - scale * pair.from[at] };
}

/** The pair seen from the other side. */
export function reversed({ how, scale, shift, from, to, echoes: [mine, theirs] }) {
  return { how, scale: 1 / scale, shift: -shift / scale, from: to, to: from, echoes: [theirs, mine] };
}

/** Heights that are nearer than this, in mm, are one level. */
const SAME = 0.01;

/** Echo times that are nearer than this, in ms, are one. */
const SAME_ECHO = 0.5;

/** The slice of the other stack at the level of the slice `at`. Where a series goes over the same levels several times (echoes, water
 *  and fat), it is the one of the same echo time, where both say it; else the how manieth time of one is that of the other. */
export function levelWith(pair, at) {
  const height = pair.scale * pair.from[at] + pair.shift;
  const far = pair.to.map(value => Math.abs(value - height));
  const nearest = Math.min(...far);
  const there = far.flatMap((value, index) => (value - nearest < SAME ? [index] : []));
  const [mine, theirs] = pair.echoes;
  const alike = mine[at] === null ? [] : there.filter(index => theirs[index] !== null && Math.abs(theirs[index] - mine[at]) < SAME_ECHO);
  if (alike.length === 1) return alike[0];
  const before = pair.from.slice(0, at).filter(value => Math.abs(value - pair.from[at]) < SAME).length;
  return there[Math.min(before, there.length - 1)];
}
