// @ts-check
// Reads server-sent events out of a fetched response. (`EventSource` cannot send the header that a key needs.)

const PAUSE = 40; // milliseconds for which bytes are gathered: decoding them together halves the work

/** @typedef {{ name: string, data: string }} Piece */

/**
 * Calls `take` with the events that have come, a few times a second, until the response has ended.
 *
 * @param {Response} response
 * @param {(pieces: Piece[]) => void} take
 */
export async function readEvents(response, take) {
  if (!response.body) return;
  const reader = response.body.getReader();
  const gathering = new Gathering(take, () => reader.cancel().catch(() => {}));
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      gathering.add(value);
    }
    gathering.end();
  } finally {
    gathering.stop();
    reader.cancel().catch(() => {});
  }
}

class Gathering {
  /**
   * @param {(pieces: Piece[]) => void} take
   * @param {() => void} cancel is called when `take` has thrown, so that nothing more is read
   */
  constructor(take, cancel) {
    this.take = take;
    this.cancel = cancel;
    this.decoder = new TextDecoder();
    /** @type {Uint8Array[]} */
    this.gathered = [];
    this.rest = "";
    /** @type {number | undefined} */
    this.timer = undefined;
    this.failed = false;
    /** @type {unknown} */
    this.fault = null;
  }

  /** @param {Uint8Array} bytes */
  add(bytes) {
    this.gathered.push(bytes);
    this.timer ??= setTimeout(() => this.later(), PAUSE);
  }

  // Take in the last events. Throws whatever `take` has thrown.
  end() {
    if (this.failed) throw this.fault;
    this.flush();
  }

  stop() {
    clearTimeout(this.timer);
  }

  later() {
    try {
      this.flush();
    } catch (problem) {
      this.failed = true;
      this.fault = problem;
      this.cancel();
    }
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const bytes of this.gathered) this.rest += this.decoder.decode(bytes, { stream: true });
    this.gathered = [];
    const pieces = this.rest.replaceAll("\r\n", "\n").split("\n\n");
    this.rest = pieces.pop() ?? "";
    const events = pieces.map(parse).filter((event) => event !== null);
    if (events.length) this.take(events);
  }
}

/**
 * @param {string} piece
 * @returns {Piece | null}
 */
function parse(piece) {
  let name = "message";
  const data = [];
  for (const line of piece.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    else if (line.startsWith("event:")) name = line.slice(6).trim();
  }
  return data.length ? { name, data: data.join("\n") } : null;
}
