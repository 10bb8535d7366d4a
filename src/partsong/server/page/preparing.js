// @ts-check
// Local models that the server is fetching or loading, asked while a run waits for its first words.

import { count } from "./format.js";
import { getJson } from "./server.js";

/** @import { Prepared, Recipe } from "./types.js" */
/** @import { Run } from "./run.js" */

const PAUSE = 1000; // ms between two questions
const LOCAL = "local:";
const DOING = {
  fetching: "Fetching",
  waiting: "Another process is fetching",
  checking: "Checking",
  loading: "Loading",
};

/**
 * Keep `run.preparing` up to date until the run has words or is over. A run whose recipe has no local models does not
 * wait for any.
 *
 * @param {Run} run
 */
export async function watchPreparing(run) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (run.left || run.over || run.transcript.text !== "") break;
    const names = run.transcript.recipe ? namesIn(run.transcript.recipe) : null;
    if (names && !names.some((name) => name.startsWith(LOCAL))) break;
    try {
      /** @type {Prepared[]} */
      const models = (await getJson("/api/preparing")).models;
      run.preparing = names ? models.filter(({ model }) => names.includes(model)) : models;
    } catch {
      run.preparing = [];
    }
    run.changed();
  }
  run.preparing = [];
  run.changed();
}

/**
 * What is being done, as a sentence: "Fetching qwen, 310 of 1,117 MB …"
 *
 * @param {Prepared} prepared
 */
export function preparedText({ model, state, done, total }) {
  const name = model.slice(LOCAL.length);
  const size =
    state === "loading" || !(done || total) ? "" : `, ${megabytes(done)}${total ? ` of ${megabytes(total)}` : ""} MB`;
  return `${DOING[state]} ${name}${size} …`;
}

/** @param {number} bytes */
export function megabytes(bytes) {
  return count(Math.round(bytes / 1e6));
}

/**
 * The ids of the models of a recipe.
 *
 * @param {Recipe} recipe
 */
function namesIn({ layers, aggregator }) {
  const agents = [...layers.flatMap((layer) => layer.agents), aggregator];
  return agents.flatMap(({ model, fallback }) => [model ?? "", ...(fallback ?? [])]);
}
