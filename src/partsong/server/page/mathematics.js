// @ts-check
// Mathematics in Markdown ($…$, $$…$$, \(…\), \[…\]), shown as MathML. The library that makes MathML is one of the
// page's largest files, so it is fetched when an answer first has a formula.

import { make } from "./dom.js";

/** @import { Extension } from "./vendor/marked.js" */
/** @import Temml from "./vendor/temml.js" */

/** @type {[RegExp, boolean][]} */
const INLINE = [
  [/^\$\$([^$]{1,2000}?)\$\$/, true],
  [/^\$(?![\s$])((?:\\[^\n]|[^\\$\n]){1,500}?)(?<!\s)\$(?!\d)/, false],
  [/^\\\(([^]{1,2000}?)\\\)/, false],
  [/^\\\[([^]{1,2000}?)\\\]/, true],
];
const BLOCK = /^ {0,3}(?:\$\$([^]{1,5000}?)\$\$|\\\[([^]{1,5000}?)\\\])[ \t]*(?:\n|$)/;

const NEAR = 5000; // characters of a paragraph in which a formula may begin on a line of its own
const SHARE = 50; // milliseconds for formulas before the page gets its turn
const LONGEST_QUEUE = 2000; // formulas that wait for their turn; more of them stay as they were written

/**
 * @param {string} text
 * @param {RegExp} pattern
 */
function first(text, pattern) {
  const index = text.search(pattern);
  return index < 0 ? undefined : index;
}

/** @type {{ extensions: Extension[] }} */
export const mathematics = {
  extensions: [
    {
      name: "mathBlock",
      level: "block",
      // Looked for near the beginning alone: this is asked for each paragraph, with all the text behind it.
      start: (source) => first(source.slice(0, NEAR), /^ {0,3}(\$\$|\\\[)/m),
      tokenizer(source) {
        const found = BLOCK.exec(source);
        return found ? { type: "mathBlock", raw: found[0], text: found[1] ?? found[2] } : undefined;
      },
    },
    {
      name: "math",
      level: "inline",
      start: (source) => first(source, /\$|\\[([]/),
      tokenizer(source) {
        for (const [pattern, display] of INLINE) {
          const found = pattern.exec(source);
          if (found) return { type: "math", raw: found[0], text: found[1], display };
        }
        return undefined;
      },
    },
  ],
};

/** @type {typeof Temml | null} */
let library = null;
/** @type {Promise<typeof Temml> | null} */
let loading = null;

/**
 * @param {string} source
 * @param {boolean} display
 */
export function mathNode(source, display) {
  const place = make("span", { class: display ? "math display" : "math" }, source);
  if (library) {
    const temml = library;
    whenDue(() => set(temml, place, source, display));
  } else {
    loading ??= import("./vendor/temml.js").then((module) => (library = module.default));
    loading.then(
      (temml) => whenDue(() => set(temml, place, source, display)),
      () => {}, // without the library, the source stays there
    );
  }
  return place;
}

/** @type {(() => void)[]} */
const waiting = [];
let spent = 0; // milliseconds since the page had its turn
/** @type {number | undefined} */
let timer = undefined;

/**
 * Make a formula now, or later if formulas have taken their share of the time: ten thousand of them take seconds.
 *
 * @param {() => void} job
 */
function whenDue(job) {
  timer ??= setTimeout(goOn);
  if (waiting.length === 0 && spent < SHARE) measure(job);
  else if (waiting.length < LONGEST_QUEUE) waiting.push(job);
}

/** @param {() => void} job */
function measure(job) {
  const began = performance.now();
  job();
  spent += performance.now() - began;
}

function goOn() {
  timer = undefined;
  spent = 0;
  while (waiting.length > 0 && spent < SHARE) measure(/** @type {() => void} */ (waiting.shift()));
  if (waiting.length > 0) timer = setTimeout(goOn, SHARE);
}

/**
 * @param {typeof Temml} temml
 * @param {HTMLElement} place
 * @param {string} source
 * @param {boolean} display
 */
function set(temml, place, source, display) {
  const limits = { trust: false, maxExpand: 300, maxSize: [20, 50] };
  try {
    temml.render(source, place, { displayMode: display, throwOnError: true, ...limits });
    if (display) dressWide(place);
  } catch {
    place.textContent = source;
    place.classList.add("unread");
  }
}

/** @param {HTMLElement} place */
function dressWide(place) {
  place.tabIndex = 0; // a formula that is wider than the page scrolls
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", "Formula");
}
