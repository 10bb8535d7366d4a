// @ts-check
// Ask: a conversation of several turns. The address names the last run, so that a page that is loaded again finds the
// run, even while it goes on, and the conversation that led to it.

import { readAbout } from "./about.js";
import { rewriteAddress } from "./address.js";
import { Composer } from "./composer.js";
import { emptyTurn, messagesOf, turnsOf } from "./conversation.js";
import { fill, make } from "./dom.js";
import { greet } from "./greeting.js";
import { Run } from "./run.js";
import { messageOf } from "./server.js";
import { TurnView } from "./turn.js";
import { asWished } from "./wishes.js";

/** @import { Turn } from "./turn.js" */
/** @import { ChatMessage, PlainTurn, Question } from "./types.js" */

const NEAR = 120; // pixels: so near to its end, the page follows a growing answer
const INTRODUCTION =
  "Several models propose, others improve on what they propose, and one writes the answer. " +
  "You see who said what, and what it cost.";

/**
 * @param {HTMLElement} place
 * @param {string} id of a run, or ""
 */
export async function show(place, id) {
  const ask = new Ask(place);
  await Promise.all([ask.offer(), id ? ask.find(id) : null]);
  return () => ask.leave();
}

class Ask {
  /** @param {HTMLElement} place */
  constructor(place) {
    /** @type {TurnView[]} */
    this.views = [];
    /** @type {ChatMessage[]} */
    this.system = [];
    /** @type {Run | null} */
    this.run = null;
    this.options = {}; // of the next request
    this.list = make("div", { class: "turns" });
    this.empty = make(
      "div",
      { class: "empty" },
      make("h1", {}, "Many voices, one answer"),
      make("p", {}, INTRODUCTION),
    );
    this.problem = make("p", { class: "problem", role: "alert" });
    this.composer = new Composer({
      send: (question, model) => this.send(question, model),
      stop: () => this.run?.stop(),
    });
    this.following = true; // whether the page follows the answer, as it does while the page's end is in sight
    this.placed = true; // whether the new turn has been brought into sight
    this.scrolled = () => {
      this.following = innerHeight + scrollY > document.documentElement.scrollHeight - NEAR;
    };
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
    this.run = null; // whose last words must not change the address of the next view
  }

  // Follow a turn that grows. A new turn that is taller than the window begins at the window's top.
  scroll() {
    const element = this.views.at(-1)?.element;
    if (!this.placed && element && this.run?.transcript.recipe) {
      this.placed = true;
      this.following = element.offsetHeight + this.composer.element.offsetHeight < innerHeight;
      if (!this.following) element.scrollIntoView();
    }
    if (this.following) scrollTo(0, document.documentElement.scrollHeight);
  }

  async offer() {
    try {
      const about = await readAbout();
      this.composer.offer(about);
      await greet(this.empty, about, () => this.offer());
    } catch (problem) {
      this.composer.offer({ recipes: [], models: [] });
      this.problem.textContent = `The list of recipes could not be read: ${messageOf(problem)}`;
    }
  }

  /**
   * Ask the question after all turns that are there.
   *
   * @param {Question} question
   * @param {string} model
   */
  send(question, model) {
    const run = this.begin({ question, answer: "" });
    const turns = this.views.map((view) => view.turn);
    const body = { model, messages: messagesOf(turns, this.system), ...this.options };
    const runs = this.views.flatMap((view) => view.turn.run ?? []);
    run.perform(asWished(body, runs.slice(0, -1)));
    this.options = {};
  }

  /** @param {PlainTurn} turn */
  begin(turn) {
    const run = new Run();
    this.run = run;
    this.add({ ...turn, run });
    this.composer.run(true);
    this.placed = false;
    run.listen(() => {
      if (this.run !== run) return;
      if (run.id) rewriteAddress(`#/ask/${run.id}`);
      if (run.over) this.composer.run(false);
    });
    return run;
  }

  /** @param {Turn} turn */
  add(turn) {
    const index = this.views.length;
    const view = new TurnView(turn, { edit: () => this.edit(index), retry: () => this.retry(index) });
    this.views.push(view);
    this.list.append(view.element);
    this.empty.hidden = true;
  }

  /**
   * Remove the turns from this one on, and take up its question again.
   *
   * @param {number} index
   */
  edit(index) {
    this.composer.edit(this.cut(index).question);
  }

  /** @param {number} index */
  retry(index) {
    const model = this.composer.chosen();
    if (!model) return;
    const { question } = this.cut(index);
    this.options = { partsong: { cache: false } }; // a stored answer would be no second try
    this.send(question, model);
  }

  /**
   * Remove the turns from this one on, and return this one.
   *
   * @param {number} index
   */
  cut(index) {
    this.run?.stop();
    const gone = this.views.splice(index);
    for (const view of gone) {
      view.close();
      view.element.remove();
    }
    this.empty.hidden = this.views.length > 0;
    return gone[0].turn;
  }

  /**
   * Show a run that the server knows, with the turns before it.
   *
   * @param {string} id
   */
  async find(id) {
    const run = new Run();
    this.run = run;
    this.composer.run(true);
    let known = false;
    run.listen(() => {
      if (!known && run.transcript.conversation) {
        known = true;
        this.addAll(run);
      }
      if (run.over && this.run === run) this.composer.run(false);
      if (run.problem && !known) this.problem.textContent = `The run ${id} cannot be shown: ${run.problem}`;
    });
    run.follow(id);
  }

  /**
   * Show the conversation of a run that is followed.
   *
   * @param {Run} run
   */
  addAll(run) {
    const { conversation, recipe } = run.transcript;
    const { turns, system } = turnsOf(conversation ?? { messages: [] });
    this.system = system;
    for (const turn of turns.slice(0, -1)) this.add(turn);
    this.add({ ...(turns.at(-1) ?? emptyTurn()), run });
    this.composer.choose(recipe?.name ?? "");
  }
}
