// @ts-check
// Where the voices differ: the report of an analyst on the proposals of a run, beside the answer. The run's own report
// is shown when the run has ended. Otherwise the server asks a model once, and has its result the next time. Each
// quote opens its card.

import { openSeat } from "./closeup.js";
import { fill, make } from "./dom.js";
import { comparedLayer } from "./findings.js";
import { dollars, many, modelName } from "./format.js";
import { seatsOf } from "./seats.js";
import { messageOf, post } from "./server.js";

/** @import { Run } from "./run.js" */
/** @import { Analysis, Claim, Quote } from "./types.js" */

/** @typedef {{ layer: number, model: string, stored: boolean, dollars: string | null, analysis: Analysis }} Found */

const LEAST = 2; // proposals

export class Differences {
  /** @param {Run} run */
  constructor(run) {
    this.run = run;
    this.element = make("div", { class: "differences" });
    this.button = make(
      "button",
      { type: "button", class: "quiet", hidden: true, "aria-expanded": "false", onclick: () => this.toggle() },
      "Where the voices differ",
    );
    this.begun = false; // whether the run's own report has been shown
    /** @type {Found | null} */
    this.found = null;
  }

  show() {
    const { layers } = this.run.transcript;
    const enough = layers.some((seats) => seats.filter((seat) => seat.answer).length >= LEAST);
    this.button.hidden = !this.run.over || !enough || (this.run.id === null && !this.own());
    if (this.button.hidden || this.begun) return;
    this.begun = true;
    if (this.own()) this.toggle();
  }

  async toggle() {
    const open = this.button.getAttribute("aria-expanded") === "true";
    this.button.setAttribute("aria-expanded", String(!open));
    fill(this.element);
    if (open) return;
    this.found ??= this.own() ?? (await this.ask());
    if (this.found && this.button.getAttribute("aria-expanded") === "true") this.showFound(this.found);
  }

  /** @returns {Found | null} */
  own() {
    const { analysis, analyst, recipe } = this.run.transcript;
    if (!analysis || !recipe) return null;
    return { layer: comparedLayer(recipe), model: analyst?.model ?? "", stored: true, dollars: null, analysis };
  }

  /** @returns {Promise<Found | null>} */
  async ask() {
    fill(this.element, make("p", { class: "note", role: "status" }, "The proposals are compared …"));
    this.button.disabled = true;
    try {
      const response = await post(`/v1/runs/${encodeURIComponent(this.run.id ?? "")}/analysis`, {});
      return await response.json();
    } catch (trouble) {
      fill(this.element, make("p", { class: "problem", role: "alert" }, `Not compared: ${messageOf(trouble)}`));
      return null;
    } finally {
      this.button.disabled = false;
    }
  }

  /** @param {Found} found */
  showFound({ layer, model, stored, dollars: price, analysis }) {
    const { agreements, contradictions, single, gaps, dropped } = analysis;
    const claims = (/** @type {Claim[]} */ listed) =>
      listed.map((claim) => make("li", {}, make("b", {}, this.whoSays(claim, layer)), ...this.claimOf(claim, layer)));
    const told = [
      `Compared by ${modelName(model)}${stored ? "" : ` for ${dollars(price)}`}.`,
      "The quotes are checked, the statements are not.",
      dropped ? `${many(dropped, "entry", "entries")} left out, mostly for quotes that are not there.` : "",
    ];
    fill(
      this.element,
      make("h3", {}, "Where the voices differ"),
      make("p", { class: "note" }, told.join(" ")),
      sectionOf("They contradict each other", contradictions, ({ topic, positions }) => [
        `${topic}:`,
        make("ul", {}, claims(positions)),
      ]),
      sectionOf("They agree", agreements, (claim) => this.claimOf(claim, layer)),
      sectionOf("Only one says", single, (claim) => this.claimOf(claim, layer)),
      sectionOf("All leave out (the analyst’s opinion)", gaps, (gap) => [gap]),
      agreements.length + contradictions.length + single.length + gaps.length ? null : make("p", {}, "Nothing found."),
    );
  }

  /**
   * The voices that take a position.
   *
   * @param {Claim} claim
   * @param {number} layer
   */
  whoSays({ quotes }, layer) {
    const seats = seatsOf(this.run)[layer] ?? [];
    const places = [...new Set(quotes.map((quote) => quote.seat))];
    return `${places.map((place) => seats[place]?.short ?? `${layer + 1}.${place + 1}`).join(", ")}: `;
  }

  /**
   * @param {Claim} claim
   * @param {number} layer
   */
  claimOf({ statement, quotes }, layer) {
    return [statement, ...quotes.flatMap((quote) => [" ", this.quoteOf(quote, layer)])];
  }

  /**
   * @param {Quote} quote
   * @param {number} layer
   */
  quoteOf(quote, layer) {
    const address = `${layer + 1}.${quote.seat + 1}`;
    const open = () => openSeat(this.run, address, { quote });
    return make("button", { type: "button", class: "voice", onclick: open }, `${address} “${quote.text}”`);
  }
}

/**
 * @template T
 * @param {string} title
 * @param {T[]} entries
 * @param {(entry: T) => (string | Node)[]} partsOf
 */
function sectionOf(title, entries, partsOf) {
  if (!entries.length) return null;
  return make(
    "section",
    {},
    make("h4", {}, title),
    make(
      "ul",
      {},
      entries.map((entry) => make("li", {}, partsOf(entry))),
    ),
  );
}
