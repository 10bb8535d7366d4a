// @ts-check
// What the seats of a run have read: the numbered sources under the answer, and the tool calls of a seat as text.

import { make } from "./dom.js";
import { count, seconds } from "./format.js";

/** @import { ReadSource, ToolUsed, Transcript } from "./types.js" */

const MOST = 50; // sources that are shown

/**
 * The sources of a run in the order of their numbers, as `sources.py` numbers them: by the seats, not by the time.
 *
 * @param {Transcript} transcript
 * @returns {ReadSource[]}
 */
export function sourcesOf(transcript) {
  const layers = transcript.recipe?.layers.length ?? 0;
  /** @param {ToolUsed} use */
  const last = (use) => Number(use.layer === layers && use.seat === 0);
  const ordered = [...transcript.uses].sort(
    (one, other) =>
      last(one) - last(other) ||
      one.layer - other.layer ||
      one.seat - other.seat ||
      one.started - other.started ||
      Number(one.arguments > other.arguments) - Number(one.arguments < other.arguments),
  );
  /** @type {Map<string, Set<string>>} */
  const seats = new Map();
  for (const use of ordered)
    for (const address of use.sources ?? []) {
      const read = seats.get(address) ?? new Set();
      seats.set(address, read.add(nameOf(use, layers)));
    }
  return [...seats].map(([address, read]) => ({ address, seats: [...read] }));
}

/**
 * The list of sources; `null` without any. Only addresses of web pages are links, since others could run code.
 *
 * @param {Transcript} transcript
 */
export function sourceList(transcript) {
  const sources = sourcesOf(transcript);
  if (!sources.length) return null;
  return make(
    "details",
    { class: "read", open: true },
    make("summary", {}, `Sources: ${count(sources.length)}`),
    make("ol", {}, sources.slice(0, MOST).map(itemOf)),
  );
}

/** @param {ReadSource} source */
function itemOf({ address, seats }) {
  const link = /^https?:\/\//.test(address)
    ? make("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address)
    : address;
  return make("li", {}, link, ` · read by ${seats.join(", ")}`);
}

/** @param {ToolUsed} use */
export function useText({ server, tool, arguments: asked, seconds: took, size, error }) {
  const what = [`${server} ${tool}`.trim(), asked, seconds(took)];
  return [...what, error ? `failed: ${error}` : `${count(size ?? 0)} characters`].join(" · ");
}

/**
 * @param {ToolUsed} use
 * @param {number} layers
 */
function nameOf({ layer, seat }, layers) {
  if (layer === layers) return seat ? "analyst" : "aggregator";
  return `${layer + 1}.${seat + 1}`;
}
