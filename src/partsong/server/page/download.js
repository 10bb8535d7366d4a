// @ts-check
// A file that the page has made, offered to the browser's downloads.

import { make } from "./dom.js";

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
