// @ts-check
// Fetching the weights of a recipe, with a bar, the time that is left, and a way to stop.

import { sizeOf } from "./about.js";
import { make, say } from "./dom.js";
import { seconds } from "./format.js";
import { readSetUp } from "./keys.js";
import { megabytes, preparedText } from "./preparing.js";
import { call, getJson, messageOf, post } from "./server.js";

/** @import { AboutRecipe, Prepared } from "./types.js" */

const PAUSE = 500; // milliseconds between two looks

/**
 * @param {AboutRecipe} recipe
 * @param {() => void} done is called once the weights are there and loaded
 */
export function fetchingOf(recipe, done) {
  const size = `${megabytes(sizeOf(recipe))} MB`;
  const licences = [...new Set(recipe.fetches?.map(({ licence }) => licence))].join(", ");
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Fetched" });
  const told = make("p", { class: "note", role: "status" });
  const problem = make("p", { class: "problem", role: "alert" });
  const begin = make("button", { type: "button", class: "main" }, `Fetch ${size}`);
  const stop = make("button", { type: "button", class: "quiet" }, "Cancel");
  const element = make(
    "div",
    { class: "fetching" },
    make(
      "p",
      { class: "note" },
      `${recipe.about}. Once ${size}, licence ${licences}; then each question costs nothing.`,
    ),
    bar,
    told,
    problem,
    make("p", { class: "actions" }, begin, stop),
  );
  let going = false;
  const turn = (/** @type {boolean} */ now) => {
    going = now;
    bar.hidden = stop.hidden = !now;
    begin.hidden = now;
    say(told, "");
  };
  const trying = (/** @type {() => Promise<void>} */ work) =>
    work().catch((trouble) => {
      turn(false);
      say(problem, messageOf(trouble));
    });
  const look = async () => {
    const { models } = await getJson("/api/preparing");
    const ids = recipe.fetches?.map(({ model }) => model);
    const model = models.find((/** @type {Prepared} */ each) => ids?.includes(each.model));
    const { fetching, problem: why } = await readSetUp();
    if (!going) return;
    if (model) say(told, tell(model, bar));
    if (fetching === recipe.name) return;
    turn(false);
    say(problem, why);
    if (!why) done();
  };
  const watch = async () => {
    turn(true);
    while (going && element.isConnected) {
      await trying(look);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  };
  begin.addEventListener("click", () =>
    trying(async () => {
      say(problem, "");
      await post("/api/setup/fetching", { recipe: recipe.name });
      watch();
    }),
  );
  stop.addEventListener("click", () =>
    trying(async () => {
      turn(false);
      say(told, "Stopped. What has arrived is kept.");
      await call("/api/setup/fetching", { method: "DELETE" });
    }),
  );
  turn(false);
  return { element, watch };
}

/** @type {{ model: string, at: number, done: number } | null} */
let first = null; // the first look at a file that is fetched

/**
 * @param {Prepared} prepared
 * @param {HTMLProgressElement} bar
 */
function tell(prepared, bar) {
  const { model, state, done, total } = prepared;
  if (state === "loading" || !total) bar.removeAttribute("value");
  else bar.value = done / total;
  if (first?.model !== model || done < first.done) first = { model, at: performance.now(), done };
  const speed = (done - first.done) / (performance.now() - first.at); // bytes a millisecond
  const left = state === "fetching" && total && speed > 0 && (total - done) / speed / 1000;
  return preparedText(prepared) + (left ? ` about ${seconds(left)} left` : "");
}
