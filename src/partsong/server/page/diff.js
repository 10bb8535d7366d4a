// @ts-check
// Compares two texts word by word: which words both have, and which only one of them has (Myers' O(ND) comparison).

/** @typedef {["same" | "left" | "right", string]} Piece */

const FURTHEST = 3000; // words that may differ: beyond, a comparison shows nothing useful

/**
 * The pieces of both texts in order, or `null` for texts that differ too much.
 *
 * @param {string} left
 * @param {string} right
 * @returns {Piece[] | null}
 */
export function compareWords(left, right) {
  const one = left.match(/\s+|[^\s]+/g) ?? [];
  const other = right.match(/\s+|[^\s]+/g) ?? [];
  const path = trace(one, other);
  return path && joined(walk(path, one, other));
}

/**
 * The furthest ends of each number of edits, up to the number that makes one text of the other.
 *
 * @param {string[]} one
 * @param {string[]} other
 */
function trace(one, other) {
  const most = Math.min(one.length + other.length, FURTHEST);
  let ends = new Map([[1, 0]]);
  /** @type {Map<number, number>[]} */
  const path = [];
  for (let edits = 0; edits <= most; edits += 1) {
    path.push(ends);
    /** @type {Map<number, number>} */
    const next = new Map();
    for (let line = -edits; line <= edits; line += 2) {
      const down = line === -edits || (line !== edits && reach(ends, line - 1) < reach(ends, line + 1));
      let x = down ? reach(ends, line + 1) : reach(ends, line - 1) + 1;
      let y = x - line;
      while (x < one.length && y < other.length && one[x] === other[y]) {
        x += 1;
        y += 1;
      }
      next.set(line, x);
      if (x >= one.length && y >= other.length) return [...path, next];
    }
    ends = next;
  }
  return null;
}

/**
 * @param {Map<number, number>} ends
 * @param {number} line
 */
function reach(ends, line) {
  return ends.get(line) ?? -1;
}

/**
 * @param {Map<number, number>[]} path
 * @param {string[]} one
 * @param {string[]} other
 * @returns {Piece[]}
 */
function walk(path, one, other) {
  /** @type {Piece[]} */
  const found = [];
  let x = one.length;
  let y = other.length;
  for (let edits = path.length - 2; edits >= 0; edits -= 1) {
    const ends = path[edits];
    const line = x - y;
    const down = line === -edits || (line !== edits && reach(ends, line - 1) < reach(ends, line + 1));
    const before = down ? line + 1 : line - 1;
    const from = edits === 0 ? 0 : reach(ends, before);
    const edited = edits === 0 ? 0 : from + (down ? 0 : 1); // where the words that both have begin, after the edit
    while (x > edited) {
      x -= 1;
      found.push(["same", one[x]]);
    }
    if (edits > 0) found.push(down ? ["right", other[from - before]] : ["left", one[from]]);
    x = from;
    y = from - before;
  }
  return found.reverse();
}

/** @param {Piece[]} pieces */
function joined(pieces) {
  /** @type {Piece[]} */
  const whole = [];
  for (const [kind, text] of pieces) {
    const last = whole.at(-1);
    if (last && last[0] === kind) last[1] += text;
    else whole.push([kind, text]);
  }
  return whole;
}
