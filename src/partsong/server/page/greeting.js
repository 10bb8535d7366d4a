// @ts-check
// What a new user finds where nothing can be asked yet: a key, a model for this computer, or a recorded run.

import { firstOf, sizeOf } from "./about.js";
import { fill, make } from "./dom.js";
import { fetchingOf } from "./fetching.js";
import { dollars } from "./format.js";
import { keyForm, readSetUp } from "./keys.js";

/** @import { About, AboutRecipe, KeyedProvider } from "./types.js" */

/**
 * Greet in this place if nothing can be asked yet.
 *
 * @param {HTMLElement} place
 * @param {About} about
 * @param {() => Promise<void>} again is called when something has changed
 */
export async function greet(place, { recipes }, again) {
  const old = place.querySelector(".greeting");
  const first = firstOf(recipes);
  const setup = (!first || first.fetches?.length) && (await readSetUp().catch(() => null));
  old?.remove();
  if (!setup) return;
  const said = make("p", { class: "note", role: "status" });
  const cost = make("p", { class: "note" });
  const local = recipes.filter((recipe) => !recipe.unusable && recipe.fetches?.length);
  local.sort((a, b) => sizeOf(b) - sizeOf(a));
  const form = keyForm(
    setup,
    async (words) => {
      await again();
      const usable = place.querySelector(".greeting");
      const more = usable
        ? [" No recipe here uses its models alone: ", make("a", { href: "#/recipes/+" }, "write one"), "."]
        : [];
      fill(usable ? said : place.appendChild(said), words, ...more);
    },
    (provider) => fill(cost, ...costsOf(provider, recipes)),
  );
  const sections = [
    card("Use a key", form, cost),
    card("Fetch a model for this computer", ...localOf(local, setup.local, setup.fetching, again)),
    card(
      "Look first",
      make(
        "p",
        { class: "note" },
        "A recorded run, played as it went: who said what, when, and what it cost. Nothing is asked.",
      ),
      make("p", {}, make("a", { class: "button", href: "#/demonstration" }, "Play a recorded run")),
    ),
  ];
  place.append(make("div", { class: "greeting" }, said, make("div", { class: "cards-of-greeting" }, sections)));
}

/**
 * @param {string} title
 * @param {...(Node | null)} children
 */
function card(title, ...children) {
  return make("section", { class: "chart", "aria-label": title }, make("h2", {}, title), children);
}

/**
 * @param {AboutRecipe[]} recipes
 * @param {string} lacking what must be installed first
 * @param {string | null} fetching the recipe that is being fetched
 * @param {() => Promise<void>} again
 */
function localOf(recipes, lacking, fetching, again) {
  if (lacking) return [make("p", { class: "note" }, lacking)];
  if (!recipes.length) return [make("p", { class: "note" }, "No recipe here has a local model.")];
  const place = make("div");
  const show = (/** @type {AboutRecipe} */ recipe) => {
    const { element, watch } = fetchingOf(recipe, again);
    fill(place, element);
    if (fetching === recipe.name) setTimeout(watch);
  };
  const options = recipes.map(({ name }) => make("option", { value: name }, name));
  const select = make("select", { "aria-label": "Recipe to fetch for" }, options);
  const first = recipes.find(({ name }) => name === (fetching ?? "local")) ?? recipes[0];
  select.value = first.name;
  select.addEventListener("change", () => {
    const recipe = recipes.find(({ name }) => name === select.value);
    if (recipe) show(recipe);
  });
  show(first);
  return [recipes.length > 1 ? select : null, place];
}

/**
 * What a question costs with the recipes of a provider.
 *
 * @param {KeyedProvider} provider
 * @param {AboutRecipe[]} recipes
 */
function costsOf({ name }, recipes) {
  const own = recipes.filter(({ layers = [[]], aggregator }) => {
    const ids = [...layers.flat(), aggregator ?? ""];
    return ids.every((id) => id.startsWith(`${name}:`));
  });
  if (!own.length)
    return ["A question costs what its calls cost: the page shows it before you ask, and you can cap it."];
  return own.map((each) => make("span", {}, `${each.name}: ${dollars(each.typical_dollars)} a question`, make("br")));
}
