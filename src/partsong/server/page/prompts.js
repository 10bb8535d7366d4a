// @ts-check
// The prompts of a study: filtered, sorted, and each with all answers side by side when it is opened.

import { compareWords } from "./diff.js";
import { fill, make, newId } from "./dom.js";
import { count, dollars, many, seconds } from "./format.js";
import { getJson, messageOf } from "./server.js";

/** @import { PromptDetails, PromptLine } from "./types.js" */

/** @typedef {[string, string][]} Options values and their words */

const PAUSE = 300; // milliseconds after the last key
/** @type {Options} */
const SHOWN = [
  ["all", "all"],
  ["won", "won"],
  ["lost", "lost"],
  ["level", "level"],
  ["failed", "failed"],
];
/** @type {Options} */
const SORTS = [
  ["order", "as asked"],
  ["best", "best first"],
  ["worst", "worst first"],
];

/**
 * @param {string} study
 * @param {string[]} contestants
 */
export function promptsOf(study, contestants) {
  const names = contestants.map((name) => /** @type {[string, string]} */ ([name, name]));
  const text = make("input", { type: "search", id: newId("text") });
  const one = choice(names);
  const other = choice([["", "the best of the others"], ...names]);
  const shown = choice(SHOWN);
  const sort = choice(SORTS);
  const bias = make("p", { class: "note" });
  const found = make("p", { class: "note", role: "status" });
  const list = make("div");
  const more = make("button", { type: "button", class: "quiet", hidden: true }, "More");
  const path = `/api/results/${encodeURIComponent(study)}`;
  let turn = 0;
  const read = async (start = 0) => {
    const mine = ++turn;
    const wanted = { text: text.value, one: one.value, other: other.value, show: shown.value, sort: sort.value };
    const query = new URLSearchParams({ ...wanted, start: String(start) });
    try {
      const { total, prompts, bias: swayed } = await getJson(`${path}/prompts?${query}`);
      if (mine !== turn) return;
      if (!start) list.replaceChildren();
      list.append(...prompts.map((/** @type {PromptLine} */ each) => lineOf(each, path)));
      fill(found, many(total, "prompt"));
      fill(bias, swayed && biasText(swayed));
      more.hidden = list.childElementCount >= total;
    } catch (problem) {
      if (mine === turn) fill(found, messageOf(problem));
    }
  };
  /** @type {number | undefined} */
  let timer;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(read, PAUSE);
  });
  for (const each of [one, other, shown, sort]) each.addEventListener("change", () => read());
  more.addEventListener("click", () => read(list.childElementCount));
  read();
  const fields = { Words: text, Contestant: one, Against: other, Outcome: shown, Sort: sort };
  const labels = Object.entries(fields).map(([name, input]) =>
    make("div", { class: "field" }, make("label", { for: input.id }, name), input),
  );
  const parts = [bias, make("div", { class: "filters" }, labels), found, list, more];
  return make("section", { class: "prompts" }, make("h2", {}, "Prompts"), parts);
}

/** @param {Options} options */
function choice(options) {
  const made = options.map(([value, words]) => make("option", { value }, words));
  return make("select", { id: newId("choice") }, made);
}

/** @param {{ n: number, first: number, turned: number }} bias of the judge */
function biasText({ n, first, turned }) {
  const share = (/** @type {number} */ number) => `${Math.round(number * 100)} %`;
  return (
    `The judge's bias: of ${count(n)} pairs judged in both orders, it preferred the answer shown first ` +
    `${share(first)} of the time (50 % is fair), and turned with the order in ${share(turned)}.`
  );
}

/**
 * @param {PromptLine} line
 * @param {string} path
 */
function lineOf({ sample, question, by, state }, path) {
  const outcome = !by ? state : `${state} ${by > 0 ? "+" : ""}${Number(by.toFixed(3))}`;
  const body = make("div");
  const summary = make(
    "summary",
    {},
    make("b", {}, sample),
    ` ${question} `,
    outcome && make("span", { class: "voice" }, outcome),
  );
  const details = make("details", {}, summary, body);
  details.addEventListener("toggle", async () => {
    if (!details.open || body.childElementCount) return;
    try {
      fill(body, answersOf(await getJson(`${path}/prompt?sample=${encodeURIComponent(sample)}`)));
    } catch (problem) {
      fill(body, make("p", { class: "problem" }, messageOf(problem)));
    }
  });
  return details;
}

/**
 * An answer in which the words are marked that the first answer does not have.
 *
 * @param {string} first
 * @param {string} text
 */
function markedText(first, text) {
  const pieces = compareWords(first, text)?.filter(([kind]) => kind !== "left");
  return pieces?.map(([kind, piece]) => (kind === "same" ? piece : make("mark", { class: "right" }, piece))) ?? text;
}

/** @param {PromptDetails} prompt */
function answersOf({ question, reference, answers, verdicts }) {
  const sides = answers.map(
    ({ contestant, attempt, text, failed, value, judged, seconds: took, dollars: spent }, index) => {
      const facts = [value === null ? "not graded" : `grade ${Number(value.toFixed(3))}`, dollars(spent)];
      if (took !== null) facts.push(seconds(took));
      const title = attempt ? `${contestant}, attempt ${attempt + 1}` : contestant;
      return make(
        "div",
        {},
        make("h3", {}, title),
        make("p", { class: "note" }, facts.join(" · ")),
        failed && make("p", { class: "problem" }, failed),
        make("p", { class: "plain" }, index ? markedText(answers[0].text, text) : text),
        judged.length > 0 && judgeOf("What the judge wrote", judged),
      );
    },
  );
  const said = verdicts.map(({ one, other, value, judged }) => {
    const better = value === null ? "no verdict" : value === 0.5 ? "level" : `${value > 0.5 ? one : other} is better`;
    return judgeOf(`${one} against ${other}: ${better}`, judged);
  });
  return [
    make("p", { class: "plain note" }, question),
    reference && make("p", { class: "plain note" }, `Right: ${reference}`),
    make("div", { class: "lost-texts" }, sides),
    said,
  ].flat();
}

/**
 * @param {string} title
 * @param {string[]} texts
 */
function judgeOf(title, texts) {
  return make(
    "details",
    {},
    make("summary", {}, title),
    texts.map((text) => make("p", { class: "plain note" }, text)),
  );
}
