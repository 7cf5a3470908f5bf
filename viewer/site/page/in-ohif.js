// Inside the frame of stock OHIF: which windows and which levels go together, what cannot be shown, and when everything is there.
//
// Stock OHIF gives both viewports one window, whatever the values mean, and pairs slices by Frames of Reference that two hospitals
// never share. Two synchronizers of ours stand in the place of those, so that OHIF's own switch turns them off and on.

import { levelWith, pairing, realigned, reversed, stackOf } from './levels.js';
import { edgesOf } from './looks.js';
export { measurementsPanel } from './measurements.js';
import { fill, h, respeak } from './dom.js';
import { isCurved, mend, unfit } from './mended.js';
import { whyNotShown } from './session.js';
import { loadTexts, t } from './text.js';

const CURRENT = 'contenitore-current';
const PRIOR = 'contenitore-prior';
const LEVELS = 'contenitoreLevels';
const WINDOW = 'contenitoreWindow';
const ZOOM = 'contenitoreZoom';
/** Views of a mammogram by their codes (PS3.16 CID 4014), where View Position says nothing. */
const VIEW_CODES = { 'R-10242': 'CC', 399162004: 'CC', 'R-10226': 'MLO', 399368009: 'MLO' };

const tell = message => parent.postMessage(message, location.origin);
const viewportOf = id => window.cornerstone?.getRenderingEngines().map(engine => engine.getViewport(id)).find(Boolean) ?? null;
const stacked = viewport => Boolean(viewport?.getImageIds?.().length && viewport.getCurrentImageIdIndex && viewport.setImageIdIndex);
const instanceOf = imageId => window.cornerstone.metaData.get('instance', imageId);
const idOf = viewport => (viewport.getCurrentImageId ? viewport.getCurrentImageId() : null);

/** What the page says of both exams: texts of why an image is not drawn, by SOP Instance UID; what of the body each shows; whether
 *  both are to have one scale in millimetres. */
let about = { faults: {}, places: [[], []], millimetres: false };

// ---- windows -----------------------------------------------------------------------------------------------------

/** What an image's values mean, where two that mean the same may share a window: Hounsfield units, SUV. Null for anything else. */
function unitOf(viewport) {
  const imageId = viewport && idOf(viewport);
  const instance = imageId && instanceOf(imageId);
  if (!instance) return null;
  if (instance.Modality === 'CT') return !isLocalizer(instance) && ['HU', '', undefined, null].includes(instance.RescaleType) ? 'HU' : null;
  if (instance.Modality === 'PT') return viewport.getImageData?.()?.scaling?.PT?.suvbw ? 'SUV' : null;
  return null;
}

/** Whether a viewport shows its image with the window that the image itself asks for: nobody has chosen it. */
function asSent(viewport, range) {
  const image = viewport.getCornerstoneImage?.();
  const [width, centre] = [image?.windowWidth, image?.windowCenter].map(value => (Array.isArray(value) ? value[0] : value));
  if (!Number.isFinite(width) || !Number.isFinite(centre)) return false;
  const own = window.cornerstone.utilities.windowLevel.toLowHighRange(width, centre, image.voiLUTFunction);
  return Math.abs(own.lower - range.lower) < 1 && Math.abs(own.upper - range.upper) < 1;
}

function followWindow(_, source, target, event) {
  const [from, to] = [viewportOf(source.viewportId), viewportOf(target.viewportId)];
  const range = event.detail?.range;
  if (!range || !from || !to || !unitOf(from) || unitOf(from) !== unitOf(to) || asSent(from, range)) return;
  const now = to.getProperties().voiRange;
  if (now?.lower === range.lower && now?.upper === range.upper) return;
  to.setProperties({ voiRange: range });
  to.render();
}

// ---- zoom --------------------------------------------------------------------------------------------------------

/** Millimetres a pixel of the screen where an image just fits, but for a factor that is the same for all. */
const fittedScale = viewport => (viewport.getZoom() * viewport.getCamera().parallelScale) / viewport.element.clientHeight;

/** What was said last of the two stacks on the screen: which they are, and whether they have one scale. */
let scaled = { key: '', oneScale: false };

/** Whether OHIF draws an image in the millimetres that the image itself names. */
function hasSpacing(viewport) {
  const instance = instanceOf(idOf(viewport));
  const drawn = window.cornerstone.metaData.get('imagePlaneModule', idOf(viewport))?.columnPixelSpacing;
  return drawn > 0 && [instance?.PixelSpacing, instance?.ImagerPixelSpacing].some(spacing => Number(spacing?.[1]) === drawn);
}

/** Zoom and place go along: as large as it fits, or at one scale in millimetres. */
function followZoom(_, source, target) {
  const [from, to] = [viewportOf(source.viewportId), viewportOf(target.viewportId)];
  if (!from || !to) return;
  to.setZoom(from.getZoom() * (scaled.oneScale ? fittedScale(to) / fittedScale(from) : 1));
  to.setPan(from.getPan());
  to.render();
}

/** One scale in millimetres for both stacks, or each as large as it fits, once the page says so; zoom goes on from there. */
function scaleNow(key, both) {
  const oneScale = about.millimetres && both.every(hasSpacing);
  if (scaled.key === key && scaled.oneScale === oneScale) return;
  const before = scaled.oneScale;
  scaled = { key, oneScale };
  tell({ kind: 'contenitore:scale', one: oneScale });
  if (!oneScale && !before) return;
  const scales = both.map(fittedScale);
  both.forEach((viewport, index) => {
    viewport.setZoom(oneScale ? scales[index] / Math.max(...scales) : 1);
    viewport.render();
  });
}

// ---- levels ------------------------------------------------------------------------------------------------------

let known = { key: '', pair: null };
/** What somebody said of two stacks by hand, by what they are: it stays, whatever is shown in between. */
const byHand = new Map();
/** Whose images the other goes along with: the viewport that was touched last. */
let leader = CURRENT;
let levelsTogether = () => false;

function planesOf(viewport) {
  return viewport.getImageIds().map(imageId => {
    const plane = window.cornerstone.metaData.get('imagePlaneModule', imageId);
    const orientation = plane?.rowCosines && plane?.columnCosines ? [...plane.rowCosines, ...plane.columnCosines] : null;
    const echo = Number(instanceOf(imageId)?.EchoTime);
    return { position: plane?.imagePositionPatient ? [...plane.imagePositionPatient] : null, orientation, frame: plane?.frameOfReferenceUID, echo: echo > 0 ? echo : null };
  });
}

/** How the two stacks on the screen go together, worked out anew when another one is put into either viewport. */
function pairNow() {
  const both = [CURRENT, PRIOR].map(viewportOf);
  if (!both.every(stacked)) return null;
  const key = JSON.stringify(both.map(viewport => [viewport.getImageIds()[0], viewport.getImageIds().length]));
  if (told) scaleNow(key, both);
  if (key !== known.key) {
    known = { key, pair: byHand.get(key) ?? pairing(...both.map(viewport => stackOf(planesOf(viewport))), about.places) };
    tell({ kind: 'contenitore:levels', how: known.pair?.how ?? null });
    if (levelsTogether()) goAlong();
  }
  return known.pair;
}

/** What a projection shows: side and view; empty where it does not say. */
function viewOf(instance) {
  const view = instance?.ViewPosition || VIEW_CODES[(instance?.ViewCodeSequence?.[0] ?? instance?.ViewCodeSequence)?.CodeValue];
  return view ? `${instance.ImageLaterality ?? instance.Laterality ?? ''} ${view}`.trim() : '';
}

/** Show in the viewport that does not lead what lies at the level of the one that does. The newest wish wins: a stack shows no image
 *  that it was not asked for last. */
function goAlong() {
  const [from, to] = [leader, leader === CURRENT ? PRIOR : CURRENT].map(viewportOf);
  if (!stacked(from) || !stacked(to)) return;
  let wanted = -1;
  if (known.pair) wanted = levelWith(leader === CURRENT ? known.pair : reversed(known.pair), from.getCurrentImageIdIndex());
  else if (viewOf(instanceOf(idOf(from)))) wanted = to.getImageIds().findIndex(imageId => viewOf(instanceOf(imageId)) === viewOf(instanceOf(idOf(from))));
  if (wanted >= 0 && wanted !== to.getTargetImageIdIndex()) to.setImageIdIndex(wanted);
}

function followLevel(_, source) {
  pairNow();
  if (source.viewportId === leader) goAlong();
}

function realignHere() {
  const [current, prior] = [CURRENT, PRIOR].map(viewportOf);
  const pair = pairNow();
  if (!pair) return;
  known.pair = realigned(pair, current.getCurrentImageIdIndex(), prior.getCurrentImageIdIndex());
  byHand.set(known.key, known.pair);
  tell({ kind: 'contenitore:levels', how: known.pair.how });
}

/** Whoever is touched leads from here on. */
function takeLead(event) {
  const id = [CURRENT, PRIOR].find(side => viewportOf(side)?.element?.closest('[data-viewportid]')?.contains(event.target) || viewportOf(side)?.element?.contains(event.target));
  if (id) leader = id;
}

// ---- what is chosen ----------------------------------------------------------------------------------------------

/** Whether an image only shows where others were planned (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1). */
function isLocalizer(instance) {
  const type = instance?.ImageType ?? [];
  return (Array.isArray(type) ? type : String(type).split('\\')).some(value => String(value).toUpperCase() === 'LOCALIZER');
}

// ---- what cannot be shown, and when all is there -----------------------------------------------------------------

const settled = new Set();
let told = false;
let awaited = () => [];

/** All is there once every viewport that is to show an image does, or says why not. */
function settle(viewportId) {
  settled.add(viewportId);
  const all = awaited();
  if (told || !all?.every(id => settled.has(id))) return;
  told = true;
  performance.mark('contenitore:shown');
  tell('contenitore:shown');
}

/** Where nothing that is hung is an image, as of an exam of documents alone, nothing is waited for. */
function settleWithoutImages() {
  if (told || awaited()?.length !== 0) return;
  told = true;
  tell('contenitore:shown');
}

/** The ids of the viewports that are to show an image; null while nothing is hung yet. */
function imagesAwaited({ viewportGridService, displaySetService }) {
  const hung = [...viewportGridService.getState().viewports.values()].filter(viewport => viewport.displaySetInstanceUIDs?.length);
  const isImage = uid => displaySetService.getDisplaySetByUID(uid)?.numImageFrames > 0;
  return hung.length ? hung.filter(viewport => viewport.displaySetInstanceUIDs.some(isImage)).map(viewport => viewport.viewportId) : null;
}

/** Words in a viewport's place: what there is to say, and why, in the archive's English or in the reader's language. */
function words(viewport, { said = 'notDrawn', why = '', reason = '' } = {}) {
  const text = document.createElement('div');
  text.className = 'contenitore-words';
  text.setAttribute('role', 'alert');
  text.style.cssText = 'position:absolute;inset:0;z-index:5;display:grid;place-content:center;gap:.5rem;padding:2rem;background:#000;color:#e4eaef;text-align:center;pointer-events:none';
  const lines = [document.createElement('p'), document.createElement('small')];
  fill(lines[0], () => t(said));
  if (why) fill(lines[1], () => t(why));
  else if (reason) fill(lines[1], () => t('technically'), ' ', h('span', { lang: 'en' }, reason));
  text.append(...lines);
  noWords(viewport);
  viewport.element.append(text);
}

function noWords(viewport) {
  viewport.element.querySelector('.contenitore-words')?.remove();
}

/** Words that say why OHIF cannot draw an image. */
const unfitWords = (viewport, key) => words(viewport, { why: key });

/** Images that were asked for and have not come, by viewport: nobody hears from OHIF where it stumbles over one. */
const awaitedImages = new Map();
const IMAGE_PATIENCE = 15000;
const ASK_AGAIN_AFTER = 5000;

function expectImage({ viewportId, imageId }) {
  noLongerExpected(viewportId);
  const viewport = viewportOf(viewportId);
  const key = viewport && unfit(imageId);
  if (key) {
    unfitWords(viewport, key);
    settle(viewportId);
  }
  const timer = key ? null : setTimeout(() => {
    const waiting = viewportOf(viewportId);
    if (!waiting) return;
    words(waiting, { said: 'viewerLate' });
    settle(viewportId);
  }, IMAGE_PATIENCE);
  awaitedImages.set(viewportId, { imageId, timer });
}

function noLongerExpected(viewportId) {
  clearTimeout(awaitedImages.get(viewportId)?.timer);
  awaitedImages.delete(viewportId);
}

/** Errors of images, which are told in the image's place. */
const toldErrors = new WeakSet();

/** OHIF says in English that something went wrong, and not what; of an image words of ours say it, in its place. Hears of it before OHIF. */
export function keepToOurWords(event) {
  const errors = [event.reason, event.reason?.error].filter(error => typeof error === 'object' && error !== null);
  const engines = window.cornerstone?.getRenderingEngines() ?? [];
  const known = () => engines.flatMap(engine => engine.getViewports()).some(viewport => viewport.getImageIds?.().some(imageId => unfit(imageId)));
  if (!awaitedImages.size && !errors.some(error => toldErrors.has(error)) && !known()) return;
  console.warn('An image cannot be drawn.', event.reason);
  event.stopImmediatePropagation();
  event.preventDefault();
}

/** Images that the line did not bring, or an archive that has a fault just now: nothing is wrong with them, whatever OHIF tells of them
 *  after that. */
const lost = new Set();

function isLost(imageId, error) {
  const { status } = [error, error?.error].find(known => known instanceof XMLHttpRequest) ?? {};
  if (!lost.has(imageId) && (status === 0 || status === 429 || status >= 500)) {
    lost.add(imageId);
    setTimeout(askAgain, ASK_AGAIN_AFTER, imageId);
  }
  return lost.has(imageId);
}

/** Ask once more for an image, where a viewport is still to show it. */
function askAgain(imageId) {
  lost.delete(imageId);
  for (const viewport of window.cornerstone.getRenderingEngines().flatMap(engine => engine.getViewports())) {
    const at = viewport.getTargetImageIdIndex?.();
    // `setImageIdIndex` does nothing for the place where a viewport stands, though nothing came for it
    if (at !== undefined && viewport.getImageIds()[at] === imageId) viewport._setImageIdIndex?.(at).catch(() => {}); // `failed` hears of it
  }
}

async function failed({ imageId, error }, root) {
  for (const known of [error, error?.error]) if (typeof known === 'object' && known !== null) toldErrors.add(known);
  const line = isLost(imageId, error);
  const engines = window.cornerstone.getRenderingEngines();
  for (const viewport of engines.flatMap(engine => engine.getViewports())) {
    if (!viewport.getImageIds?.().includes(imageId)) continue;
    if (viewport.getImageIds()[viewport.getTargetImageIdIndex?.() ?? 0] !== imageId) continue;
    noLongerExpected(viewport.id);
    const { StudyInstanceUID: study, SeriesInstanceUID: series, SOPInstanceUID: sop } = instanceOf(imageId) ?? {};
    const key = unfit(imageId);
    if (key) unfitWords(viewport, key);
    else words(viewport, { said: line ? 'viewerLine' : 'notDrawn' });
    settle(viewport.id);
    if (line) continue;
    const reason = about.faults[sop] ?? (sop && await whyNotShown(`${root}/dicomweb/studies/${study}/series/${series}/instances/${sop}/rendered`));
    if (reason && viewport.getImageIds()[viewport.getTargetImageIdIndex()] === imageId) words(viewport, { reason });
  }
}

/** What is drawn of an image of which the archive says that it would be another one, or that OHIF draws wrongly, is covered by words. */
function shownNow(viewport) {
  const isVolume = !viewport.getCornerstoneImage;
  const imageId = idOf(viewport) ?? viewport.getImageIds?.()[0];
  if (!imageId) return;
  const image = isVolume ? window.cornerstone.cache.getImage(imageId) : viewport.getCornerstoneImage();
  if (!isVolume && image && image.imageId !== imageId) return; // the one of before: that which is meant has not come, or words stand for it
  noLongerExpected(viewport.id);
  const isStraight = isVolume || viewport.useCPURendering; // volumes, and browsers without WebGL, draw all by a straight line
  const fault = about.faults[instanceOf(imageId)?.SOPInstanceUID];
  const key = fault ? null : unfit(imageId, image) ?? (isStraight && isCurved(image) ? 'viewerCurve' : null);
  if (fault) words(viewport, { reason: fault });
  else if (key) unfitWords(viewport, key);
  else noWords(viewport);
}

// ---- side letters ------------------------------------------------------------------------------------------------

const PLACES = { left: 'left:.5rem;top:50%', right: 'right:1rem;top:50%', top: 'top:.5rem;left:50%', bottom: 'bottom:.5rem;left:50%' };
const OTHER_EDGE = { left: 'right', right: 'left', top: 'bottom', bottom: 'top' };

/** The side letters of an image without a plane, by Patient Orientation, where they lie as it is turned now: OHIF has those of planes. */
function drawLetters(viewport) {
  const edges = lettersNow(viewport);
  const now = JSON.stringify(edges);
  const drawn = viewport.element.querySelector('.contenitore-letters');
  if (drawn?.dataset.edges === now) return;
  drawn?.remove();
  if (!edges) return;
  const made = document.createElement('div');
  made.className = 'contenitore-letters';
  made.dataset.edges = now;
  made.style.cssText = 'position:absolute;inset:0;z-index:4;pointer-events:none;color:#fff;font-weight:600;text-shadow:0 0 3px #000,0 0 3px #000';
  for (const [edge, letters] of Object.entries(edges)) {
    const span = document.createElement('span');
    span.dataset.edge = edge;
    span.textContent = letters;
    span.style.cssText = `position:absolute;${PLACES[edge]}`;
    made.append(span);
  }
  viewport.element.append(made);
}

/** What of the patient lies at the edges of a viewport, `{left, right, top, bottom}`; null where the image does not say, or OHIF says it. */
function lettersNow(viewport) {
  const instance = stacked(viewport) && instanceOf(idOf(viewport));
  const toward = [instance?.PatientOrientation ?? []].flat().flatMap(value => String(value).split('\\')).filter(Boolean);
  const edges = instance && !instance.ImageOrientationPatient && toward.length === 2 ? edgesOf({ toward }) : null;
  if (!edges) return null;
  const { origin, direction, dimensions, spacing } = viewport.getImageData();
  const [from, ...ends] = [null, 0, 1].map(axis => viewport.worldToCanvas(axis === null ? origin : origin.map((value, index) => value + direction[3 * axis + index] * dimensions[axis] * spacing[axis])));
  const [right, bottom] = ends.map(([x, y]) => edgeOf(x - from[0], y - from[1]));
  if (right === bottom || right === OTHER_EDGE[bottom]) return null;
  return { [right]: edges.right, [OTHER_EDGE[right]]: edges.left, [bottom]: edges.bottom, [OTHER_EDGE[bottom]]: edges.top };
}

const edgeOf = (x, y) => (Math.abs(x) >= Math.abs(y) ? (x > 0 ? 'right' : 'left') : y > 0 ? 'bottom' : 'top');

// ---- the beginning -----------------------------------------------------------------------------------------------

/** Whatever is needed before OHIF starts. */
export const prepare = () => loadTexts();

/** How the switch looks that turns levels off and on. */
export function levelsButton() {
  return { disabled: false, className: levelsTogether() ? '!text-primary' : '!text-foreground/80 hover:!bg-muted hover:text-highlight' };
}

/**
 * Take part in OHIF, before it opens the first exam. `root` is the link's address at the archive; `chosen`: the SOP Instance UIDs of
 * the images that the page shows.
 */
export function join({ servicesManager, commandsManager }, { root, chosen }) {
  const { hangingProtocolService, syncGroupService, viewportGridService } = servicesManager.services;
  awaited = () => imagesAwaited(servicesManager.services);
  const imagesOf = displaySet => displaySet.instances ?? displaySet.images ?? [];
  const includes = displaySet => imagesOf(displaySet).some(image => chosen.includes(image.SOPInstanceUID));
  hangingProtocolService.addCustomAttribute('contenitoreChosen', 'Chosen on the page', includes);
  hangingProtocolService.addCustomAttribute('contenitoreLocalizer', 'Localizer', displaySet => imagesOf(displaySet).every(isLocalizer));
  hangingProtocolService.addCustomAttribute('contenitoreView', 'Side and view', displaySet => viewOf(imagesOf(displaySet)[0]));
  hangingProtocolService.addCustomAttribute('contenitoreImage', 'The image chosen on the page', displaySets => {
    const index = imagesOf(displaySets?.[0] ?? {}).findIndex(image => chosen.includes(image.SOPInstanceUID));
    return index >= 0 ? { index } : undefined;
  });
  for (const event of ['VIEWPORTS_READY', 'GRID_STATE_CHANGED']) viewportGridService.subscribe(viewportGridService.EVENTS[event], settleWithoutImages);
  mend();
  const { createSynchronizer } = window.cornerstoneTools.SynchronizerManager;
  syncGroupService.addSynchronizerType(LEVELS, id => createSynchronizer(id, 'CORNERSTONE_STACK_NEW_IMAGE', followLevel));
  syncGroupService.addSynchronizerType(WINDOW, id => createSynchronizer(id, 'CORNERSTONE_VOI_MODIFIED', followWindow));
  syncGroupService.addSynchronizerType(ZOOM, id => createSynchronizer(id, 'CORNERSTONE_CAMERA_MODIFIED', followZoom));
  levelsTogether = () => syncGroupService.getSynchronizer('contenitore.levels')?.isDisabled() === false;
  commandsManager.registerCommand('CORNERSTONE', 'contenitoreToggleLevels', {
    commandFn: () => syncGroupService.getSynchronizer('contenitore.levels')?.setEnabled(!levelsTogether()),
  });

  document.addEventListener('CORNERSTONE_IMAGE_RENDERED', event => {
    const viewport = viewportOf(event.detail.viewportId);
    if (!viewport?.getImageData?.()) return;
    shownNow(viewport);
    drawLetters(viewport);
    settle(viewport.id);
    pairNow();
  }, true);
  for (const kind of ['CORNERSTONE_IMAGE_LOAD_FAILED', 'IMAGE_LOAD_ERROR']) {
    window.cornerstone.eventTarget.addEventListener(kind, event => event.detail?.imageId && failed(event.detail, root));
  }
  document.addEventListener('CORNERSTONE_PRE_STACK_NEW_IMAGE', event => expectImage(event.detail), true);
  document.addEventListener('keydown', event => event.key === 'Escape' && tell('contenitore:escape'), { capture: true });
  for (const act of ['pointerdown', 'wheel', 'keydown']) document.addEventListener(act, takeLead, { passive: true, capture: true });
  addEventListener('message', event => {
    if (event.origin !== location.origin || event.source !== parent) return;
    if (event.data?.kind === 'contenitore:about') {
      about = event.data.about;
      known = { key: '', pair: null };
      pairNow();
    }
    if (event.data?.kind === 'contenitore:realign') realignHere();
    if (event.data?.kind === 'contenitore:language') loadTexts(event.data.language).then(() => respeak(), () => {});
  });
  tell({ kind: 'contenitore:about?' });
}
