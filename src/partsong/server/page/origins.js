// Where an answer comes from: each of its sentences, with the proposal that has most of its sequences of three words.
// It says what is alike, not who thought of it: two proposals may say the same.

const ALIKE = 0.15; // of a sentence's sequences: below, it is nobody's

// For lines of prose, a list of {text, proposal, share}: `proposal` is a position in `proposals`, or -1.
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

function sentencesOf(lines) {
  const reader = new Intl.Segmenter(undefined, { granularity: "sentence" });
  return lines
    .flatMap((line) => [...reader.segment(line)].map((piece) => piece.segment.trim()))
    .filter((text) => /[\p{L}\p{N}]/u.test(text));
}

function wordsOf(text) {
  const reader = new Intl.Segmenter(undefined, { granularity: "word" });
  return [...reader.segment(text.toLowerCase())].filter((piece) => piece.isWordLike).map((piece) => piece.segment);
}

function sequences(words, length) {
  return words.slice(0, words.length - length + 1).map((_, start) => words.slice(start, start + length).join(" "));
}
