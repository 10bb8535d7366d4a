// A run as the page hears it, from its own request or from the server's record: the transcript, its times, and who
// wants to know. Listeners are told at most once a frame, however much has come.

import { hear, newTranscript } from "./fold.js";
import { call, post, ServerError } from "./server.js";
import { readEvents } from "./sse.js";
import { newTimes, note } from "./times.js";

export class Run {
  constructor() {
    this.id = null;
    this.transcript = newTranscript();
    this.times = newTimes();
    this.problem = null; // why there is no run, or no more of it
    this.stopped = false;
    this.left = false;
    this.began = null; // of performance.now(), for the seconds of a run that goes on
    this.listeners = new Set();
    this.abort = new AbortController();
    this.frame = null;
  }

  get over() {
    return this.transcript.answer !== null || this.transcript.error !== null || this.problem !== null || this.stopped;
  }

  // The seconds since the run's start, now or at its end.
  get seconds() {
    if (this.over || this.began === null) return this.times.end ?? this.times.now;
    return Math.max(this.times.now, (performance.now() - this.began) / 1000);
  }

  // Have `listener` called now and whenever something has changed; the result takes it off again.
  listen(listener) {
    this.listeners.add(listener);
    listener();
    return () => this.listeners.delete(listener);
  }

  changed() {
    this.frame ??= requestAnimationFrame(() => this.tell());
  }

  tell() {
    this.frame = null;
    for (const listener of this.listeners) listener();
  }

  hear(event, seconds) {
    if (event.event === "run_started" && this.transcript.recipe !== null) return;
    hear(this.transcript, event);
    note(this.times, event, seconds, this.transcript.recipe);
  }

  // Ask the server, and hear the run until it is over. Throws nothing: `problem` says what went wrong.
  async perform(body) {
    await this.listening(async () => {
      const asked = { ...body, stream: true, stream_options: { include_usage: true } };
      asked.partsong = { ...body.partsong, events: true, stay: true };
      const response = await post("/v1/chat/completions", asked, { signal: this.abort.signal });
      this.id = response.headers.get("x-partsong-run");
      await readEvents(response, (pieces) => {
        for (const { data } of pieces) if (data !== "[DONE]") this.hearChunk(JSON.parse(data));
        this.changed();
      });
    });
  }

  // Hear a run from the server's record, from its first event on, as long as it goes on.
  async follow(id) {
    this.id = id;
    await this.listening(async () => {
      const path = `/v1/runs/${encodeURIComponent(id)}/events?times=1`;
      const response = await call(path, { signal: this.abort.signal });
      let seconds = null;
      await readEvents(response, (pieces) => {
        for (const { name, data } of pieces) {
          const value = JSON.parse(data);
          if (name === "time") seconds = value.seconds;
          else this.hear(value, seconds);
        }
        if (seconds !== null) this.began = performance.now() - seconds * 1000;
        this.changed();
      });
    });
  }

  // Have every call of it stopped, by hanging up, and by its id where it would go on without this page.
  stop() {
    if (!this.over) {
      this.times.end = this.seconds;
      this.stopped = true;
      if (this.id) post(`/v1/runs/${encodeURIComponent(this.id)}/stop`, {}).catch(() => {});
    }
    this.leave();
    this.changed();
  }

  // Hear no more of it; it goes on.
  leave() {
    this.left = true;
    this.abort.abort();
  }

  async listening(work) {
    try {
      await work();
      if (!this.over) this.problem = "the connection ended before the run did";
    } catch (problem) {
      if (problem instanceof ServerError) {
        this.id ??= problem.run;
        this.problem = this.transcript.error === null ? problem.message : null;
      } else if (!this.left && this.transcript.error === null) {
        this.problem = `the connection was lost (${problem.message})`;
      }
    }
    this.changed();
  }

  hearChunk(chunk) {
    const now = performance.now();
    if (chunk.partsong?.event) {
      if (chunk.partsong.event === "run_started") this.began = now;
      this.hear(chunk.partsong, (now - this.began) / 1000);
    }
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) {
      const delta = { type: "text", text };
      this.hear({ event: "aggregation_delta", delta }, (now - (this.began ?? now)) / 1000);
    }
    if (chunk.error && this.transcript.error === null) this.problem = chunk.error.message;
  }
}
