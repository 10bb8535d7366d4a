// @ts-check
// A file that the page has made, offered to the browser's downloads.

import { make } from "./dom.js";
import { call, messageOf } from "./server.js";

const KEPT = 60_000; // milliseconds until the browser has surely read the file

/**
 * @param {Blob} blob
 * @param {string} name
 */
export function offerFile(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT);
}

/**
 * Offer a stored run as a file. Returns why this cannot be done, or "".
 *
 * @param {string} id
 * @param {"json" | "markdown"} form
 */
export async function saveRun(id, form) {
  try {
    const response = await call(`/api/runs/${encodeURIComponent(id)}/export?form=${form}&prompts=${form === "json"}`);
    offerFile(await response.blob(), `partsong-${id}.${form === "json" ? "json" : "md"}`);
    return "";
  } catch (problem) {
    return messageOf(problem);
  }
}
