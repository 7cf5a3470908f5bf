// What a compressed stream says of its own colours, which a data set may call by another name (as `chalicelib/dicom/codestream.py`).

/**
 * What the compressed stream of an image (DataView, or null) says of it: whether it is `rgb` (null: it does not say), by which `adobe`
 * transform, `turned` by Exif, one colour after the other in `planes`, `transformed` by JPEG 2000's own.
 */
export function saysOf(bytes) {
  const found = { rgb: null, adobe: null, turned: false, planes: false, transformed: false };
  try {
    if (bytes?.getUint16(0) === 0xffd8) readJpeg(bytes, found);
    else if (bytes) readJpeg2000(bytes, found);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // it ends in the middle
  }
  return found;
}

/** ISO/IEC 10918-1 B.2, JFIF, and Adobe's APP14. */
function readJpeg(bytes, found) {
  let jfif = false;
  for (let at = 2; bytes.getUint8(at) === 0xff; ) {
    const marker = bytes.getUint8(at + 1);
    if (marker === 0xff || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    if (marker === 0xda) found.planes = bytes.getUint8(at + 4) === 1;
    if (marker === 0xda || marker === 0xd9) return;
    const length = bytes.getUint16(at + 2);
    if (marker === 0xe0 && bytes.getUint32(at + 4) === 0x4a464946) jfif = true;
    else if (marker === 0xee && length >= 14 && bytes.getUint32(at + 4) === 0x41646f62) found.adobe = bytes.getUint8(at + 15);
    else if (marker === 0xe1 && bytes.getUint32(at + 4) === 0x45786966) found.turned ||= isTurned(bytes, at + 10);
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const components = [0, 1, 2].map(index => at + 10 + 3 * index);
      const isLossless = [0xc3, 0xc7, 0xcb, 0xcf].includes(marker);
      const isShared = new Set(components.map(place => bytes.getUint8(place + 1))).size > 1;
      if (found.adobe !== null) found.rgb = found.adobe === 0;
      else if (!isLossless && (jfif || isShared)) found.rgb = false;
      else if (String.fromCharCode(...components.map(place => bytes.getUint8(place))) === 'RGB') found.rgb = true;
    }
    at += 2 + length;
  }
}

/** Whether Exif says that the picture lies otherwise, of which DICOM knows nothing, and a browser does what it says. */
function isTurned(bytes, start) {
  const little = bytes.getUint16(start) === 0x4949;
  const first = start + bytes.getUint32(start + 4, little);
  if (first + 2 > bytes.byteLength) return false; // it leads nowhere; what comes behind it counts all the same
  const entries = Array.from({ length: bytes.getUint16(first, little) }, (_, index) => first + 2 + 12 * index);
  return entries.some(at => at + 10 <= bytes.byteLength && bytes.getUint16(at, little) === 0x0112 && bytes.getUint16(at + 8, little) > 1);
}

/** ISO/IEC 15444-1 A.6.1: whether its samples went through the multiple component transformation. */
function readJpeg2000(bytes, found) {
  let at = 0;
  while (bytes.getUint32(at) !== 0xff4fff51) at += 1; // behind the boxes of a JP2 file
  for (at += 2; bytes.getUint8(at) === 0xff && ![0x90, 0x93].includes(bytes.getUint8(at + 1)); at += 2 + bytes.getUint16(at + 2)) {
    if (bytes.getUint8(at + 1) === 0x52) found.transformed = bytes.getUint8(at + 8) === 1;
  }
}
