// @ts-check
// The score of a run: a column for each layer, a card for each seat, the aggregator at the end, and the timeline. The
// score is drawn a few times a second, however many events come in between.

import { Card } from "./card.js";
import { openSeat } from "./closeup.js";
import { Differences } from "./differences.js";
import { fill, make, say } from "./dom.js";
import { dollars, many, modelName, seconds } from "./format.js";
import { proseOf } from "./markdown.js";
import { originsOf } from "./origins.js";
import { countCalls, seatsOf } from "./seats.js";
import { Timeline } from "./timeline.js";
import { ANALYST_SEAT } from "./times.js";

/** @import { Run } from "./run.js" */
/** @import { Loss, ShownSeat, VotesCounted } from "./types.js" */

const PAUSE = 120; // milliseconds between two drawings
const VOICES = 6; // colours of proposals
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
  /** @param {Run} run */
  constructor(run) {
    this.run = run;
    this.summary = make("p", { class: "summary" });
    this.columns = make("div", { class: "columns" });
    this.votes = make("ul", { class: "votes" });
    this.losses = make("ul", { class: "losses" });
    this.timeline = new Timeline();
    this.origins = make("div", { class: "origins" });
    this.asking = make(
      "button",
      { type: "button", class: "quiet", disabled: true, "aria-expanded": "false", onclick: () => this.toggleOrigins() },
      "Where the answer comes from",
    );
    this.differences = new Differences(run);
    this.said = make("p", { class: "unseen", role: "status" });
    this.element = make(
      "section",
      { class: "score", "aria-label": "The score" },
      make("div", { class: "score-head" }, this.summary, this.differences.button, this.asking),
      this.columns,
      this.votes,
      this.losses,
      this.timeline.element,
      this.differences.element,
      this.origins,
      this.said,
    );
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
    say(this.summary, summaryOf(this.run, layers));
    say(this.said, toldOf(this.run, layers));
    this.showVotes();
    this.showLosses();
    this.differences.show();
    this.asking.disabled = this.run.transcript.answer === null || layers.length === 1;
    if (!this.run.over) this.soon(); // the seconds go on even if nobody speaks
  }

  /** @param {ShownSeat[][]} layers */
  lay(layers) {
    this.shape = shapeOf(layers);
    this.heads = layers.map(() => make("span", { class: "sub" }));
    this.cards = layers.map((seats) =>
      seats.map((seat) => new Card(seat.address, () => openSeat(this.run, seat.address))),
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

  toggleOrigins() {
    const open = this.asking.getAttribute("aria-expanded") === "true";
    this.asking.setAttribute("aria-expanded", String(!open));
    if (open) fill(this.origins);
    else this.showOrigins();
  }

  showOrigins() {
    const { layer, recipe } = this.run.transcript;
    const last = layer ?? recipe?.layers.findLastIndex((each) => !each.comments) ?? -1;
    const seats = (seatsOf(this.run)[last] ?? []).filter((seat) => seat.answer);
    const texts = seats.map((seat) => seat.text);
    const note = "Each sentence of the answer, with the proposal that shares most sequences of three words with it.";
    const sentences = originsOf(proseOf(this.run.transcript.text), texts).map(({ text, proposal, share }) =>
      make(
        "li",
        { "data-voice": proposal < 0 ? null : proposal % VOICES },
        originOf(this.run, seats[proposal], share),
        " ",
        make("span", {}, text),
      ),
    );
    fill(this.origins, make("p", { class: "note" }, note), make("ol", {}, sentences));
  }
}

/** @param {ShownSeat[][]} layers */
function shapeOf(layers) {
  return layers.map((seats) => seats.length).join();
}

/**
 * @param {Run} run
 * @param {ShownSeat | undefined} seat
 * @param {number} share
 */
function originOf(run, seat, share) {
  if (!seat) return make("span", { class: "voice" }, "of its own");
  const label = `${seat.address} ${seat.name} ${Math.round(100 * share)} %`;
  const open = () => openSeat(run, seat.address, "aggregator");
  return make("button", { type: "button", class: "voice", onclick: open }, label);
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
  const address = layer < layers ? `${layer + 1}.${seat + 1}` : seat === ANALYST_SEAT ? "analyst" : "aggregator";
  return `${address} ${modelName(model)}: ${KINDS[kind] ?? kind}${by} (${cause}: ${message})`;
}
