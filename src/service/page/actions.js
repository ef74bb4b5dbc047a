// What can be done with the selected torrents.

import { ask, checkBox, field, textField } from './dialog.js';
import { h } from './dom.js';
import * as format from './format.js';
import { formFields } from './form.js';
import { t } from './i18n.js';
import { call } from './rpc.js';
import { attempt, say } from './toast.js';
import { getTorrent, knownFolders, knownLabels, torrents } from './torrents.js';
import { selectedIds, selectedTorrents } from './view.js';

/** Carries out a method on torrents. */
export async function run(method, ids = selectedIds(), more = {}) {
  return ids.length > 0 && attempt(() => call(method, { ids, ...more }));
}

function names(list) {
  const items = list.slice(0, 5).map((torrent) => h('li', { dir: 'auto' }, torrent.name));
  if (list.length > 5) items.push(h('li', t('and {n} more', { n: list.length - 5 })));
  return h('ul.names', ...items);
}

export function remove(withData) {
  const list = selectedTorrents();
  if (!list.length) return;
  const bytes = list.reduce((sum, torrent) => sum + torrent.have_valid, 0);
  const box = checkBox(t('Also delete the downloaded files ({size})', { size: format.size(bytes) }), withData);
  ask(t('Remove {n} torrents?', { n: list.length }), [names(list), box.row], t('Remove'), async () => {
    await call('torrent_remove', { ids: list.map((torrent) => torrent.id), delete_local_data: box.input.checked });
    say(t('{n} torrents removed', { n: list.length }));
  }, 'danger');
}

/** Asks for another folder. Without its files a torrent starts there anew. */
export function move(ids = selectedIds(), movesFiles = true) {
  const first = torrents.get(ids[0]);
  if (!first) return;
  const { input, list } = textField(first.download_dir, knownFolders(), { required: true });
  const box = checkBox(t('Move the files that are already there'), movesFiles);
  ask(movesFiles ? t('Move {n} torrents', { n: ids.length }) : t('Use another folder'), [field(t('Folder'), input), list, box.row],
    movesFiles ? t('Move') : t('Start'), async () => {
      await call('torrent_set_location', { ids, location: input.value.trim(), move: box.input.checked });
      if (!movesFiles) await call('torrent_start', { ids });
    });
}

/** Asks for a new name of a torrent, or of one of its files or folders. */
export function rename(torrent = selectedTorrents()[0], path = torrent?.name) {
  if (!torrent) return;
  const { input } = textField(path.slice(path.lastIndexOf('/') + 1), [], { required: true });
  ask(t('Rename'), [field(t('Name'), input)], t('Rename'),
    () => call('torrent_rename_path', { ids: [torrent.id], path, name: input.value }));
  input.select();
}

export const labelsIn = (text) => [...new Set(text.split(',').map((label) => label.trim()))].filter(Boolean);

/** A field for labels, with buttons for those that are in use. */
export function labelField(labels) {
  const { input } = textField(labels.join(', '));
  const known = knownLabels().map((text) => h('button.chip', { type: 'button', onclick: () => {
    const now = labelsIn(input.value);
    input.value = (now.includes(text) ? now.filter((other) => other !== text) : [...now, text]).join(', ');
  } }, text));
  return { input, rows: [field(t('Labels, separated by commas'), input), h('div.chips', ...known)] };
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
  ['check', 'honors_session_limits', 'The limits of the settings apply, too'],
  ['choice', 'bandwidth_priority', 'Priority', [[1, 'High'], [0, 'Normal'], [-1, 'Low']]],
  ['number', 'peer_limit', 'Most peers', { min: 1, max: 65535 }],
  ['goal', 'seed_ratio_limit', 'Stop at the ratio', 'seed_ratio_mode', { step: 0.01 }],
  ['goal', 'seed_idle_limit', 'Stop when idle, minutes', 'seed_idle_mode', { max: 65535 }],
  ['check', 'sequential_download', 'Download in order'],
];

/** Asks for limits. Those of the first torrent are shown, and what the user changes holds for all. */
export function limits() {
  const ids = selectedIds();
  if (!ids.length) return;
  attempt(async () => {
    const keys = LIMITS.flatMap(([kind, key, , more, enabled]) => ({ limit: [key, enabled], goal: [key, more] })[kind] ?? [key]);
    const form = formFields(await getTorrent(ids[0], ...keys), LIMITS);
    ask(t('Limits of {n} torrents', { n: ids.length }), form.rows, t('Save'), () => call('torrent_set', { ids, ...form.changed() }));
  });
}

export function editTrackers(id) {
  return attempt(async () => {
    const form = formFields(await getTorrent(id, 'tracker_list'),
      [['area', 'tracker_list', 'Trackers', 'One address a line; an empty line begins the next tier.']]);
    ask(t('Edit trackers'), form.rows, t('Save'), () => call('torrent_set', { ids: [id], ...form.changed() }), 'primary', 'wide');
  });
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say(t('Copied'));
  } catch {
    // Browsers permit it only to pages by HTTPS or from this machine.
    window.prompt(t('Copy'), text);
  }
}

export function copyMagnets() {
  return attempt(async () => {
    const answer = await call('torrent_get', { ids: selectedIds(), fields: ['magnet_link'] });
    await copy(answer.torrents.map((torrent) => torrent.magnet_link).join('\n'));
  });
}
