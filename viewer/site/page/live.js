// Keeping the page true: asks whether something changed, tells the session that someone is there.

import * as session from './session.js';

const EVERY = 2000;
const HIDDEN_EVERY = 30000;
const RETRY_EVERY = 5000;
const KEEP_EVERY = 5 * 60000;

/**
 * Start. `onchange({timeline, etag})` gets what is new, `ontrouble(kind, milliseconds)` what went wrong and since when nothing
 * went well (`offline` and `broken` are tried again), `onwell()` that all is well; `shown()` says what is on the screen. Returns a
 * function that stops it.
 */
export function live(etag, { onchange, ontrouble, onwell, shown }) {
  let known = etag;
  let timer = null;
  let stopped = false;
  let kept = Date.now();
  let well = Date.now();

  async function look() {
    let pause = document.hidden ? HIDDEN_EVERY : EVERY;
    try {
      const found = await session.events();
      if (stopped) return;
      if (found.etag !== known) {
        const changed = await session.timeline();
        if (stopped) return;
        known = changed.etag;
        onchange(changed.body);
      }
      well = Date.now();
      onwell();
    } catch (trouble) {
      if (stopped) return;
      ontrouble(trouble.kind ?? 'broken', Date.now() - well);
      if (stopped) return;
      pause = RETRY_EVERY;
    }
    if (!stopped) timer = setTimeout(look, pause);
  }

  function wake() {
    if (document.hidden || stopped) return;
    clearTimeout(timer);
    look();
  }

  function alive() {
    if (Date.now() - kept < KEEP_EVERY) return;
    kept = Date.now();
    session.keep(shown()).catch(() => {});
  }

  const acts = ['pointerdown', 'keydown', 'wheel', 'contenitore:alive'];
  document.addEventListener('visibilitychange', wake);
  addEventListener('online', wake);
  for (const act of acts) document.addEventListener(act, alive, { passive: true, capture: true });
  timer = setTimeout(look, EVERY);
  return () => {
    stopped = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', wake);
    removeEventListener('online', wake);
    for (const act of acts) document.removeEventListener(act, alive, { capture: true });
  };
}
