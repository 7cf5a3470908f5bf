// A second window, for a second monitor: the same reading in it, with the viewer open on what the first window puts side by side. They
// speak to one another in this browser only, on a channel that is named by the reading's own pass.

/** Whether this is the second window. */
export const isSecond = new URLSearchParams(location.search).has('second');

let channel = null;

/** Open it; it goes on with this tab's session. */
export function open() {
  window.open('/?second', 'contenitore-second', `popup,width=${screen.availWidth},height=${screen.availHeight}`);
}

/** Take part in a reading. `where()` answers what `tell` tells; `follow(told)` goes there, in the second window. */
export function join(reading, { where, follow }) {
  leave();
  channel = new BroadcastChannel(`contenitore ${reading}`);
  channel.onmessage = ({ data }) => {
    if (isSecond && data.left) follow(data);
    if (!isSecond && data === 'where?') tell(where());
  };
  if (isSecond) channel.postMessage('where?');
}

/** Tell the second window what stands side by side here: the keys `left` and `right`, whether their sides are
 *  `swapped`, and whether they are to have one scale in `millimetres`. */
export function tell(where) {
  if (!isSecond) channel?.postMessage(where);
}

/** The reading is over here. */
export function leave() {
  channel?.close();
  channel = null;
}
