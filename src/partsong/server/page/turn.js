// One turn of a conversation on the page: the question, the score of its run, and the answer as it grows.

import { copyText } from "./code.js";
import { fill, make, say } from "./dom.js";
import { Growing } from "./markdown.js";
import { Score } from "./score.js";

export class TurnView {
  // `edit()` and `retry()` are called when the reader wants the question asked again.
  constructor(turn, { edit, retry }) {
    this.turn = turn;
    this.score = null;
    this.deaf = null;
    const { text, images } = turn.question;
    this.place = make("div", { class: "score-place" });
    this.waiting = make("p", { class: "note" });
    this.answer = make("div", { class: "answer" });
    this.growing = new Growing(this.answer);
    this.problem = make("div", { class: "failure", role: "alert", hidden: true });
    this.copy = make(
      "button",
      { type: "button", class: "quiet", onclick: () => copyText(this.turn.answer, this.copy) },
      "Copy the answer",
    );
    this.actions = make(
      "p",
      { class: "actions", hidden: true },
      this.copy,
      make("button", { type: "button", class: "quiet", onclick: retry }, "Retry"),
    );
    this.element = make(
      "article",
      { class: "turn" },
      make(
        "div",
        { class: "question" },
        make("h2", { class: "unseen" }, "Question"),
        images.map((url, number) =>
          url.startsWith("data:")
            ? make("img", { src: url, alt: `Picture ${number + 1} of the question` })
            : make("p", {}, `picture: ${url}`),
        ),
        make("p", { class: "plain" }, text),
        make("button", { type: "button", class: "quiet edit", onclick: edit }, "Edit"),
      ),
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

  // Show this run, from its beginning or wherever it is.
  watch(run) {
    this.close();
    this.turn.run = run;
    this.score = new Score(run);
    fill(this.place, this.score.element);
    this.deaf = run.listen(() => this.show());
  }

  close() {
    this.score?.close();
    this.deaf?.();
    this.score = this.deaf = null;
  }

  show() {
    const { run } = this.turn;
    const { transcript } = run;
    this.growing.show(transcript.text, run.over);
    this.turn.answer = transcript.text;
    say(
      this.waiting,
      run.over || transcript.text ? "" : transcript.recipe ? "The proposers are at work …" : "Asking …",
    );
    this.actions.hidden = !run.over;
    this.copy.hidden = transcript.text === "";
    const why = run.stopped ? "Stopped. What was said until then has cost what it has cost." : failureOf(run);
    this.problem.hidden = why === null;
    this.problem.classList.toggle("calm", run.stopped);
    say(this.problem, why ?? "");
  }
}

function failureOf({ transcript, problem }) {
  if (transcript.error) return `There is no answer: ${transcript.error.message} (${transcript.error.cause})`;
  return problem === null ? null : `There is no answer: ${problem}`;
}
