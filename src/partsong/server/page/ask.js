// Ask: a conversation of several turns. The address names the last run, so that a page that is loaded again finds it,
// also in the middle, and with it the conversation that led to it.

import { readAbout } from "./about.js";
import { Composer } from "./composer.js";
import { messagesOf, turnsOf } from "./conversation.js";
import { fill, make } from "./dom.js";
import { rewriteHash } from "./router.js";
import { Run } from "./run.js";
import { TurnView } from "./turn.js";

const NEAR = 120; // pixels from the end of the page within which it follows what is written

export async function show(place, id) {
  const ask = new Ask(place);
  await Promise.all([ask.offer(), id ? ask.find(id) : null]);
  return () => ask.leave();
}

class Ask {
  constructor(place) {
    this.views = [];
    this.system = [];
    this.run = null;
    this.list = make("div", { class: "turns" });
    this.empty = make(
      "div",
      { class: "empty" },
      make("h1", {}, "Many voices, one answer"),
      make(
        "p",
        {},
        "Several models propose, others improve on what they propose, and one writes the answer. You see who said what, and what it cost.",
      ),
    );
    this.problem = make("p", { class: "problem", role: "alert" });
    this.composer = new Composer({
      send: (question, model) => this.send(question, model),
      stop: () => this.run?.stop(),
    });
    this.following = true; // what is written, while the page's end is in sight
    this.placed = true; // whether the new turn has been brought into sight
    this.scrolled = () => (this.following = innerHeight + scrollY > document.documentElement.scrollHeight - NEAR);
    addEventListener("scroll", this.scrolled, { passive: true });
    this.sizes = new ResizeObserver(() => this.scroll());
    this.sizes.observe(this.list);
    fill(place, this.empty, this.list, this.problem, this.composer.element);
    this.composer.text.focus({ preventScroll: true });
  }

  leave() {
    removeEventListener("scroll", this.scrolled);
    this.sizes.disconnect();
    for (const view of this.views) view.close();
    this.run?.leave();
  }

  // What has grown is followed; a new turn that is taller than the window begins at its top.
  scroll() {
    if (!this.placed && this.run?.transcript.recipe) {
      this.placed = true;
      const { element } = this.views.at(-1);
      this.following = element.offsetHeight + this.composer.element.offsetHeight < innerHeight;
      if (!this.following) element.scrollIntoView();
    }
    if (this.following) scrollTo(0, document.documentElement.scrollHeight);
  }

  async offer() {
    try {
      const about = await readAbout();
      this.composer.offer(about);
      const unusable = about.recipes.filter((recipe) => recipe.unusable).length;
      if (unusable === about.recipes.length)
        this.problem.textContent = "No recipe can be used here: `partsong doctor` says why.";
    } catch (problem) {
      this.composer.offer({ recipes: [], models: [] });
      this.problem.textContent = `What can be asked is not known: ${problem.message}`;
    }
  }

  // Ask the question after all turns that are there.
  send(question, model) {
    const run = this.begin({ question, answer: "" });
    run.perform({ model, messages: messagesOf(this.turns, this.system), ...this.options });
    this.options = {};
  }

  get turns() {
    return this.views.map((view) => view.turn);
  }

  begin(turn) {
    const run = new Run();
    this.run = run;
    this.add({ ...turn, run });
    this.composer.run(true);
    this.placed = false;
    const deaf = run.listen(() => {
      if (run.id && this.run === run) rewriteHash(`#/ask/${run.id}`);
      if (!run.over) return;
      deaf?.();
      if (this.run === run) this.composer.run(false);
    });
    return run;
  }

  add(turn) {
    const number = this.views.length;
    const view = new TurnView(turn, { edit: () => this.edit(number), retry: () => this.retry(number) });
    this.views.push(view);
    this.list.append(view.element);
    this.empty.hidden = true;
  }

  // Take the turns from this one on away, and its question up again.
  edit(number) {
    const { question } = this.cut(number);
    this.composer.edit(question);
  }

  retry(number) {
    const { question } = this.cut(number);
    this.options = { partsong: { cache: false } }; // the same words again would be no second try
    this.send(question, this.composer.recipe.value);
  }

  cut(number) {
    this.run?.stop();
    const gone = this.views.splice(number);
    for (const view of gone) {
      view.close();
      view.element.remove();
    }
    this.empty.hidden = this.views.length > 0;
    return gone[0].turn;
  }

  // Show a run that the server knows, with the turns before it.
  async find(id) {
    const run = new Run();
    this.run = run;
    this.composer.run(true);
    let known = false;
    run.listen(() => {
      const { conversation, recipe } = run.transcript;
      if (!known && conversation) {
        known = true;
        const { turns, system } = turnsOf(conversation);
        this.system = system;
        for (const turn of turns.slice(0, -1)) this.add(turn);
        this.add({ ...(turns.at(-1) ?? { question: { text: "", images: [] }, answer: "" }), run });
        this.composer.choose(recipe.name);
      }
      if (run.over && this.run === run) this.composer.run(false);
      if (run.problem && !known) this.problem.textContent = `The run ${id} cannot be shown: ${run.problem}`;
    });
    run.follow(id);
  }
}
