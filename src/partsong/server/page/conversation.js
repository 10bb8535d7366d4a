// A conversation as data: turns, each a question (words and pictures) and what was answered; and the two shapes in which
// it travels: as messages to the server, and as messages in a run's record.

// The messages that ask the last of these turns, in the shape of Chat Completions.
export function messagesOf(turns, system = []) {
  const messages = [...system];
  for (const { question, answer } of turns) {
    messages.push({ role: "user", content: contentOf(question) });
    if (answer) messages.push({ role: "assistant", content: answer });
  }
  return messages;
}

function contentOf({ text, images }) {
  if (!images.length) return text;
  return [
    ...images.map((url) => ({ type: "image_url", image_url: { url } })),
    ...(text ? [{ type: "text", text }] : []),
  ];
}

// The turns of a recorded conversation, the last one without an answer, and the system's words before them.
export function turnsOf(conversation) {
  const turns = [];
  const system = [];
  for (const { role, parts } of conversation.messages) {
    const text = parts
      .filter((part) => part.type === "text")
      .map((part) => part.text)
      .join("");
    if (role === "system") system.push({ role, content: text });
    else if (role === "user")
      turns.push({
        question: { text, images: parts.filter((part) => part.type === "image").map(addressOf) },
        answer: "",
      });
    else if (role === "assistant" && turns.length) turns.at(-1).answer += text;
  }
  return { turns, system };
}

function addressOf({ data, media_type: type, url }) {
  return data ? `data:${type};base64,${data}` : url;
}
