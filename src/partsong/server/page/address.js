// @ts-check
// The address names the view and what it shows: `#/ask/RUN` is the view `ask` with "RUN". Each view's last address is
// kept, so that a view can be found again as it was left.

/** @type {Map<string, string>} */
const last = new Map(); // the last address by the view's name

/**
 * The name of the view in an address, and the words after the name.
 *
 * @param {string} hash
 */
export function partsOf(hash) {
  const [, view = "", ...rest] = hash.split("/");
  return { view, rest: rest.map(decode).join("/") };
}

/** @param {string} view */
export function lastAddressOf(view) {
  return last.get(view);
}

/**
 * @param {string} view
 * @param {string} hash
 */
export function keepAddress(view, hash) {
  last.set(view, hash);
}

/**
 * Say in the address where the reader is, without showing the view again.
 *
 * @param {string} hash
 */
export function rewriteAddress(hash) {
  const { view } = partsOf(hash);
  const there = partsOf(location.hash).view;
  // A reader who has just clicked on another view goes there, although this view has not been left yet.
  if (!there || there === view) history.replaceState(null, "", hash); // raises no hashchange
  keepAddress(view, hash);
}

/** @param {string} step */
function decode(step) {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}
