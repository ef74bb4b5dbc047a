// Puts the parts of the page together, listens to the keyboard, and connects.

import * as actions from './actions.js';
import { acceptTorrents, openAdd } from './add.js';
import { createFilters, createStatus, createToolbar, search, toggleAlternative } from './chrome.js';
import { areDetailsOpen, createDetails, openTab, showDetails } from './details.js';
import { openDialog, say, toasts } from './dialog.js';
import { button, h } from './dom.js';
import { t } from './i18n.js';
import { cardMode, createList, cursorPlace } from './list.js';
import { openMenu } from './menu.js';
import { connect, reconnect, torrents } from './service.js';
import { openSettings } from './settings.js';
import { store, stored } from './storage.js';
import { onView, select, selection, visible } from './view.js';

/** Keys, what they do, and how; other parts of the page listen to the last ones. @type {any[][]} */
const SHORTCUTS = [
  ['a', 'Add torrents', () => openAdd()],
  ['/', 'Search', () => search.focus()],
  ['s', 'Start', () => actions.run('torrent_start')],
  ['Shift+S', 'Start now', () => actions.run('torrent_start_now')],
  ['p', 'Stop', () => actions.run('torrent_stop')],
  ['v', 'Verify', () => actions.run('torrent_verify')],
  ['r', 'Re-announce', () => actions.run('torrent_reannounce')],
  ['m', 'Move', () => actions.move()],
  ['F2', 'Rename', () => actions.rename()],
  ['l', 'Labels', actions.label],
  ['b', 'Limits', actions.limits],
  ['Delete', 'Remove', () => actions.remove(false)],
  ['Shift+Delete', 'Remove with files', () => actions.remove(true)],
  ['Shift+F10', 'Menu', () => openActions(...cursorPlace())],
  ['Enter', 'Open the details', () => showDetails(true)],
  ['Escape', 'Close the details, deselect all', escape],
  ['t', 'Alternative limits', toggleAlternative],
  [',', 'Settings', openSettings],
  ['?', 'Keyboard', help],
  ['↑ ↓ Home End', 'Go to a torrent'],
  ['Shift+↑ ↓', 'Select a range'],
  ['Ctrl+↑ ↓', 'Go without selecting'],
  ['Space', 'Select or deselect'],
  ['Ctrl+A', 'Select all'],
  ['1 – 6', 'Switch tabs'],
];

const focusList = () => document.getElementById('list')?.focus();

function help() {
  const rows = SHORTCUTS.map(([keys, text]) => h('div', h('dt', h('kbd', keys)), h('dd', t(text))));
  openDialog(t('Keyboard'), [h('dl.keys', ...rows)], [[t('Close')]], 'wide');
}

function closeDetails() {
  showDetails(false);
  focusList();
}

function escape() {
  if (areDetailsOpen() && (cardMode.matches || !selection.size)) showDetails(false);
  else select([]);
  focusList();
}

function openActions(x, y) {
  const shortcut = (keys, dots = '') => {
    const [, text, run] = SHORTCUTS.find(([these]) => these === keys) ?? [];
    return [t(text) + dots, run, keys];
  };
  const queue = (where, text) => [t(text), () => actions.run(`queue_move_${where}`)];
  const all = (method) => () => actions.run(method, [...torrents.keys()]);
  openMenu(x, y, [...(selection.size === 0 ? [] : [
    shortcut('s'), shortcut('Shift+S'), shortcut('p'), null,
    shortcut('v'), shortcut('r'), null,
    shortcut('m', '…'), shortcut('F2', '…'), shortcut('l', '…'), shortcut('b', '…'), [t('Copy magnet links'), () => actions.copyMagnets()], null,
    queue('top', 'To the top of the queue'), queue('up', 'Up in the queue'), queue('down', 'Down in the queue'),
    queue('bottom', 'To the end of the queue'), null,
    shortcut('Delete', '…'), shortcut('Shift+Delete', '…'), null]),
    [t('Select all'), () => select(visible)], [t('Start all'), all('torrent_start')], [t('Stop all'), all('torrent_stop')],
  ], t('Actions'));
}

function openMore({ currentTarget }) {
  const box = currentTarget.getBoundingClientRect();
  openActions(box.left, box.bottom);
}

/** The name of the pressed key as in `SHORTCUTS`. */
function nameOf({ key, shiftKey, ctrlKey, metaKey, altKey }) {
  if (ctrlKey || metaKey || altKey) return '';
  if (key === 'ContextMenu') return 'Shift+F10';
  return shiftKey && (key.length > 1 || key.toLowerCase() !== key) ? `Shift+${key}` : key;
}

function onKey(event) {
  const { target } = event;
  if (event.defaultPrevented || document.querySelector('dialog[open]')) return;
  const name = nameOf(event);
  if (name === 'Escape' && target === search) return focusList();
  const isSingle = name.replace('Shift+', '').length === 1;
  // A button or a tab does with Enter what it is for.
  if (target.matches('input, textarea, select') || (isSingle && !stored('shortcuts', true)) || (name === 'Enter' && target.id !== 'list')) return;
  const run = SHORTCUTS.find(([keys]) => keys === name)?.[2];
  if (run) run();
  else if (/^[1-6]$/.test(name) && areDetailsOpen()) openTab(Number(name) - 1);
  else return;
  event.preventDefault();
}

function createEmpty() {
  const first = h('div', h('p.big', t('No torrents yet')), h('p', t('Drop a torrent file here, paste a magnet link, or')),
    button(t('Add a torrent…'), () => openAdd(), 'primary'));
  const nothing = h('p', t('No torrent matches.'));
  const element = h('div.empty', { hidden: true }, first, nothing);
  onView(() => {
    element.hidden = visible.length > 0;
    first.hidden = torrents.size > 0;
    nothing.hidden = !first.hidden;
  });
  return element;
}

function createSplitter() {
  const splitter = h('div.splitter', { role: 'separator', tabIndex: 0, ariaLabel: t('Height of the details'), ariaOrientation: 'horizontal' });
  const set = (share) => {
    const value = Math.round(Math.max(20, Math.min(80, share)));
    document.documentElement.style.setProperty('--details', `${value}%`);
    splitter.ariaValueNow = value;
    store('height', value);
  };
  set(stored('height', 50));
  splitter.addEventListener('pointerdown', (event) => splitter.setPointerCapture(event.pointerId));
  splitter.addEventListener('pointermove', (event) => {
    const box = splitter.parentElement.getBoundingClientRect();
    if (splitter.hasPointerCapture(event.pointerId)) set((100 * (box.bottom - event.clientY)) / box.height);
  });
  splitter.addEventListener('keydown', ({ key }) => set(Number(splitter.ariaValueNow) + ({ ArrowUp: 5, ArrowDown: -5 }[key] ?? 0)));
  return splitter;
}

const banner = h('div.banner', { role: 'alert', hidden: true });

function report(isConnected) {
  document.body.classList.toggle('offline', !isConnected);
  if (isConnected && !banner.hidden) say(t('Connected again'));
  if (!isConnected && banner.hidden) {
    banner.replaceChildren(h('span', t('The connection to btsync is lost. Trying again…')), button(t('Try now'), reconnect));
  }
  banner.hidden = isConnected;
}

const main = h('main', createList(() => showDetails(true), openActions), createEmpty(), createSplitter(), createDetails(openMore, closeDetails));
document.body.append(createToolbar(() => openAdd(), openMore, help), banner, createFilters(), main, createStatus(), toasts);
document.addEventListener('keydown', onKey);
acceptTorrents((id) => {
  select([id]);
  openTab('files');
  showDetails(true);
});
connect(report);
