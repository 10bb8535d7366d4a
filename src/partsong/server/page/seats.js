// @ts-check
// The seats of a run as the page shows them: each with its address, model, state, text, calls, tokens, speed and
// dollars. The seats of layers that have not begun are known from the recipe, so that nothing moves when they begin.

import { comparedLayer, textOf } from "./findings.js";
import { count, dollars, modelName, seconds, shortName } from "./format.js";
import { ANALYST_SEAT, barsOf } from "./times.js";

/** @import { Run } from "./run.js" */
/** @import { Agent, CallFinished, Layer, Recipe, SeatState, SeatTimes } from "./types.js" */
/** @import { ShownSeat, Transcript, Used } from "./types.js" */

/** @typedef {Omit<ShownSeat, "name" | "short" | "state" | "facts">} KnownSeat */

const LETTERS = 4; // of a token, until the provider's own count is there
const LAST_RESORT = { cause: "failed", message: "the answer is the proposal that is most like the others" };

/**
 * The layers of the run as lists of seats. The last list has the aggregator, after the analyst if there is one.
 *
 * @param {Run} run
 * @returns {ShownSeat[][]}
 */
export function seatsOf(run) {
  const { recipe } = run.transcript;
  if (!recipe) return [];
  const calls = bySeat(run.transcript.calls);
  const layers = recipe.layers.map((layer, index) => proposersOf(run, layer, index, calls));
  const analyst = recipe.analyst ? [described(run, analystOf(run, recipe, recipe.analyst, calls))] : [];
  const seats = [...layers, [...analyst, described(run, aggregatorOf(run, recipe, calls))]];
  tellApart(seats.flat());
  return seats;
}

/**
 * Models of several providers with the same name are shown with their providers.
 *
 * @param {ShownSeat[]} seats
 */
function tellApart(seats) {
  /** @type {Map<string, string>} */
  const names = new Map();
  /** @type {Set<string>} */
  const shared = new Set();
  for (const { short, name } of seats) {
    if ((names.get(short) ?? name) !== name) shared.add(short);
    names.set(short, name);
  }
  for (const seat of seats) if (shared.has(seat.short)) seat.short = seat.name;
}

/**
 * The indexes of the layer and of the seat at this address, as the server counts them.
 *
 * @param {Run} run
 * @param {string} address
 * @returns {[number, number]}
 */
export function placeOf({ transcript }, address) {
  const [layer, seat] = address.split(".").map((part) => Number(part) - 1);
  if (seat !== undefined) return [layer, seat];
  return [transcript.recipe?.layers.length ?? 0, address === "analyst" ? ANALYST_SEAT : 0];
}

/**
 * The number of calls of a run that has ended. Before the end, and for a run stored by an earlier version, the seats
 * are counted.
 *
 * @param {Run} run
 * @param {ShownSeat[][]} layers
 */
export function countCalls({ transcript }, layers) {
  const { calls, answer, error } = transcript;
  const ended = answer !== null || error !== null;
  return ended && calls.length ? calls.length : layers.flat().length;
}

/**
 * The calls of each seat, by the indices of its layer and of the seat: "0.2".
 *
 * @param {CallFinished[]} calls
 */
function bySeat(calls) {
  /** @type {Map<string, CallFinished[]>} */
  const found = new Map();
  for (const call of calls) {
    const key = `${call.layer}.${call.seat}`;
    const known = found.get(key);
    if (known) known.push(call);
    else found.set(key, [call]);
  }
  return found;
}

/**
 * @param {Run} run
 * @param {Layer} layer
 * @param {number} index
 * @param {Map<string, CallFinished[]>} calls by seat
 */
function proposersOf(run, layer, index, calls) {
  const models = layer.agents.flatMap((agent) => Array(agent.samples ?? 1).fill(agent.model));
  return models.map((model, place) => {
    const seat = run.transcript.layers[index]?.[place];
    return described(run, {
      address: `${index + 1}.${place + 1}`,
      model: seat?.model ?? model,
      asked: Boolean(seat?.started),
      text: seat?.text ?? "",
      answer: seat?.answer ?? null,
      error: seat?.error ?? null,
      spared: seat?.spared ?? false,
      replaced: seat?.replaced ?? [],
      times: run.times.layers[index]?.seats[place] ?? null,
      calls: calls.get(`${index}.${place}`) ?? [],
      uses: usesOf(run.transcript, index, place),
      reads: readsOf(run, index, seat?.saw ?? null),
    });
  });
}

/**
 * The tool calls of a seat.
 *
 * @param {Transcript} transcript
 * @param {number} layer
 * @param {number} seat
 */
function usesOf(transcript, layer, seat) {
  return transcript.uses.filter((use) => use.layer === layer && use.seat === seat);
}

/**
 * How many of the proposals that are there a seat reads; "" if it reads all of them. Comments are not counted.
 *
 * @param {Run} run
 * @param {number} index of the seat's layer
 * @param {[number, number][] | null} saw
 */
function readsOf({ transcript }, index, saw) {
  if (!saw || !transcript.recipe) return "";
  const before = transcript.recipe.layers.slice(0, index).findLastIndex((layer) => !layer.comments);
  const there = transcript.layers[before]?.filter((seat) => seat.answer).length ?? 0;
  return `saw ${count(saw.filter(([layer]) => layer === before).length)} of ${count(there)}`;
}

/**
 * @param {Run} run
 * @param {Recipe} recipe
 * @param {Agent} analyst
 * @param {Map<string, CallFinished[]>} calls by seat
 * @returns {KnownSeat}
 */
function analystOf({ transcript, times }, recipe, { model }, calls) {
  const seat = transcript.analyst;
  return {
    address: "analyst",
    model: seat?.model ?? model,
    asked: seat !== null,
    text: transcript.analysis ? textOf(transcript.analysis, comparedLayer(recipe) + 1) : "",
    answer: null,
    ended: transcript.analysis !== null,
    spared: false,
    reads: "",
    error: seat?.error ?? null,
    replaced: seat?.replaced ?? [],
    times: times.analyst,
    calls: calls.get(`${recipe.layers.length}.${ANALYST_SEAT}`) ?? [],
    uses: usesOf(transcript, recipe.layers.length, ANALYST_SEAT),
  };
}

/**
 * @param {Run} run
 * @param {Recipe} recipe
 * @param {Map<string, CallFinished[]>} calls by seat
 * @returns {KnownSeat}
 */
function aggregatorOf({ transcript, times }, recipe, calls) {
  const asked = transcript.aggregator !== ""; // after a vote the answer is a proposal, and nobody is asked
  const failure = transcript.replaced.at(-1)?.[1] ?? LAST_RESORT;
  return {
    address: "aggregator",
    model: transcript.aggregator || (recipe.aggregator.model ?? ""),
    asked,
    text: asked ? transcript.text : "",
    answer: transcript.last_resort || !asked ? null : transcript.answer,
    spared: false,
    error: !asked ? null : transcript.last_resort ? failure : transcript.error,
    replaced: transcript.replaced,
    times: times.aggregator,
    calls: calls.get(`${recipe.layers.length}.0`) ?? [],
    uses: usesOf(transcript, recipe.layers.length, 0),
    reads: "",
  };
}

/**
 * @param {Run} run
 * @param {KnownSeat} seat
 * @returns {ShownSeat}
 */
function described(run, seat) {
  const { model } = seat;
  return {
    ...seat,
    name: modelName(model),
    short: shortName(model),
    state: stateOf(run, seat),
    facts: factsOf(seat, run.seconds),
  };
}

/**
 * @param {Run} run
 * @param {KnownSeat} seat
 * @returns {SeatState}
 */
function stateOf(run, { asked, text, answer, ended, error, spared }) {
  if (error) return error.cause === "cancelled" ? "stopped" : "lost";
  if (spared) return "spared";
  if (answer || ended) return "done";
  if (run.over) return asked ? "stopped" : "not asked";
  if (!asked) return "waiting";
  return text ? "writing" : "asked";
}

/**
 * @param {KnownSeat} seat
 * @param {number} now
 */
function factsOf(seat, now) {
  const { text, answer, calls, uses, times, reads } = seat;
  const used = usedBy(seat);
  const open = isOpen(seat);
  const written = open || !used ? Math.ceil(text.length / LETTERS) : 0;
  const tokens = (used?.output_tokens ?? 0) + written;
  const facts = reads ? [reads] : [];
  if (uses.length) facts.push(`${count(uses.length)} tool call${uses.length === 1 ? "" : "s"}`);
  if (used || text) facts.push(`${written || used?.estimated ? "≈ " : ""}${count(tokens)} tok.`);
  if (times) {
    const speed = speedOf(times, now, written || (calls.at(-1)?.usage ?? used)?.output_tokens || 0);
    if (speed !== null) facts.push(`${speed}/s`);
    facts.push(seconds((times.end ?? now) - times.start));
  }
  if (used && !open) facts.push(answer?.stored || calls.at(-1)?.stored ? "stored" : dollars(used.dollars));
  return facts;
}

/**
 * Whether a call of the seat goes on that has begun to write, besides the calls that have ended.
 *
 * @param {KnownSeat} seat
 */
function isOpen({ answer, ended, error, spared, text, times }) {
  const over = answer || ended || error || spared;
  return !over && text !== "" && times !== null && times.first !== null && times.end === null;
}

/**
 * What the calls of a seat have used together. In a run stored by an earlier version, the seat's last event says so.
 *
 * @param {KnownSeat} seat
 * @returns {Used | null}
 */
function usedBy({ calls, answer, times }) {
  if (!calls.length) return answer?.usage ?? times?.used ?? null;
  const usages = calls.flatMap(({ usage }) => (usage ? [usage] : []));
  if (!usages.length) return null;
  return {
    output_tokens: usages.reduce((sum, usage) => sum + usage.output_tokens, 0),
    dollars: usages.some((usage) => usage.dollars === null)
      ? null
      : usages.reduce((sum, usage) => sum + Number(usage.dollars), 0),
    estimated: usages.some((usage) => usage.estimated),
  };
}

/**
 * Tokens a second of the last call, since its first words; `null` if that took no time worth dividing by.
 *
 * @param {SeatTimes} times
 * @param {number} now
 * @param {number} tokens
 */
function speedOf(times, now, tokens) {
  const bar = barsOf(times, now).at(-1);
  const writing = bar ? bar.end - (bar.first ?? bar.start) : 0;
  return tokens && writing > 0.05 ? Math.round(tokens / writing) : null;
}
