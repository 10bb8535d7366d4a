// History: runs that are stored.

import { fill, make } from "./dom.js";

export function show(place) {
  fill(place, make("h1", {}, "History"), make("p", { class: "note" }, "Runs that are stored. This view is not there yet."));
}
