// Compare: the same question to two recipes or models beside each other.

import { fill, make } from "./dom.js";

export function show(place) {
  fill(place, make("h1", {}, "Compare"), make("p", { class: "note" }, "The same question to two recipes or models beside each other. This view is not there yet."));
}
