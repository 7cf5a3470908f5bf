// The page: opens the session, shows the patient and all exams, puts two side by side, stays true.

import { Pane, expectExam } from './compare.js';
import { correctionList } from './corrections.js';
import { fill, h, respeak, say } from './dom.js';
import * as early from './early.js';
import { differences } from './identity.js';
import { expectImagesOfExam, forgetExams, knowImages, priorsOfExam } from './exams.js';
import { courseOf, stepFrom } from './course.js';
import { ExamList } from './list.js';
import { help } from './help.js';
import { live } from './live.js';
import { counterpart, fromOtherSide, isMammography, together } from './matching.js';
import { meansToEnd } from './ending.js';
import { Viewer } from './ohif.js';
import { keepPdfs } from './pdf-windows.js';
import { printedLines } from './print.js';
import { forgetPictures } from './picture.js';
import { ReportsOfBoth } from './sections.js';
import * as session from './session.js';
import * as second from './second.js';
import { Strip } from './strip.js';
import { Tools } from './tools.js';
import { transferList } from './transfers.js';
import { LANGUAGES, age, clockText, currentLanguage, dateText, loadTexts, nameText, t } from './text.js';
import { firstOf, hasImages, hospital, hospitalSign, imagesOf, keepThumbnails, keyOf, respeakThumbnails, shortName, titleOf } from './timeline.js';

const SLOW_AFTER = 3000;
const WARN_BEFORE = 10 * 60000;
const ASK_AGAIN_AFTER = 5000;
const DIFFERS = { name: 'differsName', birth_date: 'differsBirth', sex: 'differsSex' };
const UNSEEN_FOR = 10 * 60000;
/** Images of an exam whose list is asked for before anybody looks. */
const MOST_AHEAD = 200;
const LEVELS = { frame: 'levelsByPosition', position: 'levelsByPosition', proportion: 'levelsByProportion', top: 'levelsFromTop', bottom: 'levelsFromBottom', middle: 'levelsByMiddle', here: 'levelsHere' };
const app = document.getElementById('app');
const covering = document.getElementById('cover');
const state = { shown: null, chosen: { left: null, right: null }, choice: 0, swapped: false, proposal: null, nearest: null, priors: 'known', besideByHand: false, anew: false, pinned: false, news: new Set(), came: new Set(), gone: [], linked: true, large: false, config: null };
let parts = null;
let stopLive = null;
let attempt = 0;

start(early.token, early);
early.texts.catch(() => {}).then(() => second.join({ where, follow, cover, begin: () => start(null) }));
addEventListener('hashchange', () => {
  const token = session.takeToken();
  if (token) start(token);
});
addEventListener('keydown', onkey);
addEventListener('pagehide', () => keepPdfs([]));
addEventListener('pageshow', event => event.persisted && location.reload());
document.addEventListener('visibilitychange', () => {
  if (!parts || document.hidden) return;
  lookedAt();
  drawList();
  parts.strip.show(state.shown, state.chosen, state.pinned, state.news);
});

async function start(token, { begun, texts } = { begun: session.begin(token), texts: loadTexts() }) {
  const mine = (attempt += 1);
  stopLive?.();
  takeDown();
  if (app.hasChildNodes()) notice('loading', { busy: true });
  performance.mark('contenitore:start');
  begun.catch(() => {}); // told below, once there are words for it
  await texts.catch(() => loadTexts()).catch(() => {}); // once more; and rather without words than with nothing
  notice('loading', { busy: true });
  const slow = setTimeout(() => mine === attempt && notice('slow', { busy: true }), SLOW_AFTER);
  try {
    const found = await begun;
    state.config = await session.loadConfig();
    if (mine !== attempt) return;
    if (!found) notice('noLink');
    else show(found);
  } catch (trouble) {
    if (mine !== attempt) return;
    const kind = trouble.kind ?? 'broken';
    stopped(kind === 'unknown' && !token ? 'revoked' : kind, () => start(token));
  } finally {
    clearTimeout(slow);
  }
}

function show({ timeline, etag, current, priors, images = [] }) {
  for (const found of images) {
    const study = timeline.studies.find(each => keyOf(each) === keyOf(found));
    if (study) knowImages(study, found);
  }
  Object.assign(state, { shown: timeline, chosen: { left: null, right: null }, proposal: null, nearest: null, priors: 'known', besideByHand: false, anew: false, pinned: false, news: newIn(timeline), came: new Set(), gone: [] });
  frame();
  chooseFirst(current, priors);
  second.drawn();
  stopLive = live(etag, { onchange: changed, ontrouble: troubled, onwell: () => connection(true), shown: onScreen });
  performance.mark('contenitore:timeline');
}

// ---- the frame ---------------------------------------------------------------------------------------------------

function frame() {
  document.title = t('title'); // without the patient's name, which a browser's history would keep
  parts = null;
  const hears = { onscroll: scrolled, onchoose: chosenSeries, begin: beginBeside, onseen: () => parts?.tools.apply() };
  const panes = { left: new Pane('left', hears), right: new Pane('right', hears) };
  parts = {
    panes,
    patient: h('div.patient'),
    corrections: h('div.corrected', { role: 'status' }),
    list: new ExamList(choose),
    empty: h('div.empty', { role: 'note', hidden: true }, h('h2', {}, () => t('emptyTitle')), h('p', {}, () => t('empty'))),
    dot: h('span.dot', { role: 'img', 'aria-label': connectionText, title: connectionText }),
    lost: h('span.lost-text', { hidden: true }, () => t('reconnecting')),
    reader: h('span.reader', { title: state.shown.session.purpose }, state.shown.session.practitioner.name, h('span.at', { title: state.shown.session.institution.name }, ` · ${shortName(state.shown.session.institution.id)}`)),
    open: h('button.primary', { type: 'button', id: 'open-viewer', onclick: openViewer, onpointermove: prepareViewer, onfocus: prepareViewer }, () => t(state.chosen.right ? 'compareInViewer' : 'openInViewer')),
    back: h('button', { type: 'button', id: 'close-viewer', hidden: true, onclick: closeViewer }, () => t('backToTimeline')),
    viewer: state.config.ohif ? new Viewer(aboutPair, drawLevels, drawScale) : null,
    scale: h('span.scale'),
    levels: h('span.levels', { hidden: true }),
    toast: h('div.toast', { hidden: true, role: 'region', 'aria-label': () => t('news') }),
    differs: h('p.differs', { hidden: true, role: 'note' }),
    ends: h('span', {}, () => t('endsAt', { time: clockText(state.shown.session.ends_at) })),
    pair: h('p.pair', { hidden: true }),
    sides: h('div.panes', {}, panes.left.root, panes.right.root, new ReportsOfBoth(panes.left.lower, panes.right.lower).root),
  };
  parts.sides.classList.toggle('reading', state.large);
  parts.sides.addEventListener('contenitore:beside', event => putBeside(event.detail));
  parts.tools = new Tools(panes, parts.sides, swap);
  parts.tools.ontrouble = toast;
  parts.tools.onscale = scaled;
  if (parts.viewer) parts.viewer.onescape = closeViewer;
  parts.strip = new Strip({ onstep: choose, onpin: pin });
  parts.strip.pin.before(h('button.pin', { type: 'button', id: 'cite', 'aria-keyshortcuts': 'C', onclick: copyCitation }, () => t('copyCitation')));
  if (parts.viewer && !second.isSecond) parts.strip.pin.before(h('button.pin', { type: 'button', id: 'second', title: () => t('secondWhy'), onclick: second.open }, () => t('second')));
  parts.bar = h('div.bar', {},
    tick('link', state.linked, on => { state.linked = on; }),
    tick('largeReports', state.large, on => { state.large = on; parts.sides.classList.toggle('reading', on); }),
    parts.tools.bar,
    parts.viewer && parts.open);
  fill(app,
    h('button.skip', { type: 'button', onclick: () => (panes.left.root.querySelector('.picture') ?? panes.left.root).focus() }, () => t('skip')),
    h('header.top', {}, parts.patient, h('div.session', {}, parts.dot, parts.lost, parts.reader, parts.ends, parts.back, h('button', { type: 'button', id: 'help', title: () => t('help'), 'aria-label': () => t('help'), 'aria-keyshortcuts': '?', onclick: help }, '?'), languages(), h('button', { type: 'button', id: 'end', onclick: endReading }, () => t('end'))), parts.pair, parts.corrections, printedLines(state.shown, pair)),
    h('main', {}, parts.list.root, parts.empty,
      h('div.work', {},
        parts.strip.root,
        parts.bar,
        !parts.viewer && h('p.missing', { role: 'note' }, () => t('viewerMissing')),
        parts.differs, parts.tools.paper, parts.sides)),
    parts.viewer?.root, parts.toast);
  new ResizeObserver(([entry]) => document.documentElement.style.setProperty('--top', `${entry.borderBoxSize[0].blockSize}px`)).observe(app.querySelector('.top'));
  drawPatient();
  drawEnd();
  drawSides();
}

function tick(text, checked, onchange) {
  return h(`label.tick.${text}`, {}, h('input', { type: 'checkbox', id: text, checked, onchange: event => onchange(event.target.checked) }), () => t(text));
}

function drawPatient() {
  const { patient, institutions } = state.shown;
  const years = age(patient.birth_date);
  const others = patient.identifiers.filter(number => number.id !== patient.own_id);
  fill(parts.patient,
    h('h1', {}, nameText(patient.name)),
    h('p', {},
      patient.own_id && h('span.own', {}, t('numberHere', { id: patient.own_id })),
      patient.birth_date && h('span', {}, t('born', { date: dateText(patient.birth_date) }), years !== null && ` (${t('years', { count: years })})`),
      patient.sex && h('span', {}, t(`sex${patient.sex}`) === `sex${patient.sex}` ? patient.sex : t(`sex${patient.sex}`)),
      others.map(number => h('span.other', { title: institutions[number.institution] ?? number.issuer }, t('numberAt', { hospital: institutions[number.institution] ? shortName(number.institution) : number.issuer, id: number.id })))),
    transferList(state.shown));
  fill(parts.corrections, correctionList(state.shown, state.gone, { onshow: putInPlace, onnote: noteCorrection, ontaken: noteGone }));
}

/** To an exam that something is told of: one that is on the screen is gone to, an older one than the current is put beside it, any
 *  other one becomes the current one. */
function putInPlace(told) {
  const study = byKey(keyOf(told));
  if (!study) return undefined;
  const current = byKey(state.chosen.left);
  const side = ['left', 'right'].find(place => state.chosen[place] === keyOf(study));
  if (side) return parts.panes[side].lower.scrollIntoView({ block: 'nearest' });
  return choose(study, current && study.study_date < current.study_date ? 'right' : 'left');
}

function noteGone(exam) {
  state.gone = state.gone.filter(kept => kept !== exam);
  drawPatient();
}

async function noteCorrection(correction) {
  try {
    await session.takeNote(correction);
  } catch {
    return toast(t('correctionFailed'));
  }
  if (!parts) return undefined;
  state.shown = { ...state.shown, corrections: state.shown.corrections.filter(kept => kept !== correction) };
  drawPatient();
  return say(t('correctionThanks'));
}

function drawEnd() {
  const end = state.shown.session.ends_at;
  clearTimeout(state.warning);
  state.warning = setTimeout(() => parts && toast(t('endsSoon', { time: clockText(end) })), Math.max(0, Date.parse(end) - Date.now() - WARN_BEFORE));
}

function drawList() {
  const { studies } = state.shown;
  keepThumbnails(studies);
  parts.list.show(state.shown, state.chosen, state.proposal, state.news);
  parts.empty.hidden = studies.length > 0;
  app.querySelector('main').classList.toggle('no-exams', !studies.length);
}

function languages() {
  return h('div.languages', { role: 'group', 'aria-label': () => t('language') }, LANGUAGES.map(language => h('button', {
    type: 'button', lang: language, 'aria-pressed': () => String(language === currentLanguage()), onclick: () => speak(language),
  }, language.toUpperCase())));
}

/** Another language: every text where it stands. Pictures, windows, reports and the viewer with what was measured stay as they are. */
async function speak(language) {
  try {
    await loadTexts(language);
  } catch {
    return parts && toast(t('languageFailed', { language: language.toUpperCase() }));
  }
  if (!parts) return undefined;
  document.title = t('title');
  respeak();
  respeakThumbnails();
  drawPatient();
  parts.viewer?.speak(language);
  for (const pane of Object.values(parts.panes)) pane.retell();
  return draw(state.chosen.left, state.chosen.right);
}

// ---- choosing ----------------------------------------------------------------------------------------------------

const byKey = key => state.shown.studies.find(study => keyOf(study) === key) ?? null;

/** What is put beside an exam by itself, of what shows the same place only; else what is nearest, to be named. */
function propose(priors) {
  state.priors = 'known';
  state.proposal = priors[0]?.relevant ? priors[0] : null;
  state.nearest = state.proposal ? null : priors[0] ?? null;
}

async function chooseFirst(current = null, priors = null) {
  const newest = (current && byKey(keyOf(current))) ?? firstOf(state.shown);
  if (!newest) return draw(null, null);
  if (!priors) return choose(newest, 'left');
  propose(priors);
  return draw(keyOf(newest), state.proposal && keyOf(state.proposal));
}

/** Put an exam on a side. What is found out meanwhile for an older choice changes nothing of a newer one. */
async function choose(study, side) {
  const key = keyOf(study);
  if (side === 'right') {
    const left = state.chosen.left === key ? state.chosen.right : state.chosen.left;
    if (!left) return undefined;
    Object.assign(state, { choice: state.choice + 1, anew: false, besideByHand: true });
    return draw(left, key);
  }
  Object.assign(state, { choice: state.choice + 1, anew: false });
  if (state.pinned && state.chosen.right && state.chosen.right !== key) return draw(key, state.chosen.right);
  propose([]);
  Object.assign(state, { priors: 'asked', anew: true });
  const right = state.chosen.right === key ? null : state.chosen.right;
  const keepRight = right !== null && state.chosen.left !== null && byKey(right) !== null;
  return proposeBeside(draw(key, keepRight ? right : null));
}

/** Ask for the priors of the current exam, and put the best one beside: of one that was `drawn` just now in any case, else where nothing
 *  is. What could not be asked for is not said to be none, and is asked for again. */
async function proposeBeside(drawn = null) {
  const { choice, chosen: { left } } = state;
  const asking = (state.asking = {});
  const still = () => parts && state.asking === asking && state.choice === choice && state.chosen.left === left && byKey(left);
  clearTimeout(state.again);
  const priors = await priorsOfExam(byKey(left), state.shown.studies).catch(() => null);
  await drawn;
  if (!still()) return undefined;
  const { anew } = state;
  state.anew = false;
  if (priors) propose(priors);
  else {
    state.priors = 'unknown';
    state.again = setTimeout(() => still() && proposeBeside(), ASK_AGAIN_AFTER);
  }
  const best = state.proposal && byKey(keyOf(state.proposal)) ? keyOf(state.proposal) : null;
  const kept = anew && !state.besideByHand ? null : state.chosen.right;
  const right = anew ? best ?? kept : kept ?? best;
  if (right !== kept) state.besideByHand = false;
  return draw(left, right);
}

/** An exam that a report cites is put beside, in the viewer too while that is open; one that is on the screen is gone to. */
async function putBeside(key) {
  const side = ['left', 'right'].find(place => state.chosen[place] === key);
  if (side) return parts.panes[side].root.querySelector('.picture')?.focus();
  if (byKey(key)) await choose(byKey(key), 'right');
  return parts?.viewer?.isOpen ? openViewer() : undefined;
}

/** The two exams change sides; which one is current stays. */
function swap() {
  if (!state.chosen.right) return;
  state.swapped = !state.swapped;
  drawSides();
  second.tell();
}

const where = () => parts && { ...state.chosen, swapped: state.swapped, millimetres: parts.tools.millimetres };

/** One scale in millimetres was chosen, or given up. */
function scaled() {
  if (!parts) return;
  second.tell();
  parts.viewer?.tellAbout();
}

/** Whether the viewer has both at one scale, where the page has. */
function drawScale(oneScale) {
  if (parts?.scale) fill(parts.scale, parts.tools.millimetres && (() => t(oneScale ? 'viewerOneScale' : 'viewerFitted')));
}

function drawSides() {
  app.classList.toggle('swapped', state.swapped);
  parts.tools.buttons.swap.setAttribute('aria-pressed', String(state.swapped));
}

/** Hold the comparison while the current exam changes, or let it go. */
function pin() {
  state.pinned = !state.pinned && Boolean(state.chosen.right);
  parts.strip.show(state.shown, state.chosen, state.pinned, state.news);
}

/** One step along the course: of the current exam, or of the comparison, which passes by the current one. */
function step(by, side) {
  const [current, other] = [byKey(state.chosen.left), byKey(state.chosen.right)];
  if (!current) return;
  const course = courseOf(state.shown.studies, current);
  if (side === 'left') {
    const next = stepFrom(course, current, by);
    if (next) choose(next, 'left');
    return;
  }
  const rest = course.filter(study => study !== current);
  const next = other && rest.includes(other) ? stepFrom(rest, other, by) : rest[by < 0 ? rest.length - 1 : 0];
  if (next) choose(next, 'right');
}

/** What one writes into a report about the comparison goes to the clipboard, worded as a citation that the page resolves again. */
async function copyCitation() {
  const other = byKey(state.chosen.right);
  if (!other) return toast(t('citationNone'));
  const date = other.study_date.replace(/^(\d{4})(\d{2})(\d{2}).*/, '$3/$2/$1') || t('undated');
  const several = state.shown.studies.some(study => study !== other && study.study_date === other.study_date);
  const clock = several && /^(\d{2})(\d{2})/.exec(other.study_time ?? '');
  const text = t(clock ? 'citationAt' : 'citation', { what: titleOf(other), date, time: clock && `${clock[1]}:${clock[2]}`, hospital: hospital(state.shown, other.owner).name });
  try {
    await navigator.clipboard.writeText(text);
    return toast(t('citationCopied', { text }));
  } catch {
    return toast(text); // to be copied by hand
  }
}

/** What stands where nothing is beside an exam: that no other one shows what it does, and which is nearest. */
function nothingBeside(current) {
  const { nearest } = state;
  if (current && state.priors === 'asked') return [h('p', { role: 'status' }, t('priorsAsked'))];
  if (current && state.priors === 'unknown') return [h('p', { role: 'status' }, t('priorsUnknown')), h('button', { type: 'button', onclick: () => proposeBeside() }, t('retry'))];
  if (!current || !nearest || keyOf(nearest) === keyOf(current) || !byKey(keyOf(nearest))) return [h('p', {}, t('noBeside'))];
  return [
    h('p', {}, h('strong', {}, t('noRelevantPrior'))),
    h('p', {}, t('nearestExam', { what: titleOf(nearest), date: dateText(nearest.study_date) }), ' ', hospitalSign(state.shown, nearest.owner)),
    h('button', { type: 'button', onclick: () => choose(nearest, 'right') }, t('putBeside')),
  ];
}

async function draw(left, right) {
  if (state.chosen.left !== left || state.chosen.right !== right) parts.tools.another();
  state.chosen = { left, right };
  keepPdfs(pair());
  lookedAt();
  drawList();
  parts.strip.show(state.shown, state.chosen, state.pinned, state.news);
  second.tell();
  const [current, other] = [byKey(left), byKey(right)];
  drawDifferences(current, other);
  if (parts.viewer) {
    respeak(parts.open);
    parts.open.disabled = !current;
  }
  await Promise.all([parts.panes.left.show(state.shown, current, null), parts.panes.right.show(state.shown, other, current, parts.panes.left, nothingBeside(current))]);
  if (!parts || state.chosen.left !== left || state.chosen.right !== right) return;
  parts.tools.apply();
  const { right: beside } = parts.panes;
  if (beside.alone && state.linked) { // the exam on the left came later
    beside.alone = false;
    beside.match(parts.panes.left);
    scrolled(parts.panes.left);
  }
  parts.viewer?.tellAbout();
  whenIdle(() => parts && state.chosen.left === left && state.chosen.right === right && expectNeighbours(current, other));
}

const IDLE_WITHIN = 2000;
const whenIdle = then => (window.requestIdleCallback ? requestIdleCallback(then, { timeout: IDLE_WITHIN }) : setTimeout(then, 200));

/** The pictures one step along the course from both are fetched while nothing else is to do; not where somebody pays by the byte. */
function expectNeighbours(current, other) {
  if (!current || navigator.connection?.saveData) return;
  const course = courseOf(state.shown.studies, current);
  const rest = course.filter(study => study !== current);
  const beside = [stepFrom(course, current, -1), stepFrom(course, current, 1)].map(study => [study, null]);
  const compared = [stepFrom(rest, other, -1), stepFrom(rest, other, 1)].map(study => [study, parts.panes.left]);
  for (const [study, pane] of [...beside, ...compared]) {
    if (study && study !== other && hasImages(study) && imagesOf(study) <= MOST_AHEAD) expectImagesOfExam(study).then(images => parts && expectExam(study, images, pane), () => {});
  }
}

/** In the second window: what the first one puts side by side, in the viewer; whether it is there. */
function follow({ left, right, swapped, millimetres }) {
  if (!parts || !byKey(left)) return false;
  Object.assign(state, { besideByHand: true, anew: false, choice: state.choice + 1, swapped });
  parts.tools.millimetres = millimetres;
  drawSides();
  draw(left, byKey(right) && right).then(() => parts && openViewer());
  return !right || byKey(right) !== null;
}

/** Hide everything, in the second window, behind the words for why; null: show it. */
function cover(why) {
  app.inert = why !== null;
  if (why) keepPdfs([]);
  if (covering.dataset.why !== String(why)) fill(covering, why && h('div.notice', { role: 'alert' }, h('h1', {}, () => t(`${why}Title`)), h('p', {}, () => t(why))));
  covering.dataset.why = why;
  covering.hidden = !why;
}

/** Where the two exams do not say the same of the patient, that stands between them, in words. */
function drawDifferences(current, other) {
  const found = current && other ? differences(current.patient ?? {}, other.patient ?? {}) : [];
  parts.differs.hidden = !found.length;
  const told = { name: nameText, birth_date: date => dateText(date), sex: sex => sex };
  fill(parts.differs, h('strong', {}, t('differs')), found.map(field => h('span', {}, t(DIFFERS[field], { current: told[field](current.patient[field]), other: told[field](other.patient[field]) }))));
}

const otherThan = pane => parts.panes[pane === parts.panes.left ? 'right' : 'left'];
let pairing = null;

/** How the images of both panes go together, worked out when either shows another series. */
function imagesTogether() {
  const { left, right } = parts.panes;
  if (!left.places.length || !right.places.length) return null;
  if (pairing?.mine !== left.places || pairing.theirs !== right.places) pairing = together(left.places, right.places, [left.body, right.body]);
  return pairing;
}

/** Where the pane on the right begins: beside what the left one shows. */
function beginBeside(pane) {
  const pairs = state.linked && pane === parts.panes.right && imagesTogether();
  return pairs ? counterpart(pairs, parts.panes.left.wished) : null;
}

/** One pane was led to an image: the other goes along. */
function scrolled(pane) {
  const pairs = state.linked && imagesTogether();
  if (!pairs) return;
  const at = counterpart(pane === parts.panes.left ? pairs : fromOtherSide(pairs), pane.wished);
  if (at !== null) otherThan(pane).go(at, true);
}

function chosenSeries(pane) {
  if (!state.linked) return;
  otherThan(pane).match(pane);
  scrolled(pane);
}

// ---- the viewer --------------------------------------------------------------------------------------------------

const onScreen = () => pair().map(({ study_instance_uid, owner }) => ({ study_instance_uid, owner }));
const pair = () => [byKey(state.chosen.left), byKey(state.chosen.right)].filter(Boolean);

/** Somebody is about to open the viewer: its code and the images are fetched. Before that nothing of it is, nor recorded: a button that
 *  came to lie under a pointer at rest says nothing. */
function prepareViewer() {
  if (pair().length && !parts.viewer.isOpen) parts.viewer.prepare(pair(), chosenImages(), protocol(), state.swapped);
}

function openViewer() {
  if (!pair().length || !parts.viewer) return;
  parts.viewer.open(pair(), chosenImages(), protocol(), state.swapped);
  parts.back.hidden = parts.pair.hidden = false;
  fill(parts.pair, pair().map((study, index) => h('span', {}, h('span.side', {}, () => t(index ? 'beside' : 'current')), () => ` ${titleOf(study)}, ${dateText(study.study_date)} `, hospitalSign(state.shown, study.owner))), parts.scale, parts.levels);
}

const shownPanes = () => [parts.panes.left, parts.panes.right].filter(pane => pane.study);
const chosenImages = () => shownPanes().flatMap(pane => pane.shownImages);

/** How OHIF hangs what is in view: see app-config.js. */
function protocol() {
  const panes = shownPanes();
  if (panes.some(pane => pane.hung) && panes.every(pane => isMammography(pane.series))) return panes.length > 1 ? 'contenitore.mammographies' : 'contenitore.mammography';
  if (panes.length > 1) return 'contenitore.compare';
  return panes.some(pane => pane.series.length) ? 'contenitore.alone' : 'default';
}

/** What OHIF has to know of both exams: why an image is not drawn, and what of the body each shows. */
function aboutPair() {
  const panes = shownPanes();
  return { faults: Object.assign({}, ...panes.map(pane => pane.faults)), places: [0, 1].map(index => panes[index]?.body ?? []), millimetres: parts.tools.millimetres };
}

/** How the levels of both are paired, and the button that says that these two are the same one. */
function drawLevels(how) {
  if (!parts?.levels) return;
  parts.levels.hidden = !how;
  fill(parts.levels, how && (() => t('levels', { how: t(LEVELS[how]) })), ' ', h('button', { type: 'button', id: 'realign', title: () => t('realignWhy'), onclick: () => parts.viewer.realign() }, () => t('realign')));
}

function closeViewer() {
  parts.viewer?.close();
  parts.back.hidden = parts.pair.hidden = true;
  parts.open.focus();
}

// ---- staying true ------------------------------------------------------------------------------------------------

async function changed(timeline) {
  const before = new Map(state.shown.studies.map(study => [keyOf(study), study]));
  const now = new Map(timeline.studies.map(study => [keyOf(study), study]));
  const arrived = timeline.studies.filter(study => !before.has(keyOf(study)));
  const gone = state.shown.studies.filter(study => !now.has(keyOf(study)));
  const known = timeline.studies.filter(study => before.has(keyOf(study)));
  const grown = known.filter(study => study.complete && imagesOf(before.get(keyOf(study))) < imagesOf(study));
  const reported = known.filter(study => versionsOf(before.get(keyOf(study))) !== versionsOf(study));
  const completed = known.filter(study => study.complete && !before.get(keyOf(study)).complete);
  const goneNow = ['left', 'right'].flatMap(side => gone.filter(study => keyOf(study) === state.chosen[side]).map(study => (
    { side, key: keyOf(study), named: { name: hospital(state.shown, study.owner).name, date: study.study_date, time: study.study_time } })));
  state.gone = [...state.gone.filter(exam => !now.has(exam.key)), ...goneNow];
  state.shown = timeline;
  state.news = newIn(timeline);
  for (const study of [...arrived, ...grown, ...reported, ...completed]) state.news.add(keyOf(study));
  for (const study of arrived) state.came.add(keyOf(study));
  const closed = keepPdfs(pair());
  drawPatient();
  if (goneNow.length) {
    parts.viewer?.remove();
    closeViewerQuietly();
  }
  const left = now.has(state.chosen.left) ? state.chosen.left : null;
  if (state.proposal && !now.has(keyOf(state.proposal))) state.proposal = null;
  if (state.chosen.right && !now.has(state.chosen.right)) Object.assign(state, { besideByHand: false, pinned: false, chosen: { ...state.chosen, right: null } });
  if (left) await drawAnew();
  else await chooseFirst();
  if (!parts) return;
  second.heed();
  for (const exam of goneNow) exam.now = state.chosen[exam.side];
  if (goneNow.length) drawPatient();
  const tell = (found, key, study) => found.length > 0 && { text: t(key, { what: found.map(titleOf).join(', ') }), show: () => putInPlace(study()) };
  const best = () => arrived.find(study => state.proposal && keyOf(study) === keyOf(state.proposal)) ?? arrived[0];
  tellNews([
    tell(arrived, 'arrived', best),
    gone.length > 0 && { text: t('withdrawn', { count: gone.length }) },
    tell(completed, 'completed', () => completed[0]),
    tell(grown.filter(study => !completed.includes(study)), 'arrivedImages', () => grown[0]),
    tell(reported, 'arrivedReport', () => reported[0]),
    closed > 0 && { text: t('pdfClosed', { count: closed }) },
  ].filter(Boolean));
}

/** The exams on the screen as they are now; where nothing was put beside by hand, another one may be the best prior by now. */
async function drawAnew() {
  const { left, right } = state.chosen;
  const asks = !second.isSecond && !(state.besideByHand && right);
  if (asks && !right) state.priors = 'asked';
  await draw(left, right);
  if (asks && parts && state.chosen.left === left) await proposeBeside();
}

/** What is new in reports is a version, not a line that the archive read in one that is known. */
const versionsOf = study => JSON.stringify(study.reports.map(report => ({ ...report, conclusion: null })));

/** What is new to this reader, since another visit too. */
const newIn = timeline => new Set(timeline.studies.filter(study => study.new).map(keyOf));

/** What stands on a screen that somebody sees is news no longer, which the archive remembers for the next visit; but what came beside
 *  by itself, while perhaps nobody sat there, is until somebody takes it. */
function lookedAt() {
  if (document.hidden) return;
  const { left, right } = state.chosen;
  const taken = state.besideByHand || !state.came.has(right);
  const seen = [left, taken && right].filter(key => state.news.delete(key));
  if (seen.length) session.keep(onScreen()).catch(() => {});
}

function closeViewerQuietly() {
  parts.back.hidden = parts.pair.hidden = true;
}

const toast = text => tellNews([{ text }]);

/** Messages; of each `show()` leads to what it tells of. */
function tellNews(messages) {
  if (!messages.length) return;
  say(messages.map(({ text }) => text).join(' '));
  fill(parts.toast, messages.map(({ text, show }) => h('p', {}, h('span', {}, text), show && h('button', { type: 'button', onclick: () => { parts.toast.hidden = true; show(); } }, t('show')))));
  parts.toast.hidden = false;
  clearTimeout(parts.toastTimer);
  parts.toastTimer = setTimeout(() => { parts.toast.hidden = true; }, 12000);
}

/** Without an answer for long, nobody knows whether all this may still be seen: it is taken down until there is one. */
function troubled(kind, since) {
  if ((kind === 'offline' || kind === 'broken') && since < UNSEEN_FOR) return connection(false);
  if (kind === 'offline' || kind === 'broken') return stopped(kind, () => start(null));
  return stopped(kind === 'unknown' ? 'revoked' : kind, null);
}

const connectionText = () => t(parts?.well === false ? 'reconnecting' : 'live');

function connection(well) {
  if (!parts || parts.well === well) return;
  if (well && parts.well === false) {
    for (const pane of Object.values(parts.panes)) pane.retry();
    if (state.priors === 'unknown') proposeBeside();
  }
  parts.well = well;
  parts.dot.classList.toggle('lost', !well);
  parts.lost.hidden = well;
  parts.reader.hidden = !well;
  respeak(parts.dot);
  if (!well) say(t('reconnecting'));
}

// ---- states without a timeline -----------------------------------------------------------------------------------

/** Nothing is read here any more, nor in windows of this one. */
function takeDown() {
  parts?.viewer?.remove();
  parts = null;
  second.tell();
  keepPdfs([]);
}

function stopped(kind, again) {
  stopLive?.();
  takeDown();
  state.shown = null;
  keepThumbnails([]);
  forgetExams();
  forgetPictures();
  say('');
  const passing = kind === 'offline' || kind === 'broken';
  if (!passing) session.end();
  notice(kind, { again: passing ? again : null });
  const after = attempt;
  if (passing && again) setTimeout(() => after === attempt && again(), 5000);
}

function notice(kind, { busy = false, again = null } = {}) {
  document.title = t('title');
  if (busy) {
    fill(app, h('div.notice.busy', { 'aria-busy': 'true' }, h('span.spinner', { 'aria-hidden': 'true' }), h('p', { role: 'status' }, t(kind))));
    return;
  }
  const heading = h('h1', { tabindex: -1 }, t(`${kind}Title`));
  fill(app, h('main.notice', { 'data-kind': kind }, heading, h('p', {}, t(kind)), again && h('button.primary', { type: 'button', onclick: again }, t('retry')), noticeLanguages(kind, again)));
  heading.focus();
}

function noticeLanguages(kind, again) {
  const failed = h('p', { role: 'status' });
  const speaks = language => loadTexts(language).then(() => notice(kind, { again }), () => fill(failed, t('languageFailed', { language: language.toUpperCase() })));
  return [h('div.languages', { role: 'group', 'aria-label': t('language') }, LANGUAGES.map(language => h('button', {
    type: 'button', lang: language, 'aria-pressed': String(language === currentLanguage()), onclick: () => speaks(language),
  }, language.toUpperCase()))), failed];
}

async function endReading() {
  if (!(await meansToEnd()) || !parts) return;
  stopLive?.();
  await session.close(onScreen()).catch(() => {});
  stopped('ended', null);
}

// ---- keys --------------------------------------------------------------------------------------------------------

function onkey(event) {
  if (!parts || app.inert) return;
  if (event.key === 'Escape') {
    if (parts.viewer?.isOpen) closeViewer();
    else parts.tools.still();
    return;
  }
  const at = selector => event.target.closest?.(selector);
  if (parts.viewer?.isOpen || at('input:not([type="range"], [type="checkbox"]), select, textarea')) return;
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  const key = event.key.toLowerCase();
  if (key === 'v' && plain && parts.viewer) openViewer();
  else if ((key === ' ' && at('button, summary, a, input, .reports')) || (key.startsWith('arrow') && at('input[type="range"], .reports'))) return;
  else if (plain && (key === 'arrowleft' || key === 'arrowright')) {
    event.preventDefault();
    step(key === 'arrowleft' ? -1 : 1, event.shiftKey ? 'right' : 'left');
  } else if (plain && key === '/') {
    event.preventDefault();
    parts.list.search.focus();
  } else if (plain && key === '?') help();
  else if (plain && key === 'p') pin();
  else if (plain && key === 'c') copyCitation();
  else if (plain && key === 'k') (at('.pane.right') ? parts.panes.right : parts.panes.left).nextKeyImage();
  else if (plain && key === 'g') for (const pane of shownPanes()) pane.nextPresentation();
  else if (!parts.tools.key(event) && plain) onListKey(event, key);
}

function onListKey(event, key) {
  const entries = [...document.querySelectorAll('.exam')];
  const at = entries.findIndex(entry => entry.contains(document.activeElement));
  if (key === 'arrowdown' || key === 'arrowup') {
    event.preventDefault();
    entries[Math.min(Math.max(at + (key === 'arrowdown' ? 1 : -1), 0), entries.length - 1)]?.querySelector('[data-side="left"]').focus();
  } else if (key === 'a' && at >= 0) choose(byKey(entries[at].dataset.key), 'right');
}
