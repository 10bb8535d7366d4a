// @ts-check
// One turn of a conversation on the page: the question, the score of its run, and the answer as it grows.

import { copyText } from "./code.js";
import { fill, make, say } from "./dom.js";
import { Growing } from "./markdown.js";
import { preparedText } from "./preparing.js";
import { Score } from "./score.js";

/** @import { Run } from "./run.js" */
/** @import { PlainTurn, Question } from "./types.js" */

/** @typedef {PlainTurn & { run?: Run }} Turn */

export class TurnView {
  /**
   * @param {Turn} turn
   * @param {{ edit: (() => void) | null, retry: (() => void) | null }} wishes called when the reader asks again
   */
  constructor(turn, { edit, retry }) {
    this.turn = turn;
    /** @type {Score | null} */
    this.score = null;
    /** @type {(() => void) | null} */
    this.deaf = null;
    this.place = make("div", { class: "score-place" });
    this.waiting = make("p", { class: "note" });
    this.answer = make("div", { class: "answer" });
    this.growing = new Growing(this.answer);
    this.problem = make("div", { class: "failure", role: "alert", hidden: true });
    this.copy = make("button", { type: "button", class: "quiet" }, "Copy the answer");
    this.copy.addEventListener("click", () => copyText(this.turn.answer, this.copy));
    this.actions = make(
      "p",
      { class: "actions", hidden: true },
      this.copy,
      make("button", { type: "button", class: "quiet", onclick: retry }, "Retry"),
    );
    this.element = make(
      "article",
      { class: "turn" },
      questionOf(turn.question, edit),
      this.place,
      this.waiting,
      make("h2", { class: "unseen" }, "Answer"),
      this.answer,
      this.problem,
      this.actions,
    );
    if (turn.run) this.watch(turn.run);
    else this.growing.show(turn.answer, true);
  }

  /**
   * Show this run, from its beginning or wherever it is.
   *
   * @param {Run} run
   */
  watch(run) {
    this.close();
    this.score = new Score(run);
    fill(this.place, this.score.element);
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
    this.growing.show(transcript.text, run.over);
    this.turn.answer = transcript.text;
    say(this.waiting, waitingFor(run));
    this.actions.hidden = !run.over;
    this.copy.hidden = transcript.text === "";
    const why = run.stopped ? "Stopped. The calls made until then cost what they have used." : failureOf(run);
    this.problem.hidden = why === null;
    this.problem.classList.toggle("calm", run.stopped);
    say(this.problem, why ?? "");
  }
}

/**
 * @param {Question} question
 * @param {(() => void) | null} edit
 */
function questionOf({ text, images, files }, edit) {
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
  if (transcript.error) return `There is no answer: ${transcript.error.message} (${transcript.error.cause})`;
  return problem === null ? null : `There is no answer: ${problem}`;
}
