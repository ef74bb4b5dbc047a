// Numbers, sizes, times and states as text in the page's language. Sizes and rates are decimal, as the limits are.

import { language, t } from './i18n.js';

const UNITS = ['kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'];
const SPANS = Object.entries({ day: 86400, hour: 3600, minute: 60, second: 1 });

const formats = {};

/** Creating a format is slow, so each is created once. */
function number(value, digits, options = {}) {
  const key = `${digits}${options.unit ?? options.style}`;
  formats[key] ??= new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits, ...options });
  return formats[key].format(value);
}

const withUnit = (value, unit, digits = 0) => number(value, digits, { style: 'unit', unit, unitDisplay: 'short' });

function scaled(value, suffix) {
  let step = 0;
  for (value = Math.max(0, value) / 1000; value >= 999.5 && step < UNITS.length - 1; value /= 1000) step += 1;
  return withUnit(value, UNITS[step] + suffix, value >= 100 || value === 0 ? 0 : value >= 10 || step === 0 ? 1 : 2);
}

export const size = (bytes) => scaled(bytes, '');
export const rate = (bytes) => scaled(bytes, '-per-second');
export const rateOrEmpty = (bytes) => (bytes > 0 ? rate(bytes) : '');
export const count = (value) => number(value, 0);
export const fraction = (value) => number(value, 2);

/** A part of 1, rounded down, so that 100 % means complete. */
export function percent(part) {
  return number(Math.floor(part * 1000) / 1000, part >= 1 || part <= 0 ? 0 : 1, { style: 'percent' });
}

/** Transmission's ratios: -1 is none, -2 infinite. */
export const ratio = (value) => (value >= 0 ? fraction(value) : value === -2 ? '∞' : '–');

export function duration(seconds) {
  let rest = Math.round(seconds);
  const first = SPANS.findIndex(([, length]) => rest >= length);
  const words = [];
  for (const [unit, length] of first < 0 ? [] : SPANS.slice(first, first + 2)) {
    if (rest >= length) words.push(withUnit(Math.floor(rest / length), unit));
    rest %= length;
  }
  return words.join(' ') || withUnit(0, 'second');
}

export const eta = (seconds) => (seconds < 0 ? '' : seconds > 8640000 ? '∞' : duration(seconds));

/** The browser knows the customs of the reader's region. */
const locale = navigator.languages.find((tag) => tag.startsWith(language)) ?? language;
const dates = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });

/** A moment in seconds since 1970; 0 is never. */
export const moment = (time) => (time > 0 ? dates.format(time * 1000) : '');

export function fromNow(when) {
  const seconds = when - Date.now() / 1000;
  return t(seconds > 0 ? 'in {time}' : '{time} ago', { time: duration(Math.abs(seconds)) });
}

export const STATES = {
  error: ['Error', 'warning'],
  check_wait: ['Waiting to check', 'wait'],
  checking: ['Checking', 'search'],
  moving: ['Moving files', 'wait'],
  queued: ['Queued', 'wait'],
  metadata: ['Getting metadata', 'down'],
  downloading: ['Downloading', 'down'],
  stalled: ['Stalled', 'down'],
  queued_seed: ['Queued to seed', 'wait'],
  seeding: ['Seeding', 'up'],
  stopped: ['Stopped', 'stop'],
  finished: ['Finished', 'check'],
};

/** @param {Torrent} torrent */
export function stateOf(torrent) {
  const hasMetadata = torrent.metadata_percent_complete >= 1;
  if (torrent.error >= 3) return 'error';
  if (torrent.btsync_is_moving) return 'moving';
  if (torrent.status === 4) return !hasMetadata ? 'metadata' : torrent.is_stalled ? 'stalled' : 'downloading';
  if (torrent.status === 0) return torrent.left_until_done === 0 && hasMetadata ? 'finished' : 'stopped';
  return ['', 'check_wait', 'checking', 'queued', '', 'queued_seed', 'seeding'][torrent.status];
}

/** The progress that a torrent's bar shows: of the check, of the metadata, or of the download. @param {Torrent} torrent */
export function progressOf(torrent) {
  if (torrent.status === 2) return torrent.recheck_progress;
  return torrent.metadata_percent_complete < 1 ? torrent.metadata_percent_complete : torrent.percent_done;
}
