// Short messages at the edge of the page, which screen readers announce.

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

/** Runs something that may fail, and shows the error. Returns whether it succeeded. */
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    show(urgent, 'bad', error instanceof TypeError ? t('btsync does not answer.') : error.message);
    return false;
  }
}
