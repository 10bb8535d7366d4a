// Which view is shown: `#/ask/RUN` shows the view `ask` with "RUN". A view is a module, loaded when it is first asked
// for, with one function: `show(place, rest)` fills the place and returns what must be done when it is left, or nothing.

import { fill, make } from "./dom.js";

const VIEWS = {
  ask: ["Ask", () => import("./ask.js")],
  compare: ["Compare", () => import("./compare.js")],
  history: ["History", () => import("./history.js")],
  recipes: ["Recipes", () => import("./recipes.js")],
  results: ["Results", () => import("./results.js")],
};

let here = null; // the view that is shown
const last = {}; // each view's last address, to come back to

export function startRouter(place) {
  let leave = null;
  let turn = 0;
  async function route() {
    const mine = ++turn;
    const asked = location.hash.split("/")[1];
    const view = VIEWS[asked] ? asked : "ask";
    // From another view, its bare name leads back to where the reader was; from within, to its beginning.
    if (view !== here && location.hash === `#/${view}` && last[view]) history.replaceState(null, "", last[view]);
    here = view;
    last[view] = location.hash;
    mark(view);
    leave?.();
    leave = null;
    const there = make("div", { class: `view view-${view}` });
    fill(place, there);
    try {
      const module = await VIEWS[view][1]();
      if (mine !== turn) return;
      const left = await module.show(there, location.hash.split("/").slice(2).map(decode).join("/"));
      if (mine === turn) leave = left;
      else left?.(); // the reader was quicker
    } catch (problem) {
      fill(there, make("p", { class: "problem", role: "alert" }, `This view cannot be shown: ${problem.message}`));
      throw problem;
    }
  }
  addEventListener("hashchange", route);
  route();
}

// Say in the address where the reader is, without showing the view again.
export function rewriteHash(hash) {
  history.replaceState(null, "", hash); // raises no hashchange
  last[here] = hash;
}

function decode(step) {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function mark(view) {
  document.title = `${VIEWS[view][0]} · partsong`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
