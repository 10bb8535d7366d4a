// @ts-check
// Recipes: drawn, and edited in a form or as TOML, which follow each other. What is wrong is said at its field and with
// its line while the reader types. No model is asked until the recipe is.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { offerFile } from "./download.js";
import { count, dollars, many } from "./format.js";
import { RecipeForm } from "./recipe-form.js";
import { tomlOf } from "./recipe-toml.js";
import { call, getJson, messageOf, post, ServerError } from "./server.js";

/** @import { About, Checked, Drawn, EditedRecipe, Fault, NamedRecipe, Table } from "./types.js" */

const WAIT = 300; // milliseconds after the last key before a text is checked
const NEW = "+"; // in the address, instead of a name
/** @type {NamedRecipe} */
const BLANK = {
  name: "mine",
  about: "",
  drawn: { layers: [[{ model: "" }]], aggregator: { model: "" }, layer_settings: [{}], settings: {} },
};

/**
 * @param {HTMLElement} place
 * @param {string} name of a recipe, or ""
 */
export async function show(place, name) {
  const shelf = new Shelf(place);
  await Promise.all([shelf.list(name), shelf.open(name)]);
  return () => shelf.leave();
}

class Shelf {
  /** @param {HTMLElement} place */
  constructor(place) {
    /** @type {Editor | null} */
    this.editor = null;
    this.names = make("ul", { class: "shelf-list" });
    this.problem = make("p", { class: "problem", role: "alert" });
    this.recipe = make("div", { class: "recipe" });
    const names = make("nav", { "aria-label": "Recipes" }, this.names);
    fill(place, make("h1", {}, "Recipes"), this.problem, make("div", { class: "shelf" }, names, this.recipe));
  }

  leave() {
    this.editor?.leave();
  }

  /**
   * List all recipes, and mark the one that is open.
   *
   * @param {string} open
   */
  async list(open) {
    const { recipes } = await readAbout().catch((problem) => this.without(problem));
    fill(
      this.names,
      recipes.map(({ name }) => linkTo(name, name, open)),
      linkTo(NEW, "+ New recipe", open),
    );
    if (!open) fill(this.recipe, make("p", { class: "note" }, "Choose a recipe to see its models, or begin your own."));
  }

  /**
   * @param {unknown} problem
   * @returns {About}
   */
  without(problem) {
    this.problem.textContent = messageOf(problem);
    return { recipes: [], models: [] };
  }

  /** @param {string} name */
  async open(name) {
    if (!name) return;
    try {
      const fresh = name === NEW;
      const blank = { ...BLANK, toml: tomlOf(BLANK) };
      const recipe = fresh ? blank : await getJson(`/api/recipes/${encodeURIComponent(name)}`);
      this.editor = new Editor(this.recipe, recipe, fresh);
    } catch (problem) {
      this.problem.textContent = messageOf(problem);
    }
  }
}

/**
 * @param {string} name
 * @param {string} words
 * @param {string} open
 */
function linkTo(name, words, open) {
  const href = `#/recipes/${encodeURIComponent(name)}`;
  return make("li", {}, make("a", { href, "aria-current": name === open ? "true" : null }, words));
}

class Editor {
  /**
   * @param {HTMLElement} place
   * @param {EditedRecipe} recipe
   * @param {boolean} fresh whether the recipe is a new one
   */
  constructor(place, recipe, fresh) {
    this.saved = !fresh;
    this.own = Boolean(recipe.saved); // whether the recipe is a file of the reader's
    this.name = recipe.name;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.title = make("h2", {}, fresh ? "A new recipe" : recipe.name);
    this.about = make("p", { class: "note" }, recipe.about);
    this.facts = make("p", { class: "note", role: "status" });
    this.drawn = make("div", { class: "drawn", role: "group", "aria-label": "Its layers" });
    this.faults = make("ul", { class: "problem", id: newId("faults"), role: "alert" });
    this.text = make("textarea", {
      class: "toml",
      id: newId("toml"),
      spellcheck: "false",
      "aria-describedby": this.faults.id,
      value: recipe.toml,
      oninput: () => this.soon(true),
    });
    this.form = new RecipeForm(() => {
      this.text.value = tomlOf(this.form.value);
      this.soon(false);
    });
    this.trying = make("a", { class: "button quiet", href: "#/ask" }, "Try it");
    this.said = make("p", { class: "note", role: "status" });
    fill(place, this.title, this.about, this.drawn, this.facts, this.editing(), this.actions(), this.said);
    if (recipe.drawn) this.take({ ...recipe, drawn: recipe.drawn }, true);
    if (recipe.unusable) say(this.said, `This recipe cannot be used here: ${recipe.unusable}`);
    this.showTrying();
  }

  editing() {
    const label = make("label", { for: this.text.id }, "As TOML");
    return make(
      "div",
      { class: "editing" },
      make("section", { "aria-label": "As a form" }, make("h3", {}, "As a form"), this.form.element),
      make("section", { "aria-label": "As TOML" }, make("h3", {}, label), this.text, this.faults),
    );
  }

  actions() {
    return make(
      "p",
      { class: "actions" },
      make("button", { type: "button", class: "main", onclick: () => this.save() }, "Save"),
      this.trying,
      make("button", { type: "button", class: "quiet", onclick: () => this.download() }, "Download"),
      this.own && make("button", { type: "button", class: "quiet", onclick: () => this.delete() }, "Delete"),
    );
  }

  leave() {
    clearTimeout(this.timer);
  }

  /**
   * Check the text once the reader has stopped typing.
   *
   * @param {boolean} follow whether the form follows the text
   */
  soon(follow) {
    this.saved = false;
    this.showTrying();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(follow), WAIT);
  }

  /**
   * Ask the server what the text says. The form follows the text, unless the text has just followed the form.
   *
   * @param {boolean} follow
   */
  async check(follow) {
    const text = this.text.value;
    const found = await checked(text);
    if (text !== this.text.value) return found;
    this.showFaults(found.ok ? [] : found.errors);
    if (found.ok) this.take(found, follow);
    return found;
  }

  /**
   * @param {EditedRecipe & { drawn: Drawn }} recipe
   * @param {boolean} follow
   */
  take(recipe, follow) {
    this.name = recipe.name;
    draw(this.drawn, recipe.drawn);
    say(this.facts, factsOf(recipe));
    if (follow) this.form.show(recipe);
  }

  /** @param {Fault[]} faults */
  showFaults(faults) {
    fill(
      this.faults,
      faults.map((fault) => make("li", {}, faultText(fault))),
    );
    if (faults.length) this.text.setAttribute("aria-invalid", "true");
    else this.text.removeAttribute("aria-invalid");
    this.form.showFaults(faults);
  }

  showTrying() {
    this.trying.toggleAttribute("aria-disabled", !this.saved);
    this.trying.title = this.saved ? "" : "Save the recipe first";
  }

  async save(replace = false) {
    clearTimeout(this.timer);
    const found = await this.check(true);
    if (!found.ok) {
      say(this.said, "It is not saved: it has a fault.");
      return;
    }
    const body = JSON.stringify({ toml: this.text.value, replace });
    const options = { method: "PUT", headers: { "content-type": "application/json" }, body };
    try {
      const kept = await (await call(`/api/recipes/${encodeURIComponent(found.name)}`, options)).json();
      this.saved = true;
      this.showTrying();
      say(this.title, kept.name);
      const restart = kept.restart ? " The server's other processes offer it after their next start." : "";
      const ends = kept.lasts
        ? ""
        : " The server offers it until it stops, since its configuration lists other recipes.";
      const where = kept.path ? `as ${kept.path}` : "for all servers that share the database";
      say(this.said, `Saved ${where}.${restart}${ends}`);
    } catch (problem) {
      this.showUnsaved(problem);
    }
  }

  /** @param {unknown} problem */
  showUnsaved(problem) {
    const message = messageOf(problem);
    if (problem instanceof ServerError && problem.status === 409 && message.includes("replace")) {
      const replace = make("button", { type: "button", class: "quiet", onclick: () => this.save(true) }, "Replace it");
      fill(this.said, `${message.split(";")[0]}. `, replace);
    } else {
      say(this.said, `It is not saved: ${message}`);
    }
  }

  // Ask first: nothing brings the recipe back.
  delete() {
    const act = async () => {
      try {
        await call(`/api/recipes/${encodeURIComponent(this.title.textContent ?? "")}`, { method: "DELETE" });
        location.hash = "#/recipes";
      } catch (problem) {
        say(this.said, messageOf(problem));
      }
    };
    const sure = make("button", { type: "button", class: "quiet", onclick: act }, "Delete the file");
    fill(this.said, `${this.title.textContent} will be gone for good. `, sure);
  }

  download() {
    offerFile(new Blob([this.text.value], { type: "application/toml" }), `${this.name || "recipe"}.toml`);
  }
}

/**
 * @param {string} text
 * @returns {Promise<Checked>}
 */
async function checked(text) {
  try {
    return await (await post("/api/recipes/check", { toml: text })).json();
  } catch (problem) {
    return { ok: false, errors: [{ field: "", line: null, message: messageOf(problem) }] };
  }
}

/** @param {EditedRecipe} recipe */
function factsOf({ calls = 0, typical_dollars: typical = null, worst_dollars: worst = null, unusable }) {
  const facts = [many(calls, "call")];
  if (typical !== null) facts.push(`typically ${dollars(typical)}`);
  if (worst !== null) facts.push(`${dollars(worst)} at most`);
  if (unusable) facts.push(unusable);
  return facts.join(" · ");
}

/** @param {Fault} fault */
function faultText({ field, line, message }) {
  const where = line ? `line ${line}: ` : "";
  const what = field && !message.startsWith(field) ? `${field}: ` : "";
  return `${where}${what}${message}`;
}

/**
 * @param {HTMLElement} place
 * @param {Drawn} recipe
 */
function draw(place, { layers, aggregator }) {
  const columns = layers.map((agents, index) => columnOf(`Layer ${index + 1}`, agents));
  fill(place, columns, columnOf("Aggregator", [aggregator]));
}

/**
 * @param {string} title
 * @param {Table[]} agents
 */
function columnOf(title, agents) {
  return make("section", { "aria-label": title }, make("h3", {}, title), agents.map(agentOf));
}

/** @param {Table} agent */
function agentOf({ model, samples, ...settings }) {
  const number = Number(samples ?? 1);
  const lines = Object.entries(settings).map(([key, value]) => {
    const text = Array.isArray(value) ? value.join(", ") : String(value);
    return make("span", { class: "sub" }, `${key} ${text}`, make("br"));
  });
  const title = number > 1 ? `${count(number)} × ${model}` : String(model);
  return make("div", { class: "agent" }, make("b", {}, title), lines);
}
