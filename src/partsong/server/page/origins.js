// @ts-check
// Where an answer comes from: for each of its sentences, lines of code, rows of tables and formulas, the proposals that
// have the same or nearly the same. This shows likeness, not authorship: two proposals may say the same.

import { piecesOf } from "./markdown.js";

/** @import { TextPiece } from "./markdown.js" */

/** @typedef {"same" | "near" | "part" | "own" | "unknown"} Likeness */
/** @typedef {{ kind: TextPiece["kind"], text: string }} Unit */
/** @typedef {Unit & { likeness: Likeness, proposals: number[], share: number }} Origin */
/** @typedef {{ kind: TextPiece["kind"], words: string[], sets: Set<string>[] }} Weighed */
/** @typedef {{ whole: Set<string>, sets: Set<string>[], units: Weighed[] }} Proposal */

const SAME = 0.95; // share of a unit's sequences of words that are in a proposal
const NEAR = 0.6; // share of a unit's sequences, or of its words that are in one unit of a proposal
const OTHER = 0.9; // what equal parts count where their order may differ
const ALIKE = 0.15; // with less, the unit comes from no proposal
const MOST = 400; // units of the answer that are compared
const MOST_COMPARED = 3000; // units of all proposals that are compared one by one
const LONGEST = 3; // words of a sequence

/**
 * For an answer in Markdown, a list of its units. `proposals` are indices, of the proposals that are equally like.
 *
 * @param {string} answer
 * @param {string[]} proposals
 * @returns {Origin[]}
 */
export function originsOf(answer, proposals) {
  const known = proposals.map(proposalOf);
  let left = MOST_COMPARED;
  for (const { units } of known) {
    units.length = Math.min(units.length, left);
    left -= units.length;
  }
  return unitsOf(answer).map((unit, index) => {
    const weighed = weigh(unit);
    if (index >= MOST || unit.kind === "other" || isTooShort(unit, weighed)) return without(unit, "unknown");
    const shares = known.map((proposal) => shareOf(unit, weighed, proposal));
    const share = Math.max(0, ...shares);
    if (share < ALIKE) return without(unit, "own");
    const likeness = share >= SAME ? "same" : share >= NEAR ? "near" : "part";
    return { ...unit, likeness, share, proposals: [...shares.keys()].filter((place) => shares[place] === share) };
  });
}

/**
 * @param {Unit} unit
 * @param {Likeness} likeness
 * @returns {Origin}
 */
function without(unit, likeness) {
  return { ...unit, likeness, share: 0, proposals: [] };
}

/**
 * A closing bracket says nothing about where it comes from.
 *
 * @param {Unit} unit
 * @param {Weighed} weighed
 */
function isTooShort({ kind, text }, { words }) {
  return kind === "prose" ? words.length === 0 : text.replace(/[^\p{L}\p{N}]/gu, "").length < 4;
}

/**
 * @param {Unit} unit
 * @param {Weighed} weighed
 * @param {Proposal} proposal
 */
function shareOf({ kind, text }, { words, sets }, proposal) {
  if (proposal.whole.has(squeezed(text))) return 1;
  const alike = proposal.units.filter((unit) => unit.kind === kind);
  const near = Math.max(0, ...alike.map((unit) => overlap(sets[0], unit.sets[0])));
  if (kind !== "prose") return near >= NEAR ? near * OTHER : 0;
  const length = Math.min(LONGEST, words.length);
  const wanted = [...sets[length - 1]];
  const share = wanted.filter((piece) => proposal.sets[length - 1].has(piece)).length / wanted.length;
  return share < NEAR && near >= NEAR && words.length > LONGEST ? near * OTHER : share;
}

/**
 * The share of the parts that both have, of the one with more.
 *
 * @param {Set<string>} one
 * @param {Set<string>} other
 */
function overlap(one, other) {
  const longer = Math.max(one.size, other.size);
  if (Math.min(one.size, other.size) < longer * NEAR) return 0;
  let both = 0;
  for (const word of one) if (other.has(word)) both += 1;
  return both / longer;
}

/**
 * @param {string} text
 * @returns {Proposal}
 */
function proposalOf(text) {
  const units = unitsOf(text);
  const whole = new Set(units.map((unit) => squeezed(unit.text)));
  return { whole, sets: setsOf(wordsOf(text)), units: units.map(weigh) };
}

/**
 * The words of prose and their sequences; of everything else, where marks matter, the pairs of characters.
 *
 * @param {Unit} unit
 * @returns {Weighed}
 */
function weigh({ kind, text }) {
  if (kind !== "prose") return { kind, words: [], sets: [new Set(sequences([...squeezed(text)], 2))] };
  const words = wordsOf(text);
  return { kind, words, sets: setsOf(words) };
}

/** @param {string[]} words */
function setsOf(words) {
  return Array.from({ length: LONGEST }, (_, place) => new Set(sequences(words, place + 1)));
}

/** @param {string} text */
function squeezed(text) {
  return text.replace(/\s+/g, " ").trim();
}

/**
 * @param {string} text
 * @returns {Unit[]}
 */
function unitsOf(text) {
  const reader = new Intl.Segmenter(undefined, { granularity: "sentence" });
  return piecesOf(text)
    .flatMap(({ kind, text: piece }) => {
      const texts = kind === "prose" ? [...reader.segment(piece)].map(({ segment }) => segment.trim()) : [piece];
      return texts.map((each) => ({ kind, text: each }));
    })
    .filter((unit) => unit.text.trim() !== "");
}

/** @param {string} text */
function wordsOf(text) {
  const reader = new Intl.Segmenter(undefined, { granularity: "word" });
  return [...reader.segment(text.toLowerCase())].filter((piece) => piece.isWordLike).map((piece) => piece.segment);
}

/**
 * @param {string[]} words
 * @param {number} length
 */
function sequences(words, length) {
  return words.slice(0, words.length - length + 1).map((_, start) => words.slice(start, start + length).join(" "));
}
