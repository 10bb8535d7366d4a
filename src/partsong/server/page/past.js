// One stored run, shown as it looked: the question, the score and the answer out of the same events; and played again.

import { turnsOf } from "./conversation.js";
import { fill, make } from "./dom.js";
import { dollars, many, seconds } from "./format.js";
import { Run } from "./run.js";
import { call, getJson } from "./server.js";
import { TurnView } from "./turn.js";

export async function showPast(place, id) {
  const head = make("div", { class: "past-head" });
  const shown = make("div", { class: "turns" });
  const problem = make("p", { class: "problem", role: "alert" });
  fill(place, make("p", {}, make("a", { href: "#/history" }, "← All runs")), head, problem, shown);
  let stored;
  try {
    stored = await getJson(`/api/runs/${encodeURIComponent(id)}`);
  } catch (trouble) {
    problem.textContent = `The run ${id} cannot be shown: ${trouble.message}`;
    return null;
  }
  const past = new Past(stored, shown, problem);
  const button = (words, does) => make("button", { type: "button", class: "quiet", onclick: does }, words);
  const kept = stored.events.length > 0;
  fill(
    head,
    make("h1", {}, stored.recipe),
    make(
      "p",
      { class: "note" },
      `${new Date(stored.at).toLocaleString()} · ${many(stored.calls, "call")} · ${dollars(stored.dollars)} · ${seconds(stored.seconds)}`,
    ),
    make(
      "p",
      { class: "actions" },
      kept && button("Play it again", () => past.play(1)),
      kept && button("8 times as fast", () => past.play(8)),
      kept && button("As it ended", () => past.whole()),
      kept && make("a", { class: "button quiet", href: `#/ask/${encodeURIComponent(id)}` }, "Go on from here"),
      button("As JSON", () => save(id, "json", problem)),
      button("As Markdown", () => save(id, "markdown", problem)),
    ),
  );
  if (kept) past.whole();
  else
    shown.append(
      make("p", { class: "note" }, `The words of this run were not kept: its question was “${stored.question}”.`),
    );
  return () => past.close();
}

class Past {
  constructor(stored, place, problem) {
    this.stored = stored;
    this.place = place;
    this.problem = problem;
    this.views = [];
  }

  close() {
    clearTimeout(this.timer);
    for (const view of this.views) view.close();
    this.views = [];
  }

  // A run that has heard nothing yet, in the place of the one before.
  begin() {
    this.close();
    this.run = new Run();
    this.run.id = this.stored.id;
    const { conversation } = this.stored.events[0].event;
    const { turns } = turnsOf(conversation);
    const last = turns.pop() ?? { question: { text: "", images: [] }, answer: "" };
    this.views = turns.map((turn) => this.view(turn));
    this.views.push(this.view({ ...last, run: this.run }));
    fill(
      this.place,
      this.views.map((view) => view.element),
    );
  }

  view(turn) {
    const view = new TurnView(turn, { edit: null, retry: null });
    view.element.classList.add("past"); // what is over is not edited: "Go on from here" does that
    return view;
  }

  whole() {
    this.begin();
    for (const { event, seconds: at } of this.stored.events) this.run.hear(event, at);
    if (this.stored.state === "open") this.run.problem ??= "this run has not ended, or its process has died";
    this.run.tell();
  }

  // Hear everything again when it happened, or so many times as fast.
  play(speed) {
    this.begin();
    const { events } = this.stored;
    const began = performance.now();
    let next = 0;
    const step = () => {
      const now = ((performance.now() - began) * speed) / 1000;
      while (next < events.length && events[next].seconds <= now) {
        this.run.hear(events[next].event, events[next].seconds);
        next += 1;
      }
      this.run.began = performance.now() - now * 1000;
      this.run.changed();
      if (next < events.length) this.timer = setTimeout(step, 30);
    };
    step();
  }
}

async function save(id, form, problem) {
  try {
    const response = await call(`/api/runs/${encodeURIComponent(id)}/export?form=${form}`);
    const url = URL.createObjectURL(await response.blob());
    make("a", { href: url, download: `partsong-${id}.${form === "json" ? "json" : "md"}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (trouble) {
    problem.textContent = trouble.message;
  }
}
