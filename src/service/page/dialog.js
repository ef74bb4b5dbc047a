// Dialogs and their fields. The browser keeps the focus in an open dialog and closes it on Escape.

import { h, iconButton } from './dom.js';
import { t } from './i18n.js';
import { attempt, toasts } from './toast.js';

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

/** The usual dialog: one question, which can be cancelled. */
export const ask = (title, content, action, run, look = 'primary', kind = '') => openDialog(title, content, [[t('Cancel')], [action, run, look]], kind);

/** A control with its label and perhaps a hint. */
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

/** A field for text, with suggestions. */
export function textField(value, suggestions = [], properties = {}) {
  const id = uniqueId();
  const input = h('input', { type: 'text', value, autocomplete: 'off', spellcheck: false, list: id, ...properties });
  return { input, list: h('datalist', { id }, ...suggestions.map((text) => h('option', { value: text }))) };
}

export const numberField = (value, properties = {}) => h('input', { type: 'number', min: 0, required: true, ...properties, value });

/** A choice among values, each with its text. */
export const choice = (options, value, properties = {}) => h('select', properties, ...options.map(([key, text]) => h('option',
  { value: key, selected: key === value }, text)));
