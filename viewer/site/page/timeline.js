// Exams as the page tells them: names, signs, counts, small pictures.

import { h, respeak } from './dom.js';
import { dateText, t } from './text.js';
import { imageUrl, whyNotShown } from './session.js';

/** What identifies an exam: its UID and whose it is. */
export const keyOf = study => `${study.owner} ${study.study_instance_uid}`;

/** A hospital's name, and the number of the colour that stands beside it. */
export function hospital(shown, owner) {
  const ours = shown.session.institution.id;
  const others = Object.keys(shown.institutions).filter(id => id !== ours);
  return { name: shown.institutions[owner] ?? owner, colour: owner === ours ? 0 : (others.indexOf(owner) % 3) + 1 };
}

/** A hospital in a word or two: its id, as a name. */
export const shortName = id => id.split('-').map(word => word.charAt(0).toUpperCase() + word.slice(1)).join(' ');

/** The small sign of a hospital. */
export function hospitalSign(shown, owner) {
  const { name, colour } = hospital(shown, owner);
  return h(`span.hospital.colour${colour}`, {}, name);
}

/** The same in a word or two. */
export function shortSign(shown, owner) {
  const { name, colour } = hospital(shown, owner);
  return h(`span.hospital.colour${colour}`, { title: name }, shortName(owner));
}

/** What an exam is called. */
export const titleOf = study => study.description || t('untitled');

/** The kinds of image in an exam; reports are told apart. */
export const modalitiesOf = study => study.modalities.filter(modality => !['SR', 'DOC', 'PR', 'KO'].includes(modality)).join(' ') || study.modalities.join(' ') || '—';

const NOT_IMAGES = new Set(['SR', 'DOC', 'KO', 'PR', 'SEG', 'REG', 'RTSTRUCT', 'RTPLAN', 'RTDOSE', 'RTRECORD', 'ECG']);

/** Whether a kind of image is none that one looks at. */
export const isNoImage = modality => NOT_IMAGES.has(modality);

/** Whether there is anything to look at in an exam. */
export const hasImages = study => imagesOf(study) > 0 && !(study.modalities.length && study.modalities.every(isNoImage));

/** Whether an exam is dated after today at the hospitals: the clock of a console is wrong. */
export const isAhead = ({ session }, study) => study.study_date > session.today;

/** What says so; null for any other exam. */
export const aheadSign = (shown, study) => (isAhead(shown, study) ? h('span.ahead', { title: t('aheadWhy') }, t('ahead')) : null);

/** The exam that a reading begins with: the one that is read, else the newest with images that is not dated ahead. */
export function firstOf(shown) {
  const { studies, session } = shown;
  const { current } = session;
  return (current && studies.find(study => keyOf(study) === keyOf(current))) ?? studies.find(study => hasImages(study) && !isAhead(shown, study)) ?? studies.find(hasImages) ?? studies[0] ?? null;
}

/** How many of an exam's instances are images; a dose report is none. */
export const imagesOf = study => study.images ?? Math.max(0, study.instances - study.reports.length);

/** [in short, in full]: how many images an exam has, and how many frames where one of them is a cine; of what is not shown here,
 *  how many objects. */
export function countText(study) {
  const count = imagesOf(study);
  const full = t(count && !hasImages(study) ? 'objects' : 'images', { count });
  if (!(study.frames > count) || !hasImages(study)) return [String(count), full];
  return [`${count}·${study.frames}`, `${full}, ${t('frames', { count: study.frames })}`];
}

/** What says that a report was added to; null where none was. */
export function addendumSign(study) {
  return study.reports.some(report => report.newest && report.status === 'addendum') ? h('span.addendum', {}, t('addendum')) : null;
}

/** What says that an exam came, or changed, and that nobody looked at it since. */
export const newSign = () => h('span.new', {}, t('new'));

/** What says that images of an exam are still on their way, and how many; null for one that is complete. */
export function partialSign(study) {
  if (study.complete) return null;
  return h('span.partial', { title: t('partialWhy') }, study.missing ? t('partialCount', { count: study.missing }) : t('partial'));
}

/** What says that images of an exam are of other patients too, and of how many; null for an exam of one patient. */
export function severalPatientsSign(study) {
  if (!(study.number_of_patients > 1)) return null;
  return h('span.several', { title: t('severalPatientsWhy') }, t('severalPatients', { count: study.number_of_patients }));
}

/** Parameters that name the owner where the caller has the same UID too. */
export const ownerOf = study => ({ owner: study.owner });

const thumbnails = new Map();

/** Forget the small pictures of all exams but these. */
export function keepThumbnails(studies) {
  const kept = new Set(studies.map(keyOf));
  for (const key of thumbnails.keys()) if (!kept.has(key)) thumbnails.delete(key);
}

/** Another language is spoken: the small pictures stay. */
export function respeakThumbnails() {
  for (const { frame } of thumbnails.values()) respeak(frame);
}

/** The small picture of an exam, drawn once, and again when the exam has become complete. */
export function thumbnail(study) {
  const key = keyOf(study);
  const known = thumbnails.get(key);
  const state = `${study.complete} ${imagesOf(study) > 0}`;
  if (known?.state === state) return known.frame;
  const frame = draw(study);
  thumbnails.set(key, { state, frame });
  frame.querySelector('img')?.addEventListener('error', () => thumbnails.delete(key));
  return frame;
}

function draw(study) {
  const frame = h('div.thumb', {}, h('span.glyph', { 'aria-hidden': 'true' }, modalitiesOf(study).split(' ')[0]));
  if (!imagesOf(study)) return frame;
  const image = h('img', {
    src: imageUrl(`/studies/${study.study_instance_uid}/thumbnail`, { ...ownerOf(study), viewport: '144,144' }),
    alt: () => t('smallImageOf', { description: titleOf(study), date: dateText(study.study_date) }), loading: 'lazy', decoding: 'async', referrerpolicy: 'no-referrer',
  });
  image.addEventListener('error', async () => {
    image.remove();
    const reason = await whyNotShown(image.src);
    if (reason) frame.append(h('span.refused', { title: () => `${t('notDrawn')} ${t('technically')} ${reason}` }, () => t('notDrawnShort')));
  });
  image.addEventListener('load', () => frame.classList.add('shown'));
  frame.append(image);
  return frame;
}
