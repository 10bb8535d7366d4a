// @ts-check
// A run as the page hears it, from its own request or from the server's record: the transcript and its times. Listeners
// are told of changes at most once a frame, however many events have come.

import { hear, newTranscript } from "./fold.js";
import { watchPreparing } from "./preparing.js";
import { call, messageOf, post, ServerError } from "./server.js";
import { readEvents } from "./sse.js";
import { newTimes, note } from "./times.js";

/** @import { AgainChanges, AnyEvent, Prepared } from "./types.js" */

export class Run {
  constructor() {
    /** @type {string | null} */
    this.id = null;
    this.transcript = newTranscript();
    this.times = newTimes();
    /** @type {string | null} */
    this.problem = null; // why there is no run, or no more of it
    /** @type {Prepared[]} */
    this.preparing = []; // local models that are being fetched or loaded, while this run waits
    this.stopped = false;
    this.left = false;
    /** @type {number | null} */
    this.began = null; // the run's start, of performance.now()
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    this.abort = new AbortController();
    /** @type {number | null} */
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

  /**
   * Have `listener` called now and after each change; the result takes the listener off again.
   *
   * @param {() => void} listener
   */
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

  /**
   * @param {AnyEvent} event
   * @param {number | null} seconds since the run's start; `null` if nobody knows
   */
  hear(event, seconds) {
    if (event.event === "run_started" && this.transcript.recipe !== null) return;
    hear(this.transcript, event);
    note(this.times, event, seconds, this.transcript.recipe);
  }

  /**
   * Ask the server, and hear the run until it is over. Throws nothing: `problem` says what went wrong.
   *
   * @param {object | Promise<object>} wanted the body, in the shape of Chat Completions
   */
  async perform(wanted) {
    await this.ask("/v1/chat/completions", wanted, { stream_options: { include_usage: true } });
  }

  /**
   * Make an earlier run again, with what it has.
   *
   * @param {string} earlier its id
   * @param {AgainChanges} changes
   */
  async again(earlier, changes) {
    await this.ask(`/v1/runs/${encodeURIComponent(earlier)}/again`, changes);
  }

  /**
   * @param {string} path
   * @param {object | Promise<object>} wanted
   * @param {object} more of the body
   */
  async ask(path, wanted, more = {}) {
    await this.listening(async () => {
      const body = /** @type {{ partsong?: object }} */ (await wanted);
      const partsong = { ...body.partsong, events: true, stay: true };
      const response = await post(path, { ...body, ...more, stream: true, partsong }, { signal: this.abort.signal });
      this.id = response.headers.get("x-partsong-run");
      await readEvents(response, (pieces) => {
        for (const { data } of pieces) if (data !== "[DONE]") this.hearChunk(JSON.parse(data));
        this.changed();
      });
    });
  }

  /**
   * Hear a run from the server's record, from its first event on, as long as the run goes on.
   *
   * @param {string} id
   */
  async follow(id) {
    this.id = id;
    await this.listening(async () => {
      const path = `/v1/runs/${encodeURIComponent(id)}/events?times=1`;
      const response = await call(path, { signal: this.abort.signal });
      /** @type {number | null} */
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

  // Stop every call of the run: by hanging up, and by the run's id, because the run would go on without this page.
  stop() {
    if (!this.over) {
      this.times.end = this.seconds;
      this.stopped = true;
      if (this.id) post(`/v1/runs/${encodeURIComponent(this.id)}/stop`, {}).catch(() => {});
    }
    this.leave();
    this.changed();
  }

  // Hear no more of the run; the run goes on.
  leave() {
    this.left = true;
    this.abort.abort();
  }

  /** @param {() => Promise<void>} work */
  async listening(work) {
    watchPreparing(this);
    try {
      await work();
      if (!this.over) this.problem = "the connection ended before the run did";
    } catch (problem) {
      if (problem instanceof ServerError) {
        this.id ??= problem.run;
        this.problem = this.transcript.error === null ? problem.message : null;
      } else if (!this.left && this.transcript.error === null) {
        this.problem = `the connection was lost (${messageOf(problem)})`;
      }
    }
    this.changed();
  }

  /** @param {any} chunk of Chat Completions */
  hearChunk(chunk) {
    const now = performance.now();
    if (chunk.partsong?.event === "run_started") this.began = now;
    const seconds = (now - (this.began ?? now)) / 1000;
    if (chunk.partsong?.event) this.hear(chunk.partsong, seconds);
    /** @type {string | undefined} */
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) this.hear({ event: "aggregation_delta", delta: { type: "text", text } }, seconds);
    if (chunk.error && this.transcript.error === null) this.problem = chunk.error.message;
  }
}
