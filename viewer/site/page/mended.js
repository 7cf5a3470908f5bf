// What stock OHIF would draw otherwise than the image says, put right before it is drawn; and what it cannot draw, told by name.
//
// OHIF's own files stay as they are: a metadata provider stands before its own, each image is looked at when it has come, and
// functions of cornerstone's stack viewport are surrounded. As the archive draws an image for the page (`pixels/`), it is drawn here.

const FUNCTIONS = ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'];
const MOST_POINTS = 1024;
/** How an instance can be stored so that OHIF reads it: not deflated as a whole, and with a decoder; or a video, which others show. */
const READ = /^1\.2\.840\.10008\.1\.2(\.1|\.2|\.5|\.4\.(50|51|57|70|80|81|90|91|20[1-3]|10[0-8](\.1)?))?$/;

const instanceOf = imageId => window.cornerstone.metaData.get('instance', imageId);
const listOf = value => [value ?? []].flat();
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
  const syntax = window.cornerstone.metaData.get('transferSyntax', imageId)?.transferSyntaxUID;
  if (syntax && !READ.test(syntax)) return 'viewerStored';
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
  /** Presentation LUT Shape (2050,0020) INVERSE means the same as MONOCHROME1 (PS3.3 C.11.6.1.2). */
  imagePixelModule(pixels, instance) {
    return instance.PresentationLUTShape === 'INVERSE' && pixels.photometricInterpretation === 'MONOCHROME2' ? { ...pixels, photometricInterpretation: 'MONOCHROME1' } : pixels;
  },
};

// ---- an image that has come ----------------------------------------------------------------------------------------

function mendImage(image) {
  if (seen.has(image)) return;
  seen.add(image);
  const instance = instanceOf(image.imageId);
  if (!instance) return;
  if (image.color) mendColour(image, instance);
  else mendGrey(image, instance);
}

/** OHIF draws colour as if it had eight bits, whatever it has. */
function mendColour(image, instance) {
  if (Number(instance.SamplesPerPixel) !== 3 || !(Number(instance.BitsAllocated) > 8)) return;
  const values = image.voxelManager.getScalarData();
  if (values.BYTES_PER_ELEMENT === 1 || image.imageFrame?.photometricInterpretation !== 'RGB' || Number(instance.PixelRepresentation) === 1) {
    wrong.set(image, 'viewerColour'); // cut off on its way to RGB
    return;
  }
  const most = 2 ** Number(instance.BitsStored) - 1;
  replacePixels(image, Uint8ClampedArray.from(values, value => (value * 255) / most));
}

function mendGrey(image, instance) {
  mendSign(image, instance);
  mendModality(image, instance);
  const name = String(listOf(instance.VOILUTFunction)[0] ?? '').trim().toUpperCase();
  image.voiLUTFunction = FUNCTIONS.includes(name) ? name : 'LINEAR';
  const least = image.voiLUTFunction === 'LINEAR' ? 1 : Number.MIN_VALUE;
  const widths = numbersOf(instance.WindowWidth);
  const own = numbersOf(instance.WindowCenter).map((centre, index) => [centre, widths[index]]).find(([centre, width]) => Number.isFinite(centre) && width >= least);
  const all = window.cornerstone.utilities.windowLevel.toWindowLevel(image.minPixelValue, image.maxPixelValue);
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

/** A compressed stream may say another sign than the data set, which counts (PS3.5 A.4.4): the bits that are stored, with its sign. */
function mendSign(image, instance) {
  const signed = Number(instance.PixelRepresentation) === 1;
  const { signed: decoded, bitsPerPixel } = image.imageFrame?.imageInfo ?? {};
  if (typeof decoded !== 'boolean' || decoded === signed) return;
  const [bits, allocated] = [Number(instance.BitsStored), Number(instance.BitsAllocated)];
  const { stored, rescaled } = scaleOf(image);
  const values = Array.from(image.voxelManager.getScalarData(), stored);
  const kept = bitsPerPixel > bits && values.some(value => value >> bits) ? allocated : bits;
  const half = 2 ** (kept - 1);
  const of = value => {
    const low = ((value % (2 * half)) + 2 * half) % (2 * half);
    return signed && low >= half ? low - 2 * half : low;
  };
  replacePixels(image, typed(values.map(value => rescaled(of(value)))));
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
