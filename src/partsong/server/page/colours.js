// @ts-check
// Colours code in a worker that can be ended, since the patterns of a language can take any time on a hostile text:
// 40,000 characters in a block of JavaScript froze the page for 19 s. Code that takes too long keeps one colour.

const PATIENCE = 1000; // milliseconds for one block
const LONGEST_QUEUE = 200; // blocks that wait

/** @typedef {[string, string?][]} Pieces text and what it is */
/** @typedef {{ text: string, language: string, take: (pieces: Pieces) => void }} Job */

/** @type {Worker | null} */
let worker = null;
/** @type {Job[]} */
const waiting = [];
let busy = false;

/**
 * Ask for the colours of a text. `take` is called with all of it in pieces, or never.
 *
 * @param {string} text
 * @param {string} language
 * @param {(pieces: Pieces) => void} take
 */
export function coloursOf(text, language, take) {
  if (waiting.length >= LONGEST_QUEUE) return;
  waiting.push({ text, language, take });
  if (!busy) next();
}

function next() {
  const job = waiting.shift();
  busy = job !== undefined;
  if (!job) return;
  worker ??= new Worker(new URL("./colours-worker.js", import.meta.url), { type: "module" });
  const current = worker;
  const timer = setTimeout(() => end(null), PATIENCE);
  /** @param {Pieces | null} pieces */
  const end = (pieces) => {
    clearTimeout(timer);
    current.onmessage = current.onerror = null;
    if (!pieces) {
      current.terminate();
      worker = null;
    }
    if (pieces) job.take(pieces);
    next();
  };
  current.onmessage = (event) => end(event.data);
  current.onerror = () => end(null);
  current.postMessage({ text: job.text, language: job.language });
}
