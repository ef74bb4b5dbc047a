// The list of torrents: a grid of which only the rows on the screen exist. On narrow screens each row is a card.

import { bar, h, icon, setBar, setIcon } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { torrents } from './service.js';
import { cursor, goTo, onView, select, selection, sortBy, view, visible } from './view.js';
import { VirtualRows } from './virtual.js';

/** The columns by their field: title, width, text of the field. The first ones stay longest when space is short. */
export const COLUMNS = {
  name: ['Name', 230, String],
  percent_done: ['Progress', 130, (_, torrent) => format.percent(format.progressOf(torrent))],
  rate_download: ['Down', 90, format.rateOrEmpty],
  rate_upload: ['Up', 90, format.rateOrEmpty],
  size_when_done: ['Size', 84, format.size],
  eta: ['Time left', 116, format.eta],
  state: ['State', 124, (state) => t(format.STATES[state][0])],
  peers_connected: ['Peers', 64, (count) => count || ''],
  upload_ratio: ['Ratio', 66, format.ratio],
  added_date: ['Added', 160, format.moment],
  queue_position: ['Queue', 64, (position) => position + 1],
};
const HEIGHTS = [30, 84];
const CARD_COLUMNS = 7;

export const cardMode = window.matchMedia('(max-width: 640px)');
let keys = Object.keys(COLUMNS);
let rows;
const head = h('div.head', { role: 'rowgroup' });
const body = h('div.body', { role: 'rowgroup' });
const grid = h('div.list', { role: 'grid', tabIndex: 0, id: 'list', 'aria-multiselectable': 'true', onkeydown: onKey }, head, body);

const cell = (role, key, index, ...content) => h('div', { role, 'aria-colindex': index + 1,
  className: `cell c-${key} ${key === 'name' || key === 'state' ? '' : 'number'}` }, ...content);

function buildCells(row) {
  row.keys = keys;
  row.icon = icon('stop');
  row.name = h('span.name');
  row.chips = h('span.chips');
  row.percent = h('span.part');
  row.bar = bar();
  row.texts = [];
  const contents = [[row.icon, row.name, row.chips], [row.bar, row.percent]];
  const cells = keys.map((key, at) => cell('gridcell', key, at, ...contents[at] ?? []));
  row.targets = cells.map((made, at) => [row.name, row.percent][at] ?? made);
  row.replaceChildren(...cells);
}

function fillRow(row, index) {
  const torrent = torrents.get(visible[index]);
  if (!torrent) return;
  if (row.keys !== keys) buildCells(row);
  row.torrent = torrent.id;
  row.id = `torrent-${torrent.id}`;
  row.ariaRowIndex = index + 2;
  row.ariaSelected = selection.has(torrent.id);
  if (row.dataset.state !== torrent.state) {
    row.dataset.state = torrent.state;
    setIcon(row.icon, format.STATES[torrent.state][1]);
  }
  keys.forEach((key, at) => {
    const text = COLUMNS[key][2](torrent[key], torrent);
    if (row.texts[at] !== text) row.targets[at].textContent = row.texts[at] = text;
  });
  row.name.title = torrent.name;
  setBar(row.bar, format.progressOf(torrent), torrent.status !== 0);
  const labels = torrent.labels.join(', ');
  if (row.chips.title === labels) return;
  row.chips.title = labels;
  row.chips.replaceChildren(...torrent.labels.map((label) => h('span.chip', label)));
}

function markSorting() {
  keys.forEach((key, at) => {
    const title = head.firstChild?.children[at];
    const order = view.sort !== key ? 'none' : view.isDescending ? 'descending' : 'ascending';
    if (!title || title.ariaSort === order) return;
    title.ariaSort = order;
    setIcon(title.querySelector('svg'), { descending: 'down', ascending: 'up' }[order]);
  });
}

function fitColumns() {
  let room = grid.clientWidth - 24;
  if (room <= 0) return;
  const isCard = cardMode.matches;
  const height = HEIGHTS[Number(isCard)];
  const next = Object.keys(COLUMNS).filter((key, at) => (isCard ? at < CARD_COLUMNS : (room -= COLUMNS[key][1]) >= 0 || !at));
  if (next.length === keys.length && rows.rowHeight === height) return;
  keys = next;
  grid.style.setProperty('--columns', keys.map((key, at) => (at ? `${COLUMNS[key][1]}px` : 'minmax(160px,1fr)')).join(' '));
  grid.ariaColCount = keys.length;
  head.replaceChildren(h('div.row', { role: 'row', 'aria-rowindex': 1 }, ...keys.map((key, at) => cell('columnheader', key, at,
    h('button', { onclick: () => sortBy(key) }, t(COLUMNS[key][0]), icon(''))))));
  markSorting();
  rows.update(visible.length, height);
}

function show() {
  grid.hidden = visible.length === 0;
  grid.ariaRowCount = visible.length + 1;
  markSorting();
  rows.at = visible.indexOf(cursor.at);
  rows.update(visible.length);
}

function onKey(event) {
  if (event.target !== grid || event.altKey) return;
  const isControl = event.ctrlKey || event.metaKey;
  const at = visible.indexOf(cursor.at);
  const target = rows.target(event.key, at);
  if (target !== undefined) {
    rows.show(target);
    goTo(visible[target], { range: event.shiftKey, keep: isControl });
  } else if (event.key === ' ' && at >= 0) goTo(cursor.at, { toggle: true, range: event.shiftKey });
  else if (event.key === 'a' && isControl) select(visible);
  else return;
  event.preventDefault();
}

/** `open` is what a double click does, `menu` what a right click does, with its place. */
export function createList(open, menu) {
  grid.ariaLabel = t('Torrents');
  rows = new VirtualRows(grid, body, 1, () => h('div.row', { role: 'row' }), fillRow);
  const torrentAt = (event) => event.target.closest('.row')?.torrent;
  body.addEventListener('click', (event) => {
    const isIcon = cardMode.matches && event.target.closest('.icon');
    goTo(torrentAt(event), { toggle: event.ctrlKey || event.metaKey || isIcon, range: event.shiftKey });
    if (cardMode.matches && !isIcon) open();
  });
  body.addEventListener('dblclick', open);
  body.addEventListener('contextmenu', (event) => {
    const id = torrentAt(event);
    event.preventDefault();
    if (!selection.has(id)) goTo(id);
    menu(event.clientX, event.clientY);
  });
  new ResizeObserver(fitColumns).observe(grid);
  onView(show);
  return grid;
}

export function cursorPlace() {
  const box = (grid.querySelector('.cursor') ?? grid).getBoundingClientRect();
  return [box.left + 40, Math.min(box.bottom, window.innerHeight - 40)];
}
