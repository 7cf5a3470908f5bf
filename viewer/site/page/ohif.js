// Stock OHIF in a frame: loaded quietly while the timeline is read, so that a comparison opens at once.

import { h } from './dom.js';
import { t } from './text.js';

/** The frame. */
export class Viewer {
  constructor() {
    this.frame = null;
    this.at = null;
    this.waiting = h('p.opening', { role: 'status' }, t('viewerOpens'));
    this.root = h('section.viewer', { 'aria-label': t('viewer') }, this.waiting);
    this.root.inert = true;
    addEventListener('message', event => this.#heard(event));
  }

  /** Load these exams without showing them; the first is left. Nothing happens when they are loaded already. */
  prepare(studies) {
    const uids = studies.map(study => study.study_instance_uid);
    const address = `/viewer?${new URLSearchParams({ StudyInstanceUIDs: uids.join(','), hangingProtocolId: uids.length > 1 ? 'contenitore.compare' : 'default' })}`;
    if (this.at === address) return;
    this.at = address;
    this.ready = false;
    this.root.classList.remove('ready');
    this.frame?.remove();
    this.frame = h('iframe', { src: address, title: t('viewer'), referrerpolicy: 'no-referrer', allow: 'fullscreen' });
    this.root.append(this.frame);
  }

  /** Show these exams. */
  open(studies) {
    this.prepare(studies);
    this.root.inert = false;
    this.root.classList.add('open');
    this.frame.focus();
  }

  /** Hide the frame; it stays loaded. */
  close() {
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
    }
    if (event.data === 'contenitore:alive') document.dispatchEvent(new CustomEvent('contenitore:alive'));
  }
}
