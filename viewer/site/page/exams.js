// What is known of exams beside the timeline: their images, and the exams that they are compared with.
// Each is asked for once, and again where an exam has changed.

import { get } from './session.js';
import { keyOf, ownerOf } from './timeline.js';

const known = new Map();
const MOST = 200;

/** Forget everything. */
export function forgetExams() {
  known.clear();
  ahead.clear();
}

function once(key, ask) {
  const found = known.get(key) ?? ask();
  known.delete(key);
  known.set(key, found);
  if (known.size > MOST) known.delete(known.keys().next().value);
  found.catch(() => known.get(key) === found && known.delete(key));
  return found;
}

const imagesKey = study => `images ${keyOf(study)} ${study.instances} ${study.complete}`;
const askImages = (study, more = {}) => get(`/view/studies/${study.study_instance_uid}/images?${new URLSearchParams({ ...ownerOf(study), ...more })}`);

/** What was asked for before anybody looked, and of which the archive does not know yet that somebody does. */
const ahead = new Set();
const TELL_AGAIN_AFTER = 5000;

/** The archive is told that somebody looks at what the page had ahead; what it did not hear is told again. */
async function tellLook(study, key) {
  try {
    await askImages(study);
    ahead.delete(key);
  } catch (trouble) {
    if (ahead.has(key) && ['offline', 'broken'].includes(trouble.kind)) setTimeout(() => tellLook(study, key), TELL_AGAIN_AFTER);
  }
}

/** Series and images of an exam that somebody looks at. Raises Trouble. */
export function imagesOfExam(study) {
  const key = imagesKey(study);
  if (ahead.has(key)) tellLook(study, key);
  return once(key, () => askImages(study));
}

/** The same of an exam at which somebody is likely to look next. Raises Trouble. */
export function expectImagesOfExam(study) {
  const key = imagesKey(study);
  if (!known.has(key)) ahead.add(key);
  return once(key, () => askImages(study, { ahead: 1 }));
}

/** Images that came with something else. */
export const knowImages = (study, images) => once(imagesKey(study), () => Promise.resolve(images));

/** What makes an exam a prior of others, as far as the timeline says it. */
const shows = study => [keyOf(study), study.study_date, study.description, study.modalities, JSON.stringify(study.course)];

/** The other exams, those to be compared with first; of `studies`, which are all that there are. Raises Trouble. */
export async function priorsOfExam(study, studies) {
  const { priors } = await once(`priors ${keyOf(study)} ${studies.map(shows).join()}`, () => get(`/view/studies/${study.study_instance_uid}/priors?${new URLSearchParams({ ...ownerOf(study), limit: 1 })}`));
  return priors;
}
