// Dialogs, their fields, and short messages. The browser keeps the focus in an open dialog and closes it on Escape.

import { h, iconButton } from './dom.js';
import { t } from './i18n.js';

const SHOWN_MS = 6_000;
/** Errors stay until they are closed, but no more than this many. */
const MOST = 4;

const polite = h('div', { role: 'status' });
const urgent = h('div', { role: 'alert' });
export const toasts = h('div.toasts', polite, urgent);

function show(area, kind, text) {
  const toast = h(`div.toast.${kind}`, h('span.grow', text), iconButton('close', t('Close'), () => toast.remove()));
  area.append(toast);
  if (area.children.length > MOST) area.firstChild.remove();
  // An open dialog covers everything that is not in it.
  const home = [...document.querySelectorAll('dialog[open]')].pop() ?? document.body;
  if (toasts.parentNode !== home) home.append(toasts);
  return toast;
}

export function say(text) {
  const toast = show(polite, 'good', text);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

export const warn = (text) => show(urgent, 'bad', text);

/** Runs something that may fail, and shows the error. Returns whether it succeeded. */
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    warn(error instanceof TypeError ? t('btsync does not answer.') : error.message);
    return false;
  }
}

let lastId = 0;
const uniqueId = () => `id-${lastId += 1}`;

/** Opens a dialog. A button closes it unless its function fails or returns false; Enter presses the last button. */
export function openDialog(title, content, buttons, kind = '') {
  const id = uniqueId();
  const last = buttons.length - 1;
  const press = (run) => attempt(async () => (await run?.()) === false || dialog.close());
  const form = h('form', { onsubmit: (event) => {
    event.preventDefault();
    press(buttons[last][1]);
  } }, h('header', h('h2', { id }, title), iconButton('close', t('Close'), () => dialog.close())), h('div.content', ...content),
  h('footer', ...buttons.map(([text, run, look = 'plain'], at) => h(`button.button.${look}`, { type: at === last ? 'submit' : 'button',
    onclick: at === last ? null : () => press(run) }, text))));
  const dialog = h('dialog', { 'aria-labelledby': id, className: kind, onclose: () => {
    document.body.append(toasts);
    dialog.remove();
  } }, form);
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector('.content :is(input, textarea, select, button), footer button').focus();
}

export const ask = (title, content, action, run, look = 'primary', kind = '') => openDialog(title, content, [[t('Cancel')], [action, run, look]], kind);

export function field(label, control, hint = '') {
  control.id ||= uniqueId();
  const id = `${control.id}-hint`;
  if (hint) control.setAttribute('aria-describedby', id);
  return h('div.field', h('label', { htmlFor: control.id }, label), control, hint && h('p.hint', { id }, hint));
}

export function checkBox(label, checked) {
  const input = h('input', { type: 'checkbox', checked });
  return { input, row: h('label.check', input, label) };
}

export function textField(value, suggestions = [], properties = {}) {
  const id = uniqueId();
  const input = h('input', { type: 'text', value, autocomplete: 'off', spellcheck: false, list: id, ...properties });
  return { input, list: h('datalist', { id }, ...suggestions.map((text) => h('option', { value: text }))) };
}

export const numberField = (value, properties = {}) => h('input', { type: 'number', min: 0, required: true, ...properties, value });

export const choice = (options, value, properties = {}) => h('select', properties, ...options.map(([key, text]) => h('option',
  { value: key, selected: key === value }, text)));
