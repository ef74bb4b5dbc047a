// The page's language. The source has the English text; lang/*.json has translations, and the plural forms of English too.

import { stored } from './storage.js';

export const LANGUAGES = { en: 'English', ru: 'Русский' };

/** The language that the user chose, or else the first of the browser's languages that has a file. */
export const language = [stored('language', ''), ...navigator.languages].map((tag) => tag.slice(0, 2)).find((tag) => LANGUAGES[tag]) ?? 'en';
document.documentElement.lang = language;

const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);
const messages = await (await fetch(`lang/${language}.json`)).json();

/** An English text in the page's language. `{word}` becomes the value of that name; the value `n` chooses the plural form. */
export function t(text, values = {}) {
  let found = messages[text] ?? text;
  if (typeof found === 'object') found = found[plurals.select(values.n)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === 'number' ? numbers.format(values[name]) : values[name]));
}
