// Compare: the same question to two recipes or models, side by side, blind if wished; a vote, and how the two stand.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { dollars, many, seconds } from "./format.js";
import { Growing } from "./markdown.js";
import { Run } from "./run.js";
import { getJson, post } from "./server.js";

const CHOICES = [
  ["a", "Left is better", "1"],
  ["tie", "As good as each other", "2"],
  ["b", "Right is better", "3"],
];

export async function show(place) {
  const compare = new Compare(place);
  await Promise.all([compare.offer(), compare.showTallies()]);
  return () => compare.leave();
}

class Compare {
  constructor(place) {
    this.sides = [];
    this.text = make("textarea", { id: newId("question"), rows: 3, placeholder: "What both are to answer …" });
    this.pickers = ["Left", "Right"].map(() => make("select", { id: newId("side") }));
    this.blind = make("input", { type: "checkbox", id: newId("blind") });
    this.button = make("button", { class: "main" }, "Ask both");
    this.problem = make("p", { class: "problem", role: "alert" });
    this.pair = make("div", { class: "pair" });
    this.votes = make("div", { class: "votes", role: "group", "aria-label": "Your vote", hidden: true });
    this.verdict = make("p", { role: "status" });
    this.tallies = make("section", { "aria-label": "All votes" });
    const form = make(
      "form",
      { class: "ask-both" },
      make("label", { for: this.text.id, class: "unseen" }, "Your question"),
      this.text,
      make(
        "div",
        { class: "row" },
        this.pickers.map((picker, number) =>
          make("div", { class: "field" }, make("label", { for: picker.id }, number ? "Right" : "Left"), picker),
        ),
        make("div", { class: "field" }, make("label", { for: this.blind.id }, "Blind"), this.blind),
        this.button,
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running) this.stop();
      else this.ask();
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !this.running) {
        event.preventDefault();
        this.ask();
      }
    });
    this.pressed = (event) => this.key(event);
    addEventListener("keydown", this.pressed);
    fill(place, make("h1", {}, "Compare"), form, this.problem, this.pair, this.votes, this.verdict, this.tallies);
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
      for (const picker of this.pickers)
        fill(
          picker,
          names.map((name) => make("option", { value: name }, name)),
        );
      if (names.length > 1) this.pickers[1].value = names[1];
    } catch (problem) {
      this.problem.textContent = `What can be asked is not known: ${problem.message}`;
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
    this.question = question;
    this.hidden = this.blind.checked;
    this.voted = false;
    if (this.hidden && Math.random() < 0.5) names.reverse();
    this.sides = names.map(
      (name, number) => new Side(name, this.hidden ? "AB"[number] : name, question, this.hidden, () => this.changed()),
    );
    fill(
      this.pair,
      this.sides.map((side) => side.element),
    );
    this.changed();
  }

  stop() {
    for (const side of this.sides) side.run.stop();
  }

  changed() {
    this.button.textContent = this.running ? "Stop both" : "Ask both";
    const whole = this.sides.length === 2 && this.sides.every((side) => side.run.transcript.answer !== null);
    const same = whole && this.sides[0].name === this.sides[1].name;
    if (whole && !this.voted && !same && this.votes.hidden) {
      this.votes.hidden = false;
      fill(
        this.votes,
        CHOICES.map(([choice, words, key]) =>
          make(
            "button",
            { type: "button", "aria-keyshortcuts": key, title: `Key ${key}`, onclick: () => this.vote(choice) },
            words,
          ),
        ),
      );
    } else if (!whole || this.voted) {
      this.votes.hidden = true;
    }
    if (!this.running && this.sides.length && (!whole || same)) this.reveal();
    if (same && !this.voted) say(this.verdict, "Both are the same: there is nothing to vote on.");
    else if (!this.running && this.sides.length && !whole)
      say(this.verdict, "One side has no answer, so there is no vote.");
  }

  key(event) {
    const typing = /^(textarea|input|select)$/i.test(event.target.tagName);
    const found = CHOICES.find(([, , key]) => key === event.key);
    if (found && !typing && !this.votes.hidden && !event.ctrlKey && !event.metaKey && !event.altKey)
      this.vote(found[0]);
  }

  async vote(choice) {
    if (this.voted) return;
    this.voted = true;
    this.votes.hidden = true;
    this.reveal();
    const [a, b] = this.sides.map(({ name, run }) => ({ recipe: name, run: run.id }));
    try {
      const response = await post("/api/votes", { question: this.question, a, b, choice, blind: this.hidden });
      say(this.verdict, `Kept. ${standing(a.recipe, b.recipe, await response.json())}`);
      await this.showTallies();
    } catch (problem) {
      this.voted = false;
      this.problem.textContent = `The vote was not kept: ${problem.message}`;
      this.changed();
    }
  }

  reveal() {
    for (const side of this.sides) side.reveal();
  }

  async showTallies() {
    const { pairs } = await getJson("/api/votes/tally").catch(() => ({ pairs: [] }));
    if (!pairs.length) return;
    const rows = pairs.map((pair) => {
      const [a, b] = pair.recipes;
      const share = pair.share === null ? "–" : percent(pair.share);
      return make(
        "tr",
        {},
        make("td", { class: "what" }, `${a} and ${b}`),
        make("td", {}, `${pair.a} : ${pair.b}`),
        make("td", {}, String(pair.ties)),
        make("td", {}, share),
        make("td", {}, pair.interval ? pair.interval.map(percent).join(" to ") : "–"),
      );
    });
    const heads = ["Pair", "Votes", "Ties", "Share of the first", "95 % interval"];
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
      make("tbody", {}, rows),
    );
    fill(
      this.tallies,
      make("h2", {}, "All votes"),
      make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Votes by pair" }, table),
    );
  }
}

// One of the two: its answer as it grows, and, once it may be known, who it is and what it cost.
class Side {
  constructor(name, title, question, hidden, changed) {
    this.name = name;
    this.shown = !hidden;
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
      if (this.told !== this.run.over) changed();
      this.told = this.run.over;
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
    if (!run.over) say(this.facts, transcript.text ? "" : "At work …");
    else if (!this.shown) say(this.facts, "");
    else if (!this.told || !this.facts.childElementCount) this.tell();
  }

  tell() {
    const { transcript, seconds: took, id } = this.run;
    const losses = transcript.losses.length ? [many(transcript.losses.length, "loss", "losses")] : [];
    const known = [dollars(transcript.usage?.dollars), seconds(took), ...losses].join(" · ");
    fill(this.facts, `${known} `, id ? make("a", { href: `#/history/${encodeURIComponent(id)}` }, "its score") : null);
  }

  reveal() {
    if (this.shown) return;
    this.shown = true;
    say(this.title, this.name);
    this.element.setAttribute("aria-label", this.name);
    if (this.run.over) this.tell();
  }
}

function standing(a, b, { a: first, b: second, ties, share, interval }) {
  const votes = `${a} ${first} : ${second} ${b}${ties ? `, ${many(ties, "tie")}` : ""}`;
  if (share === null) return votes;
  const sure = interval[0] > 0.5 || interval[1] < 0.5;
  return `${votes}. ${a} has ${percent(share)} of the votes [${interval.map(percent).join(", ")}]${sure ? "" : ": not sure yet"}.`;
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}
