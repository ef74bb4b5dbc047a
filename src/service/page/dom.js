// Building blocks of the page's elements. Text from torrents only ever becomes text nodes: nothing here parses HTML.

const ICONS = {
  add: 'M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z',
  start: 'M8 5v14l11-7z',
  stop: 'M6 6h12v12H6z',
  remove: 'M9 4h6l1 2h4v2H4V6h4zM6 9h12l-1 12H7z',
  more: 'M10 4h4v4h-4zm0 6h4v4h-4zm0 6h4v4h-4z',
  search: 'M10 4a6 6 0 1 1-3.7 10.7l-2.9 2.9L2 16.2l2.9-2.9A6 6 0 0 1 10 4m0 2a4 4 0 1 0 0 8 4 4 0 0 0 0-8',
  settings: 'M3 6h9V4h3v2h6v2h-6v2h-3V8H3zm0 5h3V9h3v2h12v2H9v2H6v-2H3zm0 5h11v-2h3v2h4v2h-4v2h-3v-2H3z',
  slow: 'M12 5a9 9 0 0 1 7.6 14H4.4A9 9 0 0 1 12 5m0 2a7 7 0 0 0-6.4 10h5l-3-5.5 5.8 3.8q1 .7.5 1.7h4.5A7 7 0 0 0 12 7',
  help: 'M11 16h2v3h-2zm1-12c2.8 0 4.8 1.6 4.8 4.1 0 3-3.6 3.3-3.6 6.4h-2.4c0-4 3.6-4.2 3.6-6.3 0-1-.9-1.9-2.4-1.9S9.6 7.2 9.6 8.7H7.2C7.2 5.8 9.2 4 12 4',
  close: 'M6.4 5 12 10.6 17.6 5 19 6.4 13.4 12l5.6 5.6-1.4 1.4L12 13.4 6.4 19 5 17.6l5.6-5.6L5 6.4z',
  back: 'M11 5 4 12l7 7 1.4-1.4L7.8 13H20v-2H7.8l4.6-4.6z',
  down: 'M11 4h2v11l4.3-4.3 1.4 1.4L12 18.8l-6.7-6.7 1.4-1.4L11 15z',
  up: 'M13 20h-2V9l-4.3 4.3-1.4-1.4L12 5.2l6.7 6.7-1.4 1.4L13 9z',
  check: 'M9.5 16.2 5.3 12l-1.4 1.4 5.6 5.6L20.5 8l-1.4-1.4z',
  warning: 'M12 3 1.5 21h21zm-1 6h2v6h-2zm0 7h2v2h-2z',
  wait: 'M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18m-1 4h2v5l3 3-1.4 1.4L11 13z',
  all: 'M4 6h16v2H4zm0 5h16v2H4zm0 5h16v2H4z',
  label: 'M3 4h9l9 9-8 8-10-9.5z',
  active: 'M13 2 5 13h5l-1 9 9-12h-6z',
  folder: 'M3 5h7l2 2h9v12H3z',
  file: 'M6 3h8l5 5v13H6z',
  expand: 'M9 6.4 10.4 5l7 7-7 7L9 17.6l5.6-5.6z',
};

/** Creates an element: `h('div.class', { property: value }, child, …)`. Properties that the element lacks become attributes. */
export function h(kind, ...children) {
  const [tag, ...classes] = kind.split('.');
  const element = document.createElement(tag);
  element.className = classes.join(' ');
  if (tag === 'button') element.type = 'button';
  for (const [name, value] of Object.entries(children[0]?.constructor === Object ? children.shift() : {})) {
    if (!(name in element && Reflect.set(element, name, value))) element.setAttribute(name, value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

const svgElement = (tag) => document.createElementNS('http://www.w3.org/2000/svg', tag);

export function icon(name) {
  const svg = svgElement('svg');
  for (const [key, value] of [['viewBox', '0 0 24 24'], ['aria-hidden', 'true'], ['class', 'icon']]) svg.setAttribute(key, value);
  svg.append(svgElement('path'));
  setIcon(svg, name);
  return svg;
}

export const setIcon = (svg, name) => svg.firstChild.setAttribute('d', ICONS[name] ?? '');

/** A button that shows an icon; `text` is its name for screen readers and in the tool tip. */
export const iconButton = (name, text, onclick, kind = 'tool') => h(`button.icon-button.${kind}`, { ariaLabel: text,
  title: text, onclick }, icon(name));

export const button = (text, onclick, kind = 'plain') => h(`button.button.${kind}`, { onclick }, text);

export const bar = () => h('span.bar', { 'aria-hidden': 'true' }, h('span'));

/** Shows a part of 1: green if it is all, yellow if something is being done, grey otherwise. */
export function setBar({ firstChild: fill }, part, isBusy) {
  fill.className = part >= 1 ? 'done' : isBusy ? 'busy' : 'idle';
  fill.style.transform = `scaleX(${part})`;
}

/** Sets the text of an element if it differs, to avoid a needless layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Returns a function that runs `work` before the next frame, once however often it is called. */
export function beforeFrame(work) {
  let isPlanned = false;
  return () => {
    if (isPlanned) return;
    isPlanned = true;
    requestAnimationFrame(() => {
      isPlanned = false;
      work();
    });
  };
}

/** The colour of a custom property in the present theme, for canvases. */
export function colour(element, name) {
  element.style.color = `var(${name})`;
  return getComputedStyle(element).color;
}

/** Clears a canvas and fits it to its box, with CSS pixels as units. The context is null while the canvas is not shown. */
export function fitCanvas(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = width && height ? canvas.getContext('2d') : null;
  context?.scale(scale, scale);
  return { context, width, height };
}
