// The calls of a run as the page shows them: each with its place, model, state, words, tokens, speed and dollars. The
// seats of layers that have not begun are known from the recipe, so that nothing moves when they begin.

import { count, dollars, modelName, seconds, shortName } from "./format.js";

const LETTERS = 4; // of a token, until the model's own count is there

// The layers of the run, the aggregator's last: lists of seats.
export function seatsOf(run) {
  const { transcript, times } = run;
  const planned = transcript.recipe?.layers ?? [];
  const layers = planned.map((layer, number) => {
    const begun = transcript.layers[number];
    const models = layer.agents.flatMap((agent) => Array(agent.samples ?? 1).fill(agent.model));
    return (begun ?? models.map(() => null)).map((seat, place) =>
      described(run, {
        address: `${number + 1}.${place + 1}`,
        model: seat?.model ?? models[place],
        asked: Boolean(seat?.started),
        text: seat?.text ?? "",
        answer: seat?.answer ?? null,
        error: seat?.error ?? null,
        replaced: seat?.replaced ?? [],
        call: times.layers[number]?.calls[place] ?? null,
      }),
    );
  });
  return transcript.recipe ? [...layers, [aggregatorOf(run)]] : [];
}

function aggregatorOf(run) {
  const { transcript, times } = run;
  const asked = transcript.aggregator !== "";
  return described(run, {
    address: "aggregator",
    model: transcript.aggregator || transcript.recipe.aggregator.model,
    asked,
    text: transcript.text,
    answer: transcript.last_resort ? null : transcript.answer,
    error: transcript.last_resort ? (transcript.replaced.at(-1)?.[1] ?? LAST_RESORT) : asked ? transcript.error : null,
    replaced: transcript.replaced,
    call: times.aggregator,
  });
}

const LAST_RESORT = { cause: "failed", message: "the answer is the proposal that is most like the others" };

function described(run, seat) {
  const used = seat.answer?.usage ?? seat.call?.used ?? null;
  const tokens = used ? used.output_tokens : Math.ceil(seat.text.length / LETTERS);
  return {
    ...seat,
    name: modelName(seat.model),
    short: shortName(seat.model),
    state: stateOf(run, seat),
    used,
    tokens,
    facts: factsOf(run, seat, used, tokens),
  };
}

function stateOf(run, { asked, text, answer, error }) {
  if (error) return "lost";
  if (answer) return "done";
  if (run.over) return asked ? "stopped" : "not asked";
  if (!asked) return "waiting";
  return text ? "writing" : "asked";
}

function factsOf(run, { call, answer, text }, used, tokens) {
  const facts = [];
  if (used || text) facts.push(used && !used.estimated ? `${count(tokens)} tok.` : `≈ ${count(tokens)} tok.`);
  if (call) {
    const end = call.end ?? run.seconds;
    const writing = end - (call.first ?? call.start);
    if (tokens && writing > 0.05) facts.push(`${Math.round(tokens / writing)}/s`);
    facts.push(seconds(end - call.start));
  }
  if (used) facts.push(answer?.stored ? "stored" : dollars(used.dollars));
  return facts;
}
