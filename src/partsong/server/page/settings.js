// @ts-check
// What the reader has set for the questions of this browser: the recipe, the system prompt, how the aggregator writes,
// and what may be spent. And the keys that are there.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { keyForm, keyList, readSetUp } from "./keys.js";
import { change, settings } from "./wishes.js";

/** @import { Wishes } from "./wishes.js" */

/** @type {[keyof Wishes, string, Record<string, any>][]} */
const FIELDS = [
  ["temperature", "Temperature of the aggregator", { type: "number", min: 0, max: 2, step: 0.1 }],
  ["effort", "Effort of the aggregator", { list: "efforts" }],
  ["conversation", "Most dollars for a conversation", { type: "number", min: 0, step: "any" }],
  ["today", "Most dollars today", { type: "number", min: 0, step: "any" }],
];

/** @param {HTMLElement} place */
export async function show(place) {
  const { recipes } = await readAbout();
  const wishes = settings();
  const names = ["", ...recipes.filter(({ unusable }) => !unusable).map(({ name }) => name)];
  const options = names.map((name) => make("option", { value: name }, name || "none"));
  const recipe = make("select", { id: newId("wish") }, options);
  const system = make("textarea", { id: newId("wish"), rows: 4 });
  recipe.value = wishes.recipe ?? "";
  system.value = wishes.system ?? "";
  const inputs = FIELDS.map(([key, words, properties]) => {
    const input = make("input", { id: newId("wish"), value: wishes[key] ?? "", ...properties });
    return fieldOf(key, words, input);
  });
  const efforts = ["none", "minimal", "low", "medium", "high"].map((value) => make("option", { value }));
  const keys = make("section");
  fill(
    place,
    make("h1", {}, "Settings"),
    make("p", { class: "note" }, "They hold for questions that this browser asks."),
    fieldOf("recipe", "Default recipe", recipe),
    fieldOf("system", "System prompt of new conversations", system),
    inputs,
    make("datalist", { id: "efforts" }, efforts),
    keys,
  );
  await showKeys(keys);
}

/**
 * @param {keyof Wishes} key
 * @param {string} words
 * @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} input
 */
function fieldOf(key, words, input) {
  input.addEventListener("change", () => change(key, input.value.trim()));
  return make("div", { class: "field" }, make("label", { for: input.id }, words), input);
}

/** @param {HTMLElement} place */
async function showKeys(place) {
  const setup = await readSetUp().catch(() => null);
  if (!setup) return; // the keys belong to the user of the server
  const said = make("p", { role: "status" });
  const again = (words = "") => {
    showKeys(place).then(() => say(place.querySelector("[role=status]") ?? said, words));
  };
  fill(place, make("h2", {}, "Keys"), keyList(setup, again), said, keyForm(setup, again));
}
