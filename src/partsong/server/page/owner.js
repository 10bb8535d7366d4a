// @ts-check
// Whether this page is the one that `partsong ui` opened, which alone may set the keys of providers. The code in its
// address is traded for a token, which stays in this tab, also when the page is loaded again.

import { make } from "./dom.js";
import { messageOf, post } from "./server.js";

const PLACE = "owner";

/** @returns {Record<string, string>} the headers that show the token */
export function ownerHeaders() {
  const token = sessionStorage.getItem(PLACE);
  return token ? { "x-partsong-owner": token } : {};
}

/**
 * The view of the address that `partsong ui` opened. It leads on, and leaves no code in the browser's history.
 *
 * @param {HTMLElement} place
 * @param {string} code
 */
export async function show(place, code) {
  try {
    const { token } = await (await post("/api/setup/owner", { code })).json();
    sessionStorage.setItem(PLACE, token);
  } catch (problem) {
    if (!sessionStorage.getItem(PLACE)) {
      const why = `This page cannot take keys: ${messageOf(problem)}.`;
      place.append(make("p", { role: "alert" }, why), make("a", { href: "#/ask" }, "Go on without"));
      return;
    }
  }
  location.replace("#/ask");
}
