// What stock OHIF would draw otherwise than the image says, put right before it is drawn; and what it cannot draw, told by name.
//
// OHIF's own files stay as they are: a metadata provider stands before its own, each image is looked at when it has come, and
// functions of cornerstone's stack viewport are surrounded. As the archive draws an image for the page (`pixels/`), it is drawn here.

import { saysOf } from './codestream.js';

const FUNCTIONS = ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'];
const MOST_POINTS = 1024;
/** How an instance can be stored so that OHIF reads it: not deflated as a whole, and with a decoder; or a video, which others show. */
const READ = /^1\.2\.840\.10008\.1\.2(\.1|\.2|\.5|\.4\.(50|51|57|70|80|81|90|91|20[1-3]|10[0-8](\.1)?))?$/;

/** Transfer syntaxes whose pixels are not compressed; those of JPEG; the one whose colours a browser itself turns into RGB. */
const NATIVE = /^1\.2\.840\.10008\.1\.2(\.[12])?$/;
const JPEG = /^1\.2\.840\.10008\.1\.2\.4\.(50|51|57|70)$/;
const JPEG_BASELINE = '1.2.840.10008.1.2.4.50';
const JPEG_EXTENDED = '1.2.840.10008.1.2.4.51';
const JPEG_LOSSLESS = /^1\.2\.840\.10008\.1\.2\.4\.(57|70)$/;
const JPEG_LS = /^1\.2\.840\.10008\.1\.2\.4\.8[01]$/;
const JPEG_2000 = /^1\.2\.840\.10008\.1\.2\.4\.(90|91|20[1-3])$/;
/** Two pixels share their colour, where they are not compressed (PS3.3 C.7.6.3.1.2). */
const SHARED = ['YBR_FULL_422', 'YBR_PARTIAL_422'];
const SLIGHTLY = 2 ** -20;

const instanceOf = imageId => window.cornerstone.metaData.get('instance', imageId);
const listOf = value => [value ?? []].flat();
const syntaxOf = imageId => window.cornerstone.metaData.get('transferSyntax', imageId)?.transferSyntaxUID ?? '';
const isRgb = ({ SamplesPerPixel }) => Number(SamplesPerPixel) === 3;
const numbersOf = value => listOf(value).map(Number);

/** Images that were looked at; those whose window is a table, with it; those that stay wrong, with the text that says why. */
const seen = new WeakSet();
const tables = new WeakMap();
const wrong = new WeakMap();

/** Begin, before OHIF opens the first exam. */
export function mend() {
  window.cornerstone.metaData.addProvider(provide, 10001);
  window.cornerstone.eventTarget.addEventListener('CORNERSTONE_IMAGE_LOADED', ({ detail }) => mendImage(detail.image));
  mendWindow();
  mendReset();
}

/** Why OHIF cannot draw an image, as a key of the texts: known from what is said of it, and from itself once it has come; null where it can. */
export function unfit(imageId, image = null) {
  const instance = instanceOf(imageId) ?? {};
  if (instance.PhotometricInterpretation === 'PALETTE COLOR' && instance.SegmentedRedPaletteColorLookupTableData && !instance.RedPaletteColorLookupTableData) return 'viewerPalette';
  const syntax = syntaxOf(imageId);
  if (syntax && !READ.test(syntax)) return 'viewerStored';
  if (JPEG_LOSSLESS.test(syntax) && Number(instance.PixelRepresentation) === 1 && Number(instance.BitsAllocated) === 8 && !isRgb(instance)) return 'viewerStored';
  if (instance.PhotometricInterpretation === 'PALETTE COLOR' && Number(instance.PixelRepresentation) === 1) return 'viewerStored';
  return (image && wrong.get(image)) ?? null;
}

/** Whether its sender shows an image by another curve than a window's straight line. */
export const isCurved = image => tables.has(image) || image?.voiLUTFunction === 'SIGMOID';

// ---- what is said of an image --------------------------------------------------------------------------------------

let asking = false;

function provide(type, imageId) {
  const mended = SAID[type];
  if (!mended || asking || typeof imageId !== 'string') return undefined;
  asking = true;
  try {
    const said = window.cornerstone.metaData.get(type, imageId);
    return said && mended(said, instanceOf(imageId) ?? {});
  } finally {
    asking = false;
  }
}

const SAID = {
  /** Pixels that are not square, where OHIF knows of no size: one is as high as it says in units of its width. */
  imagePlaneModule(plane, instance) {
    if (Array.isArray(plane.pixelSpacing) && plane.rowPixelSpacing > 0 && plane.columnPixelSpacing > 0) return plane;
    const [down, across] = [instance.PixelSpacing, instance.ImagerPixelSpacing, instance.PixelAspectRatio].map(numbersOf).find(pair => pair.length === 2 && pair.every(value => value > 0)) ?? [1, 1];
    return down === across ? plane : { ...plane, rowPixelSpacing: down / across, columnPixelSpacing: 1 };
  },
  /**
   * Presentation LUT Shape (2050,0020) INVERSE means the same as MONOCHROME1 (PS3.3 C.11.6.1.2). Samples of three colours come as they
   * were decoded, and `mendColour` makes RGB of them. Values that do not lie in the lowest bits come with all of them.
   */
  imagePixelModule(pixels, instance) {
    if (isRgb(instance)) return { ...pixels, photometricInterpretation: 'RGB', planarConfiguration: 0, pixelRepresentation: 0 };
    if (instance.PhotometricInterpretation === 'PALETTE COLOR') return { ...pixels, ...paletteOf(pixels) };
    const said = Number(instance.HighBit) + 1 > Number(instance.BitsStored) ? { ...pixels, bitsStored: pixels.bitsAllocated } : pixels;
    return instance.PresentationLUTShape === 'INVERSE' && said.photometricInterpretation === 'MONOCHROME2' ? { ...said, photometricInterpretation: 'MONOCHROME1' } : said;
  },
  /**
   * Colour has no Modality LUT. Of grey OHIF sees by the two ends alone whether rescaled values are whole numbers and how large they are,
   * which a falling or a broken slope has it see wrongly; with an end that is no whole number it takes them as they are.
   */
  modalityLutModule(rescale, instance) {
    if (isRgb(instance)) return { ...rescale, rescaleSlope: 1, rescaleIntercept: 0 };
    const { rescaleSlope: slope, rescaleIntercept: intercept } = rescale;
    return slope < 0 || (Number.isFinite(slope) && !Number.isInteger(slope)) ? { ...rescale, rescaleIntercept: intercept + SLIGHTLY } : rescale;
  },
};

const COLOURS = ['red', 'green', 'blue'].map(colour => [`${colour}PaletteColorLookupTableDescriptor`, `${colour}PaletteColorLookupTableData`]);

/** The three tables of a palette in eight bits, which OHIF makes them by what it finds in the red one; nothing where they are not at hand. */
function paletteOf(pixels) {
  const tables = COLOURS.map(([, data]) => pixels[data]);
  const said = COLOURS.map(([descriptor]) => pixels[descriptor]);
  if (![...tables, ...said].every(list => list?.length > 0 && typeof list[0] === 'number')) return {};
  const largest = Math.max(...tables.map(table => table.reduce((most, entry) => Math.max(most, entry), 0)));
  const most = 2 ** bitsOf(largest.toString(2).length, said[2][2]) - 1;
  return Object.fromEntries(COLOURS.flatMap(([descriptor, data], index) => [
    [descriptor, [said[index][0], said[index][1], 8]],
    [data, Array.from(tables[index], entry => Math.round((entry * 255) / most))],
  ]));
}

// ---- an image that has come ----------------------------------------------------------------------------------------

function mendImage(image) {
  if (seen.has(image)) return;
  seen.add(image);
  const instance = instanceOf(image.imageId);
  if (!instance) return;
  if (image.color) mendColour(image, instance);
  else mendGrey(image, instance);
}

/** Samples of three colours, as they were decoded, become RGB of eight bits, as in `pixels/colour.py`. */
function mendColour(image, instance) {
  const syntax = syntaxOf(image.imageId);
  if (!isRgb(instance)) {
    if (NATIVE.test(syntax) && hasBitsAbove(image, instance)) wrong.set(image, 'viewerStored');
    return;
  }
  const count = image.rows * image.columns;
  const kind = samplesOf(image, instance, syntax);
  const came = image.voxelManager.getScalarData();
  let values = came instanceof Int8Array ? new Uint8Array(came.buffer, came.byteOffset, came.length) : came;
  const arePlanes = NATIVE.test(syntax) ? Number(instance.PlanarConfiguration) === 1 : JPEG_LS.test(syntax) && saysOf(bytesOf(image)).planes;
  if (NATIVE.test(syntax) && SHARED.includes(instance.PhotometricInterpretation) && came.length < 3 * count) values = unshared(came, count);
  else if (arePlanes) values = together(values, count);
  else if (came.length > 3 * count) values = values.subarray(0, 3 * count);
  if (!kind || values.length < 3 * count) {
    wrong.set(image, 'viewerStored');
    return;
  }
  const bits = Number(instance.BitsStored);
  if (kind !== 'RGB' || bits !== 8 || values.BYTES_PER_ELEMENT > 1) values = inEightBits(values, kind, bits, Number(instance.HighBit) + 1 - bits);
  if (values !== came) replacePixels(image, values);
}

/** Whether the numbers in a palette have others beside them, which OHIF takes for part of them. */
function hasBitsAbove(image, { BitsStored: stored, BitsAllocated: allocated }) {
  const bytes = Number(stored) < Number(allocated) ? bytesOf(image) : null;
  const width = Number(allocated) / 8;
  for (let at = 0; bytes && at + width <= bytes.byteLength; at += width) if ((width === 1 ? bytes.getUint8(at) : bytes.getUint16(at, true)) >> stored) return true;
  return false;
}

/** What decoded samples are: RGB, YBR or YBR_PARTIAL; null for those that were made RGB, or turned, though they should not be. What the
 *  stream says of itself goes before what the data set says (`chalicelib/dicom/codestream.py`). */
function samplesOf(image, { PhotometricInterpretation: said }, syntax) {
  const kind = ['RGB', 'YBR_RCT', 'YBR_ICT'].includes(said) ? 'RGB' : said === 'YBR_PARTIAL_422' ? 'YBR_PARTIAL' : 'YBR';
  if (JPEG_2000.test(syntax)) return saysOf(bytesOf(image)).transformed ? 'RGB' : kind;
  if (!JPEG.test(syntax)) return kind;
  const { rgb, adobe, turned } = saysOf(bytesOf(image));
  if (syntax === JPEG_BASELINE) return turned || (rgb === null && kind === 'RGB') ? null : 'RGB';
  if (syntax === JPEG_EXTENDED && adobe === 1) return 'RGB';
  return rgb ?? kind === 'RGB' ? 'RGB' : 'YBR';
}

/** The pixels of an image as they are stored, compressed or not, for all frames where they are not; null where they are not at hand. */
function bytesOf({ imageId, data }) {
  const frame = Number(/[?&]frame=(\d+)/.exec(imageId)?.[1] ?? 1);
  let part = listOf(data?.PixelData)[frame - 1];
  while (Array.isArray(part)) [part] = part;
  if (part instanceof ArrayBuffer) return new DataView(part);
  return part?.buffer ? new DataView(part.buffer, part.byteOffset, part.byteLength) : null;
}

/** Luminance of two pixels, then the colour that they share: three samples each. */
function unshared(values, count) {
  const made = new values.constructor(values.length < 2 * count ? 0 : 3 * count);
  for (let from = 0, to = 0; to < made.length; from += 4, to += 6) {
    made[to] = values[from];
    made[to + 3] = values[from + 1];
    made[to + 1] = made[to + 4] = values[from + 2];
    made[to + 2] = made[to + 5] = values[from + 3];
  }
  return made;
}

/** The samples of each pixel together, of planes of one colour each. */
function together(values, count) {
  const made = new values.constructor(values.length < 3 * count ? 0 : 3 * count);
  for (let at = 0; at < made.length; at += 1) made[at] = values[(at % 3) * count + Math.floor(at / 3)];
  return made;
}

/** RGB of eight bits of samples of so many, which begin `shift` bits above the lowest. */
function inEightBits(values, kind, bits, shift) {
  const most = 2 ** bits - 1;
  const sample = bits + shift < 32 ? value => ((value >> shift) & most) * (255 / most) : value => value * (255 / most);
  if (kind === 'RGB') return Uint8ClampedArray.from(values, sample);
  const made = new Uint8ClampedArray(values.length);
  const middle = (255 * 2 ** (bits - 1)) / most;
  const [black, gain, red, green, greener, blue] = kind === 'YBR_PARTIAL' ? [16, 1.1644, 1.596, 0.3917, 0.813, 2.0173] : [0, 1, 1.402, 0.344136, 0.714136, 1.772];
  for (let at = 0; at < values.length; at += 3) {
    const [y, b, r] = [gain * (sample(values[at]) - black), sample(values[at + 1]) - middle, sample(values[at + 2]) - middle];
    made[at] = y + red * r;
    made[at + 1] = y - green * b - greener * r;
    made[at + 2] = y + blue * b;
  }
  return made;
}

function mendGrey(image, instance) {
  if (image.minPixelValue > image.maxPixelValue) [image.minPixelValue, image.maxPixelValue] = [image.maxPixelValue, image.minPixelValue];
  mendBits(image, instance);
  const range = rangeOf(image, instance);
  mendModality(image, instance);
  const name = String(listOf(instance.VOILUTFunction)[0] ?? '').trim().toUpperCase();
  image.voiLUTFunction = FUNCTIONS.includes(name) ? name : 'LINEAR';
  const least = image.voiLUTFunction === 'LINEAR' ? 1 : Number.MIN_VALUE;
  const widths = numbersOf(instance.WindowWidth);
  const own = numbersOf(instance.WindowCenter).map((centre, index) => [centre, widths[index]]).find(([centre, width]) => Number.isFinite(centre) && width >= least);
  const all = window.cornerstone.utilities.windowLevel.toWindowLevel(...(range ?? [image.minPixelValue, image.maxPixelValue]));
  [image.windowCenter, image.windowWidth] = own ?? [all.windowCenter, all.windowWidth];
  if (!own) image.voiLUTFunction = 'LINEAR';
  mendTable(image, instance);
}

/** What a value was before OHIF rescaled it, and the way back. */
function scaleOf(image) {
  const { scaled, scalingParameters: { rescaleSlope = 1, rescaleIntercept = 0, modality, suvbw } = {} } = image.preScale ?? {};
  if (!scaled) return { stored: value => value, rescaled: value => value };
  const factor = modality === 'PT' && suvbw > 0 ? suvbw : 1;
  return {
    stored: value => Math.round((value / factor - rescaleIntercept) / rescaleSlope),
    rescaled: value => factor * (value * rescaleSlope + rescaleIntercept),
  };
}

/** The bits that are stored, with the sign of the data set: what stands beside them is an overlay, or nothing (PS3.5 8.1.1), and a compressed
 *  stream may say another sign (A.4.4). */
function mendBits(image, instance) {
  const [bits, allocated, high] = [instance.BitsStored, instance.BitsAllocated, instance.HighBit ?? instance.BitsStored - 1].map(Number);
  if (!(bits > 0 && bits <= allocated && allocated <= 16) || instance.Modality === 'RTDOSE') return;
  const half = 2 ** (bits - 1);
  const signed = Number(instance.PixelRepresentation) === 1;
  const [least, most] = signed ? [-half, half - 1] : [0, 2 * half - 1];
  const shift = high + 1 - bits;
  const { stored, rescaled } = scaleOf(image);
  const ends = [image.minPixelValue, image.maxPixelValue].map(stored);
  if (!shift && ends.every(value => value >= least && value <= most)) return;
  const of = value => {
    const low = (value >> shift) & (2 * half - 1);
    return rescaled(signed && low >= half ? low - 2 * half : low);
  };
  replacePixels(image, typed(Array.from(image.voxelManager.getScalarData(), value => of(stored(value)))));
}

/** The least and the most value beside those that only fill the image up to a rectangle (PS3.3 C.7.5.1.1.2); null where none does. */
function rangeOf(image, instance) {
  const limits = numbersOf([instance.PixelPaddingValue ?? [], instance.PixelPaddingRangeLimit ?? []].flat());
  if (!limits.length || limits.some(Number.isNaN) || listOf(instance.ModalityLUTSequence).length) return null;
  const { stored } = scaleOf(image);
  const signed = Number(instance.PixelRepresentation) === 1;
  const [first, last] = [Math.min, Math.max].map(end => end(...limits.map(value => (signed && value >= 0x8000 ? value - 0x10000 : value))));
  let [least, most] = [Infinity, -Infinity];
  for (const value of image.voxelManager.getScalarData()) {
    const before = stored(value);
    if (before >= first && before <= last) continue;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least <= most ? [least, most] : null;
}

/** OHIF reads Rescale Slope and Intercept alone (PS3.3 C.11.1). */
function mendModality(image, instance) {
  if (!listOf(instance.ModalityLUTSequence).length) return;
  const [item] = listOf(image.data?.ModalityLUTSequence);
  const table = item && tableOf(item, Number(instance.PixelRepresentation) === 1);
  if (!table) {
    wrong.set(image, 'viewerTable');
    return;
  }
  const { stored } = scaleOf(image);
  replacePixels(image, Uint16Array.from(image.voxelManager.getScalarData(), value => table.at(stored(value))));
}

/** A VOI LUT stands before a window, as on the page (PS3.3 C.11.2.1.1). */
function mendTable(image, instance) {
  if (!listOf(instance.VOILUTSequence).length) return;
  const [item] = listOf(image.data?.VOILUTSequence);
  const table = item && tableOf(item, image.minPixelValue < 0 || Number(instance.PixelRepresentation) === 1);
  if (!table) {
    wrong.set(image, 'viewerTable');
    return;
  }
  tables.set(image, table);
  Object.assign(image, { voiLUTFunction: 'LINEAR', windowCenter: table.first + table.size / 2, windowWidth: table.size });
}

/** A lookup table of an item (PS3.3 C.11.1.1): `{first, size, most, at(value)}`; null for one that is not at hand, or no table. */
function tableOf(item, signed) {
  const [count, from, declared] = numbersOf(item.LUTDescriptor);
  const size = count || 65536;
  const [data] = listOf(item.LUTData);
  let entries = listOf(item.LUTData);
  if (data instanceof ArrayBuffer) entries = data.byteLength >= 2 * size ? new Uint16Array(data, 0, size) : new Uint8Array(data);
  if (!(count >= 0) || !(declared > 0) || entries.length < size || typeof entries[0] !== 'number') return null;
  const first = signed && from >= 0x8000 ? from - 0x10000 : from;
  const used = entries.slice(0, size).reduce((most, entry) => Math.max(most, entry), 0).toString(2).length;
  const most = 2 ** bitsOf(used, declared) - 1;
  return { first, size, most, at: value => entries[Math.min(Math.max(Math.round(value) - first, 0), size - 1)] };
}

/** The bits of entries of which the largest has `used`: as declared, unless they have more, or fill one byte of two. */
function bitsOf(used, declared) {
  if (declared > 16 || used > declared) return used > 8 && !(declared > 8 && declared <= 16) ? 16 : Math.max(8, used);
  return declared === 16 && used <= 8 ? 8 : declared;
}

/** Values in the smallest array of those that cornerstone draws. */
function typed(values) {
  const within = (least, most) => values.every(value => Number.isInteger(value) && value >= least && value <= most);
  return (within(-0x8000, 0x7fff) ? Int16Array : within(0, 0xffff) ? Uint16Array : Float32Array).from(values);
}

function replacePixels(image, values) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  Object.assign(image, {
    voxelManager: window.cornerstone.utilities.VoxelManager.createImageVoxelManager({ scalarData: values, width: image.columns, height: image.rows, numberOfComponents: image.numberOfComponents }),
    getPixelData: () => values,
    dataType: values.constructor.name,
    sizeInBytes: values.byteLength,
    minPixelValue: least,
    maxPixelValue: most,
  });
  if (image.imageFrame) Object.assign(image.imageFrame, { pixelData: values, pixelDataLength: values.length, smallestPixelValue: least, largestPixelValue: most });
}

// ---- how a viewport draws it ---------------------------------------------------------------------------------------

/** Each image of a stack by its own function, and one with a table by that; a window chosen by hand stretches the table. */
function mendWindow() {
  const { StackViewport, utilities } = window.cornerstone;
  const stock = StackViewport.prototype.setVOIGPU;
  StackViewport.prototype.setVOIGPU = function setVOIGPU(range, options = {}) {
    const image = this.csImage;
    const table = image && tables.get(image);
    const shape = table ?? image?.voiLUTFunction;
    const other = Boolean(this.contenitoreShape && shape !== this.contenitoreShape);
    this.contenitoreShape = shape;
    if (seen.has(image)) this.VOILUTFunction = image.voiLUTFunction ?? 'LINEAR';
    const over = range ?? (table && { lower: table.first, upper: table.first + table.size - 1 });
    stock.call(this, over, { ...options, forceRecreateLUTFunction: Boolean(options.forceRecreateLUTFunction || other || table) });
    const transfer = table && this.getTransferFunction();
    if (!transfer) return;
    transfer.buildFunctionFromArray(pointsOf(table, this.voiRange, this.invert));
    this.initialTransferFunctionNodes = utilities.transferFunctionUtils.getTransferFunctionNodes(transfer);
  };
}

/** The points of a table over a range, as vtk.js reads an array: x, red, green, blue. */
function pointsOf(table, { lower, upper }, inverted) {
  const count = Math.min(Math.max(table.size, 2), MOST_POINTS);
  const points = Array.from({ length: count }, (_, index) => {
    const part = index / (count - 1);
    const grey = table.at(table.first + part * (table.size - 1)) / table.most;
    const shown = inverted ? 1 - grey : grey;
    return [lower + part * (upper - lower), shown, shown, shown];
  });
  return { getNumberOfComponents: () => 4, getNumberOfTuples: () => count, getComponent: (tuple, component) => points[tuple][component] };
}

/** Stock OHIF's reset gives an image that is shown inverted (MONOCHROME1, PS3.3 C.7.6.3.1.2) its colours back the wrong way round, and
 *  stumbles over a curve of which it knows no name. */
function mendReset() {
  const { StackViewport, utilities } = window.cornerstone;
  const stockColormap = StackViewport.prototype.setColormapGPU;
  StackViewport.prototype.setColormapGPU = function setColormapGPU(colormap) {
    if (colormap) stockColormap.call(this, colormap);
  };
  const stock = StackViewport.prototype.resetProperties;
  StackViewport.prototype.resetProperties = function resetProperties() {
    stock.call(this);
    const nodes = this.useCPURendering ? [] : utilities.transferFunctionUtils.getTransferFunctionNodes(this.getTransferFunction());
    if (nodes.length < 2) return;
    const table = tables.get(this.csImage);
    const falls = Boolean(table) && table.at(table.first) > table.at(table.first + table.size - 1);
    const inverted = (nodes[0][1] > nodes.at(-1)[1]) !== falls;
    if (inverted === this.initialInvert) return;
    this.invert = inverted;
    this.setInvertColor(!inverted);
    this.render();
  };
}
