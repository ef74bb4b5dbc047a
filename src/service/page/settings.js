// The dialog with the settings of the service and of this page.

import { ask, attempt, checkBox, choice, field } from './dialog.js';
import { button, h } from './dom.js';
import { formFields } from './form.js';
import { LANGUAGES, language, t } from './i18n.js';
import { call, loadSettings, settings } from './service.js';
import { store, stored } from './storage.js';

const RATE = 'kB/s';
const PORT = { max: 65535 };

const SECTIONS = {
  Speed: [
    ['limit', 'speed_limit_down', 'Limit downloads', RATE],
    ['limit', 'speed_limit_up', 'Limit uploads', RATE],
  ],
  'Alternative limits': [
    ['check', 'alt_speed_enabled', 'Active now'],
    ['number', 'alt_speed_down', 'Downloads, kB/s'],
    ['number', 'alt_speed_up', 'Uploads, kB/s'],
    ['check', 'alt_speed_time_enabled', 'On a schedule'],
    ['time', 'alt_speed_time_begin', 'From'],
    ['time', 'alt_speed_time_end', 'To'],
    ['days', 'alt_speed_time_day', 'Days'],
  ],
  Queue: [
    ['limit', 'download_queue_size', 'Limit active downloads', 'torrents', 'download_queue_enabled'],
    ['limit', 'seed_queue_size', 'Limit active seeds', 'torrents', 'seed_queue_enabled'],
    ['limit', 'queue_stalled_minutes', 'Ignore torrents idle for', 'minutes', 'queue_stalled_enabled'],
  ],
  Seeding: [
    ['limit', 'seed_ratio_limit', 'Stop at ratio', '', 'seed_ratio_limited', { step: 0.01 }],
    ['limit', 'idle_seeding_limit', 'Stop when idle for', 'minutes'],
  ],
  Folders: [
    ['text', 'download_dir', 'Download folder'],
    ['check', 'incomplete_dir_enabled', 'Separate folder for incomplete torrents'],
    ['text', 'incomplete_dir', 'Incomplete folder'],
    ['check', 'rename_partial_files', 'Add “.part” to incomplete files'],
    ['check', 'start_added_torrents', 'Start torrents when they are added'],
    ['check', 'trash_original_torrent_files', 'Delete torrent files from the watch folder'],
  ],
  Network: [
    ['number', 'peer_port', 'Port for peers', PORT],
    ['check', 'peer_port_random_on_start', 'Random port at each start'],
    ['check', 'port_forwarding_enabled', 'Forward the port in the router'],
    ['number', 'peer_limit_global', 'Maximum peers', PORT],
    ['number', 'peer_limit_per_torrent', 'Maximum peers per torrent', PORT],
    ['choice', 'encryption', 'Encryption', [['required', 'Require'], ['preferred', 'Allow'], ['allowed', 'Off', true]]],
    ['check', 'dht_enabled', 'Find peers by the DHT'],
    ['check', 'pex_enabled', 'Find peers by peer exchange'],
    ['check', 'lpd_enabled', 'Find peers in the local network'],
    ['area', 'default_trackers', 'Trackers for all public torrents', 'One URL per line; an empty line starts the next tier.'],
  ],
};

const applyTheme = () => { document.documentElement.dataset.theme = stored('theme', 'auto'); };

function pageSection() {
  const languages = choice(Object.entries(LANGUAGES), language);
  const themes = choice([['auto', t('system')], ['light', t('light')], ['dark', t('dark')]], stored('theme', 'auto'));
  const keys = checkBox(t('Single-key shortcuts'), stored('shortcuts', true));
  themes.onchange = () => {
    store('theme', themes.value);
    applyTheme();
  };
  languages.onchange = () => {
    store('language', languages.value);
    location.reload();
  };
  keys.input.onchange = () => store('shortcuts', keys.input.checked);
  // Browsers offer it only to pages by HTTPS or from this machine.
  const canRegister = 'registerProtocolHandler' in navigator && window.isSecureContext;
  const register = () => navigator.registerProtocolHandler('magnet', new URL('?add=%s', document.baseURI));
  return [field(t('Language'), languages), field(t('Theme'), themes), keys.row,
    canRegister && button(t('Open magnet links with this page'), register)];
}

export function openSettings() {
  return attempt(async () => {
    await loadSettings();
    const now = { ...settings };
    const groups = Object.entries(SECTIONS).map(([title, fields]) => ({ title, ...formFields(now, fields) }));
    ask(t('Settings'), [...groups, { title: 'This page', rows: pageSection() }]
      .map(({ title, rows }) => h('fieldset', h('legend', t(title)), ...rows)), t('Save'), async () => {
      const changes = Object.assign({}, ...groups.map((group) => group.changed()));
      if (Object.keys(changes).length) await call('session_set', changes);
      await loadSettings();
    }, 'primary', 'wide columns');
  });
}

applyTheme();
