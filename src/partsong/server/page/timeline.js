// @ts-check
// The timeline: a row for each seat. In the row, each call has a bar from its start to its first words, and on to its
// end. Each layer's deadline and the moment of its quorum are marked. Positions are percentages of a scale that grows
// in steps.

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
const SHARES = [0, 0.25, 0.5, 0.75, 1]; // of the scale, where the grid's lines are
/** @type {Record<string, string>} */
const ABBREVIATED = { analyst: "anal.", aggregator: "agg." };
const LEGEND = [
  ["wait", "nothing said yet"],
  ["write", "writing"],
  ["lost", "lost"],
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
    const scale = STEPS.find((step) => step >= now * 1.02) ?? now;
    if (scale !== this.scale) this.rule(scale);
    seats.forEach((seat, index) => this.showSeat(index, seat, now));
    this.mark(run.times, layers);
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
    bars.forEach((bar, place) => this.showBar(row.bars[place], bar, state === "lost" || state === "stopped"));
  }

  /**
   * @param {DrawnBar} drawn
   * @param {Bar} bar
   * @param {boolean} seatLost
   */
  showBar({ wait, write }, { start, first, end, lost }, seatLost) {
    setReach(wait, start, first ?? end, this.scale);
    setReach(write, first ?? end, end, this.scale);
    for (const part of [wait, write]) part.classList.toggle("lost", lost ?? seatLost);
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
    fill(
      this.grid,
      SHARES.map((share) => draw("line", { x1: `${share * 100}%`, x2: `${share * 100}%`, y1: 0, y2: "100%" })),
    );
    fill(
      this.axis,
      SHARES.map((share) => make("span", {}, share === 0 ? "0" : axisLabel(share * scale))),
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

/** @param {number} number of seconds */
function axisLabel(number) {
  return number < 120 ? `${Number(number.toFixed(2))} s` : `${Number((number / 60).toFixed(1))} min`;
}
