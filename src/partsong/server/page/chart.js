// Small charts, drawn as they are told: bars by day or by name, and values with their intervals. Each comes with the
// same figures in words, for those who do not see it.

import { draw, make, newId } from "./dom.js";

const HIGH = 90;

// `rows` are [label, value, words]. Bars stand beside each other, or lie beneath each other where they have long names.
export function barChart(title, rows, lying = false) {
  const most = Math.max(...rows.map(([, value]) => value), 0) || 1;
  const caption = make("figcaption", {}, title);
  const lines = rows.map(([label, , told]) =>
    make("tr", {}, make("th", { scope: "row" }, label), make("td", {}, told)),
  );
  const words = make("div", { class: "unseen" }, make("table", {}, make("caption", {}, title), lines)); // a table alone keeps its height
  if (lying) {
    const bars = rows.map(([label, value, told]) =>
      make(
        "div",
        { class: "bar-line", title: told },
        make("span", { class: "bar-name" }, label),
        bar(value / most),
        make("span", { class: "bar-said" }, told),
      ),
    );
    return make("figure", { class: "chart" }, caption, make("div", { "aria-hidden": "true" }, bars), words);
  }
  const wide = 100 / rows.length;
  const bars = rows.map(([label, value, told], place) => {
    const high = (HIGH * value) / most;
    const tip = draw("title", {}, `${label}: ${told}`);
    return draw(
      "rect",
      { x: place * wide + wide * 0.1, y: HIGH - high, width: wide * 0.8, height: high, class: "bar" },
      tip,
    );
  });
  const picture = draw(
    "svg",
    { viewBox: `0 0 100 ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "bars" },
    bars,
  );
  const ends = make(
    "div",
    { class: "chart-ends", "aria-hidden": "true" },
    make("span", {}, rows[0]?.[0] ?? ""),
    make("span", {}, rows.at(-1)?.[0] ?? ""),
  );
  return make("figure", { class: "chart" }, caption, picture, ends, words);
}

// `rows` are [label, value, low, high] on a scale; low and high may be null.
export function intervalChart(title, rows, words) {
  const known = rows.flatMap(([, ...values]) => values.filter((value) => value !== null && Number.isFinite(value)));
  const least = Math.min(0, ...known);
  const most = Math.max(...known, least + 1e-9);
  const at = (value) => (100 * (value - least)) / (most - least);
  const id = newId("chart");
  const lines = rows.map(([label, value, low, high]) => {
    const marks = [
      draw("rect", {
        x: at(Math.min(0, value)),
        y: 4,
        width: Math.max(0.3, Math.abs(at(value) - at(0))),
        height: 8,
        class: "bar",
      }),
    ];
    if (low !== null && high !== null)
      marks.push(draw("line", { x1: at(low), x2: at(high), y1: 8, y2: 8, class: "reach" }));
    const picture = draw(
      "svg",
      { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true", class: "line" },
      marks,
    );
    return make(
      "div",
      { class: "bar-line" },
      make("span", { class: "bar-name", title: label }, label),
      picture,
      make("span", { class: "bar-said" }, words(value, low, high)),
    );
  });
  return make("figure", { class: "chart", "aria-labelledby": id }, make("figcaption", { id }, title), lines);
}

// `rows` are [label, x, y]: where each stands between the least and the greatest.
export function pointChart(title, across, up, rows) {
  const reach = (values) => [Math.min(...values), Math.max(...values)];
  const [left, right] = reach(rows.map((row) => row[1]));
  const [low, high] = reach(rows.map((row) => row[2]));
  const x = (value) => 8 + (84 * (value - left)) / (right - left || 1);
  const y = (value) => 52 - (44 * (value - low)) / (high - low || 1);
  const points = rows.map(([label, cost, value], place) =>
    draw(
      "g",
      {},
      draw("circle", { cx: x(cost), cy: y(value), r: 1.4, class: "point" }),
      draw("text", { x: x(cost) + 2, y: y(value) - 1.4, class: "point-name" }, String(place + 1)),
      draw("title", {}, label),
    ),
  );
  const frame = [
    draw("line", { x1: 4, x2: 98, y1: 57, y2: 57, class: "axis" }),
    draw("line", { x1: 4, x2: 4, y1: 3, y2: 57, class: "axis" }),
  ];
  const picture = draw("svg", { viewBox: "0 0 100 60", "aria-hidden": "true", class: "points" }, frame, points);
  const legend = make(
    "ol",
    { class: "legend" },
    rows.map(([label, , , told]) => make("li", {}, label, make("span", { class: "sub" }, ` ${told}`))),
  );
  return make("figure", { class: "chart" }, make("figcaption", {}, `${title}: ${up} over ${across}`), picture, legend);
}

function bar(share) {
  return draw(
    "svg",
    { viewBox: "0 0 100 16", preserveAspectRatio: "none", class: "line" },
    draw("rect", { x: 0, y: 3, width: Math.max(0.3, 100 * share), height: 10, class: "bar" }),
  );
}
