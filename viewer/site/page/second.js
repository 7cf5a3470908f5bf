// A second window, for a second monitor: what the first window's tab reads, with the viewer open on what stands side by side there. The
// two are a pair as long as that tab is there, whoever is read in it. The second one shows nothing while nothing is read in the first,
// while that is not there (its lock is free then: it was closed, left or crashed), and while another tab's reading is in front.

import * as session from './session.js';

const PAIR = 'contenitore.pair';

/** Whether this is the second window. */
export const isSecond = new URLSearchParams(location.search).has('second');

const front = new BroadcastChannel('contenitore front');
const told = { reading: null, other: false, watched: false, at: null };
let pair = null;
let channel = null;
let leads = false;
let hears = null;

/** Take part. In the first window `where()` answers what stands side by side (the keys `left` and `right`, whether their sides are
 *  `swapped`, whether they have one scale in `millimetres`), null while nothing is read. In the second one `begin()` reads what this
 *  tab's session opens now, `follow(where)` goes there and says whether it could, `cover(why)` hides everything, null nothing. */
export function join(hearing) {
  hears = hearing;
  meet(sessionStorage.getItem(PAIR));
  if (isSecond) {
    front.onmessage = ({ data }) => heed({ other: data !== pair });
    heed();
    channel.postMessage('where?');
    return;
  }
  for (const act of ['focus', 'pointerdown', 'keydown']) addEventListener(act, inFront, { passive: true, capture: true });
  for (const act of ['visibilitychange', 'contenitore:alive']) document.addEventListener(act, inFront);
  inFront();
}

/** Open the second window; a tab that is a copy of another one has a second window of its own. */
export function open() {
  if (!leads) meet(null);
  sessionStorage.setItem(PAIR, pair); // which the new window's tab begins with a copy of
  window.open('/?second', `contenitore-second-${pair}`, `popup,width=${screen.availWidth},height=${screen.availHeight}`);
}

/** Tell the second window what is read here. */
export function tell() {
  const where = leads ? hears.where() : undefined;
  if (where !== undefined) channel.postMessage({ where, session: where && session.kept() });
}

/** In the second window: go to what was told, where it could not be gone to before. */
export function heed(news = {}) {
  if (!isSecond || !hears) return;
  Object.assign(told, news);
  const why = told.other ? 'secondElsewhere' : told.reading?.where ? null : 'secondEmpty';
  hears.cover(why);
  if (why) return;
  watch();
  const { where, session: theirs } = told.reading;
  if (theirs.pass !== session.kept()?.pass) {
    told.at = null;
    session.take(theirs);
    hears.begin();
  } else if (told.at !== JSON.stringify(where) && hears.follow(where)) told.at = JSON.stringify(where);
}

/** Another reading is drawn in this window: nothing was gone to in it. */
export function drawn() {
  told.at = null;
  heed();
}

function meet(kept) {
  pair = kept ?? crypto.getRandomValues(new Uint32Array(4)).join('-');
  channel?.close();
  channel = new BroadcastChannel(`contenitore ${pair}`);
  channel.onmessage = ({ data }) => {
    if (!isSecond && data === 'where?') tell();
    if (isSecond && data !== 'where?') heed({ reading: data });
  };
  if (isSecond) return;
  leads = !navigator.locks || kept === null;
  navigator.locks?.request(`contenitore ${pair}`, () => {
    leads = true;
    inFront();
    tell();
    return new Promise(() => {});
  });
}

function inFront() {
  if (!document.hidden) front.postMessage(leads ? pair : null);
}

/** Wait until the first window's lock is free. */
function watch() {
  if (told.watched) return;
  told.watched = true;
  navigator.locks?.request(`contenitore ${pair}`, () => heed({ watched: false, reading: null }));
}
