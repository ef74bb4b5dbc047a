// The event stream. Nothing else asks the service regularly, except the open tab of a torrent's details.

import { applyEvent, loadSettings } from './torrents.js';

/** A hidden page gives its connection back after this time: a browser permits six to one server. */
const HIDDEN_MS = 60_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;
/** Once the service has sent an `alive` event, a longer silence means that the connection is dead. */
const SILENCE_MS = 45_000;

let source;
let wait = FIRST_WAIT_MS;
let retryTimer = 0;
let silenceTimer = 0;
let hiddenTimer = 0;
let report = (_isConnected) => {};

function close() {
  source?.close();
  source = undefined;
  clearTimeout(retryTimer);
  clearTimeout(silenceTimer);
}

function lose() {
  close();
  report(false);
  retryTimer = window.setTimeout(reconnect, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT_MS);
}

/** Connects now, without waiting for the next attempt. */
export function reconnect() {
  close();
  const stream = new EventSource('events');
  source = stream;
  let isFirst = true;
  stream.addEventListener('torrents', (event) => {
    const data = JSON.parse(event.data);
    applyEvent(data);
    if (!isFirst) return;
    isFirst = false;
    wait = FIRST_WAIT_MS;
    report(true);
    loadSettings().catch(lose);
  });
  stream.addEventListener('alive', () => {
    clearTimeout(silenceTimer);
    silenceTimer = window.setTimeout(lose, SILENCE_MS);
  });
  stream.onerror = lose;
}

/** Connects, and stays connected while the page is visible. */
export function connect(onReport) {
  report = onReport;
  reconnect();
  window.addEventListener('online', reconnect);
  window.addEventListener('offline', lose);
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = window.setTimeout(close, HIDDEN_MS);
    else if (!source) reconnect();
  });
}
