// The timeline: for each call a bar from its start to its first words, and on to its end; each layer's deadline and the
// moment of its quorum are marked. Positions are percentages of a scale that grows in steps.

import { draw, fill, make, newId, say } from "./dom.js";
import { seconds } from "./format.js";

const ROW = 18; // pixels
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 86400];

export class Timeline {
  constructor() {
    this.names = make("div", { class: "names", "aria-hidden": "true" });
    this.title = draw("title", { id: newId("timeline") });
    this.rows = draw("g");
    this.marks = draw("g");
    this.grid = draw("g");
    this.drawing = draw(
      "svg",
      { role: "img", "aria-labelledby": this.title.id },
      this.title,
      this.grid,
      this.rows,
      this.marks,
    );
    this.axis = make("div", { class: "axis", "aria-hidden": "true" });
    this.legend = make(
      "figcaption",
      {},
      ...[
        ["wait", "nothing said yet"],
        ["write", "writing"],
        ["lost", "lost"],
        ["quorum", "quorum"],
        ["deadline", "deadline"],
      ].map(([name, label]) => make("span", { class: `key key-${name}` }, label)),
    );
    this.element = make(
      "figure",
      { class: "timeline", "aria-label": "Timeline" },
      this.names,
      make("div", { class: "bars" }, this.drawing, this.axis),
      this.legend,
    );
    this.bars = [];
    this.scale = 0;
  }

  show(run, layers) {
    const { times } = run;
    const seats = layers.flat();
    this.element.hidden = !times.known;
    if (this.bars.length !== seats.length) this.lay(seats);
    const now = run.seconds;
    const scale = STEPS.find((step) => step >= now * 1.02) ?? now;
    if (scale !== this.scale) this.rule(scale);
    const x = (moment) => `${Math.min(100, (100 * moment) / scale).toFixed(2)}%`;
    seats.forEach(({ call, short, address, state }, number) => {
      const { wait, write, label } = this.bars[number];
      say(label, `${address === "aggregator" ? "agg." : address} ${short}`);
      if (!call) return;
      const end = call.end ?? (run.over ? (times.end ?? times.now) : now);
      const first = call.first ?? end;
      place(wait, x, call.start, first, scale);
      place(write, x, first, end, scale);
      wait.classList.toggle("lost", state === "lost" || state === "stopped");
      write.classList.toggle("lost", state === "lost" || state === "stopped");
    });
    this.mark(times, layers, x, scale);
    const summary = `${seats.length} calls in ${seconds(now)}`;
    if (run.over && this.title.textContent !== summary) this.title.textContent = summary;
    else if (!this.title.textContent) this.title.textContent = `${seats.length} calls`;
  }

  lay(seats) {
    this.bars = seats.map((_, number) => {
      const at = { y: number * ROW + 4, height: ROW - 8, width: 0, rx: 2 };
      return {
        wait: draw("rect", { ...at, class: "wait" }),
        write: draw("rect", { ...at, class: "write" }),
        label: make("span"),
      };
    });
    fill(
      this.names,
      this.bars.map((bar) => bar.label),
    );
    fill(
      this.rows,
      this.bars.flatMap((bar) => [bar.wait, bar.write]),
    );
    this.drawing.setAttribute("height", seats.length * ROW);
    this.marked = null;
  }

  rule(scale) {
    this.scale = scale;
    const at = [0, 0.25, 0.5, 0.75, 1];
    fill(
      this.grid,
      at.map((share) => draw("line", { x1: `${share * 100}%`, x2: `${share * 100}%`, y1: 0, y2: "100%" })),
    );
    fill(
      this.axis,
      at.map((share) => make("span", {}, share === 0 ? "0" : axisLabel(share * scale))),
    );
    this.marked = null;
  }

  mark(times, layers, x, scale) {
    const lines = [];
    let row = 0;
    layers.forEach((seats, number) => {
      const layer = times.layers[number];
      const span = { y1: row * ROW + 1, y2: (row + seats.length) * ROW - 1 };
      row += seats.length;
      if (layer && layer.reached !== null) lines.push(["quorum", layer.reached, span]);
      if (layer && layer.deadline !== null && layer.start + layer.deadline <= scale) {
        lines.push(["deadline", layer.start + layer.deadline, span]);
      }
    });
    const wanted = JSON.stringify(lines);
    if (wanted === this.marked) return;
    this.marked = wanted;
    fill(
      this.marks,
      lines.map(([name, at, span]) => draw("line", { class: name, x1: x(at), x2: x(at), ...span })),
    );
    for (const name of ["quorum", "deadline"]) {
      this.legend.querySelector(`.key-${name}`).hidden = !lines.some(([each]) => each === name);
    }
  }
}

function place(bar, x, from, to, scale) {
  const start = x(from);
  const width = `${Math.max(0, (100 * (to - from)) / scale).toFixed(2)}%`;
  if (bar.getAttribute("x") !== start) bar.setAttribute("x", start);
  if (bar.getAttribute("width") !== width) bar.setAttribute("width", width);
}

function axisLabel(number) {
  return number < 120 ? `${Number(number.toFixed(2))} s` : `${Number((number / 60).toFixed(1))} min`;
}
