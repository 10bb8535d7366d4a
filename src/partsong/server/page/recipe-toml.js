// @ts-check
// A recipe as TOML: the form's values, written as a person would write them.

/** @import { NamedRecipe, Table, Toml } from "./types.js" */

const PLAIN = /^[A-Za-z0-9_-]+$/;
const WHOLE = ["seed", "max_tokens", "at_once", "advice"]; // may be text, where JavaScript would round the number
const RAW = /^[^\u0000-\u0008\u000b-\u001f\u007f]*$/; // may stand between three quotes as they are

/** @param {NamedRecipe} recipe */
export function tomlOf({ name, about, drawn }) {
  const { layers, aggregator, layer_settings: more = [], settings = {} } = drawn;
  const lines = [`name = ${valueOf(name)}`];
  if (about) lines.push(`about = ${valueOf(about)}`);
  const tables = Object.entries(settings).filter(([, value]) => isTable(value));
  lines.push(...linesOf(Object.fromEntries(Object.entries(settings).filter(([, value]) => !isTable(value)))));
  if (!layers.length) lines.push("layers = []"); // one model alone
  layers.forEach((agents, index) => {
    const seats = agents.map((agent) => `    ${tableOf(agent)},`);
    lines.push("", "[[layers]]", "agents = [", ...seats, "]", ...linesOf(more[index] ?? {}));
  });
  for (const [key, table] of tables) lines.push("", `[${keyOf(key)}]`, ...linesOf(/** @type {Table} */ (table)));
  lines.push("", "[aggregator]", ...linesOf(aggregator));
  return `${lines.join("\n")}\n`;
}

/** @param {Toml} value */
function isTable(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {Table} table */
function linesOf(table) {
  return Object.entries(table)
    .filter(([, value]) => value !== null && value !== "")
    .map(([key, value]) => `${keyOf(key)} = ${valueOf(value, key)}`);
}

/**
 * An agent in one line: only its id, if nothing else is set.
 *
 * @param {Table} agent
 */
function tableOf(agent) {
  const lines = linesOf(agent);
  return lines.length === 1 && agent.model ? valueOf(agent.model) : `{ ${lines.join(", ")} }`;
}

/** @param {string} key */
function keyOf(key) {
  return PLAIN.test(key) ? key : JSON.stringify(key);
}

/**
 * @param {Toml} value
 * @returns {string}
 */
function valueOf(value, key = "") {
  if (Array.isArray(value)) return `[${value.map((each) => valueOf(each)).join(", ")}]`;
  if (typeof value === "object" && value !== null) return `{ ${linesOf(value).join(", ")} }`;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value === "object" && value !== null) return `{ ${linesOf(value).join(", ")} }`;
  const text = String(value);
  if (key === "date" && /^\d{4}-\d\d-\d\d$/.test(text)) return text;
  if (key === "max_dollars" && /^\d+(\.\d+)?$/.test(text)) return text;
  if (WHOLE.includes(key) && /^-?\d+$/.test(text)) return text;
  if (text.includes("\n") && RAW.test(text))
    return `"""\n${text.replaceAll("\\", "\\\\").replaceAll('"""', '""\\"')}"""`;
  return JSON.stringify(text).replaceAll("\u007f", "\\u007F");
}
