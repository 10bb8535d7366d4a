// @ts-check
// How the runs of a conversation follow each other. Runs that go on from the same run are branches: another question in
// the same place, or the same question asked again.

/** @import { RunLine } from "./types.js" */

export class Tree {
  /** @param {string} id of the conversation, or "" for a new one */
  constructor(id = "") {
    this.id = id || newName();
    /** @type {Map<string, string | null>} */
    this.after = new Map(); // for each run, the run that it goes on from; in the order of their beginnings
  }

  /** @param {(RunLine & { after: string | null })[]} runs */
  know(runs) {
    const since = this.after; // runs that have begun in the meantime
    this.after = new Map(runs.map(({ id, after }) => [id, after]));
    for (const [id, after] of since) this.add(id, after);
  }

  /**
   * @param {string} id
   * @param {string | null} after
   */
  add(id, after) {
    if (!this.after.has(id)) this.after.set(id, after);
  }

  /**
   * The runs from the first one to this one.
   *
   * @param {string} id
   */
  path(id) {
    const path = [];
    for (let each = this.after.has(id) ? id : null; each; each = this.after.get(each) ?? null) path.unshift(each);
    return path;
  }

  /**
   * The runs that stand in the place of this one, itself among them.
   *
   * @param {string} id
   */
  branches(id) {
    const after = this.after.get(id) ?? null;
    return [...this.after.keys()].filter((each) => this.after.get(each) === after);
  }

  /**
   * The newest run that goes on from this one, however far.
   *
   * @param {string} id
   */
  newest(id) {
    let leaf = id;
    for (const [each, after] of this.after) if (after === leaf) leaf = each;
    return leaf;
  }
}

// A name for a conversation that nobody else has. (`randomUUID` is not there on a page without HTTPS.)
function newName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
