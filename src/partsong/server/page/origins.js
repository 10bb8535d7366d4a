// @ts-check
// Where an answer comes from: for each of its sentences, the proposal that has most of the sentence's sequences of
// three words. This shows likeness, not authorship: two proposals may say the same.

const ALIKE = 0.15; // share of a sentence's sequences; with fewer, the sentence comes from no proposal

/**
 * For lines of prose, a list of sentences. `proposal` is an index of `proposals`, or -1.
 *
 * @param {string[]} lines
 * @param {string[]} proposals
 */
export function originsOf(lines, proposals) {
  const pieces = proposals.map((text) => [1, 2, 3].map((length) => new Set(sequences(wordsOf(text), length))));
  return sentencesOf(lines).map((text) => {
    const words = wordsOf(text);
    const length = Math.min(3, words.length);
    if (length === 0) return { text, proposal: -1, share: 0 };
    const wanted = sequences(words, length);
    const shares = pieces.map((sets) => wanted.filter((piece) => sets[length - 1].has(piece)).length / wanted.length);
    const share = Math.max(0, ...shares);
    return { text, proposal: share < ALIKE ? -1 : shares.indexOf(share), share };
  });
}

/** @param {string[]} lines */
function sentencesOf(lines) {
  const reader = new Intl.Segmenter(undefined, { granularity: "sentence" });
  return lines
    .flatMap((line) => [...reader.segment(line)].map((piece) => piece.segment.trim()))
    .filter((text) => /[\p{L}\p{N}]/u.test(text));
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
