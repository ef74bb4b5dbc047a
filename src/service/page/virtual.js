// A scrolling list with elements only for the rows on the screen: thousands of rows cost no more than forty.

const OVERSCAN = 6;

export class VirtualRows {
  constructor(scroller, body, rowHeight, create, fill) {
    this.scroller = scroller;
    this.body = body;
    this.rowHeight = rowHeight;
    this.create = create;
    this.fill = fill;
    this.count = 0;
    this.at = -1;
    this.marked = null;
    this.rows = new Map();
    scroller.addEventListener('scroll', () => this.place(), { passive: true });
    new ResizeObserver(() => this.place()).observe(scroller);
  }

  update(count, rowHeight = this.rowHeight) {
    if (rowHeight !== this.rowHeight) {
      this.body.replaceChildren();
      this.rows.clear();
    }
    this.rowHeight = rowHeight;
    this.count = count;
    this.body.style.height = `${count * rowHeight}px`;
    this.place(true);
  }

  place(refillsAll = false) {
    const { scroller: { scrollTop, clientHeight }, rowHeight, rows } = this;
    const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
    const last = Math.min(this.count, Math.ceil((scrollTop + clientHeight) / rowHeight) + OVERSCAN);
    const spare = [];
    for (const [index, row] of rows) {
      if (index >= first && index < last) continue;
      rows.delete(index);
      spare.push(row);
    }
    for (let index = first; index < last; index += 1) {
      const isNew = !rows.has(index);
      const row = rows.get(index) ?? spare.pop() ?? this.create();
      if (isNew) row.style.transform = `translateY(${index * rowHeight}px)`;
      rows.set(index, row);
      if (isNew || refillsAll) this.fill(row, index);
    }
    for (const row of spare) row.remove();
    // Screen readers read in the order of the document.
    let next = this.body.firstChild;
    for (let index = first; index < last; index += 1) {
      if (rows.get(index) === next) next = next?.nextSibling ?? null;
      else this.body.insertBefore(rows.get(index), next);
    }
    this.mark(this.at);
  }

  show(index) {
    const { scroller, rowHeight } = this;
    const top = index * rowHeight;
    scroller.scrollTop = Math.max(top + rowHeight + this.body.offsetTop - scroller.clientHeight, Math.min(top, scroller.scrollTop));
    this.place();
  }

  /** Marks the row that the keyboard is at, if it is on the screen. */
  mark(index) {
    this.at = index;
    const row = this.rows.get(index);
    this.marked?.classList.remove('cursor');
    row?.classList.add('cursor');
    this.marked = row;
    this.scroller.setAttribute('aria-activedescendant', row?.id ?? '');
  }

  /** Where a key moves from a row to; undefined if it does not move. */
  target(key, at) {
    const page = Math.max(1, Math.floor((this.scroller.clientHeight - this.body.offsetTop) / this.rowHeight) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.count, PageDown: at + page, PageUp: at - page }[key];
    return to === undefined ? to : Math.max(0, Math.min(this.count - 1, to));
  }
}
