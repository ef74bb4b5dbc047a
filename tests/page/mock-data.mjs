// Torrents and settings for the mock service: plausible, and the same at each start.

/** A small generator of numbers from 0 to 1 (mulberry32), so that pictures and tests do not change by themselves. */
export function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const NAMES = ['debian-13.1.0-amd64-DVD-1.iso', 'Big Buck Bunny (2008) 1080p', 'archlinux-2025.11.01-x86_64.iso', 'Sintel – Durian Open Movie',
  'wikipedia_en_all_maxi_2025-10', 'ubuntu-25.10-desktop-amd64.iso', 'LibreOffice_25.8_Linux_x86-64', 'Fedora-Workstation-Live-43',
  'Музыка для спокойных вечеров (FLAC)', 'Blender 5.0 demo files', 'openstreetmap-planet-251103', 'NASA Apollo 11 archive',
  'Kiwix Gutenberg collection', 'tails-amd64-7.1.img', 'Internet Archive 78rpm sampler', 'Tears of Steel 4K'];
const LABELS = [['linux'], ['films'], ['linux'], ['films', 'open'], ['books'], ['linux'], [], ['linux'], ['music'], [], ['maps'], [], ['books'],
  ['linux'], ['music'], ['films']];
const STATES = ['downloading', 'seeding', 'downloading', 'seeding', 'stopped', 'queued', 'finished', 'checking', 'downloading', 'seeding', 'metadata',
  'error', 'seeding', 'stopped', 'tracker', 'seeding'];
const CLIENTS = ['qBittorrent 5.1.2', 'Transmission 4.0.6', 'libtorrent 2.0.11', 'btsync 1.0', 'Deluge 2.2.0', 'µTorrent 3.6', 'Transmission 3.00'];
const STATUS = { stopped: 0, finished: 0, error: 0, checking: 2, queued: 3, downloading: 4, metadata: 4, seeding: 6, tracker: 6 };
export const START = 1_764_000_000;

const hex = (random) => Array.from({ length: 40 }, () => Math.floor(random() * 16).toString(16)).join('');

/** The files of a torrent. */
function filesOf(name, size, index) {
  if (/\.(iso|img)$/.test(name) || index % 7 === 6) return [{ name, length: size }];
  const parts = ['README.txt', 'Video/feature.mp4', 'Video/trailer.mp4', 'Video/Extras/making-of.mkv', 'Audio/01 Prelude.flac',
    'Audio/02 Theme.flac', 'Subtitles/en.srt', 'Subtitles/ru.srt'];
  const shares = [0.0001, 0.6, 0.05, 0.15, 0.1, 0.09, 0.0004, 0.0005];
  return parts.map((path, at) => ({ name: `${name}/${path}`, length: Math.max(1, Math.floor(size * shares[at])) }));
}

/** A torrent with all fields of `torrent_get`, and its pieces. */
export function makeTorrent(id, random, given = {}) {
  const index = id - 1;
  const round = Math.floor(index / NAMES.length);
  const kind = given.kind ?? STATES[index % STATES.length];
  const name = given.name ?? NAMES[index % NAMES.length] + (round ? ` (${round + 1})` : '');
  const size = given.size ?? Math.floor(10 ** (8 + random() * 2));
  const files = given.files ?? filesOf(name, size, index);
  const total = files.reduce((sum, file) => sum + file.length, 0);
  const pieceSize = total > 4e9 ? 4 << 20 : total > 5e8 ? 1 << 20 : 256 << 10;
  const count = Math.max(1, Math.ceil(total / pieceSize));
  const share = { downloading: 0.15 + random() * 0.7, queued: 0.02, stopped: random() * 0.6, metadata: 0, error: 0.3, checking: 0.8 }[kind] ?? 1;
  const states = Uint8Array.from({ length: count }, () => (random() < share ? 2 : 0));
  if (share === 1) states.fill(2);
  if (kind === 'downloading') for (let n = 0; n < Math.min(24, count / 8); n += 1) states[Math.floor(random() * count)] = 1;
  const isActive = ['downloading', 'seeding', 'tracker'].includes(kind);
  const availability = isActive ? Uint8Array.from({ length: count }, () => Math.floor(random() * random() * 24)) : new Uint8Array();
  const torrent = {
    id, name, hash_string: hex(random), status: STATUS[kind], error: 0, error_string: '', btsync_problem: 'none',
    labels: LABELS[index % LABELS.length], queue_position: index, total_size: total, size_when_done: total, piece_count: count, piece_size: pieceSize,
    metadata_percent_complete: 1, recheck_progress: kind === 'checking' ? 0.37 : 0,
    rate_download: kind === 'downloading' ? Math.floor(random() * 8e6) : 0, rate_upload: isActive ? Math.floor(random() * 1.5e6) : 0,
    downloaded_ever: Math.floor(total * share), uploaded_ever: Math.floor(total * random() * 3), corrupt_ever: 0,
    peers_connected: isActive ? 4 + Math.floor(random() * 40) : 0, added_date: START - index * 41_000, done_date: share === 1 ? START - index * 30_000 : 0,
    activity_date: START - 30, download_dir: index % 3 ? '/srv/downloads' : '/srv/films', is_finished: kind === 'finished',
    is_stalled: kind === 'downloading' && index % 32 === 18, is_private: index % 9 === 8, file_count: files.length,
    comment: 'Published by its authors', creator: 'mktorrent 1.1', date_created: START - 4_000_000, magnet_link: '', webseeds: [],
    download_limit: 100, download_limited: false, upload_limit: 100, upload_limited: false, honors_session_limits: true, bandwidth_priority: 0,
    peer_limit: 50, seed_ratio_mode: 0, seed_ratio_limit: 2, seed_idle_mode: 0, seed_idle_limit: 30, sequential_download: false, group: '',
    files: files.map((file) => ({ ...file, wanted: true, priority: 0 })), states, availability,
    tracker_list: 'https://tracker.example.org/announce\n\nudp://backup.example.net:6969/announce\n',
  };
  if (kind === 'metadata') Object.assign(torrent, { metadata_percent_complete: 0, size_when_done: 0, total_size: 0, piece_count: 0, file_count: 0 });
  if (kind === 'error') {
    Object.assign(torrent, { error: 3, btsync_problem: 'files_in_the_way',
      error_string: 'Files that btsync did not create are in the way: /srv/downloads/NASA Apollo 11 archive. Use another folder, or overwrite them.' });
  }
  if (kind === 'tracker') Object.assign(torrent, { error: 2, btsync_problem: 'tracker_error', error_string: 'tracker.example.org: unregistered torrent' });
  torrent.magnet_link = `magnet:?xt=urn:btih:${torrent.hash_string}&dn=${encodeURIComponent(name)}`;
  torrent.peers = makePeers(torrent.peers_connected, random, torrent);
  torrent.trackers = makeTrackers(torrent);
  return torrent;
}

function makePeers(count, random, torrent) {
  return Array.from({ length: count }, (_, at) => {
    const down = torrent.status === 4 && at % 3 === 0 ? Math.floor(random() * 1e6) : 0;
    const up = at % 4 === 0 ? Math.floor(random() * 2e5) : 0;
    return { address: at % 6 === 5 ? `2001:db8::${(at + 16).toString(16)}` : `192.0.2.${at + 10}`, port: 6881 + at, client_name: CLIENTS[at % CLIENTS.length],
      flag_str: `${down ? 'D' : 'd'}${up ? 'U' : ''}${at % 2 ? 'E' : ''}${'HXTI'[at % 4]}`, progress: at % 3 ? random() : 1, rate_to_client: down,
      rate_to_peer: up, is_downloading_from: down > 0, is_uploading_to: up > 0 };
  });
}

/** `tracker_stats` of a torrent's `tracker_list`. */
export function makeTrackers(torrent) {
  const urls = torrent.tracker_list.split('\n\n').flatMap((tier, at) => tier.split('\n').filter(Boolean).map((url) => ({ url, tier: at })));
  return urls.map(({ url, tier }, id) => ({ id, tier, announce: url, scrape: '', announce_state: torrent.status ? 1 : 0, is_backup: tier > 0,
    has_announced: torrent.status > 0, last_announce_succeeded: torrent.error !== 2, last_announce_timed_out: false,
    last_announce_result: torrent.error_string || 'Success', last_announce_peer_count: torrent.peers_connected,
    last_announce_time: Math.floor(Date.now() / 1000) - 300, next_announce_time: torrent.status ? Math.floor(Date.now() / 1000) + 1500 : 0,
    seeder_count: tier ? -1 : 1204, leecher_count: tier ? -1 : 88, download_count: tier ? -1 : 55_310 }));
}

export const SETTINGS = {
  alt_speed_down: 500, alt_speed_enabled: false, alt_speed_time_begin: 540, alt_speed_time_day: 62, alt_speed_time_enabled: false,
  alt_speed_time_end: 1020, alt_speed_up: 100, default_trackers: '', dht_enabled: true, download_dir: '/srv/downloads', download_queue_enabled: true,
  download_queue_size: 5, encryption: 'preferred', idle_seeding_limit: 30, idle_seeding_limit_enabled: false, incomplete_dir: '/srv/incomplete',
  incomplete_dir_enabled: false, lpd_enabled: true, peer_limit_global: 300, peer_limit_per_torrent: 50, peer_port: 51413,
  peer_port_random_on_start: false, pex_enabled: true, port_forwarding_enabled: false,
  queue_stalled_enabled: true, queue_stalled_minutes: 30, rename_partial_files: true,
  seed_queue_enabled: false, seed_queue_size: 10, seed_ratio_limit: 2, seed_ratio_limited: false, speed_limit_down: 20000,
  speed_limit_down_enabled: true, speed_limit_up: 5000, speed_limit_up_enabled: false, start_added_torrents: true,
  trash_original_torrent_files: false, version: '4.1.0 (btsync 1.0.0)',
};
