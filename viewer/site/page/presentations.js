// The presentation states of an exam: which image has which, which of them is shown, fetched once such an image is in view.

import { presentationOf } from './presentation.js';
import { getMetadata } from './session.js';

/** Those of one exam. `found` is what the archive answered of its images, `exam` is `{study, owner}`; `onfound()` hears that one that
 *  was asked for is here. */
export class Presentations {
  constructor({ key_images: documents = [] }, exam, onfound) {
    Object.assign(this, { exam, onfound, bySop: new Map(), fetched: new Map(), chosen: new Map() });
    for (const document of documents.filter(candidate => candidate.kind === 'PR').reverse()) {
      for (const { sop_instance_uid: sop, frames } of document.images) this.bySop.set(sop, [...(this.bySop.get(sop) ?? []), { document, frames }]);
    }
  }

  /** How many there are of an image; `cell` is `{instance, frame}`. */
  count(cell) {
    return this.#all(cell).length;
  }

  /** How an image is presented now: see `presentationOf`. Null as it was sent, and until the document is here. */
  of(cell) {
    const all = this.#all(cell);
    const at = this.chosen.get(cell.instance.sop_instance_uid) ?? 0;
    if (!all.length || at === all.length) return null;
    const content = this.#content(all[at]);
    return content && (content.shown.get(this.#name(cell)) ?? this.#read(content, cell));
  }

  /** The next one of an image, after the last one none. */
  next(cell) {
    const sop = cell.instance.sop_instance_uid;
    this.chosen.set(sop, ((this.chosen.get(sop) ?? 0) + 1) % (this.count(cell) + 1));
  }

  #all(cell) {
    return (this.bySop.get(cell.instance.sop_instance_uid) ?? []).filter(({ frames }) => !frames.length || frames.includes(cell.frame)).map(({ document }) => document);
  }

  #name = cell => `${cell.instance.sop_instance_uid} ${cell.frame}`;

  #read(content, cell) {
    const { instance: { sop_instance_uid: sop, rows, columns, inverse }, frame } = cell;
    const found = presentationOf(content.data, { sop, frame, rows, columns, inverse });
    content.shown.set(this.#name(cell), found);
    return found;
  }

  /** A document's content, null while it is on its way or where it does not come. */
  #content({ series_instance_uid: series, sop_instance_uid: sop }) {
    if (!this.fetched.has(sop)) {
      this.fetched.set(sop, null);
      getMetadata(this.exam, series, sop).then(data => {
        if (!data) return;
        this.fetched.set(sop, { data, shown: new Map() });
        this.onfound();
      }, () => {});
    }
    return this.fetched.get(sop);
  }
}
