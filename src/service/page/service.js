// The page's state of the service, from Transmission's remote control (its JSON-RPC dialect) and the event stream.
// Nothing else asks regularly, except the open tab of a torrent's details. All addresses are relative to the page.

import { warn } from './dialog.js';
import { stateOf } from './format.js';

const HEADER = 'X-Transmission-Session-Id';
/** A hidden page gives its connection back after this time: a browser permits six to one server. */
const HIDDEN_MS = 60_000;
const FIRST_WAIT_MS = 1_000;
const MAX_WAIT_MS = 15_000;

/** @type {Map<number, Torrent>} */
export const torrents = new Map();
/** The figures of the event stream. */
export const session = { down_rate: 0, up_rate: 0 };
/** The answer of `session_get`. */
export const settings = {};

let sessionId = '';
let lastId = 0;

/** Asks the service for something. A request with an outdated session id is sent again with the id of the answer. */
export async function call(method, params = {}) {
  const body = JSON.stringify({ jsonrpc: '2.0', id: lastId += 1, method, params });
  const post = () => fetch('transmission/rpc', { method: 'POST', headers: { 'Content-Type': 'application/json', [HEADER]: sessionId }, body });
  let answer = await post();
  if (answer.status === 409) {
    sessionId = answer.headers.get(HEADER);
    answer = await post();
  }
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const { result, error } = await answer.json();
  if (error) throw new Error(error.data?.error_string || error.message);
  return result ?? {};
}

export const getTorrent = async (id, ...fields) => (await call('torrent_get', { ids: [id], fields })).torrents[0] ?? {};

const listeners = [];

export const onChange = (listener) => listeners.push(listener);

const notify = (changed, removed) => listeners.forEach((listener) => listener(changed, removed));

function apply({ changed, removed, session: figures, full }) {
  if (full) {
    const present = new Set(changed.map(({ id }) => id));
    removed = [...torrents.keys()].filter((id) => !present.has(id));
  }
  for (const torrent of changed) torrents.set(torrent.id, Object.assign(torrent, { state: stateOf(torrent) }));
  for (const id of removed) torrents.delete(id);
  Object.assign(session, figures);
  notify(changed, removed);
  // Somebody else has changed a setting that the figures contain.
  if (Object.keys(figures).some((key) => key in settings && settings[key] !== figures[key])) loadSettings().catch(() => {});
}

export async function loadSettings() {
  Object.assign(settings, await call('session_get'));
  notify([], []);
}

const inOrder = (texts) => [...new Set(texts)].filter(Boolean).sort((a, b) => a.localeCompare(b));

export const knownFolders = () => inOrder([settings.download_dir, ...[...torrents.values()].map((torrent) => torrent.download_dir)]);

export const knownLabels = () => inOrder([...torrents.values()].flatMap((torrent) => torrent.labels));

let source;
let wait = FIRST_WAIT_MS;
let timer;
let report = (_isConnected) => {};
let notices = '';

function close() {
  source?.close();
  source = undefined;
  clearTimeout(timer);
}

function lose() {
  close();
  report(false);
  timer = setTimeout(reconnect, wait);
  wait = Math.min(wait * 2, MAX_WAIT_MS);
}

export function reconnect() {
  close();
  source = new EventSource('events');
  source.onerror = lose;
  // A new stream begins with everything.
  source.addEventListener('lost', reconnect);
  source.addEventListener('torrents', ({ data }) => {
    const event = JSON.parse(data);
    apply(event);
    if (!event.full) return;
    if (`${event.notices}` !== notices) event.notices.forEach(warn);
    notices = `${event.notices}`;
    wait = FIRST_WAIT_MS;
    report(true);
    loadSettings().catch(lose);
  });
}

export function connect(onReport) {
  report = onReport;
  reconnect();
  window.addEventListener('online', reconnect);
  window.addEventListener('offline', lose);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, HIDDEN_MS);
    else if (!source) reconnect();
  });
}
