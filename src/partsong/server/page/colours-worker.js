// @ts-check
// The worker behind `colours.js`: gets a text and its language, and answers with pieces, each with what it is.

import { languages, tokenizer } from "./vendor/speed-highlight.js";

/** @param {MessageEvent<{ text: string, language: string }>} event */
onmessage = ({ data: { text, language } }) => {
  /** @type {[string, string?][]} */
  const pieces = [];
  const reading = tokenizer(text, language, (piece, type) => {
    if (piece) pieces.push(type ? [piece, type] : [piece]);
  });
  let step = reading.next();
  while (!step.done) {
    step = reading.next(Object.hasOwn(languages, step.value) ? languages[step.value] : undefined);
  }
  postMessage(pieces);
};
