// Recipes: recipes, drawn and edited.

import { fill, make } from "./dom.js";

export function show(place) {
  fill(place, make("h1", {}, "Recipes"), make("p", { class: "note" }, "Recipes, drawn and edited. This view is not there yet."));
}
