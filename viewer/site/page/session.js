// The reading session: a link's token becomes a key for this tab, and every request says whether it still holds.

const KEPT = 'contenitore.session';
const BROWSER = 'contenitore.browser';

/** Something other than an answer: `kind` is `gone`, `elsewhere`, `unknown`, `refused`, `offline` or `broken`. */
export class Trouble extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
}

let config = null;
let held = null;
let turn = 0;

/** Where the archive is, and whether OHIF is installed here. */
export async function loadConfig() {
  config = config ?? await (await fetch('/config.json', { cache: 'no-cache' })).json();
  return config;
}

/** Take the token out of the address before anything else can see it; null when there is none. */
export function takeToken() {
  const token = /^#([A-Za-z0-9_-]{43})$/.exec(location.hash)?.[1] ?? null;
  if (location.hash) history.replaceState(null, '', location.pathname);
  return token;
}

/** Open a link, or go on with this tab's session: `{timeline, etag, current?, priors?, images?}`, or null when there is neither, or another was begun since. */
export async function begin(token) {
  const mine = (turn += 1);
  await loadConfig();
  if (token) {
    end();
    const { body } = await request('POST', '/view/session', JSON.stringify({ token, browser: browserSecret() }));
    if (mine !== turn) return null;
    held = { api: config.api, key: body.key, pass: body.pass };
    sessionStorage.setItem(KEPT, JSON.stringify(held));
    return { timeline: body.timeline, etag: body.etag, current: body.current, priors: body.priors, images: body.images };
  }
  held = kept();
  if (!held || held.api !== config.api) return null;
  const { body, etag } = await request('GET', '/view/timeline');
  return { timeline: body, etag, current: body.session.current };
}

/** What this browser is known again by: a link opens once, and then only for the browser that opened it. */
function browserSecret() {
  try {
    const kept = localStorage.getItem(BROWSER);
    if (/^[A-Za-z0-9_-]{43}$/.test(kept)) return kept;
    const bits = crypto.getRandomValues(new Uint8Array(32));
    const made = btoa(String.fromCharCode(...bits)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    localStorage.setItem(BROWSER, made); // before it is sent: an answer that is lost on the way is asked for again
    return made;
  } catch {
    return undefined; // a browser that keeps nothing opens it once; a reload goes on with the tab's own key
  }
}

/** This tab's session: what opens it, and names it in this browser; null where there is none. */
export const kept = () => JSON.parse(sessionStorage.getItem(KEPT) || 'null');

/** Another tab's session is this one's too, from the next `begin` on. */
export const take = theirs => sessionStorage.setItem(KEPT, JSON.stringify(theirs));

/** Forget the session here. */
export function end() {
  held = null;
  sessionStorage.removeItem(KEPT);
}

/** End the session everywhere; `shown` is what was on the screen until now. */
export async function close(shown) {
  await keep(shown).catch(() => {});
  await request('DELETE', '/view/session');
  end();
}

/** A JSON answer of the archive. Raises Trouble. */
export async function get(path) {
  return (await request('GET', path)).body;
}

export const timeline = () => request('GET', '/view/timeline');
export const keep = shown => request('POST', '/view/session/keep', JSON.stringify({ shown }));
export const takeNote = ({ study_instance_uid, owner, sop_instance_uid }) => request('POST', '/view/acknowledgements', JSON.stringify({ study_instance_uid, owner, sop_instance_uid }));
export const events = () => get('/view/events');

/** An address below this session's DICOMweb, for what a browser fetches by itself; empty for what comes when nothing is read any more. */
export function imageUrl(path, parameters = {}) {
  if (!held) return '';
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== ''));
  return `${held.api}/view/${held.pass}/dicomweb${path}${query.size ? `?${query}` : ''}`;
}

/** Why an image is not shown, in the archive's words: it would be another one. Null where that is not why. */
export async function whyNotShown(address) {
  try {
    const answer = await fetch(address, { cache: 'no-store', referrerPolicy: 'no-referrer' });
    if (answer.status === 406) return (await answer.json()).detail ?? null;
    await answer.body?.cancel();
  } catch {
    // no answer is no reason
  }
  return null;
}

/** A picture at an address of `imageUrl`, to be read and not only shown. Raises Trouble. */
export async function getPicture(address) {
  const answer = await fetch(address, { cache: 'no-store', referrerPolicy: 'no-referrer' }).catch(() => { throw new Trouble('offline'); });
  if (!answer.ok) throw new Trouble(answer.status >= 500 || answer.status === 429 ? 'broken' : 'refused');
  return answer.blob();
}

/** What is said of an instance, in the DICOM JSON Model; `exam` is `{study, owner}`. Raises Trouble. */
export async function getMetadata({ study, owner }, series, sop) {
  const address = imageUrl(`/studies/${study}/series/${series}/instances/${sop}/metadata`, { owner });
  const answer = await fetch(address, { cache: 'no-store', referrerPolicy: 'no-referrer' }).catch(() => { throw new Trouble('offline'); });
  if (!answer.ok) throw new Trouble(answer.status >= 500 || answer.status === 429 ? 'broken' : 'refused');
  return JSON.parse(await answer.text(), legible)[0];
}

/** A PDF report. Raises Trouble. */
export async function getPdf(study, sop, parameters) {
  const answer = await fetch(`${held.api}/view/${held.pass}/studies/${study}/reports/${sop}?${new URLSearchParams(parameters)}`, { cache: 'no-store', referrerPolicy: 'no-referrer' }).catch(() => { throw new Trouble('offline'); });
  if (!answer.ok) throw refusal(answer.status);
  return new Blob([await answer.arrayBuffer()], { type: 'application/pdf' });
}

/** Text without the characters that turn the direction of what stands around it: nothing that a hospital sends moves a date. */
const legible = (_, value) => (typeof value === 'string' ? value.replace(/[\u202a-\u202e\u2066-\u2069]/g, '') : value);

/** What it means that the archive answers so: 406 is of a report that is there, and that nobody can read. */
const refusal = status => new Trouble(status >= 500 || status === 429 ? 'broken' : status === 406 ? 'unreadable' : 'refused');

async function request(method, path, body) {
  const headers = held ? { Authorization: `Bearer ${held.key}` } : {};
  let answer;
  try {
    // A text/plain body needs no preflight; the archive reads JSON whatever it is called.
    answer = await fetch(config.api + path, { method, headers, body, referrerPolicy: 'no-referrer', cache: 'no-store' });
  } catch {
    throw new Trouble('offline');
  }
  if (answer.ok) return { body: JSON.parse(await answer.text(), legible), etag: answer.headers.get('ETag') };
  if (answer.status === 410) throw new Trouble((await answer.text()).includes(':opened-elsewhere"') ? 'elsewhere' : 'gone');
  if (answer.status === 404) throw new Trouble('unknown');
  throw refusal(answer.status);
}
