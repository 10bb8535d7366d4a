// @ts-check
// When what happened. Most events carry no clock, so the page notes the seconds since the run's start at which it heard
// each. A call's own start and end stand in its event. The moment at which a model begins to write is only heard.

/** @import { AnyEvent, Bar, CallFinished, LayerTimes, Recipe, SeatTimes, Times, Usage } from "./types.js" */

export const ANALYST_SEAT = 1;

/** @returns {Times} */
export function newTimes() {
  return { known: false, now: 0, end: null, layers: [], analyst: null, aggregator: null };
}

/**
 * @param {number} start
 * @returns {SeatTimes}
 */
function newSeat(start) {
  return { start, since: start, first: null, end: null, used: null, bars: [] };
}

/**
 * The times of the calls of a seat: those that have ended, and the one that goes on. A run stored by an earlier version
 * has no event for a call, so that its seats have one bar each, from their start to their end.
 *
 * @param {SeatTimes} seat
 * @param {number} now
 * @returns {Bar[]}
 */
export function barsOf(seat, now) {
  if (seat.end !== null && seat.bars.length) return seat.bars;
  return [...seat.bars, { start: seat.since, first: seat.first, end: seat.end ?? now, how: null }];
}

/**
 * Note one event that happened after so many seconds; `null` if nobody knows when.
 *
 * @param {Times} times
 * @param {AnyEvent} event
 * @param {number | null} seconds
 * @param {Recipe | null} recipe
 */
export function note(times, event, seconds, recipe) {
  if (seconds === null) return;
  times.known = true;
  times.now = Math.max(times.now, seconds);
  switch (event.event) {
    case "layer_started": {
      const { quorum = null, deadline = null } = recipe?.layers[event.layer] ?? {};
      const seats = event.models.map(() => null);
      times.layers.push({ start: seconds, end: null, seats, quorum, deadline, answered: 0, reached: null });
      break;
    }
    case "proposal_started":
      times.layers[event.layer].seats[event.seat] = newSeat(seconds);
      break;
    case "proposal_delta":
      begin(times.layers[event.layer].seats[event.seat], seconds);
      break;
    case "proposal_replaced":
      clear(times.layers[event.layer].seats[event.seat]);
      break;
    case "call_finished":
      finishCall(seatAt(times, event), event, seconds);
      break;
    case "proposal_finished":
      finishSeat(times.layers[event.layer].seats[event.seat], seconds);
      count(times.layers[event.layer], seconds);
      break;
    case "proposal_failed":
      finishSeat(times.layers[event.layer].seats[event.seat], seconds, event.usage);
      break;
    case "proposal_spared":
      finishSeat(times.layers[event.layer].seats[event.seat], seconds, event.usage);
      break;
    case "layer_finished":
      times.layers[event.layer].end = seconds;
      break;
    case "analysis_started":
      times.analyst = newSeat(seconds);
      break;
    case "analysis_replaced":
      clear(times.analyst);
      break;
    case "analysis_finished":
      finishSeat(times.analyst, seconds);
      break;
    case "analysis_failed":
      finishSeat(times.analyst, seconds, event.usage);
      break;
    case "aggregation_started":
      times.aggregator = newSeat(seconds);
      break;
    case "aggregation_delta":
      begin(times.aggregator, seconds);
      break;
    case "run_finished":
    case "run_failed":
      finishRun(times, seconds);
      break;
  }
}

/**
 * The analyst and the aggregator have the seats 1 and 0 beyond the last layer.
 *
 * @param {Times} times
 * @param {CallFinished} call
 */
function seatAt(times, { layer, seat }) {
  return times.layers[layer]?.seats[seat] ?? (seat === ANALYST_SEAT ? times.analyst : times.aggregator);
}

/**
 * @param {SeatTimes | null} seat
 * @param {number} seconds
 */
function begin(seat, seconds) {
  if (seat) seat.first ??= seconds;
}

/** @param {SeatTimes | null} seat */
function clear(seat) {
  if (seat) seat.first = null;
}

/**
 * @param {SeatTimes | null} seat
 * @param {CallFinished} call
 * @param {number} seconds
 */
function finishCall(seat, call, seconds) {
  if (!seat) return;
  const end = call.started + call.seconds;
  const first = seat.first === null ? null : Math.min(Math.max(seat.first, call.started), end);
  const how = !call.error ? "" : call.error.cause === "cancelled" ? "stopped" : "lost";
  seat.bars.push({ start: call.started, first, end, how });
  seat.since = seconds;
  seat.first = null;
}

/**
 * @param {SeatTimes | null} seat
 * @param {number} seconds
 * @param {Usage | null} used
 */
function finishSeat(seat, seconds, used = null) {
  if (seat) Object.assign(seat, { end: seconds, used });
}

/**
 * @param {LayerTimes} layer
 * @param {number} seconds
 */
function count(layer, seconds) {
  layer.answered += 1;
  if (layer.answered === layer.quorum) layer.reached = seconds;
}

/**
 * A run that fails ends without a word on the seats that were at work. Their calls have ended, so they have, too.
 *
 * @param {Times} times
 * @param {number} seconds
 */
function finishRun(times, seconds) {
  times.end = seconds;
  for (const seat of times.layers.flatMap((layer) => layer.seats)) {
    if (seat?.bars.length) seat.end ??= seat.since;
  }
  if (times.analyst) times.analyst.end ??= seconds;
  if (times.aggregator) times.aggregator.end ??= seconds;
}
