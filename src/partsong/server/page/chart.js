// @ts-check
// Small charts: bars by day or by name, values with their intervals, and points. Each chart comes with the same figures
// in words, for readers who do not see it.

import { draw, make, newId } from "./dom.js";

/** @typedef {{ label: string, value: number, words: string }} BarRow */
/** @typedef {{ label: string, value: number, low: number | null, high: number | null }} IntervalRow */
/** @typedef {{ label: string, x: number, y: number, words: string }} PointRow */

const HIGH = 90; // of a bar chart's picture, whose width is 100
const STRETCHED = { preserveAspectRatio: "none", "aria-hidden": "true" };

/**
 * Bars that stand beside each other.
 *
 * @param {string} title
 * @param {BarRow[]} rows
 */
export function barChart(title, rows) {
  const most = greatest(rows);
  const wide = 100 / rows.length;
  const bars = rows.map(({ label, value, words }, index) => {
    const high = (HIGH * value) / most;
    const shape = { x: index * wide + wide * 0.1, y: HIGH - high, width: wide * 0.8, height: high };
    return draw("rect", { ...shape, class: "bar" }, draw("title", {}, `${label}: ${words}`));
  });
  const picture = draw("svg", { viewBox: `0 0 100 ${HIGH}`, class: "bars", ...STRETCHED }, bars);
  const ends = make(
    "div",
    { class: "chart-ends", "aria-hidden": "true" },
    make("span", {}, rows[0]?.label),
    make("span", {}, rows.at(-1)?.label),
  );
  return make("figure", { class: "chart" }, make("figcaption", {}, title), picture, ends, inWords(title, rows));
}

/**
 * Bars that lie beneath each other, for long names.
 *
 * @param {string} title
 * @param {BarRow[]} rows
 */
export function lyingBarChart(title, rows) {
  const most = greatest(rows);
  const lines = rows.map(({ label, value, words }) =>
    make("div", { class: "bar-line", title: words }, barName(label), bar(value / most), barWords(words)),
  );
  const picture = make("div", { "aria-hidden": "true" }, lines);
  return make("figure", { class: "chart" }, make("figcaption", {}, title), picture, inWords(title, rows));
}

/** @param {BarRow[]} rows */
function greatest(rows) {
  return Math.max(...rows.map(({ value }) => value), 0) || 1;
}

/**
 * @param {string} title
 * @param {BarRow[]} rows
 */
function inWords(title, rows) {
  const lines = rows.map(({ label, words }) =>
    make("tr", {}, make("th", { scope: "row" }, label), make("td", {}, words)),
  );
  // The box is needed: a table alone keeps its height.
  return make("div", { class: "unseen" }, make("table", {}, make("caption", {}, title), lines));
}

/**
 * Values with their intervals, if these are known.
 *
 * @param {string} title
 * @param {IntervalRow[]} rows
 * @param {(row: IntervalRow) => string} words
 */
export function intervalChart(title, rows, words) {
  const known = rows
    .flatMap(({ value, low, high }) => [value, low, high])
    .flatMap((value) => (value !== null && Number.isFinite(value) ? [value] : []));
  const least = Math.min(0, ...known);
  const most = Math.max(...known, least + 1e-9);
  const id = newId("chart");
  const lines = rows.map((row) =>
    make(
      "div",
      { class: "bar-line" },
      make("span", { class: "bar-name", title: row.label }, row.label),
      intervalBar(row, (value) => (100 * (value - least)) / (most - least)),
      barWords(words(row)),
    ),
  );
  return make("figure", { class: "chart", "aria-labelledby": id }, make("figcaption", { id }, title), lines);
}

/**
 * @param {IntervalRow} row
 * @param {(value: number) => number} at
 */
function intervalBar({ value, low, high }, at) {
  const width = Math.max(0.3, Math.abs(at(value) - at(0)));
  const reach =
    low === null || high === null ? null : draw("line", { x1: at(low), x2: at(high), y1: 8, y2: 8, class: "reach" });
  return draw(
    "svg",
    { viewBox: "0 0 100 16", class: "line", ...STRETCHED },
    draw("rect", { x: at(Math.min(0, value)), y: 4, width, height: 8, class: "bar" }),
    reach,
  );
}

/**
 * Points between the least and the greatest of both values.
 *
 * @param {string} title
 * @param {string} across
 * @param {string} up
 * @param {PointRow[]} rows
 */
export function pointChart(title, across, up, rows) {
  const x = scaled(
    rows.map((row) => row.x),
    8,
    84,
  );
  const y = scaled(
    rows.map((row) => row.y),
    52,
    -44,
  );
  const points = rows.map((row, index) => {
    const name = { x: x(row.x) + 2, y: y(row.y) - 1.4, class: "point-name" };
    return draw(
      "g",
      {},
      draw("circle", { cx: x(row.x), cy: y(row.y), r: 1.4, class: "point" }),
      draw("text", name, String(index + 1)),
      draw("title", {}, row.label),
    );
  });
  const frame = [
    draw("line", { x1: 4, x2: 98, y1: 57, y2: 57, class: "axis" }),
    draw("line", { x1: 4, x2: 4, y1: 3, y2: 57, class: "axis" }),
  ];
  const picture = draw("svg", { viewBox: "0 0 100 60", "aria-hidden": "true", class: "points" }, frame, points);
  const legend = make(
    "ol",
    { class: "legend" },
    rows.map(({ label, words }) => make("li", {}, label, make("span", { class: "sub" }, ` ${words}`))),
  );
  const caption = make("figcaption", {}, `${title}: ${up} over ${across}`);
  return make("figure", { class: "chart" }, caption, picture, legend);
}

/**
 * A function that maps the least of the values to `start`, and the greatest to `start + length`.
 *
 * @param {number[]} values
 * @param {number} start
 * @param {number} length
 */
function scaled(values, start, length) {
  const least = Math.min(...values);
  const reach = Math.max(...values) - least || 1;
  return (/** @type {number} */ value) => start + (length * (value - least)) / reach;
}

/** @param {number} share */
function bar(share) {
  const shape = { x: 0, y: 3, width: Math.max(0.3, 100 * share), height: 10 };
  return draw(
    "svg",
    { viewBox: "0 0 100 16", preserveAspectRatio: "none", class: "line" },
    draw("rect", { ...shape, class: "bar" }),
  );
}

/** @param {string} label */
function barName(label) {
  return make("span", { class: "bar-name" }, label);
}

/** @param {string} words */
function barWords(words) {
  return make("span", { class: "bar-said" }, words);
}
