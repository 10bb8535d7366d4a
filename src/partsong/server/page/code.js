// @ts-check
// A block of code: its language, a button that copies it, and colours once the block is whole.

import { coloursOf } from "./colours.js";
import { make } from "./dom.js";

const LARGEST = 60_000; // characters that are still coloured
const MOST_PIECES = 10_000; // elements that a block may become
const LANGUAGES =
  "bash c css diff docker go html ini java js jsdoc json lua make md pl plain py regex rs sql todo toml ts xml yaml";
const KNOWN = new Set(LANGUAGES.split(" "));
/** @type {Record<string, string>} */
const CALLED = {
  sh: "bash",
  shell: "bash",
  zsh: "bash",
  console: "bash",
  cpp: "c",
  "c++": "c",
  h: "c",
  "c#": "java",
  cs: "java",
  csharp: "java",
  kotlin: "java",
  python: "py",
  python3: "py",
  javascript: "js",
  jsx: "js",
  mjs: "js",
  typescript: "ts",
  tsx: "ts",
  rust: "rs",
  yml: "yaml",
  dockerfile: "docker",
  makefile: "make",
  perl: "pl",
  markdown: "md",
  svg: "xml",
  golang: "go",
};

/** @typedef {ReturnType<typeof codeBlock>} CodeBlock */

/**
 * The block's element, and `grow`, which takes the whole text as far as it is known.
 *
 * @param {string} text
 * @param {string | undefined} lang as the model wrote it
 * @param {boolean} final whether the text is whole
 */
export function codeBlock(text, lang, final) {
  const name = (lang ?? "").trim().split(/\s/, 1)[0].toLowerCase();
  const words = document.createTextNode(text);
  const code = make("code", {}, words);
  const copy = make("button", { type: "button", class: "quiet copy" }, "Copy");
  copy.addEventListener("click", () => copyText(code.textContent ?? "", copy));
  const element = make(
    "div",
    { class: "code" },
    make("div", { class: "code-head" }, make("span", {}, name || "text"), copy),
    make("pre", { tabindex: "0", role: "region", "aria-label": `Code, ${name || "text"}` }, code),
  );
  const language = Object.hasOwn(CALLED, name) ? CALLED[name] : name;
  if (final && KNOWN.has(language) && text.length <= LARGEST) colour(code, text, language);
  return { element, lang, grow: (/** @type {string} */ whole) => words.appendData(whole.slice(words.length)) };
}

/**
 * @param {string} text
 * @param {HTMLButtonElement} button says for a moment what has become of the copy
 */
export async function copyText(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/**
 * @param {HTMLElement} code
 * @param {string} text
 * @param {string} language
 */
function colour(code, text, language) {
  coloursOf(text, language, (pieces) => {
    if (pieces.length > MOST_PIECES || pieces.map(([piece]) => piece).join("") !== text) return;
    code.replaceChildren(
      ...pieces.map(([piece, type]) => (type ? make("span", { class: `is-${type}` }, piece) : piece)),
    );
  });
}
