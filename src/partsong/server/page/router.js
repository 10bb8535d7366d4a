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

export function startRouter(place) {
  let leave = null;
  let turn = 0;
  async function route() {
    const mine = ++turn;
    const [, name, ...rest] = location.hash.split("/");
    const view = VIEWS[name] ? name : "ask";
    mark(view);
    if (leave) leave();
    leave = null;
    const there = make("div", { class: `view view-${view}` });
    fill(place, there);
    try {
      const module = await VIEWS[view][1]();
      if (mine === turn) leave = (await module.show(there, rest.map(decode).join("/"))) || null;
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
