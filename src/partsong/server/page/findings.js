// @ts-check
// What an analyst has found in the proposals, as lines of text that name each proposal by its address.

/** @import { Analysis, Claim, Recipe } from "./types.js" */

/**
 * The index of the layer whose proposals an analyst compares: the last one that does not comment.
 *
 * @param {Recipe} recipe
 */
export function comparedLayer({ layers }) {
  return layers.findLastIndex((layer) => !layer.comments);
}

/**
 * @param {Analysis} analysis
 * @param {number} layer number of the layer whose proposals were compared, from 1
 */
export function textOf(analysis, layer) {
  const { agreements, contradictions, single, gaps } = analysis;
  return [
    ...section("They agree:", agreements, (claim) => [claimOf(claim, layer)]),
    ...section("They contradict each other:", contradictions, ({ topic, positions }) => [
      `${topic}:`,
      ...positions.map((position) => `  - ${claimOf(position, layer)}`),
    ]),
    ...section("Only one says:", single, (claim) => [claimOf(claim, layer)]),
    ...section("All leave out (the analyst's opinion):", gaps, (gap) => [gap]),
  ].join("\n");
}

/**
 * @template T
 * @param {string} title
 * @param {T[]} entries
 * @param {(entry: T) => string[]} linesOf
 */
function section(title, entries, linesOf) {
  if (!entries.length) return [];
  return [
    `**${title}**`,
    "",
    ...entries.flatMap((entry) => linesOf(entry).map((line, at) => (at ? line : `- ${line}`))),
    "",
  ];
}

/**
 * @param {Claim} claim
 * @param {number} layer
 */
function claimOf({ statement, quotes }, layer) {
  return `${statement} (${quotes.map(({ seat, text }) => `${layer}.${seat + 1} "${text}"`).join("; ")})`;
}
