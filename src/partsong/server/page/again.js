// @ts-check
// A run again, with the proposals that are there and are not paid again: what is offered when only the aggregator has
// failed, and the dialog that leaves seats out, asks lost ones again, or takes another aggregator or method.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { dollars, many, modelName } from "./format.js";
import { placeOf, seatsOf } from "./seats.js";
import { messageOf, post } from "./server.js";

/** @import { Run } from "./run.js" */
/** @import { AgainChanges, ShownSeat } from "./types.js" */

/** @typedef {(changes: AgainChanges) => void} Again begins the new run */

const PAUSE = 250; // milliseconds without a change before the price is asked for
const METHODS = ["synthesize", "select", "vote"];

/**
 * Whether a run has proposals, so that it can be made again without paying for them.
 *
 * @param {Run} run
 */
export function canGoOn(run) {
  const { layers, conversation } = run.transcript;
  return (
    run.over && run.id !== null && conversation !== null && layers.some((seats) => seats.some((seat) => seat.answer))
  );
}

/**
 * Whether everything is there but the aggregation.
 *
 * @param {Run} run
 */
export function lacksAggregation(run) {
  const { answer, aggregator, last_resort: resort } = run.transcript;
  return canGoOn(run) && aggregator !== "" && (answer === null || resort);
}

/**
 * What can be done if only the aggregator has failed.
 *
 * @param {Run} run
 * @param {Again} again
 */
export function rescueOf(run, again) {
  const { conversation, last_resort: taken } = run.transcript;
  const [model, list] = modelField(run, "provider:model");
  const problem = make("p", { class: "problem", role: "alert" });
  const other = () => {
    if (model.value.trim()) again({ aggregator: model.value.trim() });
    else {
      problem.textContent = "Name the model that is to aggregate.";
      model.focus();
    }
  };
  const best = !taken && !conversation?.tools?.length && !conversation?.response_format;
  const cost = make("p", { class: "note" }, KEPT);
  patiently(() => priceOf(run, {})).then(
    (told) => say(cost, `${KEPT} Asking the aggregator again is ${told}.`),
    () => {}, // without a price the words stand
  );
  return make(
    "section",
    { class: "rescue", "aria-label": "What can be done" },
    cost,
    make(
      "p",
      { class: "actions" },
      make("button", { type: "button", class: "main", onclick: () => again({}) }, "Ask the aggregator again"),
      best ? make("button", { type: "button", onclick: () => again({ best: true }) }, "Use the best proposal") : null,
    ),
    make(
      "p",
      { class: "actions" },
      make("label", { for: model.id }, "With another model"),
      model,
      list,
      make("button", { type: "button", onclick: other }, "Ask it"),
    ),
    problem,
  );
}

const PAUSES = [500, 1000, 2000, 4000]; // milliseconds: a busy server stores the end of a run some time after the end

/**
 * Do this until it works, a few times at most; then throw what it throws.
 *
 * @template T
 * @param {() => Promise<T>} work
 */
async function patiently(work) {
  for (const pause of PAUSES) {
    try {
      return await work();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  return work();
}

const KEPT = "The proposals are kept, and are not paid again.";

/**
 * What a new run would ask and cost, in words. Throws `ServerError` if there can be none.
 *
 * @param {Run} run
 * @param {AgainChanges} changes
 */
async function priceOf(run, changes) {
  const response = await post(`/api/runs/${encodeURIComponent(run.id ?? "")}/again`, changes);
  /** @type {{ calls: number, typical_dollars: string | number | null }} */
  const { calls, typical_dollars: price } = await response.json();
  if (!calls) return "no call, for $0";
  return `${many(calls, "call")}, ${price === null ? "at an unknown price" : `about ${dollars(price)}`}`;
}

/**
 * A field for a model's id, and the list of those that are known.
 *
 * @param {Run} run
 * @param {string} hint
 * @returns {[HTMLInputElement, HTMLDataListElement]}
 */
function modelField(run, hint) {
  const list = make("datalist", { id: newId("models") });
  const field = make("input", { id: newId("model"), list: list.id, placeholder: hint, autocomplete: "off" });
  const own = seatsOf(run).flatMap((seats) => seats.map((seat) => seat.model));
  const offer = (/** @type {string[]} */ models) => {
    const all = [...new Set([...own, ...models])].filter((model) => model);
    fill(
      list,
      all.map((model) => make("option", { value: model })),
    );
  };
  offer([]);
  readAbout().then(
    ({ models }) => offer(models),
    () => {}, // the models of the run are there
  );
  return [field, list];
}

/**
 * The dialog for another aggregation of this run.
 *
 * @param {Run} run
 * @param {Again} again
 */
export function openAgain(run, again) {
  new Dialog(run, again).open();
}

class Dialog {
  /**
   * @param {Run} run
   * @param {Again} again
   */
  constructor(run, again) {
    this.run = run;
    const id = newId("again");
    /** @type {{ box: HTMLInputElement, seat: ShownSeat }[]} */
    this.boxes = [];
    const { aggregator } = run.transcript.recipe ?? {};
    const [model, list] = modelField(run, modelName(aggregator?.model ?? ""));
    this.model = model;
    this.method = make(
      "select",
      { id: newId("method") },
      make("option", { value: "" }, `as it was (${aggregator?.method ?? METHODS[0]})`),
      METHODS.map((method) => make("option", { value: method }, method)),
    );
    this.price = make("p", { class: "note", role: "status" });
    this.problem = make("p", { class: "problem", role: "alert" });
    const cancel = make("button", { type: "button", class: "quiet" }, "Cancel");
    const form = make(
      "form",
      { method: "dialog" },
      make("h2", { id }, "Aggregate again"),
      make("p", { class: "note" }, "A new run beside this one. Voices that are kept are not asked and not paid again."),
      seatsOf(run)
        .slice(0, -1)
        .map((seats, index) => this.layerOf(seats, index)),
      make("label", { for: this.model.id }, "Aggregator"),
      model,
      list,
      make("label", { for: this.method.id }, "Method"),
      this.method,
      this.price,
      this.problem,
      make("p", { class: "actions" }, make("button", { class: "main" }, "Aggregate again"), cancel),
    );
    cancel.addEventListener("click", () => this.element.close());
    form.addEventListener("submit", () => again(this.changes()));
    form.addEventListener("input", () => this.soon());
    this.element = make("dialog", { class: "small again", "aria-labelledby": id }, form);
    /** @type {number | undefined} */
    this.timer = undefined;
    this.asked = 0; // so that a late price does not stand for a later choice
  }

  open() {
    this.element.addEventListener("close", () => this.element.remove());
    document.body.append(this.element);
    this.element.showModal();
    this.tell();
  }

  /**
   * @param {ShownSeat[]} seats
   * @param {number} index
   */
  layerOf(seats, index) {
    const lines = seats.map((seat) => {
      const box = make("input", { type: "checkbox", id: newId("seat"), checked: seat.answer !== null });
      this.boxes.push({ box, seat });
      const why = seat.answer ? "" : ` – ${seat.state}${seat.error ? ` (${seat.error.cause})` : ""}: ask it`;
      return make("li", {}, box, make("label", { for: box.id }, ` ${seat.address} ${seat.name}${why}`));
    });
    return make("fieldset", {}, make("legend", {}, `Layer ${index + 1}`), make("ul", {}, lines));
  }

  /** @returns {AgainChanges} */
  changes() {
    const placesOf = (/** @type {boolean} */ answered) =>
      this.boxes
        .filter(({ box, seat }) => box.checked !== answered && (seat.answer !== null) === answered)
        .map(({ seat }) => placeOf(this.run, seat.address));
    return {
      ...(this.model.value.trim() && { aggregator: this.model.value.trim() }),
      ...(this.method.value && { method: this.method.value }),
      without: placesOf(true),
      retry: placesOf(false),
    };
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tell(), PAUSE);
  }

  async tell() {
    const mine = ++this.asked;
    try {
      const told = await priceOf(this.run, this.changes());
      if (mine !== this.asked) return;
      say(this.price, `It makes ${told}.`);
      say(this.problem, "");
    } catch (trouble) {
      if (mine !== this.asked) return;
      say(this.price, "");
      say(this.problem, numbered(messageOf(trouble)));
    }
  }
}

/**
 * The message with layers and seats as the page counts them, from 1.
 *
 * @param {string} message of the server about a run, which counts from 0
 */
export function numbered(message) {
  return message
    .replace(/\((\d+), (\d+)(?:-(\d+))?\)/g, (_, layer, seat, last) => {
      return `${Number(layer) + 1}.${Number(seat) + 1}${last ? `–${Number(last) + 1}` : ""}`;
    })
    .replace(/\blayer (\d+)/g, (_, layer) => `layer ${Number(layer) + 1}`);
}
