// All that the page knows of the service: its torrents, its figures and its settings.

import { stateOf } from './format.js';
import { call } from './rpc.js';

/** @type {Map<number, Torrent>} */
export const torrents = new Map();

/** The figures of the event stream. */
export const session = { down_rate: 0, up_rate: 0 };

/** The answer of `session_get`. */
export const settings = {};

/** @typedef {{changed: Torrent[], removed: number[], settings?: boolean}} Change */
const listeners = [];

export const onChange = (listener) => listeners.push(listener);

const tell = (change) => listeners.forEach((listener) => listener(change));

/** Takes over an event of the stream. A `full` event has all torrents. */
export function applyEvent({ changed = [], removed = [], session: figures = {}, full = false }) {
  if (full) {
    const present = new Set(changed.map(({ id }) => id));
    removed = [...torrents.keys()].filter((id) => !present.has(id));
  }
  for (const torrent of changed) torrents.set(torrent.id, Object.assign(torrent, { state: stateOf(torrent) }));
  for (const id of removed) torrents.delete(id);
  Object.assign(session, figures);
  tell({ changed, removed });
  // Somebody else has changed a setting that the figures contain.
  if (Object.keys(figures).some((key) => key in settings && settings[key] !== figures[key])) loadSettings().catch(() => {});
}

export async function loadSettings() {
  Object.assign(settings, await call('session_get'));
  tell({ changed: [], removed: [], settings: true });
}

/** The fields of one torrent. */
export async function getTorrent(id, ...fields) {
  return (await call('torrent_get', { ids: [id], fields })).torrents[0] ?? {};
}

const inOrder = (texts) => [...new Set(texts)].filter(Boolean).sort((a, b) => a.localeCompare(b));

/** The folders of all torrents, for suggestions. */
export const knownFolders = () => inOrder([settings.download_dir, ...[...torrents.values()].map((torrent) => torrent.download_dir)]);

export const knownLabels = () => inOrder([...torrents.values()].flatMap((torrent) => torrent.labels));
