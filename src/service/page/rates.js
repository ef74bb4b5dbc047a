// The rates that this page has seen in the last hours, of all torrents and of each, and their graph.

import { choice } from './dialog.js';
import { colour, fitCanvas, h } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { onChange, session } from './service.js';

/** Seconds of a step: fine ones for ten minutes, coarse ones for a day. */
const STEPS = [2, 60];
const MOST_STEPS = [300, 1440];

const now = () => Date.now() / 1000;

/** The bytes received and sent in each step of time. A rate holds until the next one is reported. */
class History {
  constructor() {
    this.sums = STEPS.map(() => new Map());
    this.since = now();
    this.rates = [0, 0];
  }

  report(down, up) {
    const time = now();
    if (this.rates[0] || this.rates[1]) STEPS.forEach((length, at) => this.add(this.sums[at], length, MOST_STEPS[at], time));
    this.since = time;
    this.rates = [down, up];
  }

  add(sums, length, most, time) {
    const last = Math.floor(time / length);
    for (let step = Math.max(Math.floor(this.since / length), last - most); step <= last; step += 1) {
      const seconds = Math.min(time, (step + 1) * length) - Math.max(this.since, step * length);
      sums.set(step, (sums.get(step) ?? [0, 0]).map((sum, at) => sum + seconds * this.rates[at]));
    }
    for (const step of sums.keys()) if (step < last - most) sums.delete(step);
  }

  last(kind, count) {
    this.report(...this.rates);
    const first = Math.floor(now() / STEPS[kind]) - count;
    return Array.from({ length: count }, (_, at) => (this.sums[kind].get(first + at) ?? [0, 0]).map((sum) => sum / STEPS[kind]));
  }
}

const all = new History();
const ofTorrents = new Map();

onChange((changed, removed) => {
  all.report(session.down_rate, session.up_rate);
  for (const { id, rate_download: down, rate_upload: up } of changed) {
    if (down + up > 0 && !ofTorrents.has(id)) ofTorrents.set(id, new History());
    ofTorrents.get(id)?.report(down, up);
  }
  for (const id of removed) ofTorrents.delete(id);
});

export class RateGraph {
  constructor() {
    const onchange = () => this.draw();
    const spans = [5, 10, 60, 360, 1440].map((minutes) => [minutes, format.duration(minutes * 60)]);
    const key = (name, text) => h('span', h(`i.key.${name}`), text);
    this.canvas = h('canvas.graph', { role: 'img' });
    this.span = choice(spans, 5, { ariaLabel: t('Time'), onchange });
    this.whose = choice([[1, t('This torrent')], [0, t('All torrents')]], 1, { ariaLabel: t('Rates of'), onchange });
    this.highest = h('span');
    this.element = h('div.speed', h('p.legend', this.whose, this.span, key('down', t('Down')), key('up', t('Up')), this.highest), this.canvas);
    new ResizeObserver(onchange).observe(this.canvas);
  }

  show(id) {
    this.id = id;
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const { context, width, height } = fitCanvas(canvas);
    if (!context) return;
    const history = this.whose.value === '1' ? ofTorrents.get(this.id) : all;
    const minutes = Number(this.span.value);
    const kind = Number(minutes > 10);
    const count = (minutes * 60) / STEPS[kind];
    const rates = history?.last(kind, count) ?? [];
    const top = Math.max(0, ...rates.flat());
    this.highest.textContent = t('peak: {rate}', { rate: format.rate(top) });
    canvas.ariaLabel = `${t('Rates')}. ${this.highest.textContent}`;
    const y = (rate) => Math.round(height - 1 - (rate / Math.max(top, 1)) * (height - 16)) + 0.5;
    const line = (name, points, wide) => {
      context.beginPath();
      for (const [x, rate] of points) context.lineTo(x, y(rate));
      context.strokeStyle = colour(canvas, name);
      context.lineWidth = wide;
      context.stroke();
    };
    context.fillStyle = colour(canvas, '--dim');
    context.font = '11px system-ui, sans-serif';
    for (const rate of [0, top / 2, top]) {
      line('--line', [[0, rate], [width, rate]], 1);
      if (rate) context.fillText(format.rate(rate), 4, y(rate) - 4);
    }
    ['--down', '--accent'].forEach((name, at) => line(name, rates.map((rate, step) => [(step / (count - 1)) * width, rate[at]]), 1.5));
  }
}
