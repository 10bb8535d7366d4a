// @ts-check
// Ask: a conversation of several turns, beside the list of all conversations. The address names the last run, so that a
// page that is loaded again, on this device or another, finds the run and the conversation that led to it.
//
// To ask a question again or to change it makes a branch. What was there stays until the new run has begun.

import { readAbout } from "./about.js";
import { keepAddress, lastAddressOf, rewriteAddress } from "./address.js";
import { Composer } from "./composer.js";
import { emptyTurn, messagesOf, turnsOf } from "./conversation.js";
import { conversations, titleOf } from "./conversations.js";
import { fill, make } from "./dom.js";
import { greet } from "./greeting.js";
import { Run } from "./run.js";
import { getJson, messageOf } from "./server.js";
import { onEscape } from "./shortcuts.js";
import { Tree } from "./tree.js";
import { TurnView } from "./turn.js";
import { asWished } from "./wishes.js";

/** @import { Turn } from "./turn.js" */
/** @import { AgainChanges, ChatMessage, Question, ConversationEntry, RunLine } from "./types.js" */

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
  beginning?.then((run) => ask.takeUp(run));
  await Promise.all([ask.offer(), id ? ask.find(id) : null]);
  return () => ask.leave();
}

/** @type {Promise<string> | null} */
let beginning = null; // the id of a run that was left before the server had named the run

class Ask {
  /** @param {HTMLElement} place */
  constructor(place) {
    /** @type {TurnView[]} */
    this.views = [];
    /** @type {ChatMessage[]} */
    this.system = [];
    /** @type {Run | null} */
    this.run = null;
    this.tree = new Tree();
    /** @type {number | null} */
    this.editing = null; // the index of the turn whose question is being changed
    this.asked = false; // whether a question was asked since the view was opened
    this.turns = make("div", { class: "turns" });
    this.empty = make(
      "div",
      { class: "empty" },
      make("h1", {}, "Many voices, one answer"),
      make("p", {}, INTRODUCTION),
    );
    this.problem = make("p", { class: "problem", role: "alert" });
    this.composer = new Composer({
      send: (question, model) => this.send(question, model, this.editing ?? this.views.length),
      stop: () => this.run?.stop(),
      cancel: () => (this.editing = null),
    });
    this.following = true; // whether the page follows the answer, as it does while the page's end is in sight
    this.placed = true; // whether the new turn has been brought into sight
    this.scrolled = () => {
      this.following = innerHeight + scrollY > document.documentElement.scrollHeight - NEAR;
    };
    addEventListener("scroll", this.scrolled, { passive: true });
    this.sizes = new ResizeObserver(() => this.scroll());
    this.sizes.observe(this.turns);
    this.deaf = onEscape(() => this.escape());
    this.list = conversations();
    const aside = this.list.placeFor((entry) => this.changed(entry));
    const talk = make("div", { class: "talk" }, this.empty, this.turns, this.problem, this.composer.element);
    fill(place, aside, talk);
    if (this.list.seeking) this.list.seek();
    else this.composer.text.focus({ preventScroll: true });
  }

  leave() {
    removeEventListener("scroll", this.scrolled);
    this.sizes.disconnect();
    this.deaf();
    for (const view of this.views) view.close();
    const { run } = this;
    this.run = null; // whose last words must not change the address of the next view
    if (!run || run.id || run.over) run?.leave();
    else beginning = nameOf(run, lastAddressOf("ask") ?? "");
  }

  /**
   * Show the run that the reader has begun here and left at once, unless something else was asked in the meantime.
   *
   * @param {string} id
   */
  takeUp(id) {
    if (this.asked || !this.turns.isConnected || lastAddressOf("ask") !== `#/ask/${id}`) return;
    rewriteAddress(`#/ask/${id}`);
    this.find(id);
  }

  // End what can be ended, and say whether there was something.
  escape() {
    if (this.list.escape() || this.composer.cancel()) return true;
    if (!this.run || this.run.over) return false;
    this.run.stop();
    return true;
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

  /** @param {ConversationEntry | null} entry of this conversation; `null` if it was deleted */
  changed(entry) {
    if (entry) this.name(titleOf(entry));
    else location.hash = "#/ask";
  }

  /** @param {string} title of the conversation, for the tab */
  name(title) {
    const [line] = title.trim().split("\n", 1);
    if (line) document.title = `${line} · partsong`;
  }

  /**
   * Ask the question in this place: after all turns, or as a branch.
   *
   * @param {Question} question
   * @param {string} model
   * @param {number} at
   * @param {object} options of the request
   */
  send(question, model, at, options = {}) {
    this.editing = null;
    const before = this.views.slice(0, at);
    const after = before.findLast((view) => view.id)?.id ?? null;
    if (!this.views.length) this.name(question.text);
    const turn = { question, answer: "" };
    const messages = messagesOf([...before.map((view) => view.turn), turn], this.system);
    const run = this.begin(turn, at, after);
    const body = { model, messages, metadata: { conversation: this.tree.id, after: after ?? "" }, ...options };
    run.perform(asWished(body, [...this.tree.after.keys()]));
  }

  /**
   * @param {Turn} turn
   * @param {number} at
   * @param {string | null} after the run that the turn goes on from
   */
  begin(turn, at, after) {
    const run = new Run();
    this.asked = true;
    this.take(run);
    const old = this.views[at] ?? null;
    let shown = !old;
    if (old) old.say("Asking again …");
    else this.put([{ ...turn, run }], at);
    this.placed = false;
    let named = false;
    run.listen(() => {
      if (this.run !== run) return;
      if (!shown && run.transcript.recipe) {
        shown = true;
        this.put([{ ...turn, run }], at);
      }
      if (run.id && !named && shown) {
        named = true;
        this.tree.add(run.id, after);
        rewriteAddress(`#/ask/${run.id}`);
        this.mark();
        this.list.mark(this.tree.id);
        this.list.soon();
      }
      if (!run.over) return;
      this.free(run);
      if (shown) this.list.soon();
      else if (old) this.keep(old, turn, run);
    });
    return run;
  }

  /**
   * Leave everything as it is, because a branch has not begun.
   *
   * @param {TurnView} old
   * @param {Turn} turn
   * @param {Run} run
   */
  keep(old, { question }, run) {
    old.say("");
    this.run = null;
    if (run.stopped) return;
    this.problem.textContent = `It was not asked again: ${run.problem ?? ""}`;
    if (question !== old.turn.question) this.edit(this.views.indexOf(old), question);
  }

  // Make this run the one that is stopped by the button, and that the composer waits for.
  /** @param {Run} run */
  take(run) {
    if (this.run && !this.run.over) this.run.stop();
    this.run = run;
    this.problem.textContent = "";
    this.composer.run(true);
  }

  // The composer waits no longer for this run, which is over. A question that has waited for an answer is sent.
  /** @param {Run} run */
  free(run) {
    if (run.transcript.answer) this.composer.sendQueued();
    else this.composer.run(false);
  }

  /**
   * Put these turns in the place of all turns from `at` on.
   *
   * @param {Turn[]} turns
   * @param {number} at
   */
  put(turns, at) {
    const views = turns.map((turn, place) => {
      const index = at + place;
      return new TurnView(turn, {
        edit: () => this.edit(index),
        retry: () => this.retry(index),
        again: (changes) => this.again(index, changes),
      });
    });
    for (const view of this.views.splice(at, Infinity, ...views)) {
      view.close();
      view.element.remove();
    }
    this.turns.append(...views.map((view) => view.element));
    this.empty.hidden = true;
  }

  /**
   * @param {number} index
   * @param {Question} question
   */
  edit(index, question = this.views[index].turn.question) {
    this.editing = index;
    this.composer.edit(question);
  }

  /** @param {number} index */
  retry(index) {
    const model = this.composer.chosen();
    if (!model) return;
    // A stored answer would be no second try.
    this.send(this.views[index].turn.question, model, index, { partsong: { cache: false } });
  }

  /**
   * Make the run of this turn again with what it has, as a branch.
   *
   * @param {number} index
   * @param {AgainChanges} changes
   */
  again(index, changes) {
    const { id, turn } = this.views[index];
    const after = this.views.slice(0, index).findLast((view) => view.id)?.id ?? null;
    if (id) this.begin({ question: turn.question, answer: "" }, index, after).again(id, changes);
  }

  /**
   * Show a run that the server knows, with the turns before it.
   *
   * @param {string} id
   */
  async find(id) {
    const around = getJson(`/api/runs/${encodeURIComponent(id)}/conversation`);
    this.follow(id, 0);
    try {
      /** @type {ConversationEntry & { runs: (RunLine & { after: string | null })[] }} */
      const { runs, ...entry } = await around;
      this.tree.id = entry.id;
      this.tree.know(runs);
      this.name(entry.title);
      this.list.mark(entry.id);
      this.mark();
    } catch {
      // What is wrong with the run is told where its events are read.
    }
  }

  /**
   * @param {string} id of a run
   * @param {number} at the turn from which on its conversation differs from what is shown
   */
  follow(id, at) {
    const run = new Run();
    this.take(run);
    let known = false;
    run.listen(() => {
      if (this.run !== run) return;
      if (!known && run.transcript.conversation) {
        known = true;
        const { turns, system } = turnsOf(run.transcript.conversation);
        const last = turns.pop() ?? emptyTurn();
        this.system = system;
        this.put([...turns.slice(at), { ...last, run }], Math.min(at, turns.length));
        this.composer.choose(run.transcript.recipe?.name ?? "");
        this.mark();
      }
      if (run.over) this.free(run);
      if (run.problem && !known) this.problem.textContent = `The run ${id} cannot be shown: ${run.problem}`;
    });
    run.follow(id);
  }

  // Say of each turn which run it is, and which branches there are beside it.
  mark() {
    const last = this.views.at(-1)?.turn.run?.id;
    const path = last ? this.tree.path(last) : [];
    for (const [index, view] of this.views.entries()) {
      view.id = path[path.length - this.views.length + index] ?? view.turn.run?.id ?? null;
      const branches = view.id ? this.tree.branches(view.id) : [];
      view.showBranches(branches.indexOf(view.id ?? ""), branches.length, (place) => this.go(branches[place], index));
    }
  }

  /**
   * Show another branch, as far as it goes.
   *
   * @param {string} branch
   * @param {number} at
   */
  go(branch, at) {
    this.composer.cancel();
    if (this.run && !this.run.over) {
      this.run.leave(); // the run goes on
      this.run = null;
    }
    const leaf = this.tree.newest(branch);
    rewriteAddress(`#/ask/${leaf}`);
    this.following = false;
    this.follow(leaf, at);
  }
}

/**
 * The id of a run that has been left, once the server has named the run; the address of the view then leads there.
 *
 * @param {Run} run
 * @param {string} address of the view when it was left
 * @returns {Promise<string>} never resolved if there is no such run after all
 */
function nameOf(run, address) {
  return new Promise((resolve) => {
    const deaf = run.listen(() => {
      if (!run.id) return;
      deaf();
      run.leave(); // the run goes on
      if ((lastAddressOf("ask") ?? "") === address) keepAddress("ask", `#/ask/${run.id}`);
      beginning = null;
      resolve(run.id);
    });
  });
}
