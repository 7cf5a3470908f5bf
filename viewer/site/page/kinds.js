// What of an exam is an image that one looks at, and what the rest is called.

import { isNoImage } from './timeline.js';

/** What is made from images and is not drawn here, by modality. */
const BY_MODALITY = { SEG: 'kindSeg', REG: 'kindReg', RTSTRUCT: 'kindRtStruct', RTPLAN: 'kindRtPlan', RTDOSE: 'kindRtDose', RTRECORD: 'kindRtRecord', ECG: 'kindEcg' };

/** The same by the SOP class, below 1.2.840.10008.5.1.4.1.1 (PS3.4 B.5); the first that begins so. Reports stand below the pictures. */
const STORAGE = '1.2.840.10008.5.1.4.1.1.';
const BY_CLASS = [
  [/^(104\.[12]|88\.(11|22|33|34))$/, null],
  [/^88\.(67|68|73|76)$/, 'kindDose'],
  [/^88\.(50|65|69)$/, 'kindCad'],
  [/^88\.59$/, 'kindKeyImages'],
  [/^88\./, 'kindMeasures'],
  [/^11\./, 'kindPresentation'],
  [/^104\./, 'kindModel'],
  [/^9\./, 'kindWaveform'],
];

/** The series of an exam with nothing but images; those that have none are left out. */
export const seriesToLookAt = series => series.filter(({ modality }) => !isNoImage(modality))
  .map(each => ({ ...each, instances: each.instances.filter(instance => !instance.kind) })).filter(({ instances }) => instances.length);

/** What else there is, `{text, modality}` of each kind once; `text` is the name of a text. */
export function othersAmong(series) {
  const found = new Map();
  for (const { modality, instances } of series) {
    for (const { kind, sop_class_uid: sopClass } of instances) {
      const text = isNoImage(modality) || kind ? nameOf(modality, kind, sopClass) : null;
      if (text) found.set(`${text} ${modality}`, { text, modality });
    }
  }
  return [...found.values()];
}

function nameOf(modality, kind, sopClass) {
  if (kind === 'video') return 'kindVideo';
  if (BY_MODALITY[modality]) return BY_MODALITY[modality];
  const below = sopClass.startsWith(STORAGE) ? sopClass.slice(STORAGE.length) : '';
  const known = BY_CLASS.find(([pattern]) => pattern.test(below));
  return known ? known[1] : 'kindOther';
}
