// Markdown as elements. `marked` reads it; what it found is made into elements one by one, with text as text: no HTML is
// ever parsed, so nothing that a model writes can run, load or restyle anything. HTML in an answer is shown as it is
// written. Pictures from elsewhere are shown as links: fetching them would tell others what is read here.
//
// A text that grows is rendered block by block: finished blocks once, the last one again and again.

import { codeBlock } from "./code.js";
import { make } from "./dom.js";
import { mathematics, mathNode } from "./mathematics.js";
import { Lexer, Marked } from "./vendor/marked.js";

const READER = new Marked({ gfm: true }, mathematics);
const DEEPEST = 40; // levels of quotes and lists
const LARGEST = 200_000; // characters of a block that is still read as Markdown
const SHARE = 5; // of the time, one part in so many goes into rendering

// A text that may still grow, shown in a place.
export class Growing {
  constructor(place) {
    this.place = place;
    place.classList.add("prose");
    this.reset();
    this.timer = null;
    this.rested = 0; // when the next rendering may be
  }

  reset() {
    this.place.replaceChildren();
    this.source = "";
    this.done = 0; // characters that are rendered for good
    this.links = Object.create(null);
    this.tail = [];
    this.open = null; // the code block that still grows
  }

  // Show this text, soon; at once if it is `over`.
  show(text, over) {
    clearTimeout(this.timer);
    const wait = this.rested - performance.now();
    if (over || wait <= 0) this.render(text, over);
    else this.timer = setTimeout(() => this.render(text, over), wait);
  }

  render(text, over) {
    text = text.replaceAll("\r\n", "\n");
    if (text === this.source && !over) return;
    const began = performance.now();
    if (!text.startsWith(this.source)) this.reset();
    this.source = text;
    const tokens = this.read(text.slice(this.done));
    const last = over ? tokens.length : tokens.findLastIndex((token) => token.type !== "space");
    const [first] = tokens.slice(Math.max(last, 0));
    if (last === 0 && this.open && first.type === "code" && first.lang === this.open.lang) {
      this.open.grow(first.text);
    } else {
      for (const node of this.tail) node.remove();
      this.open = null;
      for (const token of tokens.slice(0, Math.max(last, 0))) {
        this.done += token.raw.length;
        this.place.append(...block(token, 0, true));
      }
      if (!over && first?.type === "code") {
        this.open = codeBlock(first.text, first.lang, false);
        this.tail = [this.open.element];
      } else {
        this.tail = tokens.slice(Math.max(last, 0)).flatMap((token) => block(token, 0, over));
      }
      this.place.append(...this.tail);
    }
    const ended = performance.now();
    this.rested = ended + (ended - began) * (SHARE - 1);
  }

  read(text) {
    if (text.length > LARGEST) return [{ type: "plain", raw: text }];
    const lexer = new Lexer(READER.defaults);
    lexer.tokens.links = this.links;
    try {
      return [...lexer.lex(text)];
    } catch {
      return [{ type: "plain", raw: text }]; // nested beyond reason
    }
  }
}

// A whole text at once.
export function rendered(text) {
  const place = make("div");
  new Growing(place).show(text, true);
  return place;
}

// The lines of a text's prose: its paragraphs, headings and list items, without code, tables and formulas on their own.
export function proseOf(text) {
  const place = rendered(text);
  for (const other of place.querySelectorAll(".code, .wide, .math.display")) other.remove();
  const lines = [...place.querySelectorAll("p, li, h3, h4, h5, h6")].filter((line) => !line.querySelector("p, li"));
  return lines.map((line) => line.textContent);
}

function block(token, depth, final) {
  if (depth > DEEPEST) return [make("p", { class: "raw" }, token.raw)];
  const inside = (tokens) => tokens.flatMap((each) => block(each, depth + 1, final));
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      return [make(`h${Math.min(token.depth + 2, 6)}`, {}, inline(token.tokens, depth))];
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

function list(token, inside) {
  const start = token.ordered && token.start !== 1 ? token.start : null;
  const items = token.items.map((item) => make("li", { class: item.task ? "task" : null }, inside(item.tokens)));
  return make(token.ordered ? "ol" : "ul", { start }, items);
}

function table(token, depth) {
  const cell = (name) => (each) =>
    make(name, { class: each.align ? `to-${each.align}` : null }, inline(each.tokens, depth));
  const rows = token.rows.map((row) => make("tr", {}, row.map(cell("td"))));
  const head = make("thead", {}, make("tr", {}, token.header.map(cell("th"))));
  const whole = make("table", {}, head, make("tbody", {}, rows));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, whole);
}

function inline(tokens, depth) {
  if (depth > DEEPEST) return [tokens.map((token) => token.raw).join("")];
  return tokens.map((token) => span(token, depth + 1));
}

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

function link(address, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return make("span", { title: address }, children);
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

function picture({ href, text }) {
  if (/^data:image\/(png|jpeg|gif|webp);base64,/i.test(href)) return make("img", { src: href, alt: text });
  return link(href, [`picture: ${text || href}`]);
}

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

function entities(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, decimal, hex, name) => {
    if (name) return Object.hasOwn(NAMED, name) ? NAMED[name] : whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}
