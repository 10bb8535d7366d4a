// @ts-check
// The words of a recipe that its form has fields for, and how a value becomes the text of a field and a value again.

/** @import { Table, Toml } from "./types.js" */

/**
 * A choice and a check leave the word out at its default, which is the first of the choices, or no check. A "number or
 * word" is written as a number where it is one. "Lines" are a list with one item a line. So are "texts", with `\n`
 * for a new line and `\\` for a backslash.
 *
 * @typedef {"text" | "number" | "number or word" | "long" | "lines" | "texts" | "date" | "choice" | "check"} Kind
 * @typedef {{ key: string, words?: string, type: Kind, choices?: string[] }} Field
 */

/** @type {Field[]} */
export const AGENT = [
  { key: "model", type: "text" },
  { key: "samples", type: "number" },
  { key: "temperature", type: "number" },
  { key: "max_tokens", type: "number" },
];

/** @type {Field[]} */
export const MORE_OF_AGENT = [
  { key: "top_p", type: "number" },
  { key: "seed", type: "number" },
  { key: "effort", type: "text" },
  { key: "fallback", words: "Fallbacks, one a line", type: "lines" },
  { key: "stop", words: "Stop at, one a line", type: "texts" },
  { key: "system", words: "System prompt", type: "long" },
  { key: "instruction", type: "long" },
];

/** @type {Field} */
export const METHOD = { key: "method", type: "choice", choices: ["synthesize", "select", "vote"] };

/** @type {Field[]} */
export const VOTE = [
  { key: "majority", type: "number" },
  { key: "otherwise", type: "choice", choices: ["synthesize", "select", "fail"] },
];

/** @type {Field[]} */
export const LAYER = [
  { key: "agree", type: "number" },
  { key: "at_once", type: "number" },
  { key: "sees", type: "number or word" },
  { key: "comments", type: "check" },
];

/** @type {Field[]} */
export const MORE_OF_LAYER = [
  { key: "quorum", type: "number" },
  { key: "grace", type: "number" },
  { key: "deadline", type: "number" },
  { key: "instruction", type: "long" },
];

/** @type {Field[]} */
export const RECIPE = [
  { key: "same", type: "choice", choices: ["final", "text"] },
  { key: "layout", type: "choice", choices: ["tail", "paper"] },
  { key: "fit", type: "choice", choices: ["truncate", "window", "fail"] },
  { key: "last_resort", type: "choice", choices: ["fail", "best_proposal"] },
  { key: "advice", type: "number or word" },
  { key: "deadline", type: "number" },
  { key: "reserve", type: "number" },
  { key: "max_dollars", type: "text" },
  { key: "seed", type: "number" },
  { key: "date", words: "Date of the model ids", type: "date" },
  { key: "strict", type: "check" },
  { key: "instruction", type: "long" },
];

/** @param {Field} field */
export const wordsOf = ({ key, words = key.replaceAll("_", " ") }) => words[0].toUpperCase() + words.slice(1);

/**
 * The text of a field.
 *
 * @param {Toml} value
 * @param {Field} field
 */
export function textOf(value, { type, choices }) {
  if (Array.isArray(value)) return value.map((each) => (type === "texts" ? escaped(String(each)) : each)).join("\n");
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
  /** @type {string | string[]} */
  let value = text;
  if (type === "lines") value = text.split("\n").map((each) => each.trim());
  if (type === "texts") value = text.split("\n").map(unescaped);
  if (Array.isArray(value)) value = value.filter(Boolean);
  const left =
    (type !== "texts" && text.trim() === "") ||
    text === "" ||
    text === choices?.[0] ||
    (type === "check" && text !== "true");
  if (left && key !== "model") delete table[key];
  else if (type === "check") table[key] = true;
  else if (type === "number" || (type === "number or word" && /^\d+$/.test(text))) table[key] = numberOf(text);
  else table[key] = value;
}

/** @param {string} text */
function escaped(text) {
  return JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
}

/** @param {string} line */
function unescaped(line) {
  try {
    return JSON.parse(`"${line.replace(/\\.|"/g, (found) => (found === '"' ? '\\"' : found))}"`);
  } catch {
    return line; // the reader is still writing
  }
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
