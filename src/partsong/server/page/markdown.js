// @ts-check
// Markdown as elements. `marked` reads the text, and its tokens are made into elements one by one, with text as text.
// No HTML is ever parsed, so nothing that a model writes can run, load or restyle anything. HTML in an answer is shown
// as text. A picture from elsewhere is shown as a link: fetching it would tell others what is read here.
//
// A text that grows is rendered block by block: each finished block once, and the last one again and again.

import { codeBlock } from "./code.js";
import { make } from "./dom.js";
import { mathematics, mathNode } from "./mathematics.js";
import { Lexer, Marked } from "./vendor/marked.js";

/** @import { CodeBlock } from "./code.js" */
/** @import { Token } from "./vendor/marked.js" */

const PATIENCE = 250; // milliseconds for one reading; a text that takes longer is shown as it was written
let until = Infinity; // when the reading under way has taken too long

function watch() {
  if (performance.now() > until) throw new Error("this text takes too long to read");
  return undefined;
}

// `marked` asks its extensions at every step, so this one can end a reading: 60,000 dollar signs took 24 s.
const watching = {
  extensions: [
    { name: "watchBlock", level: /** @type {const} */ ("block"), start: () => undefined, tokenizer: watch },
    { name: "watch", level: /** @type {const} */ ("inline"), start: () => undefined, tokenizer: watch },
  ],
};
const READER = new Marked({ gfm: true }, mathematics, watching);
const DEEPEST = 40; // levels of quotes and lists
const MOST_COLUMNS = 100; // of a table that is shown as one
const MOST_TOKENS = 5000; // in a block; more of them would become elements for seconds
const LARGEST = 200_000; // characters of a block that is still read as Markdown
/** @type {("h3" | "h4" | "h5" | "h6")[]} */
const HEADINGS = ["h3", "h4", "h5", "h6"]; // below the page's own headings
const SHARE = 5; // one part in so many of the time goes into rendering

// A text that may still grow, shown in a place.
export class Growing {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    place.classList.add("prose");
    this.source = "";
    this.done = 0; // characters that are rendered for good
    /** @type {Record<string, object>} */
    this.links = Object.create(null);
    /** @type {(Element | Text)[]} */
    this.tail = []; // what is made again when the text has grown
    /** @type {CodeBlock | null} */
    this.open = null; // the code block that still grows
    /** @type {number | undefined} */
    this.timer = undefined;
    this.rested = 0; // when the next rendering may be
    this.plain = false; // whether the rest has taken too long to read, and is not read again
    this.reset();
  }

  reset() {
    this.place.replaceChildren();
    this.source = "";
    this.done = 0;
    this.links = Object.create(null);
    this.tail = [];
    this.open = null;
    this.plain = false;
  }

  /**
   * Show this text, soon; at once if it is `over`.
   *
   * @param {string} text
   * @param {boolean} over
   */
  show(text, over) {
    clearTimeout(this.timer);
    const wait = this.rested - performance.now();
    if (over || wait <= 0) this.render(text, over);
    else this.timer = setTimeout(() => this.render(text, over), wait);
  }

  /**
   * @param {string} text
   * @param {boolean} over
   */
  render(text, over) {
    text = text.replaceAll("\r\n", "\n");
    if (text === this.source && !over) return;
    const began = performance.now();
    if (!text.startsWith(this.source)) this.reset();
    this.source = text;
    const tokens = this.read(text.slice(this.done));
    const last = Math.max(over ? tokens.length : tokens.findLastIndex((token) => token.type !== "space"), 0);
    /** @type {Token | undefined} */
    const first = tokens[last];
    if (last === 0 && this.open && first?.type === "code" && first.lang === this.open.lang) this.open.grow(first.text);
    else this.append(tokens.slice(0, last), tokens.slice(last), over);
    const ended = performance.now();
    this.rested = ended + (ended - began) * (SHARE - 1);
  }

  /**
   * @param {Token[]} finished
   * @param {Token[]} growing
   * @param {boolean} over
   */
  append(finished, growing, over) {
    for (const node of this.tail) node.remove();
    this.open = null;
    for (const token of finished) {
      this.done += token.raw.length;
      this.place.append(...block(token, 0, true));
    }
    const [first] = growing;
    if (!over && first?.type === "code") {
      this.open = codeBlock(first.text, first.lang, false);
      this.tail = [this.open.element];
    } else {
      this.tail = growing.flatMap((token) => block(token, 0, over)).map(asNode);
    }
    this.place.append(...this.tail);
  }

  /**
   * @param {string} text
   * @returns {Token[]}
   */
  read(text) {
    if (this.plain || text.length > LARGEST) return [{ type: "plain", raw: text }];
    const lexer = new Lexer(READER.defaults);
    lexer.tokens.links = this.links;
    until = performance.now() + PATIENCE;
    try {
      return [...lexer.lex(text)];
    } catch {
      this.plain = performance.now() > until; // otherwise it nests too deeply
      return [{ type: "plain", raw: text }];
    } finally {
      until = Infinity;
    }
  }
}

/** @param {Made} made */
function asNode(made) {
  return typeof made === "string" ? document.createTextNode(made) : made;
}

/**
 * A whole text at once.
 *
 * @param {string} text
 */
export function rendered(text) {
  const place = make("div");
  new Growing(place).show(text, true);
  return place;
}

/** @typedef {{ kind: "prose" | "code" | "row" | "formula" | "other", text: string }} TextPiece */

/**
 * The pieces of a text without marks, in their order: paragraphs, headings and items, lines of code, rows of tables,
 * and formulas on their own. What cannot be read stands as it was written, as "other".
 *
 * @param {string} text
 * @returns {TextPiece[]}
 */
export function piecesOf(text) {
  return new Growing(make("div")).read(text.replaceAll("\r\n", "\n")).flatMap((token) => pieces(token, 0));
}

/**
 * @param {Token} token
 * @param {number} depth
 * @returns {TextPiece[]}
 */
function pieces(token, depth) {
  if (depth > DEEPEST || (depth === 0 && hasTooMany(token))) return [{ kind: "other", text: token.raw }];
  const inside = (/** @type {Token[]} */ tokens) => tokens.flatMap((each) => pieces(each, depth + 1));
  switch (token.type) {
    case "space":
    case "def":
    case "hr":
    case "checkbox":
      return [];
    case "heading":
    case "paragraph":
    case "text":
      return proseIn(token.tokens ?? [token], depth);
    case "code":
      return token.text.split("\n").map((/** @type {string} */ line) => ({ kind: "code", text: line }));
    case "blockquote":
      return inside(token.tokens);
    case "list":
      return token.items.flatMap((/** @type {Token} */ item) => inside(item.tokens));
    case "table":
      return [token.header, ...token.rows].map((/** @type {Token[]} */ cells) => {
        return { kind: "row", text: cells.map((cell) => wordsIn(cell.tokens, depth)).join(" | ") };
      });
    case "mathBlock":
      return [{ kind: "formula", text: token.text.trim() }];
    default:
      return [{ kind: "other", text: token.raw }];
  }
}

/**
 * @param {Token[]} tokens
 * @param {number} depth
 * @returns {TextPiece[]}
 */
function proseIn(tokens, depth) {
  const own = tokens.filter((token) => token.type === "math" && token.display);
  const rest = wordsIn(
    tokens.filter((token) => !own.includes(token)),
    depth,
  );
  const formulas = own.map((token) => ({ kind: /** @type {const} */ ("formula"), text: token.text.trim() }));
  return rest.trim() ? [{ kind: "prose", text: rest }, ...formulas] : formulas;
}

/**
 * @param {Token[]} tokens
 * @param {number} depth
 * @returns {string}
 */
function wordsIn(tokens, depth) {
  if (depth > DEEPEST) return tokens.map((token) => token.raw).join("");
  return tokens
    .map((token) => {
      if (token.type === "br") return "\n";
      if (token.tokens) return wordsIn(token.tokens, depth + 1);
      return token.type === "text" ? entities(token.text) : (token.text ?? token.raw);
    })
    .join("");
}

/** @typedef {Element | string} Made */

/**
 * @param {Token} token
 * @param {number} depth
 * @param {boolean} final
 * @returns {Made[]}
 */
function block(token, depth, final) {
  if (depth > DEEPEST || (depth === 0 && hasTooMany(token))) return [make("p", { class: "raw" }, token.raw)];
  const inside = (/** @type {Token[]} */ tokens) => tokens.flatMap((each) => block(each, depth + 1, final));
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      return [make(HEADINGS[token.depth - 1] ?? "h6", {}, inline(token.tokens, depth))];
    case "paragraph":
      return [make("p", {}, inline(token.tokens, depth))];
    case "text":
      return token.tokens ? inline(token.tokens, depth) : [entities(token.text)];
    case "code":
      return [codeBlock(token.text, token.lang, final).element];
    case "hr":
      return [make("hr")];
    case "blockquote":
      return [make("blockquote", {}, inside(token.tokens))];
    case "list":
      return [list(token, inside)];
    case "checkbox":
      return [make("span", { class: "box" }, token.checked ? "☑ " : "☐ ")];
    case "table":
      return [table(token, depth)];
    case "mathBlock":
      return [mathNode(token.text, true)];
    default:
      return [make("p", { class: "raw" }, token.raw)];
  }
}

/** @param {Token} token */
function hasTooMany(token) {
  let count = 0;
  const waiting = [token];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { tokens, items, header, rows } = next;
    for (const inner of [tokens, items, header, ...(rows ?? [])]) {
      if (!Array.isArray(inner)) continue; // `header` of a cell says whether it is one
      count += inner.length;
      if (count > MOST_TOKENS) return true;
      for (const each of inner) waiting.push(each);
    }
  }
  return false;
}

/**
 * @param {Token} token
 * @param {(tokens: Token[]) => Made[]} inside
 */
function list(token, inside) {
  const start = token.ordered && token.start !== 1 ? token.start : null;
  /** @type {Token[]} */
  const tokens = token.items;
  const items = tokens.map((item) => make("li", { class: item.task ? "task" : null }, inside(item.tokens)));
  return make(token.ordered ? "ol" : "ul", { start }, items);
}

/**
 * @param {Token} token
 * @param {number} depth
 */
function table(token, depth) {
  /** @type {Token[][]} */
  const rows = token.rows;
  const row = (/** @type {"td" | "th"} */ name, /** @type {Token[]} */ cells) =>
    make(
      "tr",
      {},
      cells.map(({ align, tokens }) => make(name, { class: align ? `to-${align}` : null }, inline(tokens, depth))),
    );
  if (token.header.length > MOST_COLUMNS) return make("p", { class: "raw" }, token.raw);
  const body = rows.map((cells) => row("td", cells));
  const whole = make("table", {}, make("thead", {}, row("th", token.header)), make("tbody", {}, body));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, whole);
}

/**
 * @param {Token[]} tokens
 * @param {number} depth
 * @returns {Made[]}
 */
function inline(tokens, depth) {
  if (depth > DEEPEST) return [tokens.map((token) => token.raw).join("")];
  return tokens.map((token) => span(token, depth + 1));
}

/**
 * @param {Token} token
 * @param {number} depth
 * @returns {Made}
 */
function span(token, depth) {
  switch (token.type) {
    case "escape":
      return token.text;
    case "text":
      return token.tokens ? make("span", {}, inline(token.tokens, depth)) : entities(token.text);
    case "strong":
    case "em":
    case "del":
      return make(token.type, {}, inline(token.tokens, depth));
    case "codespan":
      return make("code", {}, token.text);
    case "br":
      return make("br");
    case "html":
      return /^<br\s*\/?>$/i.test(token.raw) ? make("br") : token.raw;
    case "link":
      return link(token.href, inline(token.tokens, depth));
    case "image":
      return picture(token);
    case "checkbox":
      return token.checked ? "☑ " : "☐ ";
    case "math":
      return mathNode(token.text, token.display);
    default:
      return token.raw;
  }
}

/**
 * @param {string} address
 * @param {Made[]} children
 */
function link(address, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return make("span", { title: address }, children);
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

/** @param {Token} token */
function picture({ href, text }) {
  if (/^data:image\/(png|jpeg|gif|webp);base64,/i.test(href)) return make("img", { src: href, alt: text });
  return link(href, [`picture: ${text || href}`]);
}

/** @type {Record<string, string>} */
const NAMED = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: " ",
  copy: "©",
  mdash: "—",
  ndash: "–",
  hellip: "…",
  times: "×",
  deg: "°",
  rarr: "→",
  larr: "←",
  le: "≤",
  ge: "≥",
  ne: "≠",
  euro: "€",
  middot: "·",
};

/** @param {string} text */
function entities(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, decimal, hex, name) => {
    if (name) return Object.hasOwn(NAMED, name) ? NAMED[name] : whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
