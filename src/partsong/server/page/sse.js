// Server-sent events out of a fetched response. (`EventSource` cannot send the header that a key needs.)

export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const pieces = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
      rest = pieces.pop();
      const events = pieces.map(parse).filter((event) => event !== null);
      if (events.length) yield events; // all that one read brought: they are drawn together
    }
  } finally {
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
