// @ts-check
// A recorded run, played as it went, for readers who cannot ask yet.

import { fill, make } from "./dom.js";
import { Past } from "./past.js";
import { getJson } from "./server.js";

const WORDS =
  "Recorded on 26 November 2026 on a computer with two cores and no graphics card. Two small models answered, so the " +
  "answer is a small model's. Nothing is asked and nothing is spent now.";

/** @param {HTMLElement} place */
export async function show(place) {
  const problem = make("p", { class: "problem", role: "alert" });
  const shown = make("div", { class: "turns" });
  const recorded = await getJson("/api/demonstration");
  const past = new Past({ ...recorded, id: "", state: "finished" }, shown, problem);
  const button = (/** @type {string} */ words, /** @type {() => void} */ act) =>
    make("button", { type: "button", class: "quiet", onclick: act }, words);
  const actions = [
    button("Play it again", () => past.play(1)),
    button("As it ended", () => past.whole()),
    make("a", { class: "button quiet", href: "#/ask" }, "Back"),
  ];
  const head = make(
    "div",
    { class: "past-head" },
    make("h1", {}, "A recorded run"),
    make("p", { class: "note" }, WORDS),
  );
  fill(place, head, make("p", { class: "actions" }, actions), problem, shown);
  past.play(1);
  return () => past.close();
}
