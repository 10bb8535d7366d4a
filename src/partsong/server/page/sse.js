// Server-sent events out of a fetched response. (`EventSource` cannot send the header that a key needs.)

const PAUSE = 40; // milliseconds in which what comes is gathered: decoded and taken in at once, it is half the work

// Calls `take` with the events that have come, a few times a second, until the response has ended.
export async function readEvents(response, take) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let gathered = [];
  let rest = "";
  let timer = null;
  let fault = null;

  function flush() {
    clearTimeout(timer);
    timer = null;
    for (const bytes of gathered) rest += decoder.decode(bytes, { stream: true });
    gathered = [];
    const pieces = rest.replaceAll("\r\n", "\n").split("\n\n");
    rest = pieces.pop();
    const events = pieces.map(parse).filter((event) => event !== null);
    if (events.length) take(events);
  }

  function later() {
    try {
      flush();
    } catch (problem) {
      fault = problem;
      reader.cancel().catch(() => {});
    }
  }

  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      gathered.push(value);
      timer ??= setTimeout(later, PAUSE);
    }
    if (fault) throw fault;
    flush();
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}

function parse(piece) {
  let name = "message";
  const data = [];
  for (const line of piece.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    else if (line.startsWith("event:")) name = line.slice(6).trim();
  }
  return data.length ? { name, data: data.join("\n") } : null;
}
