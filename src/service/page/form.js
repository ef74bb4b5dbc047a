// Forms whose fields are named after the values that they change.

import { checkBox, choice, field, numberField } from './dialog.js';
import { h } from './dom.js';
import { language, t } from './i18n.js';

const toTime = (minutes) => [minutes / 60, minutes % 60].map((part) => String(Math.floor(part)).padStart(2, '0')).join(':');
const fromTime = (text) => text.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);
/** 1970 began on a Thursday. */
const dayName = (day) => new Intl.DateTimeFormat(language, { weekday: 'short', timeZone: 'UTC' }).format((day + 3) * 86_400_000);

/** The kinds of fields. Each gets the present values, its key, its label, and more; it returns its row and what reads it. */
const KINDS = {
  check(now, key, label) {
    const { input, row } = checkBox(label, now[key]);
    return [row, () => ({ [key]: input.checked })];
  },
  number(now, key, label, properties) {
    const input = numberField(now[key], properties);
    return [field(label, input), () => ({ [key]: Number(input.value) })];
  },
  /** A number that a check box puts in force. */
  limit(now, key, label, unit, enabledKey = `${key}_enabled`, properties = {}) {
    const { input: box, row } = checkBox(label, now[enabledKey]);
    const input = numberField(now[key], { ariaLabel: `${label}, ${t(unit)}`, disabled: !box.checked, ...properties });
    box.onchange = () => { input.disabled = !box.checked; };
    return [h('div.limit', row, input, t(unit)), () => ({ [enabledKey]: box.checked, [key]: Number(input.value) })];
  },
  /** A goal of seeding: the session's, an own one, or none. */
  goal(now, key, label, modeKey, properties) {
    const select = choice([[0, t('global setting')], [1, t('own value')], [2, t('none')]], now[modeKey], { ariaLabel: label });
    const input = numberField(now[key], { ariaLabel: `${label}, ${t('own value')}`, disabled: now[modeKey] !== 1, ...properties });
    select.onchange = () => { input.disabled = select.value !== '1'; };
    return [h('div.limit', h('span.grow', label), select, input),
      () => ({ [modeKey]: Number(select.value), [key]: Number(input.value) })];
  },
  text(now, key, label) {
    const input = h('input', { type: 'text', value: now[key], spellcheck: false });
    return [field(label, input), () => ({ [key]: input.value.trim() })];
  },
  area(now, key, label, hint) {
    const input = h('textarea', { rows: 4, value: now[key], spellcheck: false });
    return [field(label, input, t(hint)), () => ({ [key]: input.value })];
  },
  choice(now, key, label, options) {
    // A value that the remote control cannot set shows only where it is the present one.
    const shown = options.filter(([value, , isFixed]) => !isFixed || value === now[key]);
    const select = choice(shown.map(([value, text]) => [value, t(text)]), now[key]);
    return [field(label, select), () => ({ [key]: shown[select.selectedIndex][0] })];
  },
  time(now, key, label) {
    const input = h('input', { type: 'time', required: true, value: toTime(now[key]) });
    return [field(label, input), () => ({ [key]: fromTime(input.value) })];
  },
  /** Days of the week as bits, from Sunday. */
  days(now, key, label) {
    const boxes = [1, 2, 3, 4, 5, 6, 0].map((day) => ({ day, ...checkBox(dayName(day), (now[key] >> day) & 1) }));
    return [h('div.days', { role: 'group', ariaLabel: label }, ...boxes.map((box) => box.row)),
      () => ({ [key]: boxes.reduce((sum, { day, input }) => sum | (Number(input.checked) << day), 0) })];
  },
};

/** A group of fields: their rows, and a function that returns what the user has changed. */
export function formFields(now, fields) {
  const built = fields.map(([kind, key, label, ...more]) => KINDS[kind](now, key, t(label), ...more));
  const values = () => Object.entries(Object.assign({}, ...built.map(([, read]) => read())));
  return { rows: built.map(([row]) => row), changed: () => Object.fromEntries(values().filter(([key, value]) => value !== now[key])) };
}
