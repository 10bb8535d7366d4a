// @ts-check
// The settings of this browser, and a request as they want it. A run may cost what is left of both caps: the server
// holds that money before it asks, and asks nothing that might cost more.

import { getJson, ServerError } from "./server.js";

/**
 * @typedef {{ recipe?: string, system?: string, temperature?: string, effort?: string, conversation?: string,
 *   today?: string }} Wishes
 * @typedef {{ model: string, messages: { role: string }[], partsong?: object }} Body
 */

const PLACE = "settings";
const UNKNOWN = "what was asked before has no known price, so your cap cannot be kept: take it away in Settings";

/** @returns {Wishes} */
export function settings() {
  try {
    return JSON.parse(localStorage.getItem(PLACE) ?? "{}");
  } catch {
    return {};
  }
}

/**
 * @param {keyof Wishes} key
 * @param {string} value
 */
export function change(key, value) {
  localStorage.setItem(PLACE, JSON.stringify({ ...settings(), [key]: value || undefined }));
}

/**
 * The request as the reader wants it. Throws `ServerError` if a cap is used up.
 *
 * @param {Body} body
 * @param {string[]} runs of the conversation so far, by id
 */
export async function asWished(body, runs) {
  const { system, temperature, effort, conversation, today } = settings();
  const begins = system && !body.messages.some(({ role }) => role === "assistant" || role === "system");
  const left = [];
  if (today) left.push(Number(today) - (await spentToday()));
  if (conversation) left.push(Number(conversation) - (await spentIn(runs)));
  const most = left.length ? Math.min(...left) : null;
  if (most !== null && most <= 0) throw new ServerError("your cap is used up: raise it in Settings", 402);
  return {
    ...body,
    messages: begins ? [{ role: "system", content: system }, ...body.messages] : body.messages,
    ...(temperature && { temperature: Number(temperature) }),
    ...(effort && { reasoning_effort: effort }),
    partsong: { ...body.partsong, ...(most !== null && { max_dollars: most.toFixed(9) }) },
  };
}

async function spentToday() {
  const [{ dollars, unpriced }] = (await getJson("/api/totals?days=1")).days;
  return sumOf([{ dollars: unpriced ? null : dollars }]);
}

/**
 * What a conversation has cost: all its runs with all their branches.
 *
 * @param {string[]} runs of the conversation, by id
 */
async function spentIn(runs) {
  const newest = runs.at(-1);
  return newest ? sumOf((await getJson(`/api/runs/${encodeURIComponent(newest)}/conversation`)).runs) : 0;
}

/** @param {{ dollars: string | number | null }[]} spent */
function sumOf(spent) {
  if (spent.some(({ dollars }) => dollars === null)) throw new ServerError(UNKNOWN, 402);
  return spent.reduce((sum, { dollars }) => sum + Number(dollars), 0);
}
