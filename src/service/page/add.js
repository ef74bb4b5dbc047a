// Adds torrents by file, drop, pasted or clicked link; the user chooses folder and files before the start.

import { labelField, labelsIn, run } from './actions.js';
import { attempt, checkBox, field, openDialog, say, textField } from './dialog.js';
import { button, h, setText } from './dom.js';
import { FileTree } from './filetree.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { base64, linksIn, readTorrent } from './metainfo.js';
import { call, knownFolders, loadSettings, onChange, settings, torrents } from './service.js';
import { goTo, select } from './view.js';

const LARGEST_FILE = 32 << 20;

async function load(file) {
  try {
    const bytes = new Uint8Array(await file.slice(0, LARGEST_FILE).arrayBuffer());
    return { bytes, ...readTorrent(bytes) };
  } catch {
    throw new Error(t('{name} is not a torrent file', { name: file.name }));
  }
}

/** Torrents that stop when their list of files arrives, so that the user can choose. */
const waiting = new Set();
let openFiles = (_id) => {};

function stopIfWaiting({ id, metadata_percent_complete: part }) {
  if (!(part >= 1 && waiting.delete(id))) return;
  run('torrent_stop', [id]);
  openFiles(id);
}

onChange((changed, removed) => {
  changed.forEach(stopIfWaiting);
  for (const id of removed) waiting.delete(id);
});

class AddDialog {
  constructor(links) {
    this.sources = [];
    this.chooser = h('input', { type: 'file', multiple: true, accept: '.torrent,application/x-bittorrent', hidden: true,
      onchange: () => this.addFiles(this.chooser.files) });
    this.list = h('ul.names', { ariaLabel: t('Torrent files') });
    this.links = h('textarea', { rows: 2, spellcheck: false, placeholder: 'magnet:?xt=…', value: links, oninput: () => this.show() });
    this.folder = textField(settings.download_dir, knownFolders(), { required: true, onchange: () => this.showSpace() });
    this.space = h('p.hint', { role: 'status' });
    this.labels = labelField([]);
    this.sequential = checkBox(t('Download in order'), false);
    this.later = checkBox(t('Choose files when the metadata arrives'), false);
    const change = (key) => (files, value) => {
      for (const index of files) this.tree.files[index][key] = value;
      this.showFiles();
    };
    this.tree = new FileTree('add-files', { wanted: change('wanted'), priority: change('priority') });
    this.total = h('p.hint', { role: 'status' });
    openDialog(t('Add torrents'), [
      button(t('Choose torrent files…'), () => this.chooser.click()), this.chooser, this.list,
      field(t('Magnet links or URLs'), this.links), field(t('Folder'), this.folder.input), this.folder.list, this.space,
      this.tree.element, this.total, ...this.labels.rows, this.sequential.row, this.later.row,
    ], [[t('Cancel')], [t('Add stopped'), () => this.send(true)], [t('Start'), () => this.send(false), 'primary']], 'wide');
    this.show();
    this.showSpace();
  }

  addFiles(files) {
    return attempt(async () => {
      for (const file of files) this.sources.push(await load(file));
      this.show();
    });
  }

  /** Shows the sources, and the files if there is one torrent file only. */
  show() {
    const links = linksIn(this.links.value);
    this.list.replaceChildren(...this.sources.map((source) => h('li', source.name)));
    this.list.hidden = !this.sources.length;
    const one = this.sources.length === 1 && !links.length ? this.sources[0] : undefined;
    this.tree.element.hidden = this.total.hidden = !one;
    this.later.row.hidden = !links.length;
    if (one !== this.shown) this.tree.setFiles((one?.files ?? []).map((file) => ({ ...file, have: 0, wanted: true, priority: 0 })));
    this.shown = one;
    this.showFiles();
  }

  showFiles() {
    this.tree.refresh();
    const { files, root } = this.tree;
    const size = format.size(files.reduce((sum, file) => sum + (file.wanted ? file.length : 0), 0));
    setText(this.total, t('{n} of {all} files, {size}', { n: root.wanted, all: files.length, size }));
  }

  async showSpace() {
    const answer = call('free_space', { path: this.folder.input.value });
    setText(this.space, await answer.then(({ size_bytes: free }) => t('{size} free', { size: format.size(free) }), (error) => error.message));
  }

  async send(paused) {
    const links = linksIn(this.links.value);
    const sources = [...this.sources.map((source) => ({ metainfo: base64(source.bytes) })), ...links.map((filename) => ({ filename }))];
    if (!sources.length) throw new Error(t('Choose a torrent file or paste a link first.'));
    const ids = [];
    for (const source of sources) {
      const { torrent_added: added, torrent_duplicate: duplicate } = await call('torrent_add', { ...source, ...this.choices(), paused,
        download_dir: this.folder.input.value.trim(), labels: labelsIn(this.labels.input.value),
        sequential_download: this.sequential.input.checked });
      const { id, name } = added ?? duplicate;
      say(t(added ? '{name} added' : '{name} is already in the list', { name }));
      ids.push(id);
      if (added && this.later.input.checked && source.filename) {
        waiting.add(id);
        const torrent = torrents.get(id);
        if (torrent) stopIfWaiting(torrent);
      }
    }
    select(ids);
    goTo(ids[0], { keep: true });
  }

  /** The chosen files. An empty list would mean all of them. */
  choices() {
    const { files } = this.tree;
    const lists = { files_unwanted: (file) => !file.wanted, priority_high: (file) => file.priority > 0, priority_low: (file) => file.priority < 0 };
    return Object.fromEntries(Object.entries(lists)
      .map(([key, isMeant]) => [key, files.flatMap((file, index) => (isMeant(file) ? [index] : []))]).filter(([, list]) => list.length));
  }
}

/** Opens the dialog, with files and links that were dropped or pasted. */
export function openAdd(files = [], links = '') {
  return attempt(async () => {
    if (!settings.version) await loadSettings();
    await new AddDialog(links).addFiles(files);
  });
}

function linkInHash() {
  try {
    return decodeURIComponent(location.hash.replace(/^#(add=)?/, ''));
  } catch {
    return '';
  }
}

function fromAddress() {
  const link = new URLSearchParams(location.search).get('add') ?? linkInHash();
  if (!linksIn(link).length) return;
  history.replaceState(null, '', location.pathname);
  openAdd([], link);
}

/** Listens for dropped and pasted torrents and links. `onFiles` shows the files of a torrent. */
export function acceptTorrents(onFiles) {
  openFiles = onFiles;
  const overlay = h('div.drop', { hidden: true }, t('Drop torrent files or links here'));
  document.body.append(overlay);
  const isBusy = () => document.querySelector('dialog[open]');
  const listen = (type, act) => document.addEventListener(type, act);
  const take = (event, data) => {
    const links = linksIn(data.getData('text/uri-list') || data.getData('text/plain')).join('\n');
    if (isBusy() || !(links || data.files.length)) return;
    event.preventDefault();
    openAdd([...data.files], links);
  };
  listen('dragover', (event) => {
    event.preventDefault();
    overlay.hidden = isBusy();
  });
  listen('dragleave', (event) => { overlay.hidden = !event.relatedTarget; });
  listen('drop', (event) => {
    event.preventDefault();
    overlay.hidden = true;
    take(event, event.dataTransfer);
  });
  listen('paste', (event) => event.target.matches('input, textarea') || take(event, event.clipboardData));
  fromAddress();
}
