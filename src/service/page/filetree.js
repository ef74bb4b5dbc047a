// Files as a tree, with check boxes, priorities and progress. Only the rows on the screen have elements.

import { choice } from './dialog.js';
import { bar, h, icon, iconButton, setBar, setIcon, setText } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { openMenu } from './menu.js';
import { VirtualRows } from './virtual.js';

const ROW_HEIGHT = 28;

/** A file by its index, or a folder with index -1. */
const makeNode = (path, depth, index) => ({ path, depth, index, name: path.slice(path.lastIndexOf('/') + 1), isFolder: index < 0,
  isOpen: depth < 1, children: [], files: index < 0 ? [] : [index] });

function build(files) {
  const root = makeNode('', -1, -1);
  const folders = new Map();
  files.forEach((file, index) => {
    let at = root;
    const parts = file.path.split('/');
    parts.forEach((_, depth) => {
      const path = parts.slice(0, depth + 1).join('/');
      const isFile = depth === parts.length - 1;
      let next = isFile ? null : folders.get(path);
      if (!next) at.children.push(next = makeNode(path, depth, isFile ? index : -1));
      if (!isFile) folders.set(path, next);
      at.files.push(index);
      at = next;
    });
  });
  return root;
}

/** Adds up the files below a node. A mixed priority is empty. */
function addUp(node, files) {
  node.children.forEach((child) => addUp(child, files));
  const parts = node.isFolder ? node.children : [files[node.index]];
  for (const key of ['length', 'have', 'wanted']) node[key] = parts.reduce((sum, part) => sum + Number(part[key]), 0);
  const [{ priority } = {}] = parts;
  node.priority = parts.every((part) => part.priority === priority) ? priority : '';
}

export class FileTree {
  /** `on` has functions for what the user does: `wanted`, `priority`; with `open` and `rename`, the tree shows progress, too. */
  constructor(id, on) {
    this.on = on;
    this.files = [];
    this.root = makeNode('', -1, -1);
    this.shown = [];
    this.at = 0;
    const body = h('div.body', { role: 'rowgroup' });
    this.element = h(`div.list.tree.${on.open ? 'progress' : 'plain'}`, { id, role: 'treegrid', tabIndex: 0, ariaLabel: t('Files'),
      onkeydown: (event) => this.onKey(event) }, body);
    this.rows = new VirtualRows(this.element, body, ROW_HEIGHT, () => this.createRow(), (row, index) => this.fillRow(row, index));
  }

  /** Shows files. Folders stay as they are if the paths are. */
  setFiles(files) {
    if (files.length !== this.files.length || files.some((file, index) => file.path !== this.files[index].path)) this.root = build(files);
    this.files = files;
    this.refresh();
  }

  refresh() {
    addUp(this.root, this.files);
    const open = (node) => node.children.flatMap((child) => [child, ...(child.isOpen ? open(child) : [])]);
    this.shown = open(this.root);
    this.element.ariaRowCount = this.shown.length;
    this.rows.update(this.shown.length);
    this.goTo(this.at);
  }

  createRow() {
    const row = h('div.row', { role: 'row', onpointerdown: () => this.goTo(this.shown.indexOf(row.node)), oncontextmenu: (event) => {
      event.preventDefault();
      if (this.on.rename) openMenu(event.clientX, event.clientY, [[t('Rename'), () => this.on.rename(row.node)]], row.node.name);
    } });
    row.kind = icon('file');
    row.box = h('input', { type: 'checkbox', tabIndex: -1, onchange: () => this.on.wanted(row.node.files, row.box.checked) });
    row.name = h('span.name');
    row.size = h('span');
    row.bar = bar();
    row.percent = h('span.part');
    row.priority = choice([['', '–'], [1, t('High')], [0, t('Normal')], [-1, t('Low')]], 0,
      { tabIndex: -1, onchange: () => this.on.priority(row.node.files, Number(row.priority.value)) });
    row.play = iconButton('start', '', () => this.on.open(row.node.index));
    row.play.tabIndex = -1;
    const opener = h('span.opener', { onclick: () => this.open(row.node, !row.node.isOpen) }, icon('expand'));
    const cells = [[opener, row.box, row.kind, row.name], [row.size], [row.priority], [row.bar, row.percent], [row.play]];
    row.append(...cells.slice(0, this.on.open ? 5 : 3).map((content) => h('div.cell', { role: 'gridcell' }, ...content)));
    return row;
  }

  fillRow(row, index) {
    const node = this.shown[index];
    const { name, isFolder } = node;
    row.node = node;
    row.id = `${this.element.id}-${index}`;
    row.ariaLevel = node.depth + 1;
    row.ariaRowIndex = index + 1;
    row.ariaExpanded = isFolder ? node.isOpen : null;
    row.style.setProperty('--depth', node.depth);
    row.className = `row ${isFolder ? (node.isOpen ? 'open' : '') : 'leaf'}`;
    setIcon(row.kind, isFolder ? 'folder' : 'file');
    setText(row.name, name);
    row.name.title = node.path;
    setText(row.size, format.size(node.length));
    row.box.checked = node.wanted === node.files.length;
    row.box.indeterminate = node.wanted > 0 && !row.box.checked;
    row.box.ariaLabel = t('Download {name}', { name });
    row.priority.value = node.priority;
    row.priority.ariaLabel = t('Priority of {name}', { name });
    const part = node.length ? node.have / node.length : 1;
    setText(row.percent, format.percent(part));
    setBar(row.bar, part, node.wanted);
    row.play.hidden = isFolder;
    row.play.ariaLabel = row.play.title = t('Open {name}', { name });
  }

  goTo(index) {
    this.at = Math.max(0, Math.min(this.shown.length - 1, index));
    this.rows.mark(this.at);
  }

  open(node, isOpen) {
    node.isOpen = isOpen;
    this.refresh();
  }

  onKey(event) {
    const node = this.shown[this.at];
    if (event.target !== this.element || !node || event.ctrlKey || event.metaKey || event.altKey) return;
    const priority = (step) => this.on.priority(node.files, Math.max(-1, Math.min(1, Number(node.priority) + step)));
    const target = this.rows.target(event.key, this.at);
    const act = target !== undefined ? () => this.goTo(target) : {
      ArrowRight: () => (node.isFolder && !node.isOpen ? this.open(node, true) : this.goTo(this.at + 1)),
      ArrowLeft: () => (node.isFolder && node.isOpen ? this.open(node, false)
        : this.goTo(this.shown.findLastIndex((other, at) => at < this.at && other.depth < node.depth))),
      ' ': () => this.on.wanted(node.files, node.wanted < node.files.length),
      '+': () => priority(1),
      '-': () => priority(-1),
      F2: () => this.on.rename?.(node),
      Enter: () => (node.isFolder ? this.open(node, !node.isOpen) : this.on.open?.(node.index)),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
    this.rows.show(this.at);
  }
}
