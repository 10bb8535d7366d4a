// @ts-check
// The score of a run: a column for each layer, a card for each seat, the aggregator at the end, and the timeline. The
// score is drawn a few times a second, however many events come in between. It folds to one line when the answer
// begins, which then stands where the score was, so that nothing that is read moves.

import { Card } from "./card.js";
import { openSeat } from "./closeup.js";
import { fill, make, say } from "./dom.js";
import { dollars, many, modelName, seconds } from "./format.js";
import { countCalls, seatsOf } from "./seats.js";
import { Timeline } from "./timeline.js";
import { ANALYST_SEAT } from "./times.js";

/** @import { Run } from "./run.js" */
/** @import { Again } from "./again.js" */
/** @import { Loss, ShownSeat, VotesCounted } from "./types.js" */

const PAUSE = 120; // milliseconds between two drawings
/** @type {Record<Loss["kind"], string>} */
const KINDS = {
  failed: "lost",
  cut_off: "too late",
  replaced: "replaced",
  truncated: "cut at its limit",
  shortened: "read less",
  dropped: "not asked",
};

export class Score {
  /**
   * @param {Run} run
   * @param {Again | null} again
   */
  constructor(run, again) {
    this.run = run;
    this.again = again;
    this.line = make("span", { class: "line" });
    this.summary = make("p", { class: "summary" });
    this.columns = make("div", { class: "columns" });
    this.votes = make("ul", { class: "votes" });
    this.losses = make("ul", { class: "losses" });
    this.timeline = new Timeline();
    this.said = make("p", { class: "unseen", role: "status" });
    const head = make("summary", {}, make("span", { class: "unseen" }, "The score: "), this.line);
    head.addEventListener("click", () => (this.chosen = true));
    const all = [this.summary, this.columns, this.votes, this.losses, this.timeline.element];
    this.fold = make("details", { class: "score", open: true }, head, make("div", { class: "score-body" }, all));
    this.element = make("section", { "aria-label": "The score" }, this.fold, this.said);
    this.chosen = false; // whether the reader has folded or unfolded it
    /** @type {Card[][]} */
    this.cards = [];
    /** @type {HTMLSpanElement[]} */
    this.heads = [];
    this.shape = ""; // the numbers of seats by layer
    this.drawn = 0;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.deaf = run.listen(() => this.soon());
  }

  close() {
    clearTimeout(this.timer);
    this.deaf();
  }

  soon() {
    this.timer ??= setTimeout(() => this.show(), Math.max(0, this.drawn + PAUSE - performance.now()));
  }

  show() {
    this.timer = undefined;
    this.drawn = performance.now();
    const layers = seatsOf(this.run);
    this.element.hidden = layers.length === 0;
    if (layers.length === 0) return;
    if (this.shape !== shapeOf(layers)) this.lay(layers);
    layers.forEach((seats, index) => {
      say(this.heads[index], headOf(seats, index === layers.length - 1));
      seats.forEach((seat, place) => this.cards[index][place].show(seat));
    });
    this.timeline.show(this.run, layers);
    say(this.line, lineOf(this.run));
    say(this.summary, summaryOf(this.run, layers));
    say(this.said, toldOf(this.run, layers));
    this.showVotes();
    this.showLosses();
    if (!this.run.over) this.soon(); // the seconds go on even if nobody speaks
  }

  /** @param {ShownSeat[][]} layers */
  lay(layers) {
    this.shape = shapeOf(layers);
    this.heads = layers.map(() => make("span", { class: "sub" }));
    this.cards = layers.map((seats) =>
      seats.map((seat) => new Card(seat.address, () => openSeat(this.run, seat.address, { again: this.again }))),
    );
    fill(
      this.columns,
      layers.map((_, index) => this.columnOf(index, index === layers.length - 1)),
    );
  }

  /**
   * @param {number} index
   * @param {boolean} last
   */
  columnOf(index, last) {
    const alone = this.cards[index].length === 1;
    const comments = this.run.transcript.recipe?.layers[index]?.comments;
    const end = alone ? "Aggregator" : "Analyst and aggregator";
    const name = last ? end : `Layer ${index + 1}${comments ? ": comments" : ""}`;
    return make(
      "section",
      { class: last ? "column last" : "column", "aria-label": name },
      make("h3", {}, `${name} `, this.heads[index]),
      make(
        "div",
        { class: "cards" },
        this.cards[index].map((card) => card.element),
      ),
    );
  }

  showVotes() {
    const { votes } = this.run.transcript;
    if (this.votes.childElementCount === votes.length) return;
    fill(
      this.votes,
      votes.map((count) => make("li", {}, voteOf(count))),
    );
  }

  showLosses() {
    const { losses, recipe } = this.run.transcript;
    const layers = recipe?.layers.length ?? 0;
    if (this.losses.childElementCount === losses.length) return;
    fill(
      this.losses,
      losses.map((loss) => make("li", {}, lossOf(loss, layers))),
    );
  }

  // Make place for the first words of the answer, in the frame in which they are shown: later, they would move.
  makePlace() {
    if (this.chosen || this.fold.contains(document.activeElement)) return;
    this.chosen = true;
    this.fold.open = false;
  }

  unfold() {
    this.chosen = true;
    this.fold.open = true;
  }
}

/** @param {ShownSeat[][]} layers */
function shapeOf(layers) {
  return layers.map((seats) => seats.length).join();
}

/**
 * @param {ShownSeat[]} seats
 * @param {boolean} last
 */
function headOf(seats, last) {
  if (last) return seats[seats.length - 1].state;
  const done = seats.filter((seat) => seat.state === "done").length;
  const lost = seats.filter((seat) => seat.state === "lost").length;
  const spared = seats.filter((seat) => seat.state === "spared").length;
  return `${done} of ${seats.length}${lost ? ` · ${lost} lost` : ""}${spared ? ` · ${spared} spared` : ""}`;
}

/**
 * The run in one line: "4 of 5 voices, 12 s, $0.021".
 *
 * @param {Run} run
 */
function lineOf(run) {
  const { recipe, layers, usage, planned, answered, spared } = run.transcript;
  const all = planned || (recipe?.layers.flatMap((layer) => layer.agents.map((agent) => agent.samples ?? 1)) ?? []);
  const whole = typeof all === "number" ? all : all.reduce((sum, each) => sum + each, 0);
  const there = answered || layers.flat().filter((seat) => seat.answer).length;
  const known = [whole ? `${there} of ${many(whole, "voice")}` : "one model"];
  if (spared) known.push(`${spared} spared`);
  if (run.times.known) known.push(seconds(run.seconds));
  if (usage) known.push(dollars(usage.dollars));
  if (run.stopped) known.push("stopped");
  return known.join(", ");
}

/**
 * @param {Run} run
 * @param {ShownSeat[][]} layers
 */
function summaryOf(run, layers) {
  const { recipe, usage } = run.transcript;
  const known = [recipe?.name, many(countCalls(run, layers), "call")];
  if (usage) known.push(many(usage.input_tokens + usage.output_tokens, "token"), dollars(usage.dollars));
  if (run.times.known) known.push(seconds(run.seconds));
  if (run.stopped) known.push("stopped");
  return known.join(" · ");
}

/**
 * What a screen reader says: the steps of the run, not its words.
 *
 * @param {Run} run
 * @param {ShownSeat[][]} layers
 */
function toldOf(run, layers) {
  if (run.transcript.answer) return "The answer is complete.";
  if (run.over) return "The run has ended without an answer.";
  const begun = layers.findLastIndex((seats) => seats.some((seat) => seat.asked));
  const index = Math.max(0, begun);
  if (index === layers.length - 1) {
    return layers[index].at(-1)?.asked ? "The aggregator writes." : "The analyst compares the proposals.";
  }
  return `Layer ${index + 1}: ${headOf(layers[index], false)} answered.`;
}

/** @param {VotesCounted} count */
function voteOf({ layer, rule, groups, abstained, needed, seat = null }) {
  const name = (/** @type {number} */ place) => `${layer + 1}.${place + 1}`;
  const said = groups.map(({ answer, seats }) => `${seats.length} for “${answer}” (${seats.map(name).join(", ")})`);
  if (abstained.length) said.push(`${abstained.map(name).join(", ")} stated nothing`);
  const what = rule === "agree" ? "agree" : "win the vote";
  const end = seat === null ? `no ${needed} ${what}` : `the answer is ${name(seat)}, as ${needed} ${what}`;
  return `Layer ${layer + 1}: ${[...said, end].join(" · ")}`;
}

/**
 * @param {Loss} loss
 * @param {number} layers number of layers of proposers
 */
function lossOf({ layer, seat, model, kind, cause, message, replaced_by: instead }, layers) {
  const by = instead ? ` by ${modelName(instead)}` : "";
  return `${addressOf(layer, seat, layers)} ${modelName(model)}: ${KINDS[kind] ?? kind}${by} (${cause}: ${message})`;
}

/**
 * @param {number} layer
 * @param {number} seat
 * @param {number} layers
 */
function addressOf(layer, seat, layers) {
  return layer < layers ? `${layer + 1}.${seat + 1}` : seat === ANALYST_SEAT ? "analyst" : "aggregator";
}

/**
 * What a run lacks, in a few words for each, with the address of the seat.
 *
 * @param {Run} run
 * @returns {{ address: string, words: string, told: string }[]}
 */
export function lossesOf({ transcript }) {
  const layers = transcript.recipe?.layers.length ?? 0;
  return transcript.losses.map((loss) => {
    const address = addressOf(loss.layer, loss.seat, layers);
    return { address, words: `${address} ${KINDS[loss.kind] ?? loss.kind}`, told: lossOf(loss, layers) };
  });
}
