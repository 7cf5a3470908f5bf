// The course of an illness: exams that show the same part of the body in the same way, whatever hospital made them. Pure.

const meet = (one, other) => one.regions.some(region => other.within.includes(region)) || other.regions.some(region => one.within.includes(region));

/** Whether two exams are of one course: of a kind, and of one region. An exam that nobody understood is of its own name's. */
export function ofOneCourse(one, other) {
  const [a, b] = [one.course, other.course];
  if (!a?.regions.length || !b?.regions.length) return one.description === other.description && one.modalities.join() === other.modalities.join();
  return a.kinds.some(kind => b.kinds.includes(kind)) && meet(a, b);
}

/** Oldest to newest; an undated exam comes first, since nothing says how old it is. */
export const oldestFirst = (one, other) => `${one.study_date}${one.study_time}`.localeCompare(`${other.study_date}${other.study_time}`);

/** The exams of an exam's course, itself among them. */
export const courseOf = (studies, current) => studies.filter(study => study === current || ofOneCourse(study, current)).sort(oldestFirst);

/** All courses, those with the most exams first: `[{studies, newest}]`, each exam in one. */
export function coursesOf(studies) {
  const courses = [];
  for (const study of [...studies].sort((one, other) => oldestFirst(other, one))) {
    const found = courses.find(course => ofOneCourse(course.newest, study));
    if (found) found.studies.push(study);
    else courses.push({ newest: study, studies: [study] });
  }
  return courses.sort((one, other) => other.studies.length - one.studies.length);
}

/** The exam so many steps from one along a course; null beyond its ends. */
export function stepFrom(course, study, by) {
  const at = course.indexOf(study);
  return at < 0 ? null : course[at + by] ?? null;
}

/** The moment of an exam as events have theirs; empty where it has no date. */
const momentOf = ({ study_date: date, study_time: time }) => (date ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6, 8)}T${(time || '0000').slice(0, 2)}:${(time || '0000').slice(2, 4)}` : '');

/** Exams and what happened between them, in order: `[{study}|{event}]`; `events` have a moment `at` (RFC 3339). */
export function withEvents(course, events) {
  const both = [...course.map(study => ({ study, at: momentOf(study) })), ...events.map(event => ({ event, at: event.at }))];
  return both.sort((one, other) => one.at.localeCompare(other.at));
}
