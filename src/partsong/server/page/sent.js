// @ts-check
// What a seat was sent, in its card: the messages with about how many tokens each has, and the sampling.

import { fill, make } from "./dom.js";
import { count, many, modelName } from "./format.js";
import { getJson, messageOf } from "./server.js";

/** @import { Sent } from "./types.js" */

/**
 * @param {HTMLElement} place
 * @param {string} run
 * @param {[number, number]} seat its layer and its index
 */
export async function showSent(place, run, [layer, seat]) {
  fill(place, make("p", { class: "note", role: "status" }, "Looking it up …"));
  try {
    /** @type {{ sent: Sent[] }} */
    const { sent } = await getJson(`/api/runs/${encodeURIComponent(run)}/sent?layer=${layer}&seat=${seat}`);
    fill(place, sent.length ? sent.map(sentOf) : make("p", { class: "note" }, "This seat was never asked."));
  } catch (trouble) {
    fill(place, make("p", { class: "problem", role: "alert" }, `It cannot be shown: ${messageOf(trouble)}`));
  }
}

/** @param {Sent} sent */
function sentOf({ step, messages, sampling, tools, schema, calls, notes }) {
  const settings = Object.entries(sampling).map(([name, value]) => `${name} ${value}`);
  const facts = [settings.join(", ") || "the provider’s own sampling"];
  if (tools.length) facts.push(`tools: ${tools.join(", ")}`);
  if (schema) facts.push("the answer must fit a schema");
  return make(
    "section",
    { class: "sent" },
    step ? make("h3", {}, `Step ${step}`) : null,
    make("p", { class: "facts" }, facts.join(" · ")),
    calls.map(({ model, input_tokens: read, cached_input_tokens: cached, error, stored }) =>
      make(
        "p",
        { class: "facts" },
        [
          modelName(model),
          read === null ? "tokens unknown" : `read ${many(read, "token")}`,
          ...(cached ? [`${count(cached)} of them cached`] : []),
          ...(stored ? ["from the store"] : []),
          ...(error ? [`failed (${error})`] : []),
        ].join(" · "),
      ),
    ),
    notes.map((note) => make("p", { class: "note" }, note)),
    messages.map(({ role, text, tokens }) =>
      make(
        "details",
        { open: true },
        make("summary", {}, `${role} · about ${many(tokens, "token")}`),
        make("p", { class: "plain" }, text),
      ),
    ),
  );
}
