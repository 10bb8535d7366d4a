// @ts-check
// A table with its heads. Where the table is wider than the page, the region around it scrolls.

import { make } from "./dom.js";

/**
 * @param {string} name for screen readers
 * @param {string[]} heads
 * @param {HTMLTableSectionElement} body
 */
export function tableOf(name, heads, body) {
  const row = make(
    "tr",
    {},
    heads.map((head) => make("th", { scope: "col" }, head)),
  );
  const table = make("table", { class: "list" }, make("thead", {}, row), body);
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, table);
}
