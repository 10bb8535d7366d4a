// The score of a run: a column for each layer, a card for each seat, the aggregator at the end, and the timeline.
// It is drawn a few times a second, whatever comes in between.

import { Card } from "./card.js";
import { openSeat } from "./closeup.js";
import { fill, make, say } from "./dom.js";
import { dollars, many, modelName, seconds } from "./format.js";
import { proseOf } from "./markdown.js";
import { originsOf } from "./origins.js";
import { seatsOf } from "./seats.js";
import { Timeline } from "./timeline.js";

const PAUSE = 120; // milliseconds between two drawings

export class Score {
  constructor(run) {
    this.run = run;
    this.summary = make("p", { class: "summary" });
    this.columns = make("div", { class: "columns" });
    this.losses = make("ul", { class: "losses" });
    this.timeline = new Timeline();
    this.origins = make("div", { class: "origins" });
    this.asking = make(
      "button",
      { type: "button", class: "quiet", disabled: true, "aria-expanded": "false", onclick: () => this.toggleOrigins() },
      "Where the answer comes from",
    );
    this.said = make("p", { class: "unseen", role: "status" });
    this.element = make(
      "section",
      { class: "score", "aria-label": "The score" },
      make("div", { class: "score-head" }, this.summary, this.asking),
      this.columns,
      this.losses,
      this.timeline.element,
      this.origins,
      this.said,
    );
    this.cards = [];
    this.drawn = 0;
    this.timer = null;
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
    this.timer = null;
    this.drawn = performance.now();
    const layers = seatsOf(this.run);
    this.element.hidden = layers.length === 0;
    if (layers.length === 0) return;
    if (this.shape !== layers.map((seats) => seats.length).join()) this.lay(layers);
    layers.forEach((seats, number) => {
      say(this.heads[number], headOf(seats, number === layers.length - 1));
      seats.forEach((seat, place) => this.cards[number][place].show(seat));
    });
    this.timeline.show(this.run, layers);
    say(this.summary, summaryOf(this.run, layers));
    say(this.said, toldOf(this.run, layers));
    this.showLosses();
    this.asking.disabled = this.run.transcript.answer === null || layers.length === 1;
    if (!this.run.over) this.soon(); // the seconds go on where nobody speaks
  }

  lay(layers) {
    this.shape = layers.map((seats) => seats.length).join();
    this.heads = layers.map(() => make("span", { class: "sub" }));
    this.cards = layers.map((seats) =>
      seats.map((seat) => new Card(seat.address, () => openSeat(this.run, seat.address))),
    );
    fill(
      this.columns,
      layers.map((_, number) => {
        const last = number === layers.length - 1;
        const title = make("h3", {}, last ? "Aggregator " : `Layer ${number + 1} `, this.heads[number]);
        const cards = make(
          "div",
          { class: "cards" },
          this.cards[number].map((card) => card.element),
        );
        return make(
          "section",
          { class: last ? "column last" : "column", "aria-label": last ? "Aggregator" : `Layer ${number + 1}` },
          title,
          cards,
        );
      }),
    );
  }

  showLosses() {
    const { losses } = this.run.transcript;
    if (this.losses.childElementCount === losses.length) return;
    fill(
      this.losses,
      losses.map((loss) => make("li", {}, lossOf(loss))),
    );
  }

  toggleOrigins() {
    const open = this.asking.getAttribute("aria-expanded") === "true";
    this.asking.setAttribute("aria-expanded", String(!open));
    if (open) {
      fill(this.origins);
      return;
    }
    const layers = seatsOf(this.run);
    const seats = layers.at(-2).filter((seat) => seat.answer);
    const found = originsOf(
      proseOf(this.run.transcript.text),
      seats.map((seat) => seat.text),
    );
    fill(
      this.origins,
      make(
        "p",
        { class: "note" },
        "Each sentence of the answer, with the proposal that shares most sequences of three words with it.",
      ),
      make(
        "ol",
        {},
        found.map(({ text, proposal, share }) =>
          make(
            "li",
            { "data-voice": proposal < 0 ? null : proposal % 6 },
            origin(this.run, seats[proposal], share),
            " ",
            make("span", {}, text),
          ),
        ),
      ),
    );
  }
}

function origin(run, seat, share) {
  if (!seat) return make("span", { class: "voice" }, "of its own");
  const label = `${seat.address} ${seat.name} ${Math.round(100 * share)} %`;
  return make(
    "button",
    { type: "button", class: "voice", onclick: () => openSeat(run, seat.address, "aggregator") },
    label,
  );
}

function headOf(seats, last) {
  if (last) return seats[0].state;
  const done = seats.filter((seat) => seat.state === "done").length;
  const lost = seats.filter((seat) => seat.state === "lost").length;
  return `${done} of ${seats.length}${lost ? ` · ${lost} lost` : ""}`;
}

function summaryOf(run, layers) {
  const { transcript } = run;
  const known = [transcript.recipe.name, many(layers.flat().length, "call")];
  const { usage } = transcript;
  if (usage) known.push(many(usage.input_tokens + usage.output_tokens, "token"), dollars(usage.dollars));
  if (run.times.known) known.push(seconds(run.seconds));
  if (run.stopped) known.push("stopped");
  return known.join(" · ");
}

// What a screen reader says: turns of the run, not its words.
function toldOf(run, layers) {
  if (run.transcript.answer) return "The answer is complete.";
  if (run.over) return "The run has ended without an answer.";
  const at = Math.max(
    0,
    layers.findLastIndex((seats) => seats.some((seat) => seat.asked)),
  );
  return at === layers.length - 1
    ? "The aggregator writes."
    : `Layer ${at + 1}: ${headOf(layers[at], false)} answered.`;
}

function lossOf({ layer, seat, model, kind, cause, message, replaced_by: instead }) {
  const what =
    {
      failed: "lost",
      cut_off: "too late",
      replaced: "replaced",
      truncated: "cut at its limit",
      shortened: "read less",
      dropped: "not asked",
    }[kind] ?? kind;
  const by = instead ? ` by ${modelName(instead)}` : "";
  return `${layer + 1}.${seat + 1} ${modelName(model)}: ${what}${by} (${cause}: ${message})`;
}
