// What opened the patient's exams: the transfers that run, and whether the receiver has accepted the patient, and when.

import { h } from './dom.js';
import { momentText, t } from './text.js';
import { shortName } from './timeline.js';

/** As many as there is room for beside the patient's name. */
const MOST = 4;

/** The newest transfers that run, each in a line, with the hospitals' names in short; null where there is none. */
export function transferList(shown) {
  const running = shown.transfers.filter(transfer => transfer.status === 'active').sort((one, other) => other.opened_at.localeCompare(one.opened_at)).slice(0, MOST);
  return running.length ? h('ul.transfers', { 'aria-label': t('transfers') }, running.map(transfer => line(shown, transfer))) : null;
}

function line(shown, transfer) {
  const named = id => shown.institutions[id] ?? id;
  const told = name => {
    const parties = { from: name(transfer.from), to: name(transfer.to) };
    const said = transfer.accepted_at ? t('transferAccepted', { ...parties, when: momentText(transfer.accepted_at) }) : t('transferWaits', parties);
    return [t('transferFrom', { ...parties, when: momentText(transfer.opened_at) }), said];
  };
  const [from, said] = told(shortName);
  return h(`li.transfer${transfer.accepted_at ? '.accepted' : '.waits'}`, { 'data-transfer': transfer.id, title: told(named).join(' ') }, h('span', {}, from), ' ', h('strong', {}, said));
}
