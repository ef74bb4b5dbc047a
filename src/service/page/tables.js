// The tables of peers and of trackers.

import { h, setText } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';

/** The letters of the flags that the service gives to peers. */
const FLAGS = {
  D: 'we download from it',
  d: 'we want its pieces',
  U: 'we upload to it',
  u: 'it wants our pieces',
  E: 'encrypted',
  H: 'found by the DHT',
  X: 'found by peer exchange',
  I: 'it connected to us',
};

/** A table of `[title, text, class, tool tip]`. */
function table(label, columns) {
  const body = h('tbody');
  const none = h('p.hint', t('None'));
  const whole = h('table', { ariaLabel: label }, h('thead', h('tr', ...columns.map(([title, , kind = '']) => h('th', { scope: 'col', className: kind },
    t(title))))), body);
  const show = (list) => {
    none.hidden = list.length > 0;
    whole.hidden = !none.hidden;
    while (body.rows.length > list.length) body.deleteRow(-1);
    while (body.rows.length < list.length) body.append(h('tr', ...columns.map(([, , kind = '']) => h('td', { className: kind }))));
    list.forEach((entry, index) => columns.forEach(([, text, , tip], at) => {
      const cell = body.rows[index].cells[at];
      setText(cell, text(entry));
      if (tip) cell.title = tip(entry);
    }));
  };
  return { element: h('div', whole, none), show };
}

export const createPeers = () => table(t('Peers'), [
  ['Address', (peer) => (peer.address.includes(':') ? `[${peer.address}]:${peer.port}` : `${peer.address}:${peer.port}`)],
  ['Client', (peer) => peer.client_name],
  ['Flags', (peer) => peer.flag_str, 'flags', (peer) => [...peer.flag_str].map((letter) => t(FLAGS[letter] ?? letter)).join(', ')],
  ['Has', (peer) => format.percent(peer.progress), 'number'],
  ['Down', (peer) => format.rateOrEmpty(peer.rate_to_client), 'number'],
  ['Up', (peer) => format.rateOrEmpty(peer.rate_to_peer), 'number'],
]);

function nextAnnounce(tracker) {
  if (tracker.announce_state === 3) return t('announcing');
  return tracker.next_announce_time > 0 ? format.fromNow(tracker.next_announce_time) : '–';
}

function lastAnswer(tracker) {
  if (!tracker.has_announced) return t('not announced yet');
  const result = tracker.last_announce_succeeded ? t('{n} peers', { n: tracker.last_announce_peer_count })
    : tracker.last_announce_timed_out ? t('timed out') : tracker.last_announce_result;
  return `${result}, ${format.fromNow(tracker.last_announce_time)}`;
}

const known = (value) => (value >= 0 ? format.count(value) : '–');

export const createTrackers = () => table(t('Trackers'), [
  ['Tier', (tracker) => known(tracker.tier + 1), 'number'],
  ['Address', (tracker) => tracker.announce],
  ['Last answer', lastAnswer],
  ['Next announce', nextAnnounce],
  ['Seeds', (tracker) => known(tracker.seeder_count), 'number'],
  ['Leechers', (tracker) => known(tracker.leecher_count), 'number'],
  ['Downloads', (tracker) => known(tracker.download_count), 'number'],
]);
