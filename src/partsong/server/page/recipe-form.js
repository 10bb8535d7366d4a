// A recipe as a form: layers and their agents, and the aggregator. What the form has no field for is kept as it is.

import { fill, make, newId } from "./dom.js";

const FIELDS = [
  ["model", "Model", "text"],
  ["samples", "Samples", "number"],
  ["temperature", "Temperature", "number"],
  ["max_tokens", "Max tokens", "number"],
];

export class RecipeForm {
  // `changed()` is called whenever the reader has changed something.
  constructor(changed) {
    this.changed = changed;
    this.element = make("form", { onsubmit: (event) => event.preventDefault() });
    this.inputs = new Map(); // by the field's path
  }

  show({ name, about, drawn }) {
    this.value = structuredClone({ name, about, drawn });
    this.draw();
  }

  draw() {
    const { drawn } = this.value;
    this.inputs.clear();
    const change = (work) => {
      work();
      this.draw();
      this.changed();
    };
    const layer = (agents, number) =>
      make(
        "fieldset",
        {},
        make("legend", {}, `Layer ${number + 1}`),
        agents.map((agent, seat) =>
          make(
            "div",
            { class: "seat-form" },
            FIELDS.map((field) =>
              this.field(agent, field, `layers.${number}.agents.${seat}`, `Layer ${number + 1}, agent ${seat + 1}: `),
            ),
            make(
              "button",
              {
                type: "button",
                class: "quiet",
                "aria-label": `Remove agent ${seat + 1} of layer ${number + 1}`,
                disabled: agents.length === 1,
                onclick: () => change(() => agents.splice(seat, 1)),
              },
              "✕",
            ),
          ),
        ),
        make(
          "p",
          { class: "actions" },
          make(
            "button",
            { type: "button", class: "quiet", onclick: () => change(() => agents.push({ model: "" })) },
            "Add an agent",
          ),
          make(
            "button",
            { type: "button", class: "quiet", onclick: () => change(() => this.remove(number)) },
            "Remove the layer",
          ),
        ),
      );
    const method = make(
      "select",
      {
        id: newId("method"),
        onchange: () => change(() => (drawn.aggregator.method = method.value === "select" ? "select" : null)),
      },
      ["synthesize", "select"].map((each) => make("option", { value: each }, each)),
    );
    method.value = drawn.aggregator.method ?? "synthesize";
    fill(
      this.element,
      make("fieldset", {}, make("legend", {}, "Recipe"), this.field(this.value, ["name", "Name", "text"], "", "")),
      drawn.layers.map(layer),
      make(
        "p",
        { class: "actions" },
        make("button", { type: "button", class: "quiet", onclick: () => change(() => this.add()) }, "Add a layer"),
      ),
      make(
        "fieldset",
        {},
        make("legend", {}, "Aggregator"),
        make(
          "div",
          { class: "seat-form" },
          FIELDS.filter(([key]) => key !== "samples").map((field) =>
            this.field(drawn.aggregator, field, "aggregator", "Aggregator: "),
          ),
          make("div", { class: "field" }, make("label", { for: method.id }, "Method"), method),
        ),
      ),
    );
  }

  add() {
    const { layers, layer_settings: more } = this.value.drawn;
    layers.push(structuredClone(layers.at(-1) ?? [{ model: "" }]));
    more.push({});
  }

  remove(number) {
    this.value.drawn.layers.splice(number, 1);
    this.value.drawn.layer_settings.splice(number, 1);
  }

  field(table, [key, words, type], path, whose) {
    const where = path ? `${path}.${key}` : key;
    const input = make("input", {
      type,
      id: newId("field"),
      step: type === "number" ? "any" : null,
      value: table[key] ?? "",
      autocomplete: "off",
      spellcheck: "false",
    });
    const fault = make("span", { class: "problem", id: newId("fault") });
    input.setAttribute("aria-describedby", fault.id);
    input.addEventListener("input", () => {
      const text = input.value.trim();
      if (text === "" && key !== "model" && key !== "name") delete table[key];
      else table[key] = type === "number" ? Number(text) : text;
      this.changed();
    });
    this.inputs.set(where, { input, fault });
    return make(
      "div",
      { class: "field" },
      make("label", { for: input.id }, make("span", { class: "unseen" }, whose), words),
      input,
      fault,
    );
  }

  // Say what is wrong at the field where it is wrong; the rest stands beside the text.
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
