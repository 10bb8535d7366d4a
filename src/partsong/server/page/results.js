// Results: what the bench has found.

import { fill, make } from "./dom.js";

export function show(place) {
  fill(place, make("h1", {}, "Results"), make("p", { class: "note" }, "What the bench has found. This view is not there yet."));
}
