// @ts-check
// The keys that work wherever the focus is. Single letters work only while nobody is writing.

import { seekConversation } from "./conversations.js";
import { make } from "./dom.js";

const KEYS = [
  ["?", "show these shortcuts"],
  ["Ctrl+K", "search the conversations"],
  ["/", "write a question"],
  ["Enter", "send the question"],
  ["Shift+Enter", "begin a new line"],
  ["Escape", "stop the run, or cancel a change"],
  ["1 2 3 …", "vote in a comparison; 0 if all are as good"],
];

/** @type {(() => boolean)[]} */
const escapes = []; // the latest first

/**
 * Have `act` called for the key Escape, until the result is called. It says whether there was something to end.
 *
 * @param {() => boolean} act
 */
export function onEscape(act) {
  escapes.unshift(act);
  return () => void escapes.splice(escapes.indexOf(act), 1);
}

/** @param {EventTarget | null} target */
export function isTyping(target) {
  return target instanceof Element && /^(textarea|input|select)$/i.test(target.tagName);
}

export function listenForShortcuts() {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const held = event.ctrlKey || event.metaKey;
    if (act(event, held)) event.preventDefault();
  });
}

/**
 * Do what a key means, and say whether it means something.
 *
 * @param {KeyboardEvent} event
 * @param {boolean} held whether Ctrl or Command is held
 */
function act({ key, altKey, shiftKey, target }, held) {
  if (key === "Escape") return escapes.some((end) => end());
  if (altKey) return false;
  if (held) return key.toLowerCase() === "k" && !shiftKey && seekConversation();
  if (isTyping(target)) return false;
  if (key === "?") return showShortcuts();
  if (key !== "/") return false;
  /** @type {HTMLElement | null} */ (document.querySelector("main textarea"))?.focus();
  return true;
}

export function showShortcuts() {
  const rows = KEYS.map(([key, words]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, words)]);
  const dialog = make(
    "dialog",
    { class: "small", "aria-labelledby": "shortcuts" },
    make("h2", { id: "shortcuts" }, "Shortcuts"),
    make("dl", { class: "keys" }, rows.flat()),
  );
  const close = make("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  dialog.append(close);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return true;
}
