// A run's events folded into what a reader wants, exactly as `transcript.py` folds them: one golden file tests both.
// What has not happened yet is absent, never invented.

export function newTranscript() {
  return {
    recipe: null,
    conversation: null,
    layers: [],
    aggregator: "",
    replaced: [],
    fitted: [],
    calls: [],
    text: "",
    answer: null,
    error: null,
    usage: null,
    losses: [],
    planned: 0,
    answered: 0,
    last_resort: false,
    seat: null,
  };
}

function newSeat(model) {
  return { model, replaced: [], started: false, text: "", answer: null, error: null };
}

// Take in one event. The transcript is changed in place: it hears thousands.
export function hear(transcript, event) {
  const seat = event.seat === undefined ? null : transcript.layers[event.layer]?.[event.seat];
  switch (event.event) {
    case "proposal_delta":
      seat.text += words(event.delta);
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
      seat.started = true;
      break;
    case "proposal_finished":
      seat.answer = event.answer;
      seat.text = event.answer.text;
      break;
    case "proposal_failed":
      seat.error = event.error;
      break;
    case "proposal_replaced":
      seat.replaced.push([seat.model, event.error]);
      seat.model = event.model;
      seat.text = "";
      break;
    case "prompt_fitted":
      transcript.fitted.push(event);
      break;
    case "call_finished":
      transcript.calls.push(event);
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
      end(transcript, event);
      break;
    case "run_failed":
      transcript.error = event.error;
      end(transcript, event);
      break;
  }
}

function end(transcript, event) {
  transcript.usage = event.usage;
  transcript.losses = event.losses ?? [];
  transcript.planned = event.planned ?? 0;
  transcript.answered = event.answered ?? 0;
}

function words(delta) {
  return delta.type === "text" ? delta.text : "";
}
