// Stock OHIF in a frame: loaded once somebody is about to open it, and not before. The page's pictures stay in view until OHIF shows
// the same ones.

import { fill, h } from './dom.js';
import { t } from './text.js';

const PATIENCE = 20000;

/** The frame. `about()` answers what OHIF is told of both exams; `onlevels(how)` hears how their levels are paired, null where not;
 *  `onscale(one)` whether both have one scale in millimetres. */
export class Viewer {
  constructor(about, onlevels, onscale) {
    Object.assign(this, { about, onlevels, onscale });
    this.frame = null;
    this.at = null;
    this.waiting = h('p.opening', { role: 'status' }, () => t('viewerOpens'));
    this.root = h('section.viewer', { 'aria-label': () => t('viewer') }, this.waiting);
    this.root.inert = true;
    addEventListener('message', event => this.#heard(event));
  }

  /** Load these exams, with the images `chosen`, hung by a `protocol` of app-config.js, without showing them; the first is left,
   *  but for `swapped` sides. Nothing happens when they are loaded already. */
  prepare(studies, chosen, protocol, swapped) {
    const uids = studies.map(study => study.study_instance_uid);
    const address = `/viewer?${new URLSearchParams({ StudyInstanceUIDs: uids.join(','), hangingProtocolId: protocol, images: chosen.join(','), ...(swapped ? { swapped: '' } : {}) })}`;
    if (this.at === address) return;
    this.at = address;
    this.ready = false;
    this.root.classList.remove('ready');
    this.onlevels(null);
    this.onscale(false);
    this.frame?.remove();
    this.frame = h('iframe', { src: address, title: () => t('viewer'), referrerpolicy: 'no-referrer', allow: 'fullscreen' });
    this.root.append(this.frame);
  }

  /** Show these exams. */
  open(studies, chosen, protocol, swapped) {
    this.prepare(studies, chosen, protocol, swapped);
    this.root.inert = false;
    this.root.classList.add('open');
    fill(this.waiting, () => t('viewerOpens'));
    clearTimeout(this.patience);
    this.patience = setTimeout(() => { fill(this.waiting, () => t('viewerSlow')); }, PATIENCE);
    this.frame.focus();
  }

  /** What the two slices on the screen show is the same level from now on. */
  realign() {
    this.frame?.contentWindow.postMessage({ kind: 'contenitore:realign' }, location.origin);
  }

  /** Tell OHIF what is known of both exams by now. */
  tellAbout() {
    this.frame?.contentWindow.postMessage({ kind: 'contenitore:about', about: this.about() }, location.origin);
  }

  /** Another language is spoken, in what is ours of OHIF too; all that is in it stays. */
  speak(language) {
    this.frame?.contentWindow.postMessage({ kind: 'contenitore:language', language }, location.origin);
  }

  /** Hide the frame; it stays loaded. */
  close() {
    clearTimeout(this.patience);
    this.root.inert = true;
    this.root.classList.remove('open');
  }

  get isOpen() {
    return this.root.classList.contains('open');
  }

  /** Take everything away: what it showed may not be shown any more. */
  remove() {
    this.close();
    this.frame?.remove();
    this.frame = null;
    this.at = null;
  }

  #heard(event) {
    if (event.origin !== location.origin || event.source !== this.frame?.contentWindow) return;
    if (event.data === 'contenitore:shown') {
      this.ready = true;
      this.root.classList.add('ready');
      clearTimeout(this.patience);
    }
    if (event.data === 'contenitore:escape') this.onescape?.();
    if (event.data?.kind === 'contenitore:about?') this.tellAbout();
    if (event.data?.kind === 'contenitore:levels') this.onlevels(event.data.how);
    if (event.data?.kind === 'contenitore:scale') this.onscale(event.data.one);
    if (event.data === 'contenitore:alive') document.dispatchEvent(new CustomEvent('contenitore:alive'));
  }
}
