// Mathematics in Markdown ($…$, $$…$$, \(…\), \[…\]), shown as MathML. The library that makes it is the largest of the
// page's files, so it is fetched once an answer has any.

import { make } from "./dom.js";

const INLINE = [
  [/^\$\$([^$]{1,2000}?)\$\$/, true],
  [/^\$(?![\s$])((?:\\[^\n]|[^\\$\n]){1,500}?)(?<!\s)\$(?!\d)/, false],
  [/^\\\(([^]{1,2000}?)\\\)/, false],
  [/^\\\[([^]{1,2000}?)\\\]/, true],
];
const BLOCK = /^ {0,3}(?:\$\$([^]{1,5000}?)\$\$|\\\[([^]{1,5000}?)\\\])[ \t]*(?:\n|$)/;

function first(text, pattern) {
  const place = text.search(pattern);
  return place < 0 ? undefined : place;
}

export const mathematics = {
  extensions: [
    {
      name: "mathBlock",
      level: "block",
      start: (source) => first(source, /^ {0,3}(\$\$|\\\[)/m),
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

let library = null;
let loading = null;

export function mathNode(source, display) {
  const place = make("span", { class: display ? "math display" : "math" }, source);
  if (library) set(place, source, display);
  else {
    loading ??= import("./vendor/temml.js").then((module) => (library = module.default));
    loading.then(
      () => set(place, source, display),
      () => {},
    ); // without it, the source stands there
  }
  return place;
}

function set(place, source, display) {
  try {
    library.render(source, place, {
      displayMode: display,
      throwOnError: true,
      trust: false,
      maxExpand: 300,
      maxSize: [20, 50],
    });
    if (display) dressWide(place);
  } catch {
    place.textContent = source;
    place.classList.add("unread");
  }
}

function dressWide(place) {
  place.tabIndex = 0; // it may be wider than the page, and then it scrolls
  place.setAttribute("role", "region");
  place.setAttribute("aria-label", "Formula");
}
