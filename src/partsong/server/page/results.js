// @ts-check
// Results: what the bench has found, out of the folders that the bench has left: values with intervals, costs, what may
// be said, and the prompts.

import { intervalChart, pointChart } from "./chart.js";
import { fill, make } from "./dom.js";
import { count, dollars, many, seconds } from "./format.js";
import { promptsOf } from "./prompts.js";
import { getJson, messageOf } from "./server.js";
import { tableOf } from "./table.js";

/** @import { IntervalRow, PointRow } from "./chart.js" */
/** @import { Child, Contestant, Difference, Exhibit, Listed, Study } from "./types.js" */

const NONE =
  "There are none in bench/, results/ or paper/ where the server was started: " +
  "partsong bench run, compare and paper make some.";
const PAUSE = 3000; // milliseconds between two looks at a study that is running
const STATES = {
  finished: "",
  running: "Still running: the figures change.",
  stopped: "Stopped before its end: the same command goes on from here.",
};
const HEADS = ["An answer of", "Value", "95 % interval", "n", "Failed", "Dollars", "Seconds", "Tokens"];

/**
 * @param {HTMLElement} place
 * @param {string} name of a study, or ""
 */
export async function show(place, name) {
  try {
    if (name) {
      const back = make("p", {}, make("a", { href: "#/results" }, "← All results"));
      const path = `/api/results/${encodeURIComponent(name)}`;
      const study = await getJson(path);
      const figures = make("div", { class: "figures" }, figuresOf(study));
      const names = namesOf(study);
      fill(place, back, figures, names.length ? promptsOf(name, names) : null);
      const timer = setInterval(async () => {
        if (study.state === "running") Object.assign(study, await getJson(path).catch(() => study));
        else clearInterval(timer);
        fill(figures, figuresOf(study));
      }, PAUSE);
      return () => clearInterval(timer);
    } else {
      fill(place, make("h1", {}, "Results"), listOf((await getJson("/api/results")).results));
    }
  } catch (problem) {
    fill(place, make("h1", {}, "Results"), make("p", { class: "problem", role: "alert" }, messageOf(problem)));
  }
}

/** @param {Listed[]} results */
function listOf(results) {
  if (!results.length) return make("p", { class: "note" }, NONE);
  const rows = results.map((each) => [
    make("a", { href: `#/results/${encodeURIComponent(each.name)}` }, each.name),
    each.state,
    each.task ?? "",
    each.contestants.join(", "),
    count(each.samples),
    new Date(each.changed * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" }),
  ]);
  return tableWith("Studies", ["Study", "State", "Task", "Contestants", "Samples", "Changed"], rows, 3);
}

/**
 * The names of the contestants, first those that the study is about.
 *
 * @param {Study} study
 */
function namesOf({ manifest, contestants }) {
  return [...new Set([...Object.keys(manifest.contestants ?? {}), ...contestants.map(({ name }) => name)])];
}

/** @param {Study} study */
function figuresOf(study) {
  const { contestants, comparison, paper } = study;
  const differences = comparison?.differences ?? [];
  const said = differences.map((each) => make("li", {}, differenceOf(each)));
  return [
    make("h1", {}, study.name),
    make("p", { class: "note" }, factsOf(study)),
    make("p", { role: "status" }, STATES[study.state]),
    tableWith("Contestants", HEADS, contestants.map(cellsOf), 0),
    ...chartsOf(contestants),
    paper ? paperOf(paper) : null,
    said.length ? make("section", {}, make("h2", {}, "What may be said"), make("ul", {}, said)) : null,
  ];
}

/** @param {Contestant} contestant */
function cellsOf({ name, value, interval, n, failed, dollars: spent, seconds: took, tokens }) {
  return [
    name,
    value === null ? "–" : value.toFixed(3),
    interval ? interval.map((end) => end.toFixed(3)).join(" to ") : "–",
    count(n),
    failed ? count(failed) : "",
    dollars(spent),
    took === null ? "–" : seconds(took),
    count(tokens),
  ];
}

/**
 * The values of graded contestants, and their values over their costs, if any two costs differ.
 *
 * @param {Contestant[]} contestants
 */
function chartsOf(contestants) {
  /** @type {IntervalRow[]} */
  const values = [];
  /** @type {PointRow[]} */
  const costs = [];
  for (const { name, value, interval, dollars: spent, answers } of contestants) {
    if (value === null) continue;
    const [low, high] = interval ?? [null, null];
    values.push({ label: name, value, low, high });
    const each = Number(spent) / answers;
    const words = `${dollars(each)}, ${value.toFixed(3)}`;
    if (spent !== null && answers) costs.push({ label: name, x: each, y: value, words });
  }
  const charts = [];
  if (values.length) charts.push(intervalChart("Value", values, valueText));
  if (new Set(costs.map(({ x }) => x)).size > 1) {
    charts.push(pointChart("What it costs", "dollars an answer", "value", costs));
  }
  return charts;
}

/** @param {IntervalRow} row */
function valueText({ value, low, high }) {
  if (low === null || high === null) return value.toFixed(3);
  return `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
}

/** @param {Study} study */
function factsOf({ samples, manifest }) {
  const { task, judge, seed, attempts = 1, versions: [version] = [] } = manifest;
  const facts = [many(samples, "sample")];
  if (task) facts.unshift(`task ${task}`);
  if (judge) facts.push(`judged by ${judge}`);
  if (seed !== undefined) facts.push(`seed ${seed}`);
  if (attempts > 1) facts.push(`${attempts} attempts`);
  if (version?.partsong) facts.push(`partsong ${version.partsong}`);
  return facts.join(" · ");
}

/** @param {Exhibit} paper */
function paperOf({ exhibit, rows, notes }) {
  const cells = rows.map(({ row, paper, here, calls }) => {
    const theirs = typeof paper === "number" ? String(paper) : "–";
    const { value, low, high } = here ?? {};
    const ours = typeof value === "number" ? `${value.toFixed(2)} [${low?.toFixed(2)}, ${high?.toFixed(2)}]` : "–";
    return [row, theirs, ours, calls ? count(calls) : ""];
  });
  return make(
    "section",
    {},
    make("h2", {}, `The paper's ${exhibit}`),
    tableWith(exhibit, ["Row", "Paper", "Here", "Calls"], cells, 0),
    make(
      "ul",
      {},
      notes.map((note) => make("li", {}, note)),
    ),
  );
}

/** @param {Difference} difference */
function differenceOf({ one, other, interval: { mean, low, high, n }, enough }) {
  const figures = `${signed(mean)} [${signed(low)}, ${signed(high)}], n = ${count(n)}`;
  if (low !== null && low > 0) return `${one} is better than ${other}: ${figures}`;
  if (high !== null && high < 0) return `${other} is better than ${one}: ${one} has ${figures}`;
  const needed = enough ? `, needs about ${count(enough)} prompts` : "";
  return `no difference shown between ${one} and ${other}${needed}: ${figures}`;
}

/** @param {number | null} value */
function signed(value) {
  return value === null ? "?" : `${value > 0 ? "+" : ""}${value.toFixed(3)}`;
}

/**
 * @param {string} name
 * @param {string[]} heads
 * @param {Child[][]} rows
 * @param {number} wide the index of the column that takes the room that is left
 */
function tableWith(name, heads, rows, wide) {
  const lines = rows.map((cells) =>
    make(
      "tr",
      {},
      cells.map((cell, index) => make("td", { class: index === wide ? "what" : null }, cell)),
    ),
  );
  return tableOf(name, heads, make("tbody", {}, lines));
}
