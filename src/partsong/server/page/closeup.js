// @ts-check
// A seat at full length, in a dialog: its whole text while it grows, its calls, what it was sent, and beside it another
// seat's text, as it reads or with the differences in words marked.

import { copyText } from "./code.js";
import { compareWords } from "./diff.js";
import { fill, make, newId, say } from "./dom.js";
import { count, dollars, modelName, seconds } from "./format.js";
import { Growing, rendered } from "./markdown.js";
import { useText } from "./read.js";
import { placeOf, seatsOf } from "./seats.js";
import { showSent } from "./sent.js";

/** @import { Piece } from "./diff.js" */
/** @import { Run } from "./run.js" */
/** @import { AgainChanges, CallFinished, Quote, ShownSeat } from "./types.js" */

/**
 * How a seat is opened: beside which other seat, with which words marked, and what begins a run again if it can be.
 *
 * @typedef {{ beside?: string, quote?: Quote | null, again?: ((changes: AgainChanges) => void) | null }} Opened
 */

/**
 * Open the seat at this address. The dialog removes itself when it is closed.
 *
 * @param {Run} run
 * @param {string} address
 * @param {Opened} opened
 */
export function openSeat(run, address, opened = {}) {
  new Closeup(run, address, opened).open();
}

class Closeup {
  /**
   * @param {Run} run
   * @param {string} address
   * @param {Opened} opened
   */
  constructor(run, address, { beside = "", quote = null, again = null }) {
    this.run = run;
    this.address = address;
    this.quote = quote; // its text is shown as it was written
    this.again = again;
    const id = newId("closeup");
    this.title = make("h2", { id });
    this.facts = make("p", { class: "facts" });
    this.notes = make("div", { class: "notes" });
    this.other = make("select", { id: newId("beside"), onchange: () => this.show() });
    this.body = make("div", { class: "closeup-body" });
    this.marks = make("input", { type: "checkbox", id: newId("marks"), onchange: () => this.show() });
    this.marking = make(
      "span",
      { hidden: true },
      this.marks,
      make("label", { for: this.marks.id }, " Mark the differences"),
    );
    this.sending = make(
      "button",
      { type: "button", class: "quiet", "aria-expanded": "false", onclick: () => this.toggleSent() },
      "What it was sent",
    );
    this.retry = make(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => this.askAgain() },
      "Ask this seat again",
    );
    this.copy = make("button", { type: "button", class: "quiet", onclick: () => this.copyWhole() }, "Copy");
    const close = make("button", { type: "button", class: "quiet" }, "Close");
    this.dialog = make(
      "dialog",
      { class: "closeup", "aria-labelledby": id },
      make("header", {}, this.title, close),
      this.facts,
      this.notes,
      make(
        "p",
        { class: "actions" },
        make("label", { for: this.other.id }, "Beside it"),
        this.other,
        this.marking,
        this.sending,
        this.retry,
        this.copy,
      ),
      this.body,
    );
    close.addEventListener("click", () => this.dialog.close());
    /** @type {Growing | null} */
    this.growing = null;
    this.shown = ""; // what is shown in place of the growing text
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

  get sent() {
    return this.sending.getAttribute("aria-expanded") === "true";
  }

  toggleSent() {
    this.sending.setAttribute("aria-expanded", String(!this.sent));
    this.show();
  }

  askAgain() {
    this.dialog.close();
    this.again?.({ retry: [placeOf(this.run, this.address)] });
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
    const uses = seat.uses.map(useText);
    if (this.notes.textContent !== [...notes, ...calls, ...uses].join("")) {
      fill(
        this.notes,
        notes.map((note) => make("p", { class: "problem" }, note)),
        calls.length ? make("ol", { class: "facts", "aria-label": "Calls" }, calls.map(listed)) : null,
        uses.length ? make("ol", { class: "facts", "aria-label": "Tool calls" }, uses.map(listed)) : null,
      );
    }
    const other = this.other.value ? this.find(this.other.value) : null;
    this.marking.hidden = !other || this.sent;
    this.sending.hidden = !this.run.id;
    const [layer] = placeOf(this.run, this.address);
    const lost = seat.error !== null && layer < (this.run.transcript.recipe?.layers.length ?? 0);
    this.retry.hidden = !this.again || !this.run.over || !this.run.id || !lost;
    if (this.sent && this.run.id) this.showSent(this.run.id);
    else if (other) this.showBeside(seat, other);
    else if (this.quote) this.showQuote(seat.text, this.quote);
    else this.showAlone(seat);
  }

  /** @param {string} run */
  showSent(run) {
    if (this.shown === "sent") return;
    this.shown = "sent";
    this.growing = null;
    showSent(this.body, run, placeOf(this.run, this.address));
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
    const wanted = `${other.address} ${seat.text.length} ${other.text.length} ${this.marks.checked}`;
    if (this.shown === wanted) return;
    this.shown = wanted;
    if (!this.marks.checked) {
      fill(this.body, make("div", { class: "sides" }, readOf(seat), readOf(other)));
      return;
    }
    const pieces = compareWords(seat.text, other.text);
    const note = pieces ? shareSame(pieces) : "These texts differ too much to be compared word by word.";
    fill(
      this.body,
      make("p", { class: "note" }, note),
      make("div", { class: "sides" }, sideOf(seat, pieces, "left", "del"), sideOf(other, pieces, "right", "ins")),
    );
  }
}

/** @param {ShownSeat} seat */
function readOf({ address, name: model, text }) {
  return make("section", { class: "side" }, make("h3", {}, `${address} · ${model}`), rendered(text));
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
