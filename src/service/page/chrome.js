// What surrounds the list: tool bar, filters, status line.

import { remove, run } from './actions.js';
import { attempt } from './dialog.js';
import { h, icon, iconButton, setText } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { COLUMNS } from './list.js';
import { call, knownLabels, onChange, session, settings, torrents } from './service.js';
import { openSettings } from './settings.js';
import { FILTERS, onView, selection, setView, view } from './view.js';

export const search = h('input.search', { type: 'search', placeholder: t('Search'), ariaLabel: t('Search torrents'), autocomplete: 'off',
  spellcheck: false, oninput: () => setView({ text: search.value }) });

export const toggleAlternative = () => attempt(() => call('session_set', { alt_speed_enabled: !settings.alt_speed_enabled }));

export function createToolbar(add, more, help) {
  const needSelection = [iconButton('start', t('Start'), () => run('torrent_start')), iconButton('stop', t('Stop'), () => run('torrent_stop')),
    iconButton('remove', t('Remove'), () => remove(false))];
  onView(() => needSelection.forEach((one) => { one.disabled = selection.size === 0; }));
  return h('header.top', h('h1', 'btsync'),
    h('div.tools', { role: 'toolbar', ariaLabel: t('Actions') },
      h('button.button.primary', { onclick: add }, icon('add'), h('span', `${t('Add')}…`)), ...needSelection,
      iconButton('more', t('More actions'), more)),
    search, h('div.tools', iconButton('settings', t('Settings'), openSettings), iconButton('help', t('Keyboard'), help)));
}

export function createFilters() {
  const group = (label) => h('div.group', { role: 'group', ariaLabel: label });
  const [states, labels] = [group(t('State')), group(t('Labels'))];
  const filter = (text, picture, onclick) => h('button.filter', { onclick }, icon(picture), h('span.grow', text),
    h('span.number'));
  states.append(...Object.entries(FILTERS).map(([key, [title, picture]]) => filter(t(title), picture, () => setView({ filter: key }))));
  const sort = h('select', { ariaLabel: t('Sort by'), onchange: () => setView({ sort: sort.value, isDescending: sort.value !== 'name' }) },
    ...Object.entries(COLUMNS).map(([value, [title]]) => h('option', { value }, t(title))));
  onView(() => {
    const all = [...torrents.values()];
    const show = (one, isPressed, isShown) => {
      one.ariaPressed = isPressed;
      setText(one.lastChild, format.count(all.filter(isShown).length));
    };
    Object.entries(FILTERS).forEach(([key, [, , isShown]], at) => show(states.children[at], view.filter === key, isShown));
    const names = knownLabels();
    if (labels.names !== names.join()) {
      labels.names = names.join();
      labels.replaceChildren(...names.map((label) => filter(label, 'label', () => setView({ label: view.label === label ? '' : label }))));
    }
    names.forEach((label, at) => show(labels.children[at], view.label === label, (torrent) => torrent.labels.includes(label)));
    sort.value = view.sort;
  });
  return h('nav.filters', { ariaLabel: t('Filters') }, states, labels, h('span.sort', sort));
}

export function createStatus() {
  const [down, up, chosen, space] = Array.from({ length: 4 }, () => h('span'));
  chosen.role = 'status';
  const slow = iconButton('slow', t('Alternative limits'), toggleAlternative);
  onChange(() => {
    const isSlow = Boolean(settings.alt_speed_enabled);
    for (const [element, word] of [[down, 'down'], [up, 'up']]) {
      const key = `${isSlow ? 'alt_speed' : 'speed_limit'}_${word}`;
      const rate = format.rate(session[`${word}_rate`]);
      const limit = format.rate(settings[key] * 1000);
      setText(element, isSlow || settings[`${key}_enabled`] ? t('{rate} of {limit}', { rate, limit }) : rate);
    }
    slow.ariaPressed = isSlow;
    setText(space, session.free_space >= 0 ? t('{size} free', { size: format.size(session.free_space) }) : '');
    document.title = session.down_rate > 0 ? `↓ ${format.rate(session.down_rate)} · btsync` : 'btsync';
  });
  onView(() => setText(chosen, selection.size > 1 ? t('{n} torrents selected', { n: selection.size }) : ''));
  return h('footer.status', slow, icon('down'), down, icon('up'), up, h('span.grow'), chosen, space);
}
