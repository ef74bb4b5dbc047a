// Which torrents the list shows, in which order, and which of them are selected.

import { beforeFrame } from './dom.js';
import { language } from './i18n.js';
import { onChange, torrents } from './service.js';
import { store, stored } from './storage.js';

/** The filters by state: name, icon, and what they show. */
export const FILTERS = {
  all: ['All', 'all', () => true],
  downloading: ['Downloading', 'down', ({ status }) => status === 3 || status === 4],
  seeding: ['Seeding', 'up', ({ status }) => status >= 5],
  complete: ['Complete', 'check', ({ percent_done: part }) => part >= 1],
  active: ['Active', 'active', ({ rate_download: down, rate_upload: up, status }) => down + up > 0 || status === 2],
  stopped: ['Stopped', 'stop', ({ status }) => status === 0],
  error: ['Error', 'warning', ({ error }) => error > 0],
};

export const view = { filter: 'all', label: '', text: '', sort: 'added_date', isDescending: true, ...stored('view', {}) };

/** The ids of the torrents that the list shows, in order. */
export let visible = [];

export const selection = new Set();

/** The torrent that the keyboard is at, and the one at which a range begins; 0 for none. */
export const cursor = { at: 0, anchor: 0 };

const listeners = [];

export const onView = (listener) => listeners.push(listener);

const notify = () => listeners.forEach((listener) => listener());

const collator = new Intl.Collator(language, { numeric: true });

function update() {
  const words = view.text.toLowerCase().split(/\s+/);
  const sign = view.isDescending ? -1 : 1;
  const key = view.sort;
  const compare = (a, b) => (typeof a[key] === 'number' ? a[key] - b[key] : collator.compare(a[key], b[key]));
  const isShown = (torrent) => FILTERS[view.filter][2](torrent) && (!view.label || torrent.labels.includes(view.label))
    && words.every((word) => torrent.name.toLowerCase().includes(word) || torrent.hash_string.startsWith(word));
  visible = [...torrents.values()].filter(isShown).sort((a, b) => sign * compare(a, b) || a.id - b.id).map((torrent) => torrent.id);
  for (const id of selection) if (!torrents.has(id)) selection.delete(id);
  notify();
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

export function select(ids) {
  const next = [...ids];
  selection.clear();
  for (const id of next) selection.add(id);
  notify();
}

/** Goes to a torrent: selects it alone, adds or removes it, selects all between, or only goes. */
export function goTo(id, how = {}) {
  const [from, to] = [visible.indexOf(cursor.anchor), visible.indexOf(id)];
  cursor.at = id;
  if (how.range && from >= 0) return select(visible.slice(Math.min(from, to), Math.max(from, to) + 1));
  cursor.anchor = id;
  if (how.keep) return notify();
  if (!how.toggle) return select([id]);
  return select(selection.has(id) ? [...selection].filter((other) => other !== id) : [...selection, id]);
}

/** The selected torrents in the order of the list; those that the filter hides come last. */
export const selectedIds = () => [...new Set([...visible.filter((id) => selection.has(id)), ...selection])];

/** @returns {Torrent[]} */
export const selectedTorrents = () => selectedIds().flatMap((id) => torrents.get(id) ?? []);

onChange(beforeFrame(update));
