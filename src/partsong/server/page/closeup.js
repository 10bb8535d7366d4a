// @ts-check
// A seat at full length, in a dialog: its whole text while it grows, its calls, and beside it another seat's text with
// the differences marked.

import { copyText } from "./code.js";
import { compareWords } from "./diff.js";
import { fill, make, newId, say } from "./dom.js";
import { count, dollars, modelName, seconds } from "./format.js";
import { Growing } from "./markdown.js";
import { seatsOf } from "./seats.js";

/** @import { Piece } from "./diff.js" */
/** @import { Run } from "./run.js" */
/** @import { CallFinished, Quote, ShownSeat } from "./types.js" */

/**
 * Open the seat at this address. The dialog removes itself when it is closed.
 *
 * @param {Run} run
 * @param {string} address
 * @param {string} beside the address of another seat, or "" for none
 * @param {Quote | null} quote words of the seat's text to mark; the text is then shown as it was written
 */
export function openSeat(run, address, beside = "", quote = null) {
  new Closeup(run, address, beside, quote).open();
}

class Closeup {
  /**
   * @param {Run} run
   * @param {string} address
   * @param {string} beside
   * @param {Quote | null} quote
   */
  constructor(run, address, beside, quote) {
    this.run = run;
    this.address = address;
    this.quote = quote;
    const id = newId("closeup");
    this.title = make("h2", { id });
    this.facts = make("p", { class: "facts" });
    this.notes = make("div", { class: "notes" });
    this.other = make("select", { id: newId("beside"), onchange: () => this.show() });
    this.body = make("div", { class: "closeup-body" });
    this.copy = make("button", { type: "button", class: "quiet", onclick: () => this.copyWhole() }, "Copy");
    const close = make("button", { type: "button", class: "quiet" }, "Close");
    this.dialog = make(
      "dialog",
      { class: "closeup", "aria-labelledby": id },
      make("header", {}, this.title, close),
      this.facts,
      this.notes,
      make("p", { class: "actions" }, make("label", { for: this.other.id }, "Beside it"), this.other, this.copy),
      this.body,
    );
    close.addEventListener("click", () => this.dialog.close());
    /** @type {Growing | null} */
    this.growing = null;
    this.shown = ""; // which two texts are compared, at which lengths
    this.offer(beside);
  }

  /** @param {string} beside */
  offer(beside) {
    const others = seatsOf(this.run)
      .flat()
      .filter((seat) => seat.address !== this.address);
    fill(
      this.other,
      make("option", { value: "" }, "nothing"),
      others.map((seat) => make("option", { value: seat.address }, `${seat.address} ${seat.name}`)),
    );
    this.other.value = beside;
  }

  open() {
    document.body.append(this.dialog);
    const deaf = this.run.listen(() => this.show());
    this.dialog.addEventListener("close", () => {
      deaf();
      this.dialog.remove();
    });
    this.dialog.showModal();
  }

  /** @param {string} address */
  find(address) {
    return seatsOf(this.run)
      .flat()
      .find((seat) => seat.address === address);
  }

  copyWhole() {
    copyText(this.find(this.address)?.text ?? "", this.copy);
  }

  show() {
    const seat = this.find(this.address);
    if (!seat) return;
    say(this.title, `${seat.address} · ${seat.name}`);
    say(this.facts, [seat.state, ...seat.facts].join(" · "));
    const notes = notesOf(seat);
    const calls = seat.calls.length > 1 ? seat.calls.map(callText) : [];
    if (this.notes.textContent !== [...notes, ...calls].join("")) {
      fill(
        this.notes,
        notes.map((note) => make("p", { class: "problem" }, note)),
        calls.length ? make("ol", { class: "facts", "aria-label": "Calls" }, calls.map(listed)) : null,
      );
    }
    const other = this.other.value ? this.find(this.other.value) : null;
    if (other) this.showBeside(seat, other);
    else if (this.quote) this.showQuote(seat.text, this.quote);
    else this.showAlone(seat);
  }

  /**
   * The text as it was written, in which the places of quotes are counted, with the quote marked.
   *
   * @param {string} text
   * @param {Quote} quote
   */
  showQuote(text, { start, end }) {
    const wanted = `quote ${start} ${end}`;
    if (this.shown === wanted) return;
    this.shown = wanted;
    this.growing = null;
    const letters = [...text]; // places count characters, not UTF-16 units
    const [before, quoted, after] = [letters.slice(0, start), letters.slice(start, end), letters.slice(end)];
    const mark = make("mark", {}, quoted.join(""));
    fill(this.body, make("p", { class: "plain" }, before.join(""), mark, after.join("")));
    requestAnimationFrame(() => mark.scrollIntoView({ block: "center" }));
  }

  /** @param {ShownSeat} seat */
  showAlone(seat) {
    if (!this.growing) {
      const place = make("div");
      fill(this.body, place);
      this.growing = new Growing(place);
      this.shown = "";
    }
    this.growing.show(seat.text, seat.state !== "writing");
  }

  /**
   * @param {ShownSeat} seat
   * @param {ShownSeat} other
   */
  showBeside(seat, other) {
    this.growing = null;
    const wanted = `${other.address} ${seat.text.length} ${other.text.length}`;
    if (this.shown === wanted) return;
    this.shown = wanted;
    const pieces = compareWords(seat.text, other.text);
    const note = pieces ? shareSame(pieces) : "These texts differ too much to be compared word by word.";
    fill(
      this.body,
      make("p", { class: "note" }, note),
      make("div", { class: "sides" }, sideOf(seat, pieces, "left", "del"), sideOf(other, pieces, "right", "ins")),
    );
  }
}

/**
 * @param {ShownSeat} seat
 * @param {Piece[] | null} pieces
 * @param {"left" | "right"} kind
 * @param {"del" | "ins"} name of the element that marks the words that only this text has
 */
function sideOf({ address, name: model, text }, pieces, kind, name) {
  return make(
    "section",
    { class: "side" },
    make("h3", {}, `${address} · ${model}`),
    make("p", { class: "plain" }, pieces ? marked(pieces, kind, name) : text),
  );
}

/**
 * @param {Piece[]} pieces
 * @param {"left" | "right"} kind
 * @param {"del" | "ins"} name
 */
function marked(pieces, kind, name) {
  return pieces
    .filter(([each]) => each === "same" || each === kind)
    .map(([each, text]) => (each === "same" ? text : make(name, {}, text)));
}

/** @param {Piece[]} pieces */
function shareSame(pieces) {
  const all = countWords(pieces, ["same", "left", "right"]);
  const share = all ? Math.round((100 * countWords(pieces, ["same"])) / all) : 100;
  return `${share} % of the words are in both, in the same order.`;
}

/**
 * @param {Piece[]} pieces
 * @param {string[]} kinds
 */
function countWords(pieces, kinds) {
  return pieces.filter(([kind]) => kinds.includes(kind)).flatMap(([, text]) => text.match(/\S+/g) ?? []).length;
}

/** @param {ShownSeat} seat */
function notesOf({ replaced, error }) {
  const notes = replaced.map(
    ([model, why]) => `instead of ${modelName(model)}, which failed: ${why.cause}: ${why.message}`,
  );
  return error ? [...notes, `lost: ${error.cause}: ${error.message}`] : notes;
}

/** @param {CallFinished} call */
function callText({ model, seconds: took, usage, error, stored }) {
  const facts = [modelName(model), error ? `failed (${error.cause})` : "answered", seconds(took)];
  if (usage) facts.push(`${usage.estimated ? "≈ " : ""}${count(usage.output_tokens)} tok.`);
  if (stored) facts.push("stored");
  else if (usage) facts.push(dollars(usage.dollars));
  return facts.join(" · ");
}

/** @param {string} text */
function listed(text) {
  return make("li", {}, text);
}
