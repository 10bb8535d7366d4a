// @ts-check
// Shows the view that the address names. A view is a module that is loaded when the view is first opened. The module
// has one function: `show(place, rest)` fills the place and returns a function to call when the view is left, or
// nothing.

import { keepAddress, lastAddressOf, partsOf } from "./address.js";
import { fill, make } from "./dom.js";
import { messageOf } from "./server.js";

/** @typedef {() => void} Leave */
/** @typedef {{ show: (place: HTMLElement, rest: string) => Promise<Leave | null | void> }} View */

/** @type {Map<string, { title: string, load: () => Promise<View> }>} */
const VIEWS = new Map([
  ["ask", { title: "Ask", load: () => import("./ask.js") }],
  ["compare", { title: "Compare", load: () => import("./compare.js") }],
  ["history", { title: "History", load: () => import("./history.js") }],
  ["recipes", { title: "Recipes", load: () => import("./recipes.js") }],
  ["results", { title: "Results", load: () => import("./results.js") }],
  ["settings", { title: "Settings", load: () => import("./settings.js") }],
  ["demonstration", { title: "A recorded run", load: () => import("./demonstration.js") }],
  ["owner", { title: "Ask", load: () => import("./owner.js") }],
]);
const FIRST = "ask";

/** @param {HTMLElement} place */
export function startRouter(place) {
  const router = new Router(place);
  addEventListener("hashchange", () => router.route());
  router.route();
}

class Router {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    this.turn = 0; // counts the views shown, so that a view that loads slowly does not replace a later one
    /** @type {string | null} */
    this.here = null; // the view that is shown
    /** @type {Leave | null} */
    this.leave = null;
  }

  async route() {
    const mine = ++this.turn;
    const asked = partsOf(location.hash).view;
    const name = VIEWS.has(asked) ? asked : FIRST;
    // From another view, the bare name leads back to where the reader was; from within the view, to its beginning.
    const last = lastAddressOf(name);
    if (name !== this.here && location.hash === `#/${name}` && last) history.replaceState(null, "", last);
    this.here = name;
    keepAddress(name, location.hash);
    mark(name);
    this.leave?.();
    this.leave = null;
    const there = make("div", { class: `view view-${name}` });
    fill(this.place, there);
    try {
      const leave = (await this.open(name, mine, there)) ?? null;
      if (mine === this.turn) this.leave = leave;
      else leave?.(); // the reader has gone on to another view in the meantime
    } catch (problem) {
      const text = `This view cannot be shown: ${messageOf(problem)}`;
      fill(there, make("p", { class: "problem", role: "alert" }, text));
      throw problem;
    }
  }

  /**
   * @param {string} name
   * @param {number} mine
   * @param {HTMLElement} there
   */
  async open(name, mine, there) {
    const module = await VIEWS.get(name)?.load();
    return mine === this.turn ? module?.show(there, partsOf(location.hash).rest) : null;
  }
}

/** @param {string} name */
function mark(name) {
  document.title = `${VIEWS.get(name)?.title} · partsong`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
