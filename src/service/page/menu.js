// A menu that opens at a place of the page. Arrow keys and first letters move in it; the browser closes it like any popover.

import { h } from './dom.js';

function onKey(menu, event) {
  const items = [...menu.querySelectorAll('[role=menuitem]')];
  const at = items.indexOf(document.activeElement);
  const { key } = event;
  const target = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[key];
  event.stopPropagation();
  if (key === 'Escape') return;
  event.preventDefault();
  if (key === 'Tab') menu.hidePopover();
  else if (key === 'Enter' || key === ' ') items[at].click();
  else if (target !== undefined) items[target % items.length].focus();
  else [...items.slice(at + 1), ...items].find((item) => item.textContent.toLowerCase().startsWith(key.toLowerCase()))?.focus();
}

/** Opens a menu of `[text, function, keys]`; null draws a line. */
export function openMenu(x, y, items, label) {
  const menu = h('div.menu', { role: 'menu', ariaLabel: label, popover: 'auto', onkeydown: (event) => onKey(menu, event),
    oncontextmenu: (event) => event.preventDefault(), ontoggle: ({ newState }) => newState === 'closed' && menu.remove() },
  ...items.map((item) => (item ? h('div', { role: 'menuitem', tabIndex: -1, onclick: () => {
    menu.hidePopover();
    item[1]();
  } }, h('span.grow', item[0]), item[2] && h('kbd', { ariaHidden: true }, item[2])) : h('div', { role: 'separator' }))));
  document.querySelector('main').append(menu);
  menu.showPopover();
  menu.style.left = `${Math.max(6, Math.min(x, window.innerWidth - menu.offsetWidth - 6))}px`;
  menu.style.top = `${Math.max(6, Math.min(y, window.innerHeight - menu.offsetHeight - 6))}px`;
  menu.querySelector('[role=menuitem]').focus();
}
