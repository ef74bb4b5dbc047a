// The details of one torrent. Only the open tab asks the service, and only after an event says that the torrent changed.

import { copyMagnets, editTrackers, move, rename, run } from './actions.js';
import { attempt } from './dialog.js';
import { button, h, iconButton, setText } from './dom.js';
import { FileTree } from './filetree.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { PiecePictures } from './pieces.js';
import { RateGraph } from './rates.js';
import { call, getTorrent, onChange, torrents } from './service.js';
import { store, stored } from './storage.js';
import { createPeers, createTrackers } from './tables.js';
import { onView, selectedIds, visible } from './view.js';

const PAUSE_MS = 1_500;
/** The answers of trackers do not show in the list, so their tab asks by itself. */
const TRACKER_MS = 10_000;

let id = 0;
let tab = stored('tab', 'general');
let isOpen = stored('details', true);
let isAsking = false;
let isDirty = false;

const pieces = new PiecePictures();
const graph = new RateGraph();
const general = h('dl.facts');
const magnet = h('button.link', { onclick: () => copyMagnets([id]) }, t('Copy'));
const peers = createPeers();
const trackers = createTrackers();
const setFiles = async (change) => {
  await attempt(() => call('torrent_set', { ids: [id], ...change }));
  refresh();
};
const tree = new FileTree('files', {
  wanted: (files, isWanted) => setFiles({ [isWanted ? 'files_wanted' : 'files_unwanted']: files }),
  priority: (files, priority) => setFiles({ [`priority_${['low', 'normal', 'high'][priority + 1]}`]: files }),
  open: (file) => attempt(async () => window.open((await call('btsync_file_link', { id, file_index: file })).url, '_blank', 'noopener')),
  rename: (node) => rename(torrents.get(id), node.path),
});
const trackerTab = h('div', button(`${t('Edit trackers')}…`, () => editTrackers(id)), trackers.element);

const TABS = {
  general: ['General', general, () => getTorrent(id, 'comment', 'creator', 'date_created', 'piece_size', 'corrupt_ever',
    'download_limit', 'download_limited', 'upload_limit', 'upload_limited'), showGeneral],
  pieces: ['Pieces', pieces.element, () => {}, () => pieces.draw()],
  files: ['Files', tree.element, () => call('btsync_files', { id }), (files) => tree.setFiles(files.name.map((path, at) => ({ path,
    length: files.length[at], have: files.bytes_completed[at], wanted: files.wanted[at], priority: files.priority[at] })))],
  peers: ['Peers', peers.element, () => getTorrent(id, 'peers'), (answer) => peers.show(answer.peers
    .sort((a, b) => b.rate_to_client + b.rate_to_peer - a.rate_to_client - a.rate_to_peer))],
  trackers: ['Trackers', trackerTab, () => getTorrent(id, 'tracker_stats'), (answer) => trackers.show(answer.tracker_stats)],
  speed: ['Speed', graph.element, () => {}, () => graph.show(id)],
};

const name = h('h2', { tabIndex: -1 });
const figures = h('dl.figures');
const problem = h('div.problem', { role: 'alert' });
const startButton = button(t('Start'), () => run('torrent_start', [id]), 'primary');
const stopButton = button(t('Stop'), () => run('torrent_stop', [id]));
const tabs = h('div.tabs', { role: 'tablist', ariaLabel: t('Details') }, ...Object.entries(TABS).map(([key, [title]]) => h('button',
  { role: 'tab', id: `tab-${key}`, value: key, onclick: () => openTab(key), onkeydown: onTabKey }, t(title))));
const panel = h('div.panel', { role: 'tabpanel', tabIndex: 0 });
const element = h('section.details', { hidden: true, ariaLabel: t('Details') });

/** Shows names with values, which may be elements; those without a value are left out. */
function showPairs(list, pairs) {
  const shown = pairs.filter(([, value]) => value);
  if (list.children.length !== shown.length) list.replaceChildren(...shown.map(() => h('div', h('dt'), h('dd'))));
  shown.forEach(([title, value], at) => {
    const [dt, dd] = list.children[at].children;
    setText(dt, t(title));
    if (typeof value === 'string') setText(dd, value);
    else if (dd.firstChild !== value) dd.replaceChildren(value);
  });
}

function showGeneral(more, /** @type {Torrent} */ torrent) {
  showPairs(general, [
    ['Folder', torrent.download_dir],
    ['Total size', `${format.size(torrent.total_size)} · ${t('{n} files', { n: torrent.file_count })}`],
    ['Pieces', `${format.count(torrent.piece_count)} × ${format.size(more.piece_size)}`],
    ['Downloaded', format.size(torrent.downloaded_ever)],
    ['Uploaded', `${format.size(torrent.uploaded_ever)} · ${t('ratio {ratio}', { ratio: format.ratio(torrent.upload_ratio) })}`],
    ['Wasted', more.corrupt_ever > 0 && format.size(more.corrupt_ever)],
    ['Limit downloads', more.download_limited && format.rate(more.download_limit * 1000)],
    ['Limit uploads', more.upload_limited && format.rate(more.upload_limit * 1000)],
    ['Added', format.moment(torrent.added_date)],
    ['Completed', format.moment(torrent.done_date)],
    ['Last active', format.moment(torrent.activity_date)],
    ['Labels', torrent.labels.join(', ')],
    ['Private', torrent.is_private && t('Peers come from its trackers only')],
    ['Comment', more.comment],
    ['Created', `${format.moment(more.date_created)} ${more.creator}`.trim()],
    ['Info-hash', torrent.hash_string],
    ['Magnet link', magnet],
  ]);
}

function showHead(/** @type {Torrent} */ torrent) {
  setText(name, torrent.name);
  showPairs(figures, [
    ['State', `${t(format.STATES[torrent.state][0])} · ${format.percent(format.progressOf(torrent))}`],
    ['Size', format.size(torrent.size_when_done)],
    ['Received', format.size(torrent.size_when_done - torrent.left_until_done)],
    ['Active peers', t('{active} of {n}', { active: torrent.peers_sending_to_us + torrent.peers_getting_from_us, n: torrent.peers_connected })],
    ['Down', format.rate(torrent.rate_download)],
    ['Up', format.rate(torrent.rate_upload)],
    ['Time left', format.eta(torrent.eta)],
  ]);
  startButton.disabled = torrent.status !== 0;
  stopButton.disabled = torrent.status === 0;
  const key = `${torrent.id} ${torrent.error} ${torrent.error_string} ${torrent.btsync_problem}`;
  if (problem.key === key) return;
  problem.key = key;
  problem.hidden = !torrent.error;
  const ids = [torrent.id];
  problem.replaceChildren(h('p', torrent.error_string), ...(torrent.error < 3 ? [] : [
    button(`${t('Use another folder')}…`, () => move(ids, false)),
    torrent.btsync_problem === 'files_in_the_way'
      ? button(t('Overwrite'), () => attempt(() => call('btsync_overwrite', { id: torrent.id })), 'danger')
      : button(t('Try again'), () => run('torrent_start', ids)),
  ]));
}

async function refresh() {
  const torrent = torrents.get(id);
  if (!torrent || element.hidden || document.hidden) return;
  showHead(torrent);
  isDirty = isAsking;
  if (isAsking) return;
  isAsking = true;
  try {
    const [, content, ask, show] = TABS[tab];
    const answers = await Promise.all([ask(), call('btsync_pieces', { id })]);
    if (torrent.id === id && content.isConnected) show(answers[0], torrent);
    if (torrent.id === id) pieces.show(answers[1]);
  } catch {
    // A lost connection is reported elsewhere; the next event asks again.
  }
  setTimeout(() => {
    isAsking = false;
    if (isDirty) refresh();
  }, PAUSE_MS);
}

export function openTab(next) {
  tab = Object.keys(TABS)[next] ?? next;
  store('tab', tab);
  for (const one of tabs.children) {
    one.ariaSelected = one.value === tab;
    one.tabIndex = one.value === tab ? 0 : -1;
  }
  panel.setAttribute('aria-labelledby', `tab-${tab}`);
  panel.replaceChildren(TABS[tab][1]);
  isAsking = false;
  refresh();
}

function onTabKey(event) {
  const all = [...tabs.children];
  const at = all.indexOf(event.target) + all.length;
  const target = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  all[target % all.length].click();
  all[target % all.length].focus();
}

/** Shows the only selected torrent, or the only one that there is. */
function follow() {
  const ids = selectedIds();
  const next = ids.length === 1 ? ids[0] : torrents.size === 1 && visible.length === 1 ? visible[0] : 0;
  const isHidden = !isOpen || !next;
  if (element.hidden === isHidden && next === id) return;
  id = next;
  element.hidden = element.previousSibling.hidden = isHidden;
  pieces.show({});
  for (const list of [peers, trackers]) list.show([]);
  general.replaceChildren();
  tree.setFiles([]);
  isAsking = false;
  refresh();
}

export function showDetails(next) {
  isOpen = next;
  store('details', isOpen);
  follow();
  if (isOpen) name.focus();
}

export const areDetailsOpen = () => !element.hidden;

export function createDetails(more, close) {
  element.append(h('div.title', iconButton('back', t('Back to the list'), close, 'back'), name, startButton, stopButton,
    iconButton('more', t('More actions'), more), iconButton('close', t('Close the details'), close, 'away')),
  problem, pieces.bar, figures, tabs, panel);
  openTab(Object.hasOwn(TABS, tab) ? tab : 'general');
  onView(follow);
  onChange((changed) => changed.some((torrent) => torrent.id === id) && refresh());
  setInterval(() => tab === 'trackers' && refresh(), TRACKER_MS);
  document.addEventListener('visibilitychange', refresh);
  return element;
}
