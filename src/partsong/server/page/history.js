// @ts-check
// History: stored runs found again, what they come to together, and one of them shown as it looked.

import { readAbout } from "./about.js";
import { barChart, lyingBarChart } from "./chart.js";
import { fill, make, newId } from "./dom.js";
import { count, dollars, many, seconds, shortName } from "./format.js";
import { showPast } from "./past.js";
import { getJson, messageOf } from "./server.js";
import { tableOf } from "./table.js";

/** @import { About, DayTotal, ModelTotal, Properties, RunLine } from "./types.js" */

const WAIT = 250; // milliseconds after the last key before a search begins
const LARGEST = 8; // models in the chart of tokens
const STATES = { finished: "", failed: "failed", open: "not ended" };
const HEADS = ["When", "Question", "Recipe", "Seconds", "Dollars", "Tokens", "Lost"];

/**
 * @param {HTMLElement} place
 * @param {string} id of a run, or ""
 */
export async function show(place, id) {
  return id ? showPast(place, id) : new History(place).start();
}

class History {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.turn = 0; // counts the searches, so that a slow one does not replace a later one
    /** @type {string | undefined} */
    this.last = undefined; // the id of the last run that is shown
    /** @type {number | undefined} */
    this.timer = undefined;
    this.rows = make("tbody");
    this.problem = make("p", { class: "problem", role: "alert" });
    this.note = make("p", { class: "note", role: "status" });
    this.more = make("button", { type: "button", class: "quiet", hidden: true }, "More");
    this.more.addEventListener("click", () => this.search(this.last));
    this.totals = make("section", { class: "totals", "aria-label": "Totals" });
    this.text = fieldOf("search", { placeholder: "words of the question" });
    this.recipe = make("select", { id: newId("recipe") }, make("option", { value: "" }, "any recipe"));
    this.model = fieldOf("text", { placeholder: "part of an id" });
    this.least = fieldOf("number", { min: 0, step: "any", placeholder: "0" });
    this.lost = fieldOf("checkbox", {});
    this.apart = fieldOf("checkbox", {});
    fill(
      place,
      make("h1", {}, "History"),
      this.form(),
      this.problem,
      tableOf("Runs", HEADS, this.rows),
      this.note,
      this.more,
      this.totals,
    );
  }

  form() {
    return make(
      "form",
      {
        class: "filters",
        role: "search",
        onsubmit: (/** @type {Event} */ event) => event.preventDefault(),
        oninput: () => this.soon(),
      },
      labelled("Question", this.text),
      labelled("Recipe", this.recipe),
      labelled("Model", this.model),
      labelled("At least dollars", this.least),
      labelled("With losses only", this.lost),
      labelled("Batches and benches too", this.apart),
    );
  }

  async start() {
    await Promise.all([this.search(), this.offer(), this.addUp()]);
    return () => clearTimeout(this.timer);
  }

  async offer() {
    /** @type {About} */
    const nothing = { recipes: [], models: [] };
    const { recipes, models } = await readAbout().catch(() => nothing);
    const names = [...recipes.map((recipe) => recipe.name), ...models];
    this.recipe.append(...names.map((name) => make("option", { value: name }, name)));
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), WAIT);
  }

  // Search anew, or for the runs before the one with this id.
  async search(before = "") {
    const mine = ++this.turn;
    try {
      /** @type {{ runs: RunLine[], more: boolean }} */
      const { runs, more } = await getJson(`/api/runs?${this.query(before)}`);
      if (mine !== this.turn) return;
      const rows = runs.map(rowOf);
      if (before) this.rows.append(...rows);
      else fill(this.rows, rows);
      this.last = runs.at(-1)?.id;
      this.more.hidden = !more;
      this.problem.textContent = "";
      this.note.textContent = this.rows.childElementCount ? "" : "No run matches.";
    } catch (problem) {
      if (mine === this.turn) this.problem.textContent = messageOf(problem);
    }
  }

  /** @param {string} before */
  query(before) {
    const wanted = {
      text: this.text.value.trim(),
      recipe: this.recipe.value,
      model: this.model.value.trim(),
      min_dollars: this.least.value,
      lost: this.lost.checked ? "1" : "",
      apart: this.apart.checked ? "1" : "",
      before,
    };
    return new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
  }

  async addUp() {
    /** @type {{ days: DayTotal[], models: ModelTotal[] }} */
    const { days, models } = await getJson("/api/totals?days=30").catch(() => ({ days: [], models: [] }));
    if (!days.some((day) => day.runs)) return;
    const largest = [...models].sort((one, other) => other.tokens - one.tokens).slice(0, LARGEST);
    const runs = days.map((day) => ({
      label: day.day,
      value: day.runs,
      words: `${many(day.runs, "run")}, ${priced(day)}`,
    }));
    const spent = days.map((day) => ({ label: day.day, value: Number(day.dollars ?? 0), words: priced(day) }));
    const tokens = largest.map((each) => ({
      label: shortName(each.model),
      value: each.tokens,
      words: `${count(each.tokens)} tokens, ${many(each.calls, "call")}, ${priced(each)}`,
    }));
    fill(
      this.totals,
      make("h2", {}, "The last 30 days"),
      barChart("Runs a day", runs),
      barChart("Dollars a day", spent),
      lyingBarChart("Tokens by model", tokens),
    );
  }
}

/** @param {DayTotal | ModelTotal} total */
function priced({ dollars: amount, unpriced }) {
  return `${dollars(amount ?? 0)}${unpriced ? ` and ${many(unpriced, "run")} of unknown price` : ""}`;
}

/**
 * @param {string} type
 * @param {Properties} properties
 */
function fieldOf(type, properties) {
  return make("input", { type, id: newId("filter"), autocomplete: "off", ...properties });
}

/**
 * @param {string} words
 * @param {HTMLElement} field
 */
function labelled(words, field) {
  return make("div", { class: "field" }, make("label", { for: field.id }, words), field);
}

/** @param {RunLine} run */
function rowOf(run) {
  const when = new Date(run.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  const title = run.question.trim() || "(no words)";
  const state = STATES[run.state];
  const number = (/** @type {string} */ words) => make("td", { class: "number" }, words);
  return make(
    "tr",
    {},
    make("td", {}, make("time", { datetime: run.at }, when)),
    make(
      "td",
      { class: "what" },
      make("a", { href: `#/history/${encodeURIComponent(run.id)}` }, title),
      state ? make("span", { class: "problem" }, ` ${state}`) : null,
    ),
    make("td", {}, `${shortName(run.recipe)}${run.again ? " (again)" : ""}${run.source ? ` (${run.source})` : ""}`),
    number(seconds(run.seconds)),
    number(dollars(run.dollars)),
    number(count(run.tokens)),
    number(run.lost ? count(run.lost) : ""),
  );
}
