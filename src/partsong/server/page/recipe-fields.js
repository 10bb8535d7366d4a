// @ts-check
// The words of a recipe that its form has fields for, and how a value becomes the text of a field and a value again.

/** @import { Table, Toml } from "./types.js" */

/**
 * A choice and a check leave the word out at its default, which is the first of the choices, or no check. A "number or
 * word" is written as a number where it is one. "Lines" are a list with one item a line.
 *
 * @typedef {"text" | "number" | "number or word" | "long" | "lines" | "choice" | "check"} Kind
 * @typedef {{ key: string, words: string, type: Kind, choices?: string[] }} Field
 */

/** @type {Field[]} */
export const AGENT = [
  { key: "model", words: "Model", type: "text" },
  { key: "samples", words: "Samples", type: "number" },
  { key: "temperature", words: "Temperature", type: "number" },
  { key: "max_tokens", words: "Max tokens", type: "number" },
];

/** @type {Field[]} */
export const MORE_OF_AGENT = [
  { key: "top_p", words: "Top p", type: "number" },
  { key: "seed", words: "Seed", type: "number" },
  { key: "effort", words: "Effort", type: "text" },
  { key: "fallback", words: "Fallbacks, one a line", type: "lines" },
  { key: "system", words: "System prompt", type: "long" },
  { key: "instruction", words: "Instruction", type: "long" },
];

/** @type {Field} */
export const METHOD = { key: "method", words: "Method", type: "choice", choices: ["synthesize", "select", "vote"] };

/** @type {Field[]} */
export const VOTE = [
  { key: "majority", words: "Majority", type: "number" },
  { key: "otherwise", words: "Otherwise", type: "choice", choices: ["synthesize", "select", "fail"] },
];

/** @type {Field[]} */
export const LAYER = [
  { key: "agree", words: "Agree", type: "number" },
  { key: "at_once", words: "At once", type: "number" },
  { key: "sees", words: "Sees", type: "number or word" },
  { key: "comments", words: "Comments", type: "check" },
];

/** @type {Field[]} */
export const MORE_OF_LAYER = [
  { key: "quorum", words: "Quorum", type: "number" },
  { key: "grace", words: "Grace", type: "number" },
  { key: "deadline", words: "Deadline", type: "number" },
  { key: "instruction", words: "Instruction", type: "long" },
];

/** @type {Field[]} */
export const RECIPE = [
  { key: "same", words: "Same", type: "choice", choices: ["final", "text"] },
  { key: "layout", words: "Layout", type: "choice", choices: ["tail", "paper"] },
  { key: "fit", words: "Fit", type: "choice", choices: ["truncate", "window", "fail"] },
  { key: "last_resort", words: "Last resort", type: "choice", choices: ["fail", "best_proposal"] },
  { key: "advice", words: "Advice", type: "number or word" },
  { key: "deadline", words: "Deadline", type: "number" },
  { key: "reserve", words: "Reserve", type: "number" },
  { key: "max_dollars", words: "Max dollars", type: "text" },
  { key: "seed", words: "Seed", type: "number" },
  { key: "strict", words: "Strict", type: "check" },
  { key: "instruction", words: "Instruction", type: "long" },
];

/**
 * The text of a field.
 *
 * @param {Toml} value
 * @param {Field} field
 */
export function textOf(value, { type, choices }) {
  if (Array.isArray(value)) return value.join("\n");
  if (type === "choice") return String(value ?? choices?.[0] ?? "");
  return String(value ?? "");
}

/**
 * Keep the text of a field in its table. An empty text is a word that is left out, except for the model's id.
 *
 * @param {Table} table
 * @param {Field} field
 * @param {string} text
 */
export function keep(table, { key, type, choices }, text) {
  const lines = type === "lines" ? text.split("\n").map((each) => each.trim()) : [];
  const value = type === "lines" ? lines.filter(Boolean) : text;
  const left = text.trim() === "" || text === choices?.[0] || (type === "check" && text !== "true");
  if (left && key !== "model") delete table[key];
  else if (type === "check") table[key] = true;
  else if (type === "number" || (type === "number or word" && /^\d+$/.test(text))) table[key] = numberOf(text);
  else table[key] = value;
}

/**
 * A number; as text, if JavaScript would round it.
 *
 * @param {string} text
 */
function numberOf(text) {
  const number = Number(text);
  return Number.isInteger(number) && !Number.isSafeInteger(number) && /^-?\d+$/.test(text) ? text : number;
}
