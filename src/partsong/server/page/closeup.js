// A seat at full length, in a dialog: its whole text while it grows, and beside it another seat's with what differs.

import { copyText } from "./code.js";
import { compareWords } from "./diff.js";
import { fill, make, newId } from "./dom.js";
import { modelName } from "./format.js";
import { Growing } from "./markdown.js";
import { seatsOf } from "./seats.js";

// Open the seat at this address. The dialog takes itself away when it is closed.
export function openSeat(run, address, beside = "") {
  const titles = newId("closeup");
  const title = make("h2", { id: titles });
  const facts = make("p", { class: "facts" });
  const notes = make("div", { class: "notes" });
  const other = make("select", { id: newId("beside"), onchange: () => show() });
  const body = make("div", { class: "closeup-body" });
  const copy = make("button", { type: "button", class: "quiet" }, "Copy");
  const close = make("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const choice = make("p", { class: "actions" }, make("label", { for: other.id }, "Beside it"), other, copy);
  const dialog = make(
    "dialog",
    { class: "closeup", "aria-labelledby": titles },
    make("header", {}, title, close),
    facts,
    notes,
    choice,
    body,
  );
  const seats = () => seatsOf(run).flat();
  const find = (wanted) => seats().find((seat) => seat.address === wanted);
  let growing = null;
  let shown = "";

  fill(
    other,
    make("option", { value: "" }, "nothing"),
    seats()
      .filter((seat) => seat.address !== address)
      .map((seat) => make("option", { value: seat.address }, `${seat.address} ${seat.name}`)),
  );
  other.value = beside;
  copy.addEventListener("click", () => copyText(find(address).text, copy));

  function show() {
    const seat = find(address);
    title.textContent = `${seat.address} · ${seat.name}`;
    facts.textContent = [seat.state, ...seat.facts].join(" · ");
    const told = notesOf(seat);
    if (notes.textContent !== told.join(""))
      fill(
        notes,
        told.map((note) => make("p", { class: "problem" }, note)),
      );
    if (other.value) showBeside(seat, find(other.value));
    else showAlone(seat);
  }

  function showAlone(seat) {
    if (!growing) {
      const place = make("div");
      fill(body, place);
      growing = new Growing(place);
      shown = "";
    }
    growing.show(seat.text, seat.state !== "writing");
  }

  function showBeside(seat, second) {
    growing = null;
    const wanted = `${second.address} ${seat.text.length} ${second.text.length}`;
    if (shown === wanted) return;
    shown = wanted;
    const pieces = compareWords(seat.text, second.text);
    const side = (each, kind, name) =>
      make(
        "section",
        { class: "side" },
        make("h3", {}, `${each.address} · ${each.name}`),
        make("p", { class: "plain" }, pieces ? marked(pieces, kind, name) : each.text),
      );
    const note = pieces ? shareSame(pieces) : "These texts differ too much to be compared word by word.";
    fill(
      body,
      make("p", { class: "note" }, note),
      make("div", { class: "sides" }, side(seat, "left", "del"), side(second, "right", "ins")),
    );
  }

  document.body.append(dialog);
  const deaf = run.listen(show);
  dialog.addEventListener("close", () => {
    deaf();
    dialog.remove();
  });
  dialog.showModal();
}

function marked(pieces, kind, name) {
  return pieces
    .filter(([each]) => each === "same" || each === kind)
    .map(([each, text]) => (each === "same" ? text : make(name, {}, text)));
}

function shareSame(pieces) {
  const words = (wanted) =>
    pieces.filter(([kind]) => wanted.includes(kind)).flatMap(([, text]) => text.match(/\S+/g) ?? []).length;
  const all = words(["same", "left", "right"]);
  return `${all ? Math.round((100 * words(["same"])) / all) : 100} % of the words are in both, in the same order.`;
}

function notesOf({ replaced, error }) {
  const notes = replaced.map(
    ([model, why]) => `instead of ${modelName(model)}, which failed: ${why.cause}: ${why.message}`,
  );
  return error ? [...notes, `lost: ${error.cause}: ${error.message}`] : notes;
}
