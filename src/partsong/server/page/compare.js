// @ts-check
// Compare: the same question to two recipes or models, side by side, and blind if the reader wishes. The reader votes,
// and sees how the votes on the two stand.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { dollars, many, seconds } from "./format.js";
import { Growing } from "./markdown.js";
import { preparedText } from "./preparing.js";
import { Run } from "./run.js";
import { getJson, messageOf, post } from "./server.js";
import { tableOf } from "./table.js";

/** @import { Pair, Standing } from "./types.js" */

/** @typedef {"a" | "tie" | "b"} Choice */

/** @type {{ choice: Choice, words: string, key: string }[]} */
const CHOICES = [
  { choice: "a", words: "Left is better", key: "1" },
  { choice: "tie", words: "As good as each other", key: "2" },
  { choice: "b", words: "Right is better", key: "3" },
];
const HEADS = ["Pair", "Votes", "Ties", "Share of the first", "95 % interval"];

/** @param {HTMLElement} place */
export async function show(place) {
  const compare = new Compare(place);
  await Promise.all([compare.offer(), compare.showTallies()]);
  return () => compare.leave();
}

class Compare {
  /** @param {HTMLElement} place */
  constructor(place) {
    /** @type {Side[]} */
    this.sides = [];
    this.question = "";
    this.hidden = false; // whether the names of the two are hidden until the vote
    this.voted = false;
    this.text = make("textarea", { id: newId("question"), rows: 3, placeholder: "What both are to answer …" });
    this.pickers = ["Left", "Right"].map(() => make("select", { id: newId("side") }));
    this.blind = make("input", { type: "checkbox", id: newId("blind") });
    this.button = make("button", { class: "main" }, "Ask both");
    this.problem = make("p", { class: "problem", role: "alert" });
    this.pair = make("div", { class: "pair" });
    this.votes = make("div", { class: "votes", role: "group", "aria-label": "Your vote", hidden: true });
    this.verdict = make("p", { role: "status" });
    this.tallies = make("section", { "aria-label": "All votes" });
    this.pressed = (/** @type {KeyboardEvent} */ event) => this.key(event);
    addEventListener("keydown", this.pressed);
    const rest = [this.problem, this.pair, this.votes, this.verdict, this.tallies];
    fill(place, make("h1", {}, "Compare"), this.form(), rest);
  }

  form() {
    const form = make(
      "form",
      { class: "ask-both" },
      make("label", { for: this.text.id, class: "unseen" }, "Your question"),
      this.text,
      make(
        "div",
        { class: "row" },
        this.pickers.map((picker, index) => labelled(index ? "Right" : "Left", picker)),
        labelled("Blind", this.blind),
        this.button,
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running) this.stop();
      else this.ask();
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || this.running) return;
      event.preventDefault();
      this.ask();
    });
    return form;
  }

  leave() {
    removeEventListener("keydown", this.pressed);
    for (const side of this.sides) side.leave();
  }

  get running() {
    return this.sides.some((side) => !side.run.over);
  }

  async offer() {
    try {
      const { recipes, models } = await readAbout();
      const names = [...recipes.filter((recipe) => !recipe.unusable).map((recipe) => recipe.name), ...models];
      for (const picker of this.pickers) {
        fill(
          picker,
          names.map((name) => make("option", { value: name }, name)),
        );
      }
      if (names.length > 1) this.pickers[1].value = names[1];
    } catch (problem) {
      this.problem.textContent = `The list of recipes could not be read: ${messageOf(problem)}`;
    }
  }

  ask() {
    const question = this.text.value.trim();
    const names = this.pickers.map((picker) => picker.value);
    if (!question || names.includes("")) {
      this.problem.textContent = question ? "There is nothing that can be asked." : "There is no question.";
      return;
    }
    this.problem.textContent = this.verdict.textContent = "";
    for (const side of this.sides) side.leave();
    this.sides = [];
    this.question = question;
    this.hidden = this.blind.checked;
    this.voted = false;
    if (this.hidden && Math.random() < 0.5) names.reverse();
    this.sides = names.map((name, index) => {
      const title = this.hidden ? "AB"[index] : name;
      return new Side({ name, title, question, hidden: this.hidden, changed: () => this.changed() });
    });
    fill(
      this.pair,
      this.sides.map((side) => side.element),
    );
    this.changed();
  }

  stop() {
    for (const side of this.sides) side.run.stop();
  }

  // Show what the state of both sides allows: stopping, voting, or to know who is who.
  changed() {
    const { running, sides } = this;
    this.button.textContent = running ? "Stop both" : "Ask both";
    const whole = sides.length === 2 && sides.every((side) => side.run.transcript.answer !== null);
    const same = whole && sides[0].name === sides[1].name;
    const open = whole && !same && !this.voted;
    if (open && this.votes.hidden) this.offerVotes();
    if (!open) this.votes.hidden = true;
    const over = !running && sides.length > 0;
    if (over && (!whole || same)) this.reveal();
    if (same && !this.voted) say(this.verdict, "Both are the same: there is nothing to vote on.");
    else if (over && !whole) say(this.verdict, "One side has no answer, so there is no vote.");
  }

  offerVotes() {
    this.votes.hidden = false;
    fill(
      this.votes,
      CHOICES.map(({ choice, words, key }) => {
        const keyed = { "aria-keyshortcuts": key, title: `Key ${key}` };
        return make("button", { type: "button", ...keyed, onclick: () => this.vote(choice) }, words);
      }),
    );
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { target } = event;
    const typing = target instanceof Element && /^(textarea|input|select)$/i.test(target.tagName);
    const found = CHOICES.find(({ key }) => key === event.key);
    const alone = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (found && alone && !typing && !this.votes.hidden) this.vote(found.choice);
  }

  /** @param {Choice} choice */
  async vote(choice) {
    if (this.voted) return;
    this.voted = true;
    this.votes.hidden = true;
    this.reveal();
    const [a, b] = this.sides.map(({ name, run }) => ({ recipe: name, run: run.id }));
    try {
      const response = await post("/api/votes", { question: this.question, a, b, choice, blind: this.hidden });
      say(this.verdict, `Kept. ${standingOf(a.recipe, b.recipe, await response.json())}`);
      await this.showTallies();
    } catch (problem) {
      this.voted = false;
      this.problem.textContent = `The vote was not kept: ${messageOf(problem)}`;
      this.changed();
    }
  }

  reveal() {
    for (const side of this.sides) side.reveal();
  }

  async showTallies() {
    /** @type {{ pairs: Pair[] }} */
    const { pairs } = await getJson("/api/votes/tally").catch(() => ({ pairs: [] }));
    if (!pairs.length) return;
    const table = tableOf("Votes by pair", HEADS, make("tbody", {}, pairs.map(rowOf)));
    fill(this.tallies, make("h2", {}, "All votes"), table);
  }
}

// One of the two: its answer as it grows, and its name and cost once the reader may know them.
class Side {
  /**
   * @param {{ name: string, title: string, question: string, hidden: boolean, changed: () => void }} asked
   *   `changed` is called when the run has begun or ended
   */
  constructor({ name, title, question, hidden, changed }) {
    this.name = name;
    this.shown = !hidden;
    /** @type {boolean | null} */
    this.told = null; // whether the run was over when `changed` was last called
    this.run = new Run();
    this.title = make("h2", {}, title);
    this.facts = make("p", { class: "note" });
    this.answer = make("div", { class: "answer" });
    this.growing = new Growing(this.answer);
    this.problem = make("p", { class: "problem", role: "alert" });
    this.stop = make("button", { type: "button", class: "quiet", onclick: () => this.run.stop() }, "Stop");
    this.element = make(
      "section",
      { class: "side", "aria-label": title },
      make("header", {}, this.title, this.stop),
      this.facts,
      this.answer,
      this.problem,
    );
    this.deaf = this.run.listen(() => {
      this.show();
      const { over } = this.run;
      if (this.told !== over) changed();
      this.told = over;
    });
    this.run.perform({ model: name, messages: [{ role: "user", content: question }] });
  }

  leave() {
    this.deaf();
    this.run.stop();
  }

  show() {
    const { run } = this;
    const { transcript } = run;
    this.growing.show(transcript.text, run.over);
    this.stop.hidden = run.over;
    say(this.problem, run.stopped ? "Stopped." : (transcript.error?.message ?? run.problem ?? ""));
    if (!run.over) say(this.facts, transcript.text ? "" : this.waiting());
    else if (!this.shown) say(this.facts, "");
    else if (!this.told || !this.facts.childElementCount) this.tell();
  }

  // What a side without words is doing. The name of a model would tell who is who.
  waiting() {
    const { preparing } = this.run;
    if (!preparing.length) return "At work …";
    return this.shown ? preparing.map(preparedText).join(" ") : "A model is being made ready …";
  }

  tell() {
    const { transcript, seconds: took, id } = this.run;
    const losses = transcript.losses.length ? [many(transcript.losses.length, "loss", "losses")] : [];
    const known = [dollars(transcript.usage?.dollars), seconds(took), ...losses].join(" · ");
    const link = id ? make("a", { href: `#/history/${encodeURIComponent(id)}` }, "its score") : null;
    fill(this.facts, `${known} `, link);
  }

  reveal() {
    if (this.shown) return;
    this.shown = true;
    say(this.title, this.name);
    this.element.setAttribute("aria-label", this.name);
    if (this.run.over) this.tell();
  }
}

/**
 * @param {string} words
 * @param {HTMLElement} field
 */
function labelled(words, field) {
  return make("div", { class: "field" }, make("label", { for: field.id }, words), field);
}

/** @param {Pair} pair */
function rowOf({ recipes: [first, second], a, b, ties, share, interval }) {
  return make(
    "tr",
    {},
    make("td", { class: "what" }, `${first} and ${second}`),
    make("td", {}, `${a} : ${b}`),
    make("td", {}, String(ties)),
    make("td", {}, share === null ? "–" : percent(share)),
    make("td", {}, interval ? interval.map(percent).join(" to ") : "–"),
  );
}

/**
 * @param {string} first
 * @param {string} second
 * @param {Standing} standing
 */
function standingOf(first, second, { a, b, ties, share, interval }) {
  const votes = `${first} ${a} : ${b} ${second}${ties ? `, ${many(ties, "tie")}` : ""}`;
  if (share === null || interval === null) return votes;
  const [low, high] = interval;
  const doubt = low > 0.5 || high < 0.5 ? "" : ": not sure yet";
  return `${votes}. ${first} has ${percent(share)} of the votes [${percent(low)}, ${percent(high)}]${doubt}.`;
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}
