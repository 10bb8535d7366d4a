// @ts-check
// The timeline: a row for each seat. In the row, each call has a bar from its start to its first words, and on to its
// end. Each layer's deadline and the moment of its quorum are marked. Positions are percentages of a scale that grows
// in steps, and fits the run once that is over.

import { draw, fill, findElement, make, newId, say } from "./dom.js";
import { many, seconds } from "./format.js";
import { countCalls } from "./seats.js";
import { barsOf } from "./times.js";

/** @import { Run } from "./run.js" */
/** @import { Bar, ShownSeat, Times } from "./types.js" */

/** @typedef {{ wait: SVGRectElement, write: SVGRectElement }} DrawnBar */
/** @typedef {{ label: HTMLSpanElement, group: SVGGElement, bars: DrawnBar[] }} Row */
/** @typedef {{ name: string, moment: number, span: { y1: number, y2: number } }} Mark */

const ROW = 18; // pixels
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 86400]; // seconds
const LINES = 5; // of the grid at most, beside the one at 0
/** @type {Record<string, string>} */
const ABBREVIATED = { analyst: "anal.", aggregator: "agg." };
const LEGEND = [
  ["wait", "nothing said yet"],
  ["write", "writing"],
  ["lost", "lost"],
  ["stopped", "stopped"],
  ["quorum", "quorum"],
  ["deadline", "deadline"],
];

export class Timeline {
  constructor() {
    this.names = make("div", { class: "names", "aria-hidden": "true" });
    this.title = draw("title", { id: newId("timeline") });
    this.bars = draw("g");
    this.marks = draw("g");
    this.grid = draw("g");
    const named = { role: "img", "aria-labelledby": this.title.id };
    this.drawing = draw("svg", named, this.title, this.grid, this.bars, this.marks);
    this.axis = make("div", { class: "axis", "aria-hidden": "true" });
    this.legend = make(
      "figcaption",
      {},
      LEGEND.map(([name, label]) => make("span", { class: `key key-${name}` }, label)),
    );
    this.element = make(
      "figure",
      { class: "timeline", "aria-label": "Timeline" },
      this.names,
      make("div", { class: "bars" }, this.drawing, this.axis),
      this.legend,
    );
    /** @type {Row[]} */
    this.rows = [];
    this.scale = 0;
    /** @type {string | null} */
    this.marked = null;
  }

  /**
   * @param {Run} run
   * @param {ShownSeat[][]} layers
   */
  show(run, layers) {
    const seats = layers.flat();
    this.element.hidden = !run.times.known;
    if (this.rows.length !== seats.length) this.lay(seats.length);
    const now = run.seconds;
    const scale = run.over ? endOf(seats, now) * 1.02 : (STEPS.find((step) => step >= now * 1.02) ?? now);
    if (scale !== this.scale) this.rule(scale);
    seats.forEach((seat, index) => this.showSeat(index, seat, now));
    this.mark(run.times, layers);
    this.name();
    const calls = many(countCalls(run, layers), "call");
    if (run.over) this.say(`${calls} in ${seconds(now)}`);
    else if (!this.title.textContent) this.say(calls);
  }

  /** @param {string} summary */
  say(summary) {
    if (this.title.textContent !== summary) this.title.textContent = summary;
  }

  /**
   * @param {number} index of the row
   * @param {ShownSeat} seat
   * @param {number} now
   */
  showSeat(index, { address, short, state, times }, now) {
    const row = this.rows[index];
    say(row.label, `${ABBREVIATED[address] ?? address} ${short}`);
    const bars = times ? barsOf(times, now) : [];
    while (row.bars.length < bars.length) row.bars.push(this.addBar(row, index));
    for (const { wait, write } of row.bars.splice(Math.max(bars.length, 1))) {
      wait.remove();
      write.remove();
    }
    bars.forEach((bar, place) => this.showBar(row.bars[place], bar, state));
  }

  /**
   * @param {DrawnBar} drawn
   * @param {Bar} bar
   * @param {string} state of the seat
   */
  showBar({ wait, write }, { start, first, end, how }, state) {
    setReach(wait, start, first ?? end, this.scale);
    setReach(write, first ?? end, end, this.scale);
    for (const part of [wait, write]) {
      for (const name of ["lost", "stopped"]) part.classList.toggle(name, (how ?? state) === name);
    }
  }

  /**
   * @param {Row} row
   * @param {number} index
   */
  addBar(row, index) {
    const shape = { y: index * ROW + 4, height: ROW - 8, width: 0, rx: 2 };
    const bar = { wait: draw("rect", { ...shape, class: "wait" }), write: draw("rect", { ...shape, class: "write" }) };
    row.group.append(bar.wait, bar.write);
    return bar;
  }

  /** @param {number} count of the rows */
  lay(count) {
    this.rows = Array.from({ length: count }, (_, index) => {
      /** @type {Row} */
      const row = { label: make("span"), group: draw("g"), bars: [] };
      row.bars.push(this.addBar(row, index));
      return row;
    });
    fill(
      this.names,
      this.rows.map((row) => row.label),
    );
    fill(
      this.bars,
      this.rows.map((row) => row.group),
    );
    this.drawing.setAttribute("height", String(count * ROW));
    this.marked = null;
  }

  /** @param {number} scale seconds from the left to the right */
  rule(scale) {
    this.scale = scale;
    const step = stepOf(scale);
    const moments = Array.from({ length: Math.floor(scale / step + 1e-6) + 1 }, (_, place) => place * step);
    fill(
      this.grid,
      moments.map((moment) => {
        const x = percent(moment, scale);
        return draw("line", { x1: x, x2: x, y1: 0, y2: "100%" });
      }),
    );
    fill(
      this.axis,
      moments.map((moment) => {
        const label = make("span", {}, moment === 0 ? "0" : axisLabel(moment));
        label.style.left = percent(moment, scale);
        return label;
      }),
    );
    this.marked = null;
  }

  /**
   * @param {Times} times
   * @param {ShownSeat[][]} layers
   */
  mark(times, layers) {
    const marks = marksOf(times, layers, this.scale);
    const wanted = JSON.stringify(marks);
    if (wanted === this.marked) return;
    this.marked = wanted;
    fill(
      this.marks,
      marks.map(({ name, moment, span }) => {
        const x = percent(moment, this.scale);
        return draw("line", { class: name, x1: x, x2: x, ...span });
      }),
    );
    for (const name of ["quorum", "deadline"]) {
      findElement(`.key-${name}`, this.legend).hidden = !marks.some((mark) => mark.name === name);
    }
  }

  // Name what is there to see.
  name() {
    for (const name of ["lost", "stopped"]) {
      findElement(`.key-${name}`, this.legend).hidden = !this.bars.querySelector(`.${name}`);
    }
  }
}

/**
 * When the last call ended, or the run if its calls are not known. It is never 0.
 *
 * @param {ShownSeat[]} seats
 * @param {number} now
 */
function endOf(seats, now) {
  const ends = seats.flatMap(({ times }) => (times ? barsOf(times, now).map((bar) => bar.end) : []));
  return Math.max(...(ends.length ? ends : [now]), 0.001);
}

/**
 * @param {Times} times
 * @param {ShownSeat[][]} layers
 * @param {number} scale
 */
function marksOf(times, layers, scale) {
  /** @type {Mark[]} */
  const marks = [];
  let row = 0;
  layers.forEach((seats, index) => {
    const layer = times.layers[index];
    const span = { y1: row * ROW + 1, y2: (row + seats.length) * ROW - 1 };
    row += seats.length;
    if (!layer) return;
    if (layer.reached !== null) marks.push({ name: "quorum", moment: layer.reached, span });
    const deadline = layer.deadline === null ? null : layer.start + layer.deadline;
    if (deadline !== null && deadline <= scale) marks.push({ name: "deadline", moment: deadline, span });
  });
  return marks;
}

/**
 * @param {number} moment
 * @param {number} scale
 */
function percent(moment, scale) {
  return `${Math.min(100, (100 * moment) / scale).toFixed(2)}%`;
}

/**
 * @param {SVGRectElement} bar
 * @param {number} from
 * @param {number} to
 * @param {number} scale
 */
function setReach(bar, from, to, scale) {
  const start = percent(from, scale);
  const width = `${Math.max(0, (100 * (to - from)) / scale).toFixed(2)}%`;
  if (bar.getAttribute("x") !== start) bar.setAttribute("x", start);
  if (bar.getAttribute("width") !== width) bar.setAttribute("width", width);
}

/**
 * The distance of the grid's lines: 1, 2 or 5 of a power of ten; with minutes, a whole number that divides an hour.
 *
 * @param {number} scale
 */
function stepOf(scale) {
  const least = scale / LINES;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least * 0.999) ?? least;
  return step < 20 ? step : (STEPS.find((each) => each >= least) ?? step);
}

/** @param {number} number of seconds */
function axisLabel(number) {
  return number < 120 ? `${Number(number.toPrecision(3))} s` : `${Number((number / 60).toFixed(1))} min`;
}
