// @ts-check
// "Where the answer comes from": each piece of an answer, with the proposals that have the same or the like.

import { openSeat } from "./closeup.js";
import { fill, make } from "./dom.js";
import { originsOf } from "./origins.js";
import { seatsOf } from "./seats.js";

/** @import { Run } from "./run.js" */
/** @import { Likeness, Origin } from "./origins.js" */
/** @import { ShownSeat } from "./types.js" */

const VOICES = 6; // colours of proposals
const NOTE =
  "Sentences, lines of code, rows of tables and formulas of the answer, with the proposals that have the same or " +
  "the most of it. This is likeness; it does not prove who was read.";
/** @type {Record<Likeness, string>} */
const WORDS = { same: "the same", near: "nearly", part: "in part", own: "of its own", unknown: "not compared" };

export class Sources {
  /** @param {Run} run */
  constructor(run) {
    this.run = run;
    this.element = make("div", { class: "origins" });
    this.button = make(
      "button",
      { type: "button", class: "quiet", hidden: true, "aria-expanded": "false", onclick: () => this.toggle() },
      "Where the answer comes from",
    );
  }

  show() {
    const { answer, recipe, text } = this.run.transcript;
    this.button.hidden = answer === null || !text || !recipe?.layers.length;
  }

  toggle() {
    const open = this.button.getAttribute("aria-expanded") === "true";
    this.button.setAttribute("aria-expanded", String(!open));
    if (open) fill(this.element);
    else this.fill();
  }

  fill() {
    const { layer, recipe, text } = this.run.transcript;
    const last = layer ?? recipe?.layers.findLastIndex((each) => !each.comments) ?? -1;
    const seats = (seatsOf(this.run)[last] ?? []).filter((seat) => seat.answer);
    const origins = originsOf(
      text,
      seats.map((seat) => seat.text),
    );
    fill(
      this.element,
      make("h3", {}, "Where the answer comes from"),
      make("p", { class: "note" }, NOTE),
      make(
        "ol",
        {},
        origins.map((origin) => this.itemOf(origin, seats)),
      ),
    );
  }

  /**
   * @param {Origin} origin
   * @param {ShownSeat[]} seats
   */
  itemOf({ kind, text, likeness, proposals, share }, seats) {
    const words =
      likeness === "part" || likeness === "near" ? `${WORDS[likeness]}, ${percent(share)}` : WORDS[likeness];
    const voices = proposals.map((place) => {
      const { address, short, name } = seats[place];
      const open = () => openSeat(this.run, address, { beside: "aggregator" });
      return [
        make("button", { type: "button", class: "voice", title: name, onclick: open }, `${address} ${short}`),
        " ",
      ];
    });
    return make(
      "li",
      { "data-voice": proposals.length ? proposals[0] % VOICES : null, "data-likeness": likeness },
      voices.flat(),
      make("span", { class: "voice" }, words),
      " ",
      make(kind === "code" || kind === "formula" ? "code" : "span", {}, text),
    );
  }
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}
