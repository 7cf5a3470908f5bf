// Two films of one place laid on one another, by themselves: moved, scaled and turned as a whole, so that they agree best. Nothing is
// warped, nothing is interpreted; what does not agree well is not aligned. Pure, but for `greyOf`.

/** Pixels of the longer side in which one looks: first coarsely, then finely. */
const COARSE = 48;
const FINE = 96;
/** What a patient stands nearer, farther, or crooked from film to film. */
const SCALES = [0.84, 0.89, 0.94, 1, 1.06, 1.12, 1.19];
const TURNS = [-8, -4, 0, 4, 8];
const FARTHEST = 0.2;
/** Correlation from which on two films show the same. */
const ALIKE = 0.6;
/** Share of the film that has to lie on the other. */
const COVERED = 0.5;
const BORDER = 0.04;

/** An image's grey values, 0 to 1: `{width, height, values}`, its longer side of `FINE` pixels. `content` is a Blob of a picture. */
export async function greyOf(content) {
  const bitmap = await createImageBitmap(content);
  const longer = Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width, bitmap.height].map(side => Math.max(8, Math.round((side * FINE) / longer)));
  const context = new OffscreenCanvas(width, height).getContext('2d');
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, values: Float32Array.from({ length: width * height }, (_, at) => data[4 * at] / 255) };
}

/**
 * How `moving` lies on `fixed`: `{scale, turn, x, y, alike}`, null where the two do not show the same. A point of `moving`, from its
 * middle and in parts of its own width, lies at scale × turned point + (x, y) in `fixed`, in parts of that one's width. `scale`: how
 * many times as wide `moving` is as `fixed`; it begins at `likely`. `turn` in degrees, clockwise.
 */
export function aligned(fixed, moving, likely = 1) {
  const [small, other] = [fixed, moving].map(smaller);
  let best = { alike: -1 };
  for (const factor of SCALES) {
    for (const turn of TURNS) {
      for (let x = -FARTHEST; x <= FARTHEST + 1e-9; x += 0.05) {
        for (let y = -FARTHEST; y <= FARTHEST + 1e-9; y += 0.05) best = better(small, other, { scale: likely * factor, turn, x, y }, best, 2);
      }
    }
  }
  best = climbed(fixed, moving, { ...best, alike: -1 });
  return best.alike >= ALIKE ? best : null;
}

/** Nearer and nearer to where they agree best, one step of each sort at a time, each step half of the one before. */
function climbed(fixed, moving, start) {
  let best = better(fixed, moving, start, start, 1);
  for (let step = { scale: 0.03 * start.scale, turn: 2, x: 0.02, y: 0.02 }; step.x > 0.001; step = halved(step)) {
    for (let before = null; before !== best;) {
      before = best;
      for (const [name, by] of Object.entries(step)) for (const way of [by, -by]) best = better(fixed, moving, { ...best, [name]: best[name] + way }, best, 1);
    }
  }
  return best;
}

const halved = step => Object.fromEntries(Object.entries(step).map(([name, by]) => [name, by / 2]));

function better(fixed, moving, place, best, every) {
  const alike = correlation(fixed, moving, place, every);
  return alike > best.alike + 1e-6 ? { ...place, alike } : best;
}

/** How alike two are where one lies on the other, −1 to 1 (Pearson); −1 where too little of one does. */
function correlation(fixed, moving, { scale, turn, x, y }, every) {
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180) / scale, Math.sin((turn * Math.PI) / 180) / scale];
  const border = Math.round(BORDER * fixed.width); // collimation and letters stand there
  let [count, a, b, aa, bb, ab] = [0, 0, 0, 0, 0, 0];
  let looked = 0;
  for (let row = border; row < fixed.height - border; row += every) {
    const v = (row + 0.5 - fixed.height / 2) / fixed.width - y;
    for (let column = border; column < fixed.width - border; column += every) {
      looked += 1;
      const u = (column + 0.5) / fixed.width - 0.5 - x;
      const [at, down] = [Math.floor((u * cos + v * sin + 0.5) * moving.width), Math.floor((v * cos - u * sin) * moving.width + moving.height / 2)];
      if (at < 0 || down < 0 || at >= moving.width || down >= moving.height) continue;
      const [one, other] = [fixed.values[row * fixed.width + column], moving.values[down * moving.width + at]];
      count += 1;
      a += one;
      b += other;
      aa += one * one;
      bb += other * other;
      ab += one * other;
    }
  }
  if (count < COVERED * looked) return -1;
  const spread = Math.sqrt((aa - (a * a) / count) * (bb - (b * b) / count));
  return spread > 1e-6 ? (ab - (a * b) / count) / spread : -1;
}

/** The same image with a longer side of `COARSE` pixels: means of its own. */
function smaller({ width, height, values }) {
  const factor = COARSE / Math.max(width, height);
  const [w, hgt] = [width, height].map(side => Math.max(4, Math.round(side * factor)));
  const [sums, counts] = [new Float32Array(w * hgt), new Float32Array(w * hgt)];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const at = Math.min(hgt - 1, Math.floor(row * (hgt / height))) * w + Math.min(w - 1, Math.floor(column * (w / width)));
      sums[at] += values[row * width + column];
      counts[at] += 1;
    }
  }
  return { width: w, height: hgt, values: sums.map((sum, at) => sum / Math.max(1, counts[at])) };
}
