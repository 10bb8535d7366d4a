// History: runs that are stored, found again; what they come to; and one of them, shown as it looked.

import { readAbout } from "./about.js";
import { barChart } from "./chart.js";
import { fill, make, newId } from "./dom.js";
import { count, dollars, many, seconds, shortName } from "./format.js";
import { showPast } from "./past.js";
import { getJson } from "./server.js";

const WAIT = 250; // milliseconds after the last key before a search begins
const SORTS = { finished: "", failed: "failed", open: "not ended" };

export async function show(place, id) {
  return id ? showPast(place, id) : new History(place).start();
}

class History {
  constructor(place) {
    this.turn = 0;
    this.rows = make("tbody");
    this.problem = make("p", { class: "problem", role: "alert" });
    this.note = make("p", { class: "note", role: "status" });
    this.more = make(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => this.search(this.last) },
      "More",
    );
    this.totals = make("section", { class: "totals", "aria-label": "Totals" });
    this.text = this.field("search", { placeholder: "words of the question" });
    this.recipe = make("select", { id: newId("recipe") }, make("option", { value: "" }, "any recipe"));
    this.model = this.field("text", { placeholder: "part of an id" });
    this.least = this.field("number", { min: 0, step: "any", placeholder: "0" });
    this.lost = this.field("checkbox", {});
    const form = make(
      "form",
      { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      labelled("Question", this.text),
      labelled("Recipe", this.recipe),
      labelled("Model", this.model),
      labelled("At least dollars", this.least),
      labelled("With losses only", this.lost),
    );
    form.addEventListener("input", () => this.soon());
    const heads = ["When", "Question", "Recipe", "Seconds", "Dollars", "Tokens", "Lost"];
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
      this.rows,
    );
    fill(
      place,
      make("h1", {}, "History"),
      form,
      this.problem,
      make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Runs" }, table),
      this.note,
      this.more,
      this.totals,
    );
  }

  field(type, properties) {
    return make("input", { type, id: newId("filter"), autocomplete: "off", ...properties });
  }

  async start() {
    await Promise.all([this.search(), this.offer(), this.addUp()]);
    return () => clearTimeout(this.timer);
  }

  async offer() {
    const { recipes, models } = await readAbout().catch(() => ({ recipes: [], models: [] }));
    for (const name of [...recipes.map((recipe) => recipe.name), ...models])
      this.recipe.append(make("option", { value: name }, name));
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), WAIT);
  }

  async search(before = "") {
    const mine = ++this.turn;
    const wanted = {
      text: this.text.value.trim(),
      recipe: this.recipe.value,
      model: this.model.value.trim(),
      min_dollars: this.least.value,
      lost: this.lost.checked ? "1" : "",
      before,
    };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
    try {
      const { runs, more } = await getJson(`/api/runs?${query}`);
      if (mine !== this.turn) return;
      const rows = runs.map(rowOf);
      if (before) this.rows.append(...rows);
      else fill(this.rows, rows);
      this.last = runs.at(-1)?.id;
      this.more.hidden = !more;
      this.problem.textContent = "";
      this.note.textContent = this.rows.childElementCount ? "" : "No run is like that.";
    } catch (problem) {
      if (mine === this.turn) this.problem.textContent = problem.message;
    }
  }

  async addUp() {
    const { days, models } = await getJson("/api/totals?days=30").catch(() => ({ days: [], models: [] }));
    if (!days.some((day) => day.runs)) return;
    const largest = [...models].sort((one, other) => other.tokens - one.tokens).slice(0, 8);
    fill(
      this.totals,
      make("h2", {}, "The last 30 days"),
      barChart(
        "Runs a day",
        days.map((day) => [day.day, day.runs, `${many(day.runs, "run")}, ${priced(day)}`]),
      ),
      barChart(
        "Dollars a day",
        days.map((day) => [day.day, Number(day.dollars ?? 0), priced(day)]),
      ),
      barChart(
        "Tokens by model",
        largest.map((each) => [
          shortName(each.model),
          each.tokens,
          `${count(each.tokens)} tokens, ${many(each.calls, "call")}, ${priced(each)}`,
        ]),
        true,
      ),
    );
  }
}

function priced({ dollars: amount, unpriced }) {
  return `${dollars(amount ?? 0)}${unpriced ? ` and ${many(unpriced, "run")} of unknown price` : ""}`;
}

function labelled(words, field) {
  return make("div", { class: "field" }, make("label", { for: field.id }, words), field);
}

function rowOf(run) {
  const when = new Date(run.at);
  const title = run.question.trim() || "(no words)";
  return make(
    "tr",
    {},
    make(
      "td",
      {},
      make("time", { datetime: run.at }, when.toLocaleString([], { dateStyle: "short", timeStyle: "short" })),
    ),
    make(
      "td",
      { class: "what" },
      make("a", { href: `#/history/${encodeURIComponent(run.id)}` }, title),
      SORTS[run.state] ? make("span", { class: "problem" }, ` ${SORTS[run.state]}`) : null,
    ),
    make("td", {}, shortName(run.recipe)),
    make("td", { class: "number" }, seconds(run.seconds)),
    make("td", { class: "number" }, dollars(run.dollars)),
    make("td", { class: "number" }, count(run.tokens)),
    make("td", { class: "number" }, run.lost ? count(run.lost) : ""),
  );
}
