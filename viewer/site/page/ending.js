// Ending a reading is asked about first: it cannot be taken back without the RIS.

import { h } from './dom.js';
import { t } from './text.js';

/** Whether the reader means it. */
export function meansToEnd() {
  return new Promise(resolve => {
    const dialog = h('dialog.ask', { 'aria-labelledby': 'ask-title' },
      h('h2', { id: 'ask-title' }, t('endAsk')), h('p', {}, t('endWhat')),
      h('p.row', {},
        h('button', { type: 'button', onclick: () => dialog.close('stay') }, t('endNot')),
        h('button.primary', { type: 'button', id: 'end-now', onclick: () => dialog.close('end') }, t('endYes'))));
    dialog.addEventListener('keydown', event => event.stopPropagation());
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'end');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
