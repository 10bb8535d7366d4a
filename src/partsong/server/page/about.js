// @ts-check
// What can be asked on this server: recipes with their calls and the typical cost of a run, and single models.

import { getJson, ServerError } from "./server.js";

/** @import { About, AboutRecipe } from "./types.js" */

/** @returns {Promise<About>} */
export async function readAbout() {
  let about;
  try {
    about = await getJson("/api/about");
    if (about.keyed && !about.recipes) {
      await getJson("/v1/models"); // asks for the key
      about = await getJson("/api/about");
    }
  } catch (problem) {
    if (!(problem instanceof ServerError) || problem.status !== 404) throw problem;
    about = { recipes: (await getJson("/v1/models")).data.map(listed), models: [] };
  }
  return { recipes: about.recipes ?? [], models: (about.models ?? []).map(named) };
}

/**
 * @param {{ id: string, display_name: string, partsong: { calls: number } }} entry of `/v1/models`
 * @returns {AboutRecipe}
 */
function listed({ id, display_name: about, partsong }) {
  return { name: id, about: about === id ? "" : about, calls: partsong.calls, typical_dollars: null, unusable: null };
}

/** @param {string | { id?: string, name?: string }} model */
function named(model) {
  return typeof model === "string" ? model : (model.id ?? model.name ?? "");
}

/**
 * The recipe that can be asked at once; else one whose weights must be fetched first.
 *
 * @param {AboutRecipe[]} recipes
 */
export function firstOf(recipes) {
  const usable = recipes.filter(({ unusable }) => !unusable);
  return usable.find(({ fetches = [] }) => !fetches.length) ?? usable[0];
}

/**
 * The bytes of the weights that must be fetched before the recipe can be asked.
 *
 * @param {AboutRecipe} recipe
 */
export function sizeOf({ fetches = [] }) {
  return fetches.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
}
