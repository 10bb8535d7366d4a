// @ts-check
// A card: one seat of the score. Its size never changes. It shows the end of a text that grows, so that a hundred
// tokens a second cost one change of a short text; and then the first lines, without the marks of Markdown.

import { make, say } from "./dom.js";
import { modelName } from "./format.js";
import { piecesOf } from "./markdown.js";

/** @import { SeatState, ShownSeat } from "./types.js" */

const SHOWN = 900; // characters at most
const FIRST = 400; // characters of a finished text that are read for its first lines
/** @type {Record<SeatState, string>} */
const MARKS = {
  waiting: "○",
  asked: "◔",
  writing: "◑",
  done: "●",
  lost: "✕",
  spared: "◌",
  stopped: "■",
  "not asked": "–",
};

export class Card {
  /**
   * @param {string} address
   * @param {() => void} open
   */
  constructor(address, open) {
    this.state = make("span", { class: "state" });
    this.model = make("span", { class: "model" });
    this.words = document.createTextNode("");
    this.whole = ""; // the finished text whose first lines are known
    this.first = "";
    this.start = 0; // where in the text the shown part begins
    this.facts = make("p", { class: "facts" });
    this.button = make("button", { type: "button", class: "card-open", onclick: open }, this.model);
    this.element = make(
      "article",
      { class: "card" },
      make("div", { class: "card-head" }, this.button, this.state),
      make("p", { class: "preview" }, make("span", {}, this.words)),
      this.facts,
    );
    this.address = address;
  }

  /** @param {ShownSeat} seat */
  show(seat) {
    if (this.element.dataset.state !== seat.state) {
      this.element.dataset.state = seat.state;
      this.state.textContent = `${MARKS[seat.state]} ${seat.state}`;
    }
    say(this.model, seat.short);
    if (this.button.title !== seat.model) {
      this.button.title = seat.model;
      this.button.setAttribute("aria-label", `Open ${this.address}, ${seat.name}`);
    }
    const text = this.wordsOf(seat);
    if (this.words.data !== text) this.words.data = text;
    say(this.facts, seat.facts.join(" · "));
  }

  /** @param {ShownSeat} seat */
  wordsOf(seat) {
    if (seat.error) return `${seat.error.cause}: ${seat.error.message}`;
    if (seat.state !== "done" && seat.state !== "stopped") return this.end(seat.text || insteadOf(seat));
    if (this.whole !== seat.text) {
      this.whole = seat.text;
      const pieces = piecesOf(seat.text.slice(0, FIRST)).map((piece) => piece.text.trim());
      this.first = pieces.filter((text) => text).join("\n");
    }
    return this.first;
  }

  /**
   * The end of the text, from the start of a word. The same start is kept for a while, or else every line would jump.
   *
   * @param {string} text
   */
  end(text) {
    if (this.start > text.length) this.start = 0;
    if (text.length - this.start > SHOWN) {
      const wanted = text.length - SHOWN / 2;
      const space = text.indexOf(" ", wanted);
      this.start = space < 0 ? wanted : space + 1;
    }
    return text.slice(this.start);
  }
}

/** @param {ShownSeat} seat */
function insteadOf({ replaced }) {
  const last = replaced.at(-1);
  return last ? `instead of ${modelName(last[0])} (${last[1].cause})` : "";
}
