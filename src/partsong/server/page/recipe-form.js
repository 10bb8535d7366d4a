// @ts-check
// A recipe as a form: layers and their agents, and the aggregator. Settings for which the form has no field are kept as
// they are.

import { fill, make, newId } from "./dom.js";
import { offerModels } from "./picker.js";
import {
  AGENT,
  keep,
  LAYER,
  METHOD,
  MORE_OF_AGENT,
  MORE_OF_LAYER,
  RECIPE,
  textOf,
  VOTE,
  wordsOf,
} from "./recipe-fields.js";

/** @import { Fault, NamedRecipe, Properties, Table } from "./types.js" */
/** @import { Field } from "./recipe-fields.js" */

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Input */
/** @typedef {{ input: Input, fault: HTMLSpanElement }} Shown */

export class RecipeForm {
  /** @param {() => void} changed is called whenever the reader has changed something */
  constructor(changed) {
    this.changed = changed;
    this.element = make("form", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() });
    /** @type {Map<string, Shown>} */
    this.inputs = new Map(); // by the path of the field in the recipe
    this.settle = () => {}; // puts the analyst into the recipe, or takes it out
    /** @type {Set<string>} */
    this.opened = new Set(); // the paths of the tables whose further settings the reader has opened
    /** @type {NamedRecipe} */
    this.value = { name: "", drawn: { layers: [], aggregator: {}, layer_settings: [], settings: {} } };
  }

  /** @param {NamedRecipe} recipe */
  show({ name, about, drawn }) {
    this.value = structuredClone({ name, about, drawn });
    this.draw();
  }

  draw() {
    const { layers, aggregator } = this.value.drawn;
    this.inputs.clear();
    fill(
      this.element,
      this.recipeOf(),
      layers.map((agents, index) => this.layerOf(agents, index)),
      make(
        "p",
        { class: "actions" },
        this.button("Add a layer", () => this.add()),
      ),
      this.analystOf(),
      this.aggregatorOf(aggregator),
    );
  }

  recipeOf() {
    const settings = (this.value.drawn.settings ??= {});
    /** @type {Field[]} */
    const [name, about] = [
      { key: "name", type: "text" },
      { key: "about", type: "long" },
    ];
    const named = [
      this.field("name", name, "", this.value.name, (text) => (this.value.name = text)),
      this.field("about", about, "", this.value.about ?? "", (text) => (this.value.about = text)),
    ];
    const fields = make("div", { class: "seat-form" }, named, this.more(settings, RECIPE, "", "Recipe: "));
    return make("fieldset", {}, make("legend", {}, "Recipe"), fields);
  }

  /**
   * Change what has fields, and draw the form anew.
   *
   * @param {() => void} work
   */
  change(work) {
    work();
    this.draw();
    this.changed();
  }

  /**
   * @param {string} words
   * @param {() => void} work
   * @param {Properties} properties
   */
  button(words, work, properties = {}) {
    const act = { onclick: () => this.change(work) };
    return make("button", { type: "button", class: "quiet", ...act, ...properties }, words);
  }

  /**
   * @param {Table[]} agents
   * @param {number} index
   */
  layerOf(agents, index) {
    return make(
      "fieldset",
      {},
      make("legend", {}, `Layer ${index + 1}`),
      agents.map((_, seat) => this.agentOf(agents, index, seat)),
      this.settingsOf(index),
      make(
        "p",
        { class: "actions" },
        this.button("Add an agent", () => agents.push({ model: "" })),
        this.button("Remove the layer", () => this.remove(index)),
      ),
    );
  }

  /**
   * @param {Table[]} agents
   * @param {number} layer
   * @param {number} seat
   */
  agentOf(agents, layer, seat) {
    const name = `Layer ${layer + 1}, agent ${seat + 1}: `;
    const path = `layers.${layer}.agents.${seat}`;
    const label = `Remove agent ${seat + 1} of layer ${layer + 1}`;
    return make(
      "div",
      { class: "seat-form" },
      AGENT.map((field) => this.fieldOf(agents[seat], field, path, name)),
      this.button("✕", () => agents.splice(seat, 1), { "aria-label": label, disabled: agents.length === 1 }),
      this.more(agents[seat], MORE_OF_AGENT, path, name),
    );
  }

  /**
   * What holds for a whole layer.
   *
   * @param {number} layer
   */
  settingsOf(layer) {
    const settings = (this.value.drawn.layer_settings[layer] ??= {});
    const [path, name] = [`layers.${layer}`, `Layer ${layer + 1}: `];
    return make(
      "div",
      { class: "seat-form" },
      LAYER.map((field) => this.fieldOf(settings, field, path, name)),
      this.more(settings, MORE_OF_LAYER, path, name),
    );
  }

  /** The analyst, which the recipe has as soon as one of its fields is filled. */
  analystOf() {
    const settings = this.value.drawn.settings ?? {};
    const analyst = /** @type {Table} */ (settings.analyst ?? {});
    const [path, name] = ["analyst", "Analyst: "];
    const fields = AGENT.filter(({ key }) => key !== "samples");
    const shown = make(
      "div",
      { class: "seat-form" },
      fields.map((field) => this.fieldOf(analyst, field, path, name)),
      this.more(analyst, MORE_OF_AGENT, path, name),
    );
    this.settle = () => {
      if (Object.values(analyst).some((value) => value !== "")) settings.analyst = analyst;
      else delete settings.analyst;
    };
    return make("fieldset", {}, make("legend", {}, "Analyst"), shown);
  }

  /**
   * The aggregator. The fields of a vote stand there for a vote, and where the recipe has their words anyway. They are
   * hidden and not drawn anew, so that the keyboard stays where it is.
   *
   * @param {Table} aggregator
   */
  aggregatorOf(aggregator) {
    const [path, name] = ["aggregator", "Aggregator: "];
    const fields = AGENT.filter(({ key }) => key !== "samples");
    const method = this.fieldOf(aggregator, METHOD, path, "");
    const votes = VOTE.map((field) => this.fieldOf(aggregator, field, path, name));
    const follow = () => {
      const shown = aggregator.method === "vote" || VOTE.some(({ key }) => key in aggregator);
      for (const each of votes) each.hidden = !shown;
    };
    method.addEventListener("input", follow);
    follow();
    return make(
      "fieldset",
      {},
      make("legend", {}, "Aggregator"),
      make(
        "div",
        { class: "seat-form" },
        fields.map((field) => this.fieldOf(aggregator, field, path, name)),
        method,
        votes,
        this.more(aggregator, MORE_OF_AGENT, path, name),
      ),
    );
  }

  /**
   * The settings that few recipes have, folded until the reader opens them or one of them is set.
   *
   * @param {Table} table
   * @param {Field[]} fields
   * @param {string} path of the table in the recipe
   * @param {string} whose
   */
  more(table, fields, path, whose) {
    const open = this.opened.has(path) || fields.some(({ key }) => key in table);
    const summary = make("summary", {}, make("span", { class: "unseen" }, whose), "More settings");
    const shown = fields.map((field) => this.fieldOf(table, field, path, whose));
    const details = make("details", { open }, summary, make("div", { class: "seat-form" }, shown));
    details.addEventListener("toggle", () => this.opened[details.open ? "add" : "delete"](path));
    return details;
  }

  add() {
    const { layers, layer_settings: more } = this.value.drawn;
    layers.push(structuredClone(layers.at(-1) ?? [{ model: "" }]));
    more.push({});
  }

  /** @param {number} index */
  remove(index) {
    this.value.drawn.layers.splice(index, 1);
    this.value.drawn.layer_settings.splice(index, 1);
  }

  /**
   * The field of one word of a table.
   *
   * @param {Table} table
   * @param {Field} field
   * @param {string} path of the table in the recipe
   * @param {string} whose
   */
  fieldOf(table, field, path, whose) {
    const where = path ? `${path}.${field.key}` : field.key;
    return this.field(where, field, whose, textOf(table[field.key], field), (text) => keep(table, field, text));
  }

  /**
   * @param {string} path
   * @param {Field} field
   * @param {string} whose stands before the words for screen readers
   * @param {string} value
   * @param {(text: string) => void} take
   */
  field(path, field, whose, value, take) {
    const fault = make("span", { class: "problem", id: newId("fault") });
    const input = inputOf(field, value, fault.id);
    input.addEventListener("input", () => {
      take(spoken(input));
      this.settle();
      this.changed();
    });
    this.inputs.set(path, { input, fault });
    const label = make("label", { for: input.id }, make("span", { class: "unseen" }, whose), wordsOf(field));
    const list = field.key === "model" && input instanceof HTMLInputElement && offerModels(input);
    return make("div", { class: "field" }, label, input, list, fault);
  }

  /**
   * Say what is wrong at the field where it is wrong. Faults without a field stand beside the text.
   *
   * @param {Fault[]} faults
   */
  showFaults(faults) {
    for (const { input, fault } of this.inputs.values()) {
      input.removeAttribute("aria-invalid");
      fault.textContent = "";
    }
    for (const { field, message } of faults) {
      const found = this.inputs.get(field) ?? this.inputs.get(`${field}.model`);
      if (!found) continue;
      found.input.setAttribute("aria-invalid", "true");
      found.fault.textContent = message;
      found.input.closest("details")?.setAttribute("open", "");
    }
  }
}

/**
 * @param {Field} field
 * @param {string} value
 * @param {string} fault the id of the element that says what is wrong
 * @returns {Input}
 */
function inputOf({ type, choices = [] }, value, fault) {
  const common = { id: newId("field"), autocomplete: "off", spellcheck: "false", "aria-describedby": fault };
  if (type === "long" || type === "lines" || type === "texts") return make("textarea", { ...common, rows: 3, value });
  if (type === "check") return make("input", { ...common, type: "checkbox", checked: value === "true" });
  if (type === "choice") {
    const options = choices.map((each) => make("option", { value: each, selected: each === value }, each));
    return make("select", { id: common.id, "aria-describedby": fault }, options);
  }
  const kind = type === "number" ? { type, step: "any" } : { type: type === "date" ? type : "text" };
  return make("input", { ...common, ...kind, value });
}

/**
 * The text of a field as the reader has left it. The space around a long text is part of the text.
 *
 * @param {Input} input
 */
function spoken(input) {
  if (input instanceof HTMLInputElement && input.type === "checkbox") return String(input.checked);
  return input instanceof HTMLTextAreaElement ? input.value : input.value.trim();
}
