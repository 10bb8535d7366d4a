// @ts-check
// Compare: the same questions to two or more recipes or models, side by side, and blind if the reader wishes. The
// reader votes on each turn, and sees how the votes on two of them stand. The address names the last run of each side,
// so that a page that is loaded again finds the comparison, even while it goes on.

import { readAbout } from "./about.js";
import { rewriteAddress } from "./address.js";
import { messagesOf, turnsOf } from "./conversation.js";
import { fill, make, newId, say } from "./dom.js";
import { dollars, many, seconds } from "./format.js";
import { Growing } from "./markdown.js";
import { preparedText } from "./preparing.js";
import { Run } from "./run.js";
import { getJson, messageOf, post } from "./server.js";
import { isTyping, onEscape } from "./shortcuts.js";
import { tableOf } from "./table.js";

/** @import { Pair, PlainTurn, Standing } from "./types.js" */

/** @typedef {{ winner: number, words: string, key: string }} Choice `winner` is the index of a side; -1 for a tie */

const MOST = 6; // sides
const BLIND = "blind";
const LETTERS = "ABCDEF";
/** @type {Choice[]} */
const OF_TWO = [
  { winner: 0, words: "Left is better", key: "1" },
  { winner: -1, words: "As good as each other", key: "2" },
  { winner: 1, words: "Right is better", key: "3" },
];
const HEADS = ["Pair", "Votes", "Ties", "Share of the first", "95 % interval"];

/**
 * @param {HTMLElement} place
 * @param {string} rest "blind," if the names are hidden, and the last run of each side
 */
export async function show(place, rest) {
  const compare = new Compare(place);
  const runs = rest.split(",").filter(Boolean);
  const hidden = runs[0] === BLIND;
  const found = runs.slice(hidden ? 1 : 0, MOST + 1);
  if (found.length > 1) compare.find(found, hidden);
  await Promise.all([compare.offer(), compare.showTallies()]);
  return () => compare.leave();
}

class Compare {
  /** @param {HTMLElement} place */
  constructor(place) {
    /** @type {Side[]} */
    this.sides = []; // of the last turn
    this.question = "";
    this.hidden = false; // whether the names are hidden until the vote
    this.voted = false;
    /** @type {string[]} */
    this.names = []; // of the recipes and models that can be asked
    this.text = make("textarea", { id: newId("question"), rows: 3, placeholder: "What all are to answer …" });
    this.fields = make("div", { class: "row" });
    /** @type {HTMLSelectElement[]} */
    this.pickers = [];
    this.adding = make("button", { type: "button", class: "quiet", onclick: () => this.pick() }, "Add another");
    this.removing = make("button", { type: "button", class: "quiet", onclick: () => this.unpick() }, "One less");
    this.blind = make("input", { type: "checkbox", id: newId("blind") });
    this.button = make("button", { class: "main" });
    this.fresh = make("a", { class: "button quiet", href: "#/compare", hidden: true }, "New comparison");
    this.problem = make("p", { class: "problem", role: "alert" });
    this.turns = make("div", { class: "turns" });
    this.votes = make("div", { class: "votes", role: "group", "aria-label": "Your vote", hidden: true });
    this.verdict = make("p", { role: "status" });
    this.tallies = make("section", { "aria-label": "All votes" });
    this.pick();
    this.pick();
    this.pressed = (/** @type {KeyboardEvent} */ event) => this.key(event);
    addEventListener("keydown", this.pressed);
    this.deaf = onEscape(() => this.running && this.stop());
    const rest = [this.turns, this.votes, this.verdict, this.form(), this.problem, this.tallies];
    fill(place, make("h1", {}, "Compare"), rest);
  }

  form() {
    const form = make(
      "form",
      { class: "ask-both" },
      make("label", { for: this.text.id, class: "unseen" }, "Your question"),
      this.text,
      this.fields,
      make("div", { class: "row" }, this.adding, this.removing, labelled("Blind", this.blind), this.button, this.fresh),
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
    this.deaf();
    for (const side of this.sides) side.leave();
    this.sides = []; // whose last words must not change the address of the next view
  }

  get running() {
    return this.sides.some((side) => !side.run.over);
  }

  async offer() {
    try {
      const { recipes, models } = await readAbout();
      this.names = [...recipes.filter((recipe) => !recipe.unusable).map((recipe) => recipe.name), ...models];
      this.pickers.forEach((picker, index) => this.fillPicker(picker, picker.value || this.names[index]));
    } catch (problem) {
      this.problem.textContent = `The list of recipes could not be read: ${messageOf(problem)}`;
    }
  }

  /**
   * @param {HTMLSelectElement} picker
   * @param {string} wanted
   */
  fillPicker(picker, wanted = this.names[0]) {
    const names = wanted && !this.names.includes(wanted) ? [wanted, ...this.names] : this.names;
    fill(
      picker,
      names.map((name) => make("option", { value: name }, name)),
    );
    picker.value = wanted ?? "";
  }

  // One more side.
  pick(name = this.names[this.pickers.length]) {
    const picker = make("select", { id: newId("side") });
    this.fillPicker(picker, name);
    this.pickers.push(picker);
    this.showPickers();
  }

  unpick() {
    this.pickers.pop();
    this.showPickers();
  }

  showPickers() {
    const number = this.pickers.length;
    fill(
      this.fields,
      this.pickers.map((picker, index) => labelled(number > 2 ? LETTERS[index] : index ? "Right" : "Left", picker)),
    );
    this.changed();
  }

  ask() {
    const question = this.text.value.trim();
    const names = this.sides.length ? this.sides.map(({ name }) => name) : this.pickers.map(({ value }) => value);
    if (!question || names.includes("")) {
      this.problem.textContent = question ? "There is nothing that can be asked." : "There is no question.";
      return;
    }
    this.problem.textContent = this.verdict.textContent = this.text.value = "";
    if (!this.sides.length) {
      this.hidden = this.blind.checked;
    }
    if (this.hidden && !this.sides.length) {
      const drawn = names.map((name) => ({ name, place: Math.random() })).sort((one, other) => one.place - other.place);
      names.splice(0, names.length, ...drawn.map(({ name }) => name));
    }
    const before = this.sides.map((side) => side.turns);
    for (const side of this.sides) side.leave();
    this.begin(question, names, before);
    for (const side of this.sides) side.perform();
    document.title = `${question.split("\n", 1)[0]} · partsong`;
  }

  /**
   * Show a new turn.
   *
   * @param {string} question
   * @param {string[]} names
   * @param {PlainTurn[][]} before for each side
   */
  begin(question, names, before) {
    this.question = question;
    this.voted = false;
    this.sides = names.map((name, index) => {
      const turns = [...(before[index] ?? []), { question: { text: question, images: [], files: [] }, answer: "" }];
      const title = this.hidden ? LETTERS[index] : name;
      return new Side({ name, title, turns, hidden: this.hidden, changed: () => this.changed() });
    });
    this.addTurn(
      question,
      this.sides.map((side) => side.element),
    );
    this.changed();
  }

  /**
   * @param {string} question
   * @param {HTMLElement[]} columns
   */
  addTurn(question, columns) {
    const head = make("div", { class: "question" }, make("h2", { class: "unseen" }, "Question"));
    head.append(make("p", { class: "plain" }, question));
    this.turns.append(make("article", { class: "turn" }, head, make("div", { class: "pair" }, columns)));
  }

  /**
   * Show the comparison whose last runs these are.
   *
   * @param {string[]} ids
   * @param {boolean} hidden
   */
  find(ids, hidden) {
    this.hidden = this.blind.checked = hidden;
    this.begin("", ids.map(String), []);
    this.turns.replaceChildren();
    let known = 0;
    this.sides.forEach((side, index) => {
      side.found = () => {
        const { conversation, recipe } = side.run.transcript;
        side.name = recipe?.name ?? "";
        side.turns = turnsOf(conversation ?? { messages: [] }).turns;
        if (!hidden) side.reveal(true);
        known += 1;
        if (known === this.sides.length) this.showFound();
      };
      side.follow(ids[index]);
    });
  }

  // All sides are known: show their turns, and name them in the form.
  showFound() {
    const [{ turns }] = this.sides;
    turns.forEach(({ question }, index) => {
      const last = index === turns.length - 1;
      const columns = this.sides.map((side) => (last ? side.element : side.earlier(index)));
      this.addTurn(question.text, columns);
    });
    this.question = turns.at(-1)?.question.text ?? "";
    document.title = `${turns[0]?.question.text.split("\n", 1)[0]} · partsong`;
    this.pickers = [];
    for (const { name } of this.sides) this.pick(this.hidden ? this.names[0] : name);
    this.changed();
  }

  stop() {
    for (const side of this.sides) side.run.stop();
    return true;
  }

  // Show what the state of all sides allows: stopping, voting, going on, or to know who is who.
  changed() {
    const { running, sides } = this;
    const begun = sides.length > 0;
    const number = begun ? sides.length : this.pickers.length;
    const all = number > 2 ? "all" : "both";
    this.button.textContent = `${running ? "Stop" : "Ask"} ${all}`;
    this.fields.hidden = this.adding.hidden = this.removing.hidden = begun;
    this.adding.disabled = number >= MOST;
    this.removing.disabled = number < 3;
    this.blind.disabled = begun;
    this.blind.parentElement?.toggleAttribute("hidden", begun);
    this.fresh.hidden = !begun;
    if (!begun) return;
    const whole = sides.every((side) => side.run.transcript.answer !== null);
    const same = whole && new Set(sides.map(({ name }) => name)).size === 1;
    const open = whole && !same && !this.voted;
    if (open && this.votes.hidden) this.offerVotes();
    if (!open) this.votes.hidden = true;
    if (!running && (!whole || same)) this.reveal();
    const ids = sides.map(({ run }) => run.id);
    if (ids.every(Boolean)) rewriteAddress(`#/compare/${[...(this.hidden ? [BLIND] : []), ...ids].join(",")}`);
    const lost = sides.find(({ run }) => run.problem && !run.transcript.conversation);
    if (lost && !this.turns.childElementCount) {
      this.problem.textContent = `The run ${lost.run.id} cannot be shown: ${lost.run.problem}`;
    }
    if (same && !this.voted)
      say(this.verdict, `${number > 2 ? "All" : "Both"} are the same: there is nothing to vote on.`);
    else if (!running && !whole) say(this.verdict, "One side has no answer, so there is no vote.");
  }

  /** @returns {Choice[]} */
  choices() {
    if (this.sides.length < 3) return OF_TWO;
    const best = this.sides.map(({ title }, winner) => ({
      winner,
      words: `${title.textContent} is best`,
      key: String(winner + 1),
    }));
    return [...best, { winner: -1, words: "All are as good", key: "0" }];
  }

  offerVotes() {
    this.votes.hidden = false;
    fill(
      this.votes,
      this.choices().map(({ winner, words, key }) => {
        const keyed = { "aria-keyshortcuts": key, title: `Key ${key}` };
        return make("button", { type: "button", ...keyed, onclick: () => this.vote(winner) }, words);
      }),
    );
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const found = this.choices().find(({ key }) => key === event.key);
    const alone = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (found && alone && !isTyping(event.target) && !this.votes.hidden) this.vote(found.winner);
  }

  // A vote among several is a vote on each pair that it decides.
  /** @param {number} winner */
  async vote(winner) {
    if (this.voted) return;
    this.voted = true;
    this.votes.hidden = true;
    const blind = this.hidden;
    this.reveal();
    const sides = this.sides.map(({ name, run }) => ({ recipe: name, run: run.id }));
    const pairs = sides.flatMap((a, one) =>
      sides.slice(one + 1).map((b, other) => ({ a, b, one, other: one + 1 + other })),
    );
    try {
      let standing = "";
      for (const { a, b, one, other } of pairs) {
        if (a.recipe === b.recipe || (winner >= 0 && winner !== one && winner !== other)) continue;
        const choice = winner < 0 ? "tie" : winner === one ? "a" : "b";
        const response = await post("/api/votes", { question: this.question, a, b, choice, blind });
        standing = standingOf(a.recipe, b.recipe, await response.json());
      }
      say(this.verdict, sides.length > 2 ? "Kept, as votes on each pair." : `Kept. ${standing}`);
      this.changed();
      await this.showTallies();
    } catch (problem) {
      this.voted = false;
      this.problem.textContent = `The vote was not kept: ${messageOf(problem)}`;
      this.changed();
    }
  }

  reveal() {
    this.hidden = false; // what is known is not hidden in the next turn
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

// One side of a turn: its answer as it grows, and its name and cost once the reader may know them.
class Side {
  /**
   * @param {{ name: string, title: string, turns: PlainTurn[], hidden: boolean, changed: () => void }} asked
   *   `turns` are all turns of this side; `changed` is called when the run has begun, is known by its id, or has ended
   */
  constructor({ name, title, turns, hidden, changed }) {
    this.name = name;
    this.turns = turns;
    this.shown = !hidden;
    /** @type {string | null} */
    this.told = null; // the state in which `changed` was last called
    this.found = () => {}; // called once a run that is followed has said what it was asked
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
    this.changed = changed;
    this.deaf = () => {};
  }

  listen() {
    let known = false;
    this.deaf = this.run.listen(() => {
      const { over, id, transcript } = this.run;
      if (!known && transcript.conversation) {
        known = true;
        this.found();
      }
      this.show();
      const state = `${over} ${id}`;
      if (this.told !== state) this.changed();
      this.told = state;
    });
  }

  perform() {
    this.listen();
    this.run.perform({ model: this.name, messages: messagesOf(this.turns) });
  }

  /** @param {string} id */
  follow(id) {
    this.listen();
    this.run.follow(id);
  }

  // Hear no more. A run that has not ended would be paid for in vain.
  leave() {
    this.deaf();
    if (!this.run.id) this.run.stop();
    this.run.leave();
  }

  /**
   * An earlier turn, of which no more than the answer is known.
   *
   * @param {number} index
   */
  earlier(index) {
    const answer = make("div", { class: "answer" });
    new Growing(answer).show(this.turns[index]?.answer ?? "", true);
    const title = this.title.textContent ?? "";
    return make("section", { class: "side", "aria-label": title }, make("h2", {}, title), answer);
  }

  show() {
    const { run } = this;
    const { transcript } = run;
    this.growing.show(transcript.text, run.over);
    const last = this.turns.at(-1);
    if (last) last.answer = transcript.text;
    this.stop.hidden = run.over;
    say(this.problem, run.stopped ? "Stopped." : (transcript.error?.message ?? run.problem ?? ""));
    if (!run.over) say(this.facts, transcript.text ? "" : this.waiting());
    else if (!this.shown) say(this.facts, "");
    else if (!this.told?.startsWith("true") || !this.facts.childElementCount) this.tell();
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

  reveal(again = false) {
    if (this.shown && !again) return;
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
