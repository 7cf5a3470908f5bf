// What is known of exams beside the timeline: their images, and the exams that they are compared with.
// Each is asked for once, and again where an exam has changed.

import { get } from './session.js';
import { keyOf, ownerOf } from './timeline.js';

const known = new Map();
const MOST = 200;

/** Forget everything. */
export const forgetExams = () => known.clear();

function once(key, ask) {
  const found = known.get(key) ?? ask();
  known.delete(key);
  known.set(key, found);
  if (known.size > MOST) known.delete(known.keys().next().value);
  found.catch(() => known.get(key) === found && known.delete(key));
  return found;
}

/** Series and images of an exam. Raises Trouble. */
export function imagesOfExam(study) {
  const state = `${study.instances} ${study.complete}`;
  return once(`images ${keyOf(study)} ${state}`, () => get(`/view/studies/${study.study_instance_uid}/images?${new URLSearchParams(ownerOf(study))}`));
}

/** The other exams, those to be compared with first; of `studies`, which are all that there are. Raises Trouble. */
export async function priorsOfExam(study, studies) {
  const { priors } = await once(`priors ${keyOf(study)} ${studies.length}`, () => get(`/view/studies/${study.study_instance_uid}/priors?${new URLSearchParams({ ...ownerOf(study), limit: 1 })}`));
  return priors;
}
