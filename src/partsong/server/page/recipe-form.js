// @ts-check
// A recipe as a form: layers and their agents, and the aggregator. Settings for which the form has no field are kept as
// they are.

import { fill, make, newId } from "./dom.js";

/** @import { Fault, NamedRecipe, Properties, Table } from "./types.js" */

/** @typedef {{ key: string, words: string, type: "text" | "number" }} Field */
/** @typedef {{ input: HTMLInputElement, fault: HTMLSpanElement }} Shown */

/** @type {Field[]} */
const FIELDS = [
  { key: "model", words: "Model", type: "text" },
  { key: "samples", words: "Samples", type: "number" },
  { key: "temperature", words: "Temperature", type: "number" },
  { key: "max_tokens", words: "Max tokens", type: "number" },
];
const METHODS = ["synthesize", "select", "vote"]; // the first is the default

export class RecipeForm {
  /** @param {() => void} changed is called whenever the reader has changed something */
  constructor(changed) {
    this.changed = changed;
    this.element = make("form", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() });
    /** @type {Map<string, Shown>} */
    this.inputs = new Map(); // by the path of the field in the recipe
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
    const fields = FIELDS.filter(({ key }) => key !== "samples");
    this.inputs.clear();
    fill(
      this.element,
      make("fieldset", {}, make("legend", {}, "Recipe"), this.nameField()),
      layers.map((agents, index) => this.layerOf(agents, index)),
      make(
        "p",
        { class: "actions" },
        this.button("Add a layer", () => this.add()),
      ),
      make(
        "fieldset",
        {},
        make("legend", {}, "Aggregator"),
        make(
          "div",
          { class: "seat-form" },
          fields.map((field) => this.fieldOf(aggregator, field, "aggregator", "Aggregator: ")),
          this.methodOf(aggregator),
        ),
      ),
    );
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
    const label = `Remove agent ${seat + 1} of layer ${layer + 1}`;
    return make(
      "div",
      { class: "seat-form" },
      FIELDS.map((field) => this.fieldOf(agents[seat], field, `layers.${layer}.agents.${seat}`, name)),
      this.button("✕", () => agents.splice(seat, 1), { "aria-label": label, disabled: agents.length === 1 }),
    );
  }

  /** @param {Table} aggregator */
  methodOf(aggregator) {
    const options = METHODS.map((each) => make("option", { value: each }, each));
    const method = make("select", { id: newId("method") }, options);
    method.value = String(aggregator.method ?? METHODS[0]);
    method.addEventListener("change", () =>
      this.change(() => (aggregator.method = method.value === METHODS[0] ? null : method.value)),
    );
    return make("div", { class: "field" }, make("label", { for: method.id }, "Method"), method);
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

  nameField() {
    const keep = (/** @type {string} */ text) => (this.value.name = text);
    return this.field({ path: "name", words: "Name", type: "text", whose: "", value: this.value.name, keep });
  }

  /**
   * The field of one setting of an agent. An empty field is a setting that is left out, except for the model's id.
   *
   * @param {Table} agent
   * @param {Field} field
   * @param {string} path of the agent in the recipe
   * @param {string} whose
   */
  fieldOf(agent, { key, words, type }, path, whose) {
    const keep = (/** @type {string} */ text) => {
      if (text === "" && key !== "model") delete agent[key];
      else agent[key] = type === "number" ? Number(text) : text;
    };
    return this.field({ path: `${path}.${key}`, words, type, whose, value: String(agent[key] ?? ""), keep });
  }

  /**
   * @param {{ path: string, words: string, type: string, whose: string, value: string,
   *   keep: (text: string) => void }} field `whose` stands before the words for screen readers
   */
  field({ path, words, type, whose, value, keep }) {
    const fault = make("span", { class: "problem", id: newId("fault") });
    const input = make("input", {
      type,
      id: newId("field"),
      step: type === "number" ? "any" : null,
      value,
      autocomplete: "off",
      spellcheck: "false",
      "aria-describedby": fault.id,
    });
    input.addEventListener("input", () => {
      keep(input.value.trim());
      this.changed();
    });
    this.inputs.set(path, { input, fault });
    const label = make("label", { for: input.id }, make("span", { class: "unseen" }, whose), words);
    return make("div", { class: "field" }, label, input, fault);
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
    }
  }
}
