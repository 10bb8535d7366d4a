// Results: what the bench has found, out of the folders that it has left: values with intervals, costs, what may be said,
// and the prompts on which a mixture lost.

import { intervalChart, pointChart } from "./chart.js";
import { compareWords } from "./diff.js";
import { fill, make } from "./dom.js";
import { count, dollars, many, seconds } from "./format.js";
import { getJson } from "./server.js";

export async function show(place, name) {
  try {
    if (name)
      fill(
        place,
        make("p", {}, make("a", { href: "#/results" }, "← All results")),
        studyOf(await getJson(`/api/results/${encodeURIComponent(name)}`)),
      );
    else fill(place, make("h1", {}, "Results"), listOf((await getJson("/api/results")).results));
  } catch (problem) {
    fill(place, make("h1", {}, "Results"), make("p", { class: "problem", role: "alert" }, problem.message));
  }
}

function listOf(results) {
  if (!results.length)
    return make(
      "p",
      { class: "note" },
      "There are none in bench/, results/ or paper/ where the server was started: partsong bench run, compare and paper make some.",
    );
  const rows = results.map((each) => [
    make("a", { href: `#/results/${encodeURIComponent(each.name)}` }, each.name),
    each.task ?? "",
    each.contestants.join(", "),
    count(each.samples),
    new Date(each.changed * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" }),
  ]);
  return tableOf("Studies", ["Study", "Task", "Contestants", "Samples", "Changed"], rows, 2);
}

function studyOf(study) {
  const { manifest, contestants, comparison, lost, paper } = study;
  const graded = contestants.filter((each) => each.value !== null);
  const parts = [make("h1", {}, study.name), make("p", { class: "note" }, factsOf(study, manifest))];
  parts.push(
    tableOf(
      "Contestants",
      ["An answer of", "Value", "95 % interval", "n", "Failed", "Dollars", "Seconds", "Tokens"],
      contestants.map((each) => [
        each.name,
        each.value === null ? "–" : each.value.toFixed(3),
        each.interval ? each.interval.map((end) => end.toFixed(3)).join(" to ") : "–",
        count(each.n),
        each.failed ? count(each.failed) : "",
        dollars(each.dollars),
        each.seconds === null ? "–" : seconds(each.seconds),
        count(each.tokens),
      ]),
      0,
    ),
  );
  const words = (value, low, high) =>
    low === null ? value.toFixed(3) : `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
  if (graded.length)
    parts.push(
      intervalChart(
        "Value",
        graded.map((each) => [each.name, each.value, ...(each.interval ?? [null, null])]),
        words,
      ),
    );
  const priced = graded
    .filter((each) => each.dollars !== null && each.answers)
    .map((each) => [
      each.name,
      each.dollars / each.answers,
      each.value,
      `${dollars(each.dollars / each.answers)}, ${each.value.toFixed(3)}`,
    ]);
  if (new Set(priced.map((row) => row[1])).size > 1)
    parts.push(pointChart("What it costs", "dollars an answer", "value", priced));
  if (paper) parts.push(paperOf(paper));
  if (comparison?.differences?.length)
    parts.push(
      make(
        "section",
        {},
        make("h2", {}, "What may be said"),
        make(
          "ul",
          {},
          comparison.differences.map((each) => make("li", {}, differenceOf(each))),
        ),
      ),
    );
  if (lost.length) parts.push(make("section", {}, make("h2", {}, "Where a mixture lost"), lost.map(lostOf)));
  return parts;
}

function factsOf(study, manifest) {
  const facts = [
    manifest.task && `task ${manifest.task}`,
    many(study.samples, "sample"),
    manifest.judge && `judged by ${manifest.judge}`,
    manifest.seed !== undefined && `seed ${manifest.seed}`,
    manifest.attempts > 1 && `${manifest.attempts} attempts`,
  ];
  const [version] = manifest.versions ?? [];
  if (version?.partsong) facts.push(`partsong ${version.partsong}`);
  return facts.filter(Boolean).join(" · ");
}

function paperOf({ exhibit, rows, notes }) {
  const shown = rows.map((row) => {
    const { here } = row;
    const ours =
      typeof here?.value === "number"
        ? `${here.value.toFixed(2)} [${here.low?.toFixed(2)}, ${here.high?.toFixed(2)}]`
        : "–";
    return [row.row, typeof row.paper === "number" ? String(row.paper) : "–", ours, row.calls ? count(row.calls) : ""];
  });
  return make(
    "section",
    {},
    make("h2", {}, `The paper's ${exhibit}`),
    tableOf(exhibit, ["Row", "Paper", "Here", "Calls"], shown, 0),
    make(
      "ul",
      {},
      notes.map((note) => make("li", {}, note)),
    ),
  );
}

function differenceOf({ one, other, interval, enough }) {
  const figures = `${signed(interval.mean)} [${signed(interval.low)}, ${signed(interval.high)}], n = ${count(interval.n)}`;
  if (interval.low > 0) return `${one} is better than ${other}: ${figures}`;
  if (interval.high < 0) return `${other} is better than ${one}: ${one} has ${figures}`;
  return `no difference shown between ${one} and ${other}${enough ? `, needs about ${count(enough)} prompts` : ""}: ${figures}`;
}

function signed(value) {
  return value === null ? "?" : `${value > 0 ? "+" : ""}${value.toFixed(3)}`;
}

function lostOf({ one, other, sample, by, question, answers }) {
  const body = make("div");
  const details = make(
    "details",
    {},
    make("summary", {}, `${sample}: ${one} was worse than ${other} by ${Number(by.toFixed(3))}`),
    body,
  );
  details.addEventListener("toggle", () => {
    if (!details.open || body.childElementCount) return;
    const [left, right] = answers;
    const pieces = compareWords(left, right);
    const shown = (mine, text) =>
      make(
        "p",
        { class: "plain" },
        pieces === null
          ? text
          : pieces
              .filter(([kind]) => kind === "same" || kind === mine)
              .map(([kind, words]) => (kind === "same" ? words : make("mark", { class: mine }, words))),
      );
    fill(
      body,
      question ? make("p", { class: "plain note" }, question) : null,
      make(
        "div",
        { class: "lost-texts" },
        make("div", {}, make("h3", {}, one), shown("left", left)),
        make("div", {}, make("h3", {}, other), shown("right", right)),
      ),
    );
  });
  return details;
}

function tableOf(name, heads, rows, what) {
  const cells = (row) => row.map((cell, place) => make("td", { class: place === what ? "what" : null }, cell));
  const table = make(
    "table",
    { class: "list" },
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        heads.map((head) => make("th", { scope: "col" }, head)),
      ),
    ),
    make(
      "tbody",
      {},
      rows.map((row) => make("tr", {}, cells(row))),
    ),
  );
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, table);
}
