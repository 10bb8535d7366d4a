// @ts-check
// One turn of a conversation on the page: the question, the score of its run, and the answer as it grows.

import { canGoOn, lacksAggregation, openAgain, rescueOf } from "./again.js";
import { openSeat } from "./closeup.js";
import { copyText } from "./code.js";
import { Differences } from "./differences.js";
import { fill, make, say } from "./dom.js";
import { saveRun } from "./download.js";
import { Growing } from "./markdown.js";
import { preparedText } from "./preparing.js";
import { sourceList } from "./read.js";
import { Run } from "./run.js";
import { lossesOf, Score } from "./score.js";
import { Sources } from "./sources.js";

/** @import { Again } from "./again.js" */
/** @import { PlainTurn, Question } from "./types.js" */

/** @typedef {PlainTurn & { run?: Run }} Turn */

const CHIPS = 4; // losses that stand at the answer; the others are in the score
const SHARE = 8; // milliseconds of a frame in which answers are made into elements

export class TurnView {
  /**
   * @param {Turn} turn
   * @param {{ edit: (() => void) | null, retry: (() => void) | null, again: Again | null }} wishes called when the
   *   reader asks again
   */
  constructor(turn, { edit, retry, again }) {
    this.again = again;
    this.turn = turn;
    /** @type {string | null} */
    this.id = turn.run?.id ?? null; // of the turn's run, as far as it is known
    /** @type {Score | null} */
    this.score = null;
    /** @type {Differences | null} */
    this.differences = null;
    /** @type {Sources | null} */
    this.sources = null;
    /** @type {(() => void) | null} */
    this.deaf = null;
    this.place = make("div", { class: "score-place" });
    this.waiting = make("p", { class: "note" });
    this.answer = make("div", { class: "answer" });
    this.growing = new Growing(this.answer);
    this.report = make("div", { class: "report" }); // beside the answer
    this.answered = make("div", { class: "answered" }, this.answer, this.report);
    this.chips = make("p", { class: "chips" });
    this.read = make("div"); // the sources
    this.rescue = make("div");
    this.looks = make("span", { class: "actions" }); // what shows more of the run
    this.more = make("button", { type: "button", class: "quiet", hidden: true }, "Aggregate again …");
    this.more.addEventListener("click", () => {
      if (this.turn.run && this.again) openAgain(this.turn.run, this.again);
    });
    this.problem = make("div", { class: "failure", role: "alert", hidden: true });
    this.branches = make("span", { class: "branches", role: "group", "aria-label": "Branches", hidden: true });
    this.copy = make("button", { type: "button", class: "quiet" }, "Copy as Markdown");
    this.copy.addEventListener("click", () => copyText(this.turn.answer, this.copy));
    this.keep = make("button", { type: "button", class: "quiet", onclick: () => this.save() }, "Save as Markdown");
    this.look = make("button", { type: "button", class: "quiet", hidden: true }, "Show the score");
    this.look.addEventListener("click", () => this.find());
    this.actions = make(
      "p",
      { class: "actions", hidden: true },
      this.copy,
      this.keep,
      make("button", { type: "button", class: "quiet", hidden: !retry, onclick: retry }, "Retry"),
      this.more,
      this.looks,
      this.look,
    );
    this.below = make("div"); // where the answer comes from
    this.element = make(
      "article",
      { class: "turn" },
      questionOf(turn.question, edit, this.branches),
      this.place,
      this.waiting,
      make("h2", { class: "unseen" }, "Answer"),
      this.answered,
      this.problem,
      this.read,
      this.rescue,
      this.chips,
      this.actions,
      this.below,
    );
    if (turn.run) this.watch(turn.run);
    else this.rest();
  }

  // A turn before the last one: its answer is shown soon, and its score when the reader wants it.
  rest() {
    later(() => this.growing.show(this.turn.answer, true));
    this.actions.hidden = this.turn.answer === "";
    this.keep.hidden = true;
  }

  find() {
    const run = new Run();
    this.look.hidden = true;
    this.turn.run = run;
    this.watch(run);
    this.score?.unfold();
    run.follow(this.id ?? "");
  }

  async save() {
    const problem = await saveRun(this.id ?? this.turn.run?.id ?? "", "markdown");
    if (problem) this.say(problem);
  }

  /** @param {string} words that stand at the answer for a while */
  say(words) {
    say(this.waiting, words);
  }

  /**
   * @param {number} index of this branch
   * @param {number} number of branches
   * @param {(index: number) => void} go shows another branch
   */
  showBranches(index, number, go) {
    this.keep.hidden = !this.id;
    this.look.hidden = !this.id || Boolean(this.turn.run);
    this.branches.hidden = number < 2;
    const step = (/** @type {number} */ to, /** @type {string} */ words, /** @type {string} */ sign) =>
      make(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": words,
          disabled: to < 0 || to >= number,
          onclick: () => go(to),
        },
        sign,
      );
    fill(
      this.branches,
      step(index - 1, "Earlier branch", "‹"),
      `${index + 1}/${number}`,
      step(index + 1, "Later branch", "›"),
    );
  }

  /**
   * Show this run, from its beginning or wherever it is.
   *
   * @param {Run} run
   */
  watch(run) {
    this.close();
    this.score = new Score(run, this.again);
    this.differences = new Differences(run);
    this.sources = new Sources(run);
    fill(this.place, this.score.element);
    fill(this.report, this.differences.element);
    fill(this.looks, this.differences.button, this.sources.button);
    fill(this.below, this.sources.element);
    fill(this.rescue);
    fill(this.read);
    fill(this.chips);
    this.deaf = run.listen(() => this.show(run));
  }

  close() {
    this.score?.close();
    this.deaf?.();
    this.score = this.deaf = null;
  }

  /** @param {Run} run */
  show(run) {
    const { transcript } = run;
    if (transcript.text) this.score?.makePlace();
    this.answered.hidden = !run.over && !transcript.text; // what grows from nothing counts as moved
    this.growing.show(transcript.text, run.over);
    this.turn.answer = transcript.text;
    say(this.waiting, waitingFor(run));
    this.actions.hidden = !run.over;
    this.copy.hidden = transcript.text === "";
    this.id ??= run.id;
    this.keep.hidden = !this.id;
    const why = run.stopped ? "Stopped. The calls made until then cost what they have used." : failureOf(run);
    this.problem.hidden = why === null;
    this.problem.classList.toggle("calm", run.stopped);
    say(this.problem, why ?? "");
    this.element.classList.toggle("answering", transcript.text !== "");
    this.differences?.show();
    this.sources?.show();
    if (run.over) this.end(run);
  }

  /**
   * Show what is known at the end of a run alone.
   *
   * @param {Run} run
   */
  end(run) {
    const { again } = this;
    this.more.hidden = !again || !canGoOn(run);
    if (again && lacksAggregation(run) && !this.rescue.childElementCount) fill(this.rescue, rescueOf(run, again));
    if (!this.read.childElementCount) fill(this.read, sourceList(run.transcript));
    const losses = lossesOf(run);
    if (this.chips.childElementCount || !losses.length) return;
    const rest = losses.length - CHIPS;
    fill(
      this.chips,
      losses
        .slice(0, CHIPS)
        .map(({ address, words, told }) => chipOf(words, told, () => openSeat(run, address, { again }))),
      rest > 0 ? chipOf(`and ${rest} more`, "Show the score", () => this.score?.unfold()) : null,
    );
  }
}

/**
 * @param {string} words
 * @param {string} title
 * @param {() => void} open
 */
function chipOf(words, title, open) {
  return make("button", { type: "button", class: "chip", title, onclick: open }, words);
}

/** @type {(() => void)[]} */
const waiting = [];

/**
 * Do this in one of the next frames, the last one first: many answers at once would stop the page for a while.
 *
 * @param {() => void} work
 */
function later(work) {
  if (waiting.push(work) === 1) requestAnimationFrame(workOff);
}

function workOff() {
  const until = performance.now() + SHARE;
  while (waiting.length && performance.now() < until) waiting.pop()?.();
  if (waiting.length) requestAnimationFrame(workOff);
}

/**
 * @param {Question} question
 * @param {(() => void) | null} edit
 * @param {HTMLElement} branches
 */
function questionOf({ text, images, files }, edit, branches) {
  return make(
    "div",
    { class: "question" },
    make("h2", { class: "unseen" }, "Question"),
    files.map(({ name }) => make("p", { class: "file" }, name)),
    images.map((url, index) =>
      url.startsWith("data:")
        ? make("img", { src: url, alt: `Picture ${index + 1} of the question` })
        : make("p", {}, `picture: ${url}`),
    ),
    make("p", { class: "plain" }, text),
    branches,
    make("button", { type: "button", class: "quiet edit", onclick: edit }, "Edit"),
  );
}

/** @param {Run} run */
function waitingFor({ over, transcript, preparing }) {
  if (over || transcript.text) return "";
  if (preparing.length) return preparing.map(preparedText).join(" ");
  return transcript.recipe ? "The proposers are at work …" : "Asking …";
}

/** @param {Run} run */
function failureOf({ transcript, problem }) {
  const { error } = transcript;
  if (error) {
    // The message of a layer without proposals has its number and those of its seats as the server counts them.
    const lost = error.cause === "no_proposals" && `every seat of layer ${transcript.layers.length} was lost`;
    return `There is no answer: ${lost || error.message} (${error.cause})`;
  }
  return problem === null ? null : `There is no answer: ${problem}`;
}
