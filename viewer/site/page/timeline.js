// The list of all exams of all hospitals, newest first.

import { h } from './dom.js';
import { dateText, reasonText, t } from './text.js';
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

/** What an exam is called. */
export const titleOf = study => study.description || t('untitled');

/** The kinds of image in an exam; reports are told apart. */
export const modalitiesOf = study => study.modalities.filter(modality => !['SR', 'DOC', 'PR', 'KO'].includes(modality)).join(' ') || study.modalities.join(' ') || '—';

const NOT_IMAGES = new Set(['SR', 'DOC', 'KO', 'PR', 'SEG', 'REG', 'RTSTRUCT', 'RTPLAN', 'RTDOSE', 'RTRECORD', 'ECG']);

/** Whether a kind of image is none that one looks at. */
export const isNoImage = modality => NOT_IMAGES.has(modality);

/** Whether there is anything to look at in an exam. */
export const hasImages = study => imagesOf(study) > 0 && !(study.modalities.length && study.modalities.every(isNoImage));

/** How many of an exam's instances are images. */
export const imagesOf = study => Math.max(0, study.instances - study.reports.length);

/** What says that a report was added to; null where none was. */
export function addendumSign(study) {
  return study.reports.some(report => report.newest && report.status === 'addendum') ? h('span.addendum', {}, t('addendum')) : null;
}

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

/**
 * The list. `chosen` holds the keys of the exams on the left and on the right; `proposal` is the proposed prior or null;
 * `onchoose(study, side)` is called with 'left' or 'right'.
 */
export function timelineList(shown, chosen, proposal, onchoose) {
  keepThumbnails(shown.studies);
  return h('ol.exams', { id: 'exams' }, shown.studies.map((study, index) => entry(shown, study, index, chosen, proposal, onchoose)));
}

function entry(shown, study, index, chosen, proposal, onchoose) {
  const key = keyOf(study);
  const side = key === chosen.left ? 'left' : key === chosen.right ? 'right' : null;
  const proposed = proposal && keyOf(proposal) === key;
  const headline = `exam-${index}`;
  const reports = study.reports.filter(report => report.newest).length;
  return h('li', {},
    h(`article.exam${side ? '.' + side : ''}`, { 'aria-labelledby': headline, 'data-key': key, 'data-uid': study.study_instance_uid },
      thumbnail(study),
      h('div.what', {},
        h('div.row', {}, h('span.modality', {}, modalitiesOf(study)), h('span.day', {}, dateText(study.study_date, study.study_time))),
        h('h3', { id: headline, title: titleOf(study) }, titleOf(study)),
        h('p.from', {}, hospitalSign(shown, study.owner)),
        h('p.facts', {},
          severalPatientsSign(study),
          partialSign(study),
          h('span', {}, t('images', { count: imagesOf(study) })),
          reports > 0 && h('span.reported', {}, t('reportCount', { count: reports })),
          addendumSign(study))),
      h('div.below', {},
        proposed && h('p.reasons', { title: t('proposedBecause', { reasons: proposal.reasons.map(reasonText).join(', ') }) },
          h('strong', {}, t('proposed')), ' ', proposal.reasons.map(reasonText).join(', ')),
        h('div.choices', {},
          choice(study, 'left', side, onchoose), choice(study, 'right', side, onchoose)))));
}

/** The button that puts an exam on a side, or says that it is there. */
function choice(study, to, side, onchoose) {
  const pressed = side === to;
  const label = to === 'left' ? t(pressed ? 'current' : 'putLeft') : t(pressed ? 'beside' : 'putBeside');
  return h('button.choice', {
    type: 'button', 'data-side': to, 'aria-pressed': String(pressed), 'aria-label': `${label}: ${titleOf(study)}, ${dateText(study.study_date)}`, onclick: () => onchoose(study, to),
  }, label);
}

const thumbnails = new Map();

/** Forget the small pictures of all exams but these. */
export function keepThumbnails(studies) {
  const kept = new Set(studies.map(keyOf));
  for (const [key, { study }] of thumbnails) if (!kept.has(study)) thumbnails.delete(key);
}

/** The small picture of an exam in a place, drawn once, and again when the exam has become complete. */
export function thumbnail(study, place = 'list') {
  const key = `${place} ${keyOf(study)}`;
  const known = thumbnails.get(key);
  const state = `${study.complete} ${imagesOf(study) > 0} ${t('smallImageOf')}`;
  if (known?.state === state) return known.frame;
  const frame = draw(study);
  thumbnails.set(key, { study: keyOf(study), state, frame });
  frame.querySelector('img')?.addEventListener('error', () => thumbnails.delete(key));
  return frame;
}

function draw(study) {
  const frame = h('div.thumb', {}, h('span.glyph', { 'aria-hidden': 'true' }, modalitiesOf(study).split(' ')[0]));
  if (!imagesOf(study)) return frame;
  const image = h('img', {
    src: imageUrl(`/studies/${study.study_instance_uid}/thumbnail`, { ...ownerOf(study), viewport: '144,144' }),
    alt: t('smallImageOf', { description: titleOf(study), date: dateText(study.study_date) }), loading: 'lazy', decoding: 'async', referrerpolicy: 'no-referrer',
  });
  image.addEventListener('error', async () => {
    image.remove();
    const reason = await whyNotShown(image.src);
    if (reason) frame.append(h('span.refused', { title: `${t('notDrawn')} ${reason}` }, t('notDrawnShort')));
  });
  image.addEventListener('load', () => frame.classList.add('shown'));
  frame.append(image);
  return frame;
}
