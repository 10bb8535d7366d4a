// @ts-check
// Finds a model while its id is written: what the providers list, with window and price.

import { fill, make, newId } from "./dom.js";
import { count } from "./format.js";
import { getJson } from "./server.js";

const PAUSE = 200; // milliseconds after the last key

/**
 * Offer models below a field.
 *
 * @param {HTMLInputElement} input
 */
export function offerModels(input) {
  const list = make("datalist", { id: newId("models") });
  /** @type {number | undefined} */
  let timer;
  const search = async () => {
    const text = input.value;
    const { models } = await getJson(`/api/models?text=${encodeURIComponent(text.slice(0, 200))}`).catch(() => ({
      models: [],
    }));
    if (text === input.value) fill(list, models.map(optionOf));
  };
  for (const name of ["focus", "input"]) {
    input.addEventListener(name, () => {
      clearTimeout(timer);
      timer = setTimeout(search, PAUSE);
    });
  }
  input.setAttribute("list", list.id);
  return list;
}

/** @param {{ id: string, window: number | null, input: number | null, output: number | null }} model */
function optionOf({ id, window, input, output }) {
  const price = input === null || output === null ? "price unknown" : `$${input} in, $${output} out a million`;
  return make("option", { value: id }, `${window ? `${count(window)} tokens, ` : ""}${price}`);
}
