// @ts-check
// The worker behind `colours.js`: gets a text and its language, and answers with pieces, each with what it is.

import { tokenizer } from "./vendor/speed-highlight/tokenize.js";

/** @param {MessageEvent<{ text: string, language: string }>} event */
onmessage = async ({ data: { text, language } }) => {
  /** @type {[string, string?][]} */
  const pieces = [];
  const reading = tokenizer(text, language, (piece, type) => {
    if (piece) pieces.push(type ? [piece, type] : [piece]);
  });
  let step = reading.next();
  while (!step.done) {
    const named = /^[a-z]+$/.test(step.value);
    const module = named ? await import(`./vendor/speed-highlight/languages/${step.value}.js`).catch(() => null) : null;
    step = reading.next(module?.default);
  }
  postMessage(pieces);
};
