// What can be asked for here: recipes with their calls and what a run of them typically costs, and single models.

import { getJson, ServerError } from "./server.js";

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
  return { ...about, recipes: about.recipes ?? [], models: (about.models ?? []).map(named) };
}

function listed(entry) {
  const { calls, models } = entry.partsong;
  const about = entry.display_name === entry.id ? "" : entry.display_name;
  return { name: entry.id, about, calls, models, typical_dollars: null, unusable: null };
}

function named(model) {
  return typeof model === "string" ? model : (model.id ?? model.name);
}
