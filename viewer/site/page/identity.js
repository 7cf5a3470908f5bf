// Whether two exams say the same of who the patient is. Pure.

const COMBINING = /\p{M}/gu;

/** A name as it is compared: without accents, case, apostrophes and how its parts are separated. */
const plain = name => (name ?? '').normalize('NFD').replace(COMBINING, '').toUpperCase().replace(/['’`]/g, '').replace(/[^\p{L}\p{N}]+/gu, ' ').trim();

const COMPARED = { name: plain, birth_date: date => date ?? '', sex: sex => (['M', 'F'].includes(sex) ? sex : '') };

/** The fields (`name`, `birth_date`, `sex`) that both exams say, and differently. */
export function differences(one, other) {
  return Object.entries(COMPARED).filter(([field, read]) => read(one[field]) && read(other[field]) && read(one[field]) !== read(other[field])).map(([field]) => field);
}
