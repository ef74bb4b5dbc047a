// Which torrents the list shows, in which order, and which of them are selected.

import { beforeFrame } from './dom.js';
import { language } from './i18n.js';
import { store, stored } from './storage.js';
import { onChange, torrents } from './torrents.js';

/** The filters by state: name, icon, and the torrents that they show. @type {Record<string, [string, string, (torrent: Torrent) => boolean]>} */
export const FILTERS = {
  all: ['All', 'all', () => true],
  downloading: ['Downloading', 'down', (torrent) => torrent.status === 3 || torrent.status === 4],
  seeding: ['Seeding', 'up', (torrent) => torrent.status >= 5],
  complete: ['Complete', 'check', (torrent) => torrent.left_until_done === 0 && torrent.metadata_percent_complete >= 1],
  active: ['Active', 'active', (torrent) => torrent.rate_download + torrent.rate_upload > 0 || torrent.status === 2],
  stopped: ['Stopped', 'stop', (torrent) => torrent.status === 0],
  error: ['Error', 'warning', (torrent) => torrent.error > 0],
};

/** Filter and order. An empty label stands for all torrents. */
export const view = { filter: 'all', label: '', text: '', sort: 'added_date', isDescending: true, ...stored('view', {}) };

/** The numbers of the torrents that the list shows, in order. */
export let visible = [];

export const selection = new Set();

/** The torrent that the keyboard is at, and the one at which a range begins; 0 for none. */
export const cursor = { at: 0, anchor: 0 };

const listeners = [];

/** Calls a function whenever the shown or selected torrents may have changed. */
export const onView = (listener) => listeners.push(listener);

const tell = () => listeners.forEach((listener) => listener());

let collator;

function compare(a, b) {
  const [x, y] = [a[view.sort], b[view.sort]];
  if (typeof x === 'number') return x - y;
  collator ??= new Intl.Collator(language, { numeric: true });
  return collator.compare(x, y);
}

function update() {
  const words = view.text.toLowerCase().split(/\s+/);
  const sign = view.isDescending ? -1 : 1;
  const isShown = (torrent) => FILTERS[view.filter][2](torrent) && (!view.label || torrent.labels.includes(view.label))
    && words.every((word) => torrent.name.toLowerCase().includes(word) || torrent.hash_string.startsWith(word));
  visible = [...torrents.values()].filter(isShown).sort((a, b) => sign * compare(a, b) || a.id - b.id).map((torrent) => torrent.id);
  for (const id of selection) if (!torrents.has(id)) selection.delete(id);
  tell();
}

export function setView(change) {
  Object.assign(view, change);
  store('view', { ...view, text: '', label: '' });
  update();
}

/** Sorts by a field; a second time the other way round. */
export function sortBy(sort) {
  setView({ sort, isDescending: view.sort === sort ? !view.isDescending : sort !== 'name' && sort !== 'state' });
}

/** Selects exactly these torrents. */
export function select(ids) {
  const next = [...ids];
  selection.clear();
  for (const id of next) selection.add(id);
  tell();
}

/** Goes to a torrent as a click or an arrow key does: selects it alone, adds it or takes it away, selects all between, or only goes. */
export function goTo(id, how = {}) {
  const [from, to] = [visible.indexOf(cursor.anchor), visible.indexOf(id)];
  cursor.at = id;
  if (how.range && from >= 0) return select(visible.slice(Math.min(from, to), Math.max(from, to) + 1));
  cursor.anchor = id;
  if (how.keep) return tell();
  if (!how.toggle) return select([id]);
  return select(selection.has(id) ? [...selection].filter((other) => other !== id) : [...selection, id]);
}

/** The selected torrents in the order of the list; those that the filter hides come last. */
export const selectedIds = () => [...new Set([...visible.filter((id) => selection.has(id)), ...selection])];

/** @returns {Torrent[]} */
export const selectedTorrents = () => selectedIds().flatMap((id) => torrents.get(id) ?? []);

const updateSoon = beforeFrame(update);
onChange((change) => change.settings || updateSoon());
