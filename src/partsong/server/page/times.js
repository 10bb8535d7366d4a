// When what happened: events carry no clock, so whoever hears them notes the seconds since the run's start. A call has
// its start, its first words and its end; a layer has the moment at which its quorum had answered.

export function newTimes() {
  return { known: false, now: 0, end: null, layers: [], aggregator: null };
}

export function newCall(start) {
  return { start, first: null, end: null, used: null, lost: false };
}

// Note one event that happened after so many seconds; `null` where nobody knows.
export function note(times, event, seconds, recipe) {
  if (seconds === null) return;
  times.known = true;
  times.now = Math.max(times.now, seconds);
  const layer = times.layers[event.layer];
  const call = layer?.calls[event.seat];
  switch (event.event) {
    case "layer_started": {
      const { quorum = null, deadline = null } = recipe?.layers[event.layer] ?? {};
      const calls = event.models.map(() => null);
      times.layers.push({ start: seconds, end: null, calls, quorum, deadline, answered: 0, reached: null });
      break;
    }
    case "proposal_started":
      layer.calls[event.seat] = newCall(seconds);
      break;
    case "proposal_delta":
      call.first ??= seconds;
      break;
    case "proposal_replaced":
      call.first = null;
      break;
    case "proposal_finished":
      finish(call, seconds, event.answer.usage);
      layer.answered += 1;
      if (layer.quorum !== null && layer.answered === layer.quorum) layer.reached = seconds;
      break;
    case "proposal_failed":
      finish(call, seconds, event.usage ?? null);
      call.lost = true;
      break;
    case "layer_finished":
      layer.end = seconds;
      break;
    case "aggregation_started":
      times.aggregator = newCall(seconds);
      break;
    case "aggregation_delta":
      if (times.aggregator) times.aggregator.first ??= seconds;
      break;
    case "run_finished":
    case "run_failed":
      times.end = seconds;
      if (times.aggregator && times.aggregator.end === null) {
        finish(times.aggregator, seconds, event.answer?.usage ?? null);
        times.aggregator.lost = event.event === "run_failed";
      }
      break;
  }
}

function finish(call, seconds, usage) {
  call.end = seconds;
  call.used = usage;
}
