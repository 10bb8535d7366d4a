// @ts-check
// Folds a run's events into a transcript, exactly as `transcript.py` folds them: one golden file tests both. A field
// for something that has not happened yet is empty, never invented.

/** @import { AnalysisFailed, AnalysisFinished, AnalysisReplaced } from "./types.js" */
/** @import { AnyEvent, Delta, ProposalEvent, RunFailed, RunFinished, Seat, Transcript } from "./types.js" */

/** @returns {Transcript} */
export function newTranscript() {
  return {
    recipe: null,
    conversation: null,
    layers: [],
    aggregator: "",
    replaced: [],
    fitted: [],
    calls: [],
    uses: [],
    votes: [],
    text: "",
    answer: null,
    error: null,
    usage: null,
    losses: [],
    planned: 0,
    answered: 0,
    last_resort: false,
    seat: null,
    analyst: null,
    analysis: null,
    layer: null,
    spared: 0,
  };
}

/**
 * @param {string} model
 * @returns {Seat}
 */
function newSeat(model) {
  return { model, replaced: [], started: false, text: "", answer: null, error: null, spared: false, saw: null };
}

/**
 * Take in one event. The transcript is changed in place, because a run has thousands of events.
 *
 * @param {Transcript} transcript
 * @param {AnyEvent} event
 */
export function hear(transcript, event) {
  switch (event.event) {
    case "proposal_delta":
      transcript.layers[event.layer][event.seat].text += words(event.delta);
      break;
    case "aggregation_delta":
      transcript.text += words(event.delta);
      break;
    case "run_started":
      transcript.recipe = event.recipe;
      transcript.conversation = event.conversation;
      transcript.losses = event.dropped ?? [];
      break;
    case "layer_started":
      transcript.layers.push(event.models.map(newSeat));
      break;
    case "proposal_started":
    case "proposal_finished":
    case "proposal_failed":
    case "proposal_spared":
    case "proposal_replaced":
      hearSeat(transcript.layers[event.layer][event.seat], event);
      break;
    case "prompt_fitted":
      transcript.fitted.push(event);
      break;
    case "call_finished":
      transcript.calls.push(event);
      break;
    case "tool_used":
      transcript.uses.push(event);
      // What comes before a tool call is no part of the proposal.
      if (transcript.recipe && event.layer < transcript.recipe.layers.length)
        transcript.layers[event.layer][event.seat].text = "";
      break;
    case "analysis_started":
      transcript.analyst = { ...newSeat(event.model), started: true };
      break;
    case "analysis_replaced":
    case "analysis_finished":
    case "analysis_failed":
      hearAnalyst(transcript, event);
      break;
    case "votes_counted":
      transcript.votes.push(event);
      break;
    case "aggregation_started":
      transcript.aggregator = event.model;
      break;
    case "aggregation_replaced":
      transcript.replaced.push([transcript.aggregator, event.error]);
      transcript.aggregator = event.model;
      break;
    case "run_finished":
      transcript.answer = event.answer;
      transcript.text = event.answer.text;
      transcript.last_resort = event.last_resort ?? false;
      transcript.seat = event.seat ?? null;
      // A run that an earlier version stored says no layer: there, only the last could give the answer.
      transcript.layer = event.layer ?? (transcript.seat === null ? null : transcript.layers.length - 1);
      end(transcript, event);
      break;
    case "run_failed":
      transcript.error = event.error;
      end(transcript, event);
      break;
    case "layer_finished":
    case "aggregation_step":
      break;
    default:
      ignore(event);
  }
}

/**
 * @param {Seat} seat
 * @param {ProposalEvent} event
 */
function hearSeat(seat, event) {
  switch (event.event) {
    case "proposal_started":
      seat.started = true;
      seat.saw = event.saw ?? null;
      break;
    case "proposal_finished":
      seat.answer = event.answer;
      seat.text = event.answer.text;
      break;
    case "proposal_failed":
      seat.error = event.error;
      break;
    case "proposal_spared":
      seat.spared = true;
      break;
    case "proposal_replaced":
      seat.replaced.push([seat.model, event.error]);
      seat.model = event.model;
      seat.text = "";
      break;
  }
}

/**
 * @param {Transcript} transcript
 * @param {AnalysisReplaced | AnalysisFinished | AnalysisFailed} event
 */
function hearAnalyst(transcript, event) {
  const seat = transcript.analyst;
  if (event.event === "analysis_finished") transcript.analysis = event.analysis;
  else if (seat && event.event === "analysis_failed") seat.error = event.error;
  else if (seat && event.event === "analysis_replaced") {
    seat.replaced.push([seat.model, event.error]);
    seat.model = event.model;
  }
}

/**
 * @param {Transcript} transcript
 * @param {RunFinished | RunFailed} event
 */
function end(transcript, event) {
  transcript.usage = event.usage;
  transcript.losses = event.losses ?? [];
  transcript.planned = event.planned ?? 0;
  transcript.answered = event.answered ?? 0;
  transcript.spared = event.spared ?? 0;
}

/** @param {Delta} delta */
function words(delta) {
  return delta.type === "text" ? delta.text : "";
}

/**
 * A newer server may say events that this page does not know. The type check refuses an event that is left out above.
 *
 * @param {never} _event
 */
function ignore(_event) {}
