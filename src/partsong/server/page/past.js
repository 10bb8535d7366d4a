// @ts-check
// One stored run, shown as it looked: the question, the score and the answer out of the run's events; and played again.

import { emptyTurn, turnsOf } from "./conversation.js";
import { fill, make } from "./dom.js";
import { saveRun } from "./download.js";
import { dollars, many, seconds } from "./format.js";
import { Run } from "./run.js";
import { getJson, messageOf } from "./server.js";
import { TurnView } from "./turn.js";

/** @import { Turn } from "./turn.js" */
/** @import { AgainChanges, StoredRun } from "./types.js" */

const STEP = 30; // milliseconds between two looks for the next events

/**
 * @param {HTMLElement} place
 * @param {string} id
 */
export async function showPast(place, id) {
  const head = make("div", { class: "past-head" });
  const shown = make("div", { class: "turns" });
  const problem = make("p", { class: "problem", role: "alert" });
  fill(place, make("p", {}, make("a", { href: "#/history" }, "← All runs")), head, problem, shown);
  /** @type {StoredRun} */
  let stored;
  try {
    stored = await getJson(`/api/runs/${encodeURIComponent(id)}`);
  } catch (trouble) {
    problem.textContent = `The run ${id} cannot be shown: ${messageOf(trouble)}`;
    return null;
  }
  const past = new Past(stored, shown, problem);
  fill(head, make("h1", {}, stored.recipe), make("p", { class: "note" }, factsOf(stored)), past.actions());
  if (past.kept) past.whole();
  else shown.append(make("p", { class: "note" }, notKept(stored)));
  return () => past.close();
}

export class Past {
  /**
   * @param {StoredRun} stored
   * @param {HTMLElement} place
   * @param {HTMLElement} problem
   */
  constructor(stored, place, problem) {
    this.stored = stored;
    this.place = place;
    this.problem = problem;
    /** @type {TurnView[]} */
    this.views = [];
    /** @type {number | undefined} */
    this.timer = undefined;
  }

  // Whether the run's events were kept.
  get kept() {
    return this.stored.events.length > 0;
  }

  actions() {
    const { id } = this.stored;
    const replays = this.kept && [
      buttonOf("Play it again", () => this.play(1)),
      buttonOf("8 times as fast", () => this.play(8)),
      buttonOf("As it ended", () => this.whole()),
      make("a", { class: "button quiet", href: `#/ask/${encodeURIComponent(id)}` }, "Go on from here"),
    ];
    return make(
      "p",
      { class: "actions" },
      replays,
      buttonOf("As JSON", () => save(id, "json", this.problem)),
      buttonOf("As Markdown", () => save(id, "markdown", this.problem)),
    );
  }

  close() {
    clearTimeout(this.timer);
    for (const view of this.views) view.close();
    this.views = [];
  }

  // Put a run that has heard nothing yet in the place of the one before.
  begin() {
    this.close();
    const run = new Run();
    run.id = this.stored.id || null; // a recorded run is in no store
    const [{ event }] = this.stored.events;
    const turns = event.event === "run_started" ? turnsOf(event.conversation).turns : [];
    const last = turns.pop() ?? emptyTurn();
    this.views = [...turns, { ...last, run }].map((turn) => this.viewOf(turn));
    fill(
      this.place,
      this.views.map((view) => view.element),
    );
    return run;
  }

  /** @param {Turn} turn */
  viewOf(turn) {
    const view = new TurnView(turn, { edit: null, retry: null, again: (changes) => this.again(changes) });
    view.element.classList.add("past"); // a past turn is not edited: "Go on from here" does that
    view.score?.unfold(); // the score is what is looked at here
    return view;
  }

  /**
   * Begin a new run with what this one has, and go to where it is shown.
   *
   * @param {AgainChanges} changes
   */
  again(changes) {
    const run = new Run();
    run.listen(() => {
      if (run.problem) this.problem.textContent = `It was not asked again: ${run.problem}`;
      else if (run.id && run.transcript.recipe) location.hash = `#/ask/${encodeURIComponent(run.id)}`;
    });
    run.again(this.stored.id, changes);
  }

  whole() {
    const run = this.begin();
    for (const { event, seconds: moment } of this.stored.events) run.hear(event, moment);
    if (this.stored.state === "open") run.problem ??= "this run has not ended, or its process has died";
    run.tell();
  }

  /**
   * Hear every event again when it happened, or so many times as fast.
   *
   * @param {number} speed
   */
  play(speed) {
    const run = this.begin();
    const { events } = this.stored;
    const began = performance.now();
    let next = 0;
    const step = () => {
      const now = ((performance.now() - began) * speed) / 1000;
      while (next < events.length && events[next].seconds <= now) {
        run.hear(events[next].event, events[next].seconds);
        next += 1;
      }
      run.began = performance.now() - now * 1000;
      run.changed();
      if (next < events.length) this.timer = setTimeout(step, STEP);
    };
    step();
  }
}

/**
 * @param {string} words
 * @param {() => void} act
 */
function buttonOf(words, act) {
  return make("button", { type: "button", class: "quiet", onclick: act }, words);
}

/** @param {StoredRun} run */
function factsOf(run) {
  const when = new Date(run.at).toLocaleString();
  return [when, many(run.calls, "call"), dollars(run.dollars), seconds(run.seconds)].join(" · ");
}

/** @param {StoredRun} run */
function notKept({ question }) {
  return `The words of this run were not kept: its question was “${question}”.`;
}

/**
 * @param {string} id
 * @param {"json" | "markdown"} form
 * @param {HTMLElement} problem
 */
async function save(id, form, problem) {
  problem.textContent = await saveRun(id, form);
}
