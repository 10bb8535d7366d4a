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
const KEPT = 20; // looks of which the speed is worked out

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
  /** @param {boolean} now */
  const turn = (now) => {
    going = now;
    bar.hidden = stop.hidden = !now;
    begin.hidden = now;
    if (!now) say(told, "");
  };
  const watch = async () => {
    turn(true);
    /** @type {[number, number][]} */
    const looks = [];
    while (going && element.isConnected) {
      try {
        const { models } = await getJson("/api/preparing");
        const model = models.find((/** @type {Prepared} */ each) =>
          recipe.fetches?.some(({ model }) => model === each.model),
        );
        if (model && going) tell(model, bar, told, looks);
        const { fetching, problem: why } = await readSetUp();
        if (going && fetching !== recipe.name) {
          turn(false);
          say(problem, why);
          if (!why) done();
        }
      } catch (trouble) {
        turn(false);
        say(problem, messageOf(trouble));
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  };
  begin.addEventListener("click", async () => {
    say(problem, "");
    try {
      await post("/api/setup/fetching", { recipe: recipe.name });
      watch();
    } catch (trouble) {
      say(problem, messageOf(trouble));
    }
  });
  stop.addEventListener("click", async () => {
    turn(false);
    say(told, "Stopped. What has arrived is kept.");
    await call("/api/setup/fetching", { method: "DELETE" }).catch(() => {});
  });
  turn(false);
  return { element, watch };
}

/**
 * @param {Prepared} model
 * @param {HTMLProgressElement} bar
 * @param {HTMLElement} told
 * @param {[number, number][]} looks times in milliseconds and bytes, the last ones
 */
function tell(model, bar, told, looks) {
  const { state, done, total } = model;
  if (state === "loading" || !total) bar.removeAttribute("value");
  else bar.value = done / total;
  const last = looks.at(-1);
  if (last && done < last[1]) looks.length = 0; // another file, or its check
  looks.push([performance.now(), done]);
  if (looks.length > KEPT) looks.shift();
  const [[then, before]] = looks;
  const speed = (done - before) / (performance.now() - then); // bytes a millisecond
  const left =
    state === "fetching" && total && speed > 0 ? ` about ${seconds((total - done) / speed / 1000)} left` : "";
  say(told, preparedText(model) + left);
}
