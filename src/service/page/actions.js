// What can be done with the selected torrents.

import { ask, attempt, checkBox, field, say, textField } from './dialog.js';
import { h } from './dom.js';
import { formFields } from './form.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { call, getTorrent, knownFolders, knownLabels, torrents } from './service.js';
import { selectedIds, selectedTorrents } from './view.js';

export async function run(method, ids = selectedIds(), more = {}) {
  return ids.length > 0 && attempt(() => call(method, { ids, ...more }));
}

export function remove(withData) {
  const list = selectedTorrents();
  if (!list.length) return;
  const bytes = list.reduce((sum, torrent) => sum + torrent.have_valid, 0);
  const box = checkBox(t('Also delete the downloaded files ({size})', { size: format.size(bytes) }), withData);
  ask(t('Remove {n} torrents?', { n: list.length }), [h('ul.names', ...list.map((torrent) => h('li', torrent.name))), box.row],
    t('Remove'), () => call('torrent_remove', { ids: list.map((torrent) => torrent.id), delete_local_data: box.input.checked }), 'danger');
}

/** Asks for another folder. Without its files a torrent starts there anew. */
export function move(ids = selectedIds(), movesFiles = true) {
  const first = torrents.get(ids[0]);
  if (!first) return;
  const { input, list } = textField(first.download_dir, knownFolders(), { required: true });
  const box = checkBox(t('Move the files that are already there'), movesFiles);
  ask(t(movesFiles ? 'Move' : 'Use another folder'), [field(t('Folder'), input), list, box.row], t(movesFiles ? 'Move' : 'Start'), async () => {
    await call('torrent_set_location', { ids, location: input.value.trim(), move: box.input.checked });
    if (!movesFiles) await call('torrent_start', { ids });
  });
}

export function rename(torrent = selectedTorrents()[0], path = torrent?.name) {
  if (!torrent) return;
  const { input } = textField(path.slice(path.lastIndexOf('/') + 1), [], { required: true });
  ask(t('Rename'), [field(t('Name'), input)], t('Rename'), () => call('torrent_rename_path', { ids: [torrent.id], path, name: input.value }));
  input.select();
}

export const labelsIn = (text) => [...new Set(text.split(',').map((label) => label.trim()))].filter(Boolean);

export function labelField(labels) {
  const { input, list } = textField(labels.join(', '), knownLabels());
  return { input, rows: [field(t('Labels, separated by commas'), input), list] };
}

export function label() {
  const list = selectedTorrents();
  if (!list.length) return;
  const common = list[0].labels.filter((text) => list.every((torrent) => torrent.labels.includes(text)));
  const { input, rows } = labelField(common);
  ask(t('Labels'), rows, t('Save'), async () => {
    const added = labelsIn(input.value);
    for (const torrent of list) {
      const kept = torrent.labels.filter((text) => !common.includes(text) && !added.includes(text));
      await call('torrent_set', { ids: [torrent.id], labels: [...kept, ...added] });
    }
  });
}

const LIMITS = [
  ['limit', 'download_limit', 'Limit downloads', 'kB/s', 'download_limited'],
  ['limit', 'upload_limit', 'Limit uploads', 'kB/s', 'upload_limited'],
  ['check', 'honors_session_limits', 'Global limits also apply'],
  ['number', 'peer_limit', 'Maximum peers', { min: 1, max: 65535 }],
  ['goal', 'seed_ratio_limit', 'Stop at ratio', 'seed_ratio_mode', { step: 0.01 }],
  ['goal', 'seed_idle_limit', 'Stop when idle, minutes', 'seed_idle_mode', { max: 65535 }],
  ['check', 'sequential_download', 'Download in order'],
];

/** Asks for limits: shows those of the first torrent, and applies changes to all. */
export function limits() {
  const ids = selectedIds();
  if (!ids.length) return;
  attempt(async () => {
    const keys = LIMITS.flatMap(([kind, key, , more, enabled]) => ({ limit: [key, enabled], goal: [key, more] })[kind] ?? [key]);
    const form = formFields(await getTorrent(ids[0], ...keys), LIMITS);
    ask(t('Limits'), form.rows, t('Save'), () => call('torrent_set', { ids, ...form.changed() }));
  });
}

export function editTrackers(id) {
  return attempt(async () => {
    const form = formFields(await getTorrent(id, 'tracker_list'),
      [['area', 'tracker_list', 'Trackers', 'One URL per line; an empty line starts the next tier.']]);
    ask(t('Edit trackers'), form.rows, t('Save'), () => call('torrent_set', { ids: [id], ...form.changed() }), 'primary', 'wide');
  });
}

export function copyMagnets(ids = selectedIds()) {
  return attempt(async () => {
    const { torrents: list } = await call('torrent_get', { ids, fields: ['magnet_link'] });
    const text = list.map((torrent) => torrent.magnet_link).join('\n');
    // Browsers permit it only to pages by HTTPS or from this machine.
    if (!navigator.clipboard) return void window.prompt(t('Copy'), text);
    await navigator.clipboard.writeText(text);
    say(t('Copied'));
  });
}
