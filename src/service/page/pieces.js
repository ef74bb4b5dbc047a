// Draws the pieces of a torrent: a bar, and a map with the availability. Yellow is in progress, green is verified.

import { colour, fitCanvas, h, setText } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';

const CELL = 11;
const SMALLEST_CELL = 4;
const MOST_HEIGHT = 900;

const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

export class PiecePictures {
  constructor() {
    const key = (name, text) => h('span', h(`i.key.${name}`), t(text));
    this.bar = h('canvas.piece-bar', { role: 'img' });
    this.map = h('canvas.piece-map', { role: 'img' });
    this.text = h('p');
    this.element = h('div', this.text, h('p.legend', key('done', 'verified'), key('busy', 'in progress'),
      key('common', 'many peers have it'), key('rare', 'few peers have it'), key('none', 'no connected peer has it')), this.map);
    for (const picture of [this.bar, this.element]) new ResizeObserver(() => this.draw()).observe(picture);
    window.matchMedia('(prefers-color-scheme: dark)').onchange = () => this.draw();
    this.show({});
  }

  /** Shows an answer of `btsync_pieces`: a byte a piece (0 missing, 1 under way, 2 verified), and how many peers have it. */
  show({ states = '', availability = '' }) {
    this.states = bytes(states);
    this.peers = bytes(availability);
    const n = this.states.length;
    const { done, busy } = this.sum(0, n);
    setText(this.text, n ? t('{done} of {n} pieces verified, {busy} in progress', { done, busy, n }) : t('Pieces'));
    this.bar.ariaLabel = this.text.textContent;
    if (this.peers.length) {
      const least = this.peers.reduce((a, b) => Math.min(a, b));
      const copies = format.fraction(least + this.peers.filter((count) => count > least).length / n);
      this.text.append('. ', t('Availability: {copies}', { copies }));
    }
    this.map.ariaLabel = this.text.textContent;
    this.draw();
  }

  sum(first, last) {
    const sum = { done: 0, busy: 0, rarest: Infinity };
    for (let index = first; index < last; index += 1) {
      if (this.states[index] === 2) sum.done += 1;
      else if (this.states[index]) sum.busy += 1;
      else sum.rarest = Math.min(sum.rarest, this.peers[index] ?? 0);
    }
    return sum;
  }

  /** Divides the pieces among cells, and calls `draw` with the sum and the count of each. */
  divide(cells, draw) {
    const edge = (cell) => Math.floor((cell * this.states.length) / cells);
    for (let cell = 0; cell < cells; cell += 1) draw(cell, this.sum(edge(cell), edge(cell + 1)), edge(cell + 1) - edge(cell));
  }

  draw() {
    const [done, busy, common, none] = ['--done', '--busy', '--common', this.peers.length ? '--none' : '--track'].map((name) => colour(this.bar, name));
    this.drawBar(done, busy);
    this.drawMap(done, busy, common, none);
  }

  drawBar(done, busy) {
    const { context, width, height } = fitCanvas(this.bar);
    const columns = Math.min(this.states.length, width);
    this.divide(columns, (column, sum, count) => {
      const [left, right] = [column, column + 1].map((at) => Math.round((at * width) / columns));
      const green = (sum.done / count) * height;
      const yellow = sum.busy && Math.max(4, (sum.busy / count) * height);
      context.fillStyle = done;
      context.fillRect(left, height - green, right - left, green);
      context.fillStyle = busy;
      context.fillRect(left, Math.max(0, height - green - yellow), right - left, yellow);
    });
  }

  drawMap(done, busy, common, none) {
    const count = this.states.length;
    const most = (size) => Math.floor(this.map.clientWidth / size) * Math.floor(MOST_HEIGHT / size);
    let cell = CELL;
    while (cell > SMALLEST_CELL && most(cell) < count) cell -= 1;
    const cells = Math.min(count, most(cell));
    const columns = Math.floor(this.map.clientWidth / cell);
    this.map.style.height = `${Math.ceil(cells / columns) * cell || 1}px`;
    const { context } = fitCanvas(this.map);
    this.divide(cells, (at, sum, all) => {
      const isDone = sum.done === all;
      const isOpen = !isDone && !sum.busy && sum.rarest > 0;
      context.fillStyle = isDone ? done : sum.busy ? busy : isOpen ? common : none;
      // The fewer peers have a piece, the paler it is.
      context.globalAlpha = isOpen ? Math.min(1, 0.25 + sum.rarest / 12) : 1;
      context.fillRect((at % columns) * cell, Math.floor(at / columns) * cell, cell - 1, cell - 1);
    });
  }
}
