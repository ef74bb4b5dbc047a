// A mock of the service: serves the page and speaks the part of the remote control that the page uses. For tests and for work on the page:
//     node tests/page/mock.mjs [--port PORT] [--torrents COUNT] [--still]

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { generator, makeTorrent, makeTrackers, SETTINGS } from './mock-data.mjs';
import { parseTorrent } from './torrent-file.mjs';

const PAGE = fileURLToPath(new URL('../../src/service/page/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json' };
export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
  + "form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
const LIST_FIELDS = 'id hash_string name status error error_string btsync_is_moving btsync_problem labels queue_position total_size size_when_done left_until_done '
  + 'have_valid have_unchecked percent_done metadata_percent_complete recheck_progress rate_download rate_upload downloaded_ever uploaded_ever '
  + 'upload_ratio eta peers_connected peers_sending_to_us peers_getting_from_us added_date done_date activity_date download_dir is_finished '
  + 'is_stalled is_private file_count piece_count';
const SESSION_ID = 'mock-session-1';
const TICK_MS = 1000;

export class Mock {
  constructor({ count = 16, isStill = false, torrents = null, prefix = '' } = {}) {
    this.prefix = prefix;
    this.random = generator(7);
    this.torrents = new Map();
    for (let id = 1; id <= (torrents?.length ?? count); id += 1) this.torrents.set(id, makeTorrent(id, this.random, torrents?.[id - 1]));
    this.lastId = this.torrents.size;
    this.settings = { ...SETTINGS };
    this.notices = [];
    this.isStill = isStill;
    this.streams = new Set();
    this.dirty = new Set();
    this.removed = [];
    /** What was asked for, by method. */
    this.log = [];
    this.server = createServer((request, response) => this.answer(request, response).catch((error) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    }));
  }

  /** Listens, on the same port as before after `close`. */
  async listen(port = this.port ?? 0) {
    await new Promise((resolve) => { this.server.listen(port, '127.0.0.1', () => resolve()); });
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}${this.prefix}/`;
    this.timer = setInterval(() => this.tick(), TICK_MS);
    return this.url;
  }

  async close() {
    clearInterval(this.timer);
    for (const stream of this.streams) stream.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => { this.server.close(() => resolve()); });
  }

  async answer(request, response) {
    const whole = new URL(request.url, 'http://localhost').pathname;
    const path = whole.startsWith(`${this.prefix}/`) ? whole.slice(this.prefix.length) : '';
    if (path === '/events') return this.stream(response);
    if (path === '/transmission/rpc') return this.rpc(request, response);
    return this.file(path, response);
  }

  async file(path, response) {
    const name = path === '/' ? 'index.html' : normalize(path).replace(/^\/+/, '');
    try {
      const body = await readFile(join(PAGE, name));
      response.writeHead(200, { 'Content-Type': TYPES[extname(name)], 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-cache' });
      response.end(body);
    } catch {
      response.writeHead(404);
      response.end('not found');
    }
  }

  /** What a torrent's fields are now. */
  view(torrent, fields = LIST_FIELDS.split(' ')) {
    const verified = torrent.states.reduce((sum, state) => sum + Number(state === 2), 0) / torrent.states.length;
    const size = torrent.size_when_done;
    const left = torrent.piece_count ? Math.round(size * (1 - verified)) : 0;
    const derived = {
      left_until_done: left, percent_done: torrent.piece_count ? verified : 0, have_valid: size - left, have_unchecked: 0,
      upload_ratio: size ? torrent.uploaded_ever / size : -1,
      eta: torrent.status === 4 && torrent.rate_download ? Math.round(left / torrent.rate_download) : torrent.status === 4 ? -2 : -1,
      peers_sending_to_us: torrent.peers.filter((peer) => peer.is_downloading_from).length,
      peers_getting_from_us: torrent.peers.filter((peer) => peer.is_uploading_to).length, tracker_stats: torrent.trackers,
    };
    return Object.fromEntries(fields.map((field) => [field, derived[field] ?? torrent[field]]));
  }

  figures() {
    const all = [...this.torrents.values()];
    const { alt_speed_enabled, speed_limit_down, speed_limit_down_enabled, speed_limit_up, speed_limit_up_enabled } = this.settings;
    return { down_rate: all.reduce((sum, torrent) => sum + torrent.rate_download, 0), up_rate: all.reduce((sum, torrent) => sum + torrent.rate_upload, 0),
      free_space: 1.84e12, alt_speed_enabled, speed_limit_down, speed_limit_down_enabled, speed_limit_up, speed_limit_up_enabled };
  }

  stream(response) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    this.streams.add(response);
    response.on('close', () => this.streams.delete(response));
    this.send(response, { full: true, notices: this.notices, changed: [...this.torrents.values()].map((torrent) => this.view(torrent)), removed: [], session: this.figures() });
  }

  send(response, event) {
    response.write(`event: torrents\ndata: ${JSON.stringify(event)}\n\n`);
  }

  /** Moves the downloads on, and tells what changed. */
  tick() {
    if (!this.isStill) for (const torrent of this.torrents.values()) if (torrent.status === 4 && torrent.piece_count) this.progress(torrent);
    this.flush();
  }

  /** The metadata of a magnet link arrives. */
  receiveMetadata(id) {
    const torrent = this.torrents.get(id);
    const size = torrent.files.reduce((sum, file) => sum + file.length, 0);
    Object.assign(torrent, { metadata_percent_complete: 1, size_when_done: size, total_size: size, piece_count: torrent.states.length });
    this.dirty.add(id);
  }

  progress(torrent) {
    const { states, random = this.random } = torrent;
    for (let n = 0; n < Math.max(1, torrent.rate_download / torrent.piece_size); n += 1) {
      const begun = states.indexOf(1, Math.floor(random() * states.length));
      if (begun >= 0) states[begun] = 2;
      const next = states.indexOf(0, Math.floor(random() * states.length));
      if (next >= 0) states[next] = 1;
    }
    torrent.rate_download = Math.max(20_000, Math.floor((torrent.rate_download || 1e6) * (0.9 + random() * 0.2)));
    if (states.every((state) => state === 2)) Object.assign(torrent, { status: 6, rate_download: 0, done_date: Math.floor(Date.now() / 1000) });
    this.dirty.add(torrent.id);
  }

  flush() {
    if (!this.dirty.size && !this.removed.length && !this.isSessionDirty) return;
    const changed = [...this.dirty].flatMap((id) => (this.torrents.has(id) ? [this.view(this.torrents.get(id))] : []));
    for (const stream of this.streams) this.send(stream, { changed, removed: this.removed, session: this.figures() });
    this.dirty.clear();
    this.removed = [];
    this.isSessionDirty = false;
  }

  async rpc(request, response) {
    if (request.headers['x-transmission-session-id'] !== SESSION_ID) {
      response.writeHead(409, { 'X-Transmission-Session-Id': SESSION_ID });
      return response.end('409: Conflict');
    }
    let body = '';
    for await (const chunk of request) body += chunk;
    const { id, method, params } = JSON.parse(body);
    this.log.push({ method, params });
    const message = { jsonrpc: '2.0', id };
    const act = this[method];
    try {
      if (!/^[a-z]+_[a-z_]+$/.test(method) || typeof act !== 'function') throw Object.assign(new Error('Method not found'), { code: -32601 });
      message.result = act.call(this, params) ?? {};
    } catch (error) {
      message.error = { code: error.code ?? 5, message: 'system error', data: { error_string: error.message } };
    }
    response.writeHead(200, { 'Content-Type': 'application/json' });
    return response.end(JSON.stringify(message));
  }

  /** Waits until the page has called a method, and returns its last call. */
  async logged(method) {
    for (;;) {
      const entry = this.log.findLast((one) => one.method === method);
      if (entry) return entry;
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
  }

  chosen({ ids, id }) {
    const list = ids === undefined && id === undefined ? [...this.torrents.keys()] : [ids ?? id].flat();
    return list.flatMap((one) => this.torrents.get(one) ?? []);
  }

  change(params, act) {
    for (const torrent of this.chosen(params)) {
      act(torrent);
      this.dirty.add(torrent.id);
    }
  }

  torrent_get({ ids, fields }) {
    return { torrents: this.chosen({ ids }).map((torrent) => this.view(torrent, fields)) };
  }

  torrent_start(params) {
    this.change(params, (torrent) => {
      const isComplete = torrent.piece_count && torrent.states.every((state) => state === 2);
      if (torrent.btsync_problem === 'files_in_the_way') return;
      Object.assign(torrent, { status: isComplete ? 6 : 4, error: 0, error_string: '', is_finished: false });
    });
  }

  torrent_start_now(params) {
    this.torrent_start(params);
  }

  torrent_stop(params) {
    this.change(params, (torrent) => Object.assign(torrent, { status: 0, rate_download: 0, rate_upload: 0 }));
  }

  torrent_verify(params) {
    this.change(params, (torrent) => Object.assign(torrent, { status: 2, recheck_progress: 0.1 }));
  }

  torrent_reannounce() {}

  torrent_remove({ ids }) {
    for (const id of ids) if (this.torrents.delete(id)) this.removed.push(id);
  }

  torrent_set(params) {
    const { ids, files_wanted: wanted, files_unwanted: unwanted, priority_low: low, priority_normal: normal, priority_high: high, ...others } = params;
    this.change({ ids }, (torrent) => {
      const files = (list) => (list?.length === 0 ? torrent.files : (list ?? []).map((index) => torrent.files[index]));
      for (const file of files(wanted)) file.wanted = true;
      for (const file of files(unwanted)) file.wanted = false;
      [low, normal, high].forEach((list, at) => files(list).forEach((file) => { file.priority = at - 1; }));
      Object.assign(torrent, others);
      torrent.trackers = makeTrackers(torrent);
    });
  }

  torrent_set_location({ ids, location }) {
    if (!location.startsWith('/')) throw new Error(`${location}: the path is not absolute`);
    this.change({ ids }, (torrent) => Object.assign(torrent, { download_dir: location, error: 0, error_string: '', btsync_problem: 'none' }));
  }

  torrent_rename_path({ ids, path, name }) {
    if (/^\.{0,2}$|\//.test(name)) throw new Error(`${name}: not a plain name`);
    this.change({ ids }, (torrent) => {
      const renamed = path.replace(/[^/]*$/, name);
      for (const file of torrent.files) if (`${file.name}/`.startsWith(`${path}/`)) file.name = renamed + file.name.slice(path.length);
      if (!path.includes('/')) torrent.name = name;
    });
  }

  torrent_add({ metainfo, filename, download_dir: folder, paused, labels = [], files_unwanted: unwanted, sequential_download }) {
    const source = metainfo ? parseTorrent(Buffer.from(metainfo, 'base64')) : null;
    const name = source?.name ?? new URLSearchParams(filename.replace(/^[^?]*\?/, '')).get('dn') ?? filename;
    const known = [...this.torrents.values()].find((torrent) => torrent.name === name);
    if (known) return { torrent_duplicate: { id: known.id, name, hash_string: known.hash_string } };
    this.lastId += 1;
    const torrent = makeTorrent(this.lastId, this.random, { kind: source ? 'stopped' : 'metadata', name, size: 5e7, files: source?.files });
    if (source) torrent.states.fill(0);
    Object.assign(torrent, { download_dir: folder ?? this.settings.download_dir, labels, sequential_download, added_date: Math.floor(Date.now() / 1000),
      status: paused ? 0 : 4, rate_download: paused || !source ? 0 : 2e6 });
    for (const index of unwanted ?? []) torrent.files[index].wanted = false;
    this.torrents.set(torrent.id, torrent);
    if (!this.withholdsAdded) this.dirty.add(torrent.id);
    this.flush();
    return { torrent_added: { id: torrent.id, name, hash_string: torrent.hash_string } };
  }

  queue_move_top(params) {
    this.change(params, (torrent) => Object.assign(torrent, { queue_position: 0 }));
  }

  queue_move_bottom(params) {
    this.change(params, (torrent) => Object.assign(torrent, { queue_position: this.torrents.size }));
  }

  queue_move_up() {}

  queue_move_down() {}

  session_get() {
    return this.settings;
  }

  session_set(change) {
    Object.assign(this.settings, change);
    this.isSessionDirty = true;
    this.flush();
  }

  free_space({ path }) {
    if (!path.startsWith('/')) throw new Error(`${path}: the path is not absolute`);
    return { path, size_bytes: 1.84e12, total_size: 4e12 };
  }

  btsync_pieces({ id }) {
    const [torrent] = this.chosen({ id });
    const text = (bytes) => Buffer.from(bytes).toString('base64');
    return { piece_count: torrent.piece_count, states: torrent.piece_count ? text(torrent.states) : '', availability: text(torrent.availability) };
  }

  btsync_files({ id }) {
    const [torrent] = this.chosen({ id });
    const files = torrent.piece_count ? torrent.files : [];
    const part = this.view(torrent, ['percent_done']).percent_done;
    const column = (read) => files.map(read);
    return { name: column((file) => file.name), length: column((file) => file.length), priority: column((file) => file.priority),
      wanted: column((file) => file.wanted), bytes_completed: column((file) => Math.floor(file.length * part)), begin_piece: column(() => 0),
      end_piece: column(() => 1) };
  }

  btsync_overwrite({ id }) {
    this.change({ id }, (torrent) => Object.assign(torrent, { btsync_problem: 'none', error: 0, error_string: '', status: 4, rate_download: 1e6 }));
  }

  btsync_file_link({ id, file_index: index }) {
    return { url: `files/${id}/${index}?token=mock` };
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const value = (name, otherwise) => (process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : otherwise);
  const mock = new Mock({ count: value('--torrents', 16), isStill: process.argv.includes('--still') });
  console.log(await mock.listen(value('--port', 9092)));
}
