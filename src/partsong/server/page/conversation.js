// @ts-check
// A conversation as data: turns, each a question (words, pictures and files) and its answer. A conversation travels in
// two shapes: as messages to the server, and as messages in a run's record.

/** @import { AnyEvent, AttachedFile, ChatMessage, Conversation } from "./types.js" */
/** @import { Document, Image, PlainTurn, Question } from "./types.js" */

/**
 * The messages that ask the last of these turns, in the shape of Chat Completions.
 *
 * @param {PlainTurn[]} turns
 * @param {ChatMessage[]} system
 */
export function messagesOf(turns, system = []) {
  const messages = [...system];
  for (const { question, answer } of turns) {
    messages.push({ role: "user", content: contentOf(question) });
    if (answer) messages.push({ role: "assistant", content: answer });
  }
  return messages;
}

/** @param {Question} question */
function contentOf({ text, images, files }) {
  if (!images.length && !files.length) return text;
  const documents = files.map(({ name, url }) => ({ type: "file", file: { filename: name, file_data: url } }));
  const pictures = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...documents, ...pictures, ...(text ? [{ type: "text", text }] : [])];
}

/**
 * The turns of a recorded conversation, the last one without an answer, and the system's words before them.
 *
 * @param {Conversation} conversation
 */
export function turnsOf(conversation) {
  /** @type {PlainTurn[]} */
  const turns = [];
  /** @type {ChatMessage[]} */
  const system = [];
  for (const { role, parts } of conversation.messages) {
    const text = parts
      .filter((part) => part.type === "text")
      .map((part) => part.text)
      .join("");
    const images = parts.filter((part) => part.type === "image").map(addressOf);
    const files = parts.filter((part) => part.type === "document").map(fileOf);
    const last = turns.at(-1);
    if (role === "system") system.push({ role, content: text });
    else if (role === "user") turns.push({ question: { text, images, files }, answer: "" });
    else if (role === "assistant" && last) last.answer += text;
  }
  return { turns, system };
}

/** @returns {PlainTurn} */
export function emptyTurn() {
  return { question: { text: "", images: [], files: [] }, answer: "" };
}

/** @param {Image} image */
function addressOf({ data, media_type: type, url = "" }) {
  return data ? `data:${type};base64,${data}` : url;
}

/**
 * @param {Document} document
 * @returns {AttachedFile}
 */
function fileOf({ name = "", media_type: type = "", data = "" }) {
  return { name, url: `data:${type || "application/octet-stream"};base64,${data}` };
}

/**
 * A recorded conversation as Markdown.
 *
 * @param {string} title
 * @param {AnyEvent | undefined} began the first event of its last run
 * @param {string} answer of this run
 */
export function messagesAsMarkdown(title, began, answer) {
  const { turns } = turnsOf(began?.event === "run_started" ? began.conversation : { messages: [] });
  const last = turns.at(-1);
  if (last) last.answer = answer;
  const told = turns.map((turn) => `## You\n\n${turn.question.text}\n\n## Answer\n\n${turn.answer}\n`);
  return [`# ${title}\n`, ...told].join("\n");
}
