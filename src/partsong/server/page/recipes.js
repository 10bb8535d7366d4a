// Recipes: seen as they are drawn, and edited in a form or as TOML, which follow each other; what is wrong is told at
// its field and at its line while it is written. Nobody is asked until the recipe is.

import { readAbout } from "./about.js";
import { fill, make, newId, say } from "./dom.js";
import { count, dollars, many } from "./format.js";
import { RecipeForm } from "./recipe-form.js";
import { tomlOf } from "./recipe-toml.js";
import { call, getJson, post } from "./server.js";

const WAIT = 300; // milliseconds after the last key before a text is checked
const BLANK = {
  name: "mine",
  drawn: { layers: [[{ model: "" }]], aggregator: { model: "" }, layer_settings: [{}], settings: {} },
};

export async function show(place, name) {
  const shelf = new Shelf(place);
  await Promise.all([shelf.list(name), shelf.open(name)]);
  return () => shelf.leave();
}

class Shelf {
  constructor(place) {
    this.names = make("ul", { class: "shelf-list" });
    this.problem = make("p", { class: "problem", role: "alert" });
    this.recipe = make("div", { class: "recipe" });
    fill(
      place,
      make("h1", {}, "Recipes"),
      this.problem,
      make("div", { class: "shelf" }, make("nav", { "aria-label": "Recipes" }, this.names), this.recipe),
    );
  }

  leave() {
    this.editor?.leave();
  }

  async list(open) {
    const { recipes } = await readAbout().catch((problem) => {
      this.problem.textContent = problem.message;
      return { recipes: [] };
    });
    const link = (name, words) =>
      make(
        "li",
        {},
        make(
          "a",
          { href: `#/recipes/${encodeURIComponent(name)}`, "aria-current": name === open ? "true" : null },
          words,
        ),
      );
    fill(
      this.names,
      recipes.map((recipe) => link(recipe.name, recipe.name)),
      link("+", "+ New recipe"),
    );
    if (!open)
      fill(this.recipe, make("p", { class: "note" }, "Choose a recipe to see who is in it, or begin one of your own."));
  }

  async open(name) {
    if (!name) return;
    try {
      const blank = { ...BLANK, toml: tomlOf(BLANK), about: "", saved: false };
      this.editor = new Editor(
        this.recipe,
        name === "+" ? blank : await getJson(`/api/recipes/${encodeURIComponent(name)}`),
        name === "+",
      );
    } catch (problem) {
      this.problem.textContent = problem.message;
    }
  }
}

class Editor {
  constructor(place, recipe, fresh) {
    this.saved = !fresh;
    this.ok = !fresh;
    this.title = make("h2", {}, fresh ? "A new recipe" : recipe.name);
    this.about = make("p", { class: "note" }, recipe.about ?? "");
    this.facts = make("p", { class: "note", role: "status" });
    this.drawn = make("div", { class: "drawn", role: "group", "aria-label": "Its layers" });
    this.faults = make("ul", { class: "problem", id: newId("faults"), role: "alert" });
    this.text = make("textarea", {
      class: "toml",
      id: newId("toml"),
      spellcheck: "false",
      "aria-describedby": this.faults.id,
      value: recipe.toml,
    });
    this.form = new RecipeForm(() => this.formChanged());
    this.trying = make("a", { class: "button quiet", href: "#/ask" }, "Try it");
    this.said = make("p", { class: "note", role: "status" });
    this.text.addEventListener("input", () => this.soon());
    fill(
      place,
      this.title,
      this.about,
      this.drawn,
      this.facts,
      make(
        "div",
        { class: "editing" },
        make("section", { "aria-label": "As a form" }, make("h3", {}, "As a form"), this.form.element),
        make(
          "section",
          { "aria-label": "As TOML" },
          make("h3", {}, make("label", { for: this.text.id }, "As TOML")),
          this.text,
          this.faults,
        ),
      ),
      make(
        "p",
        { class: "actions" },
        make("button", { type: "button", class: "main", onclick: () => this.save() }, "Save"),
        this.trying,
        make("button", { type: "button", class: "quiet", onclick: () => this.download() }, "Download"),
      ),
      this.said,
    );
    if (recipe.drawn) this.take(recipe);
    if (recipe.unusable) say(this.said, `It cannot be used here: ${recipe.unusable}`);
    this.showTrying();
  }

  leave() {
    clearTimeout(this.timer);
  }

  soon() {
    this.saved = false;
    this.showTrying();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(true), WAIT);
  }

  formChanged() {
    this.text.value = tomlOf(this.form.value);
    this.saved = false;
    this.showTrying();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(false), WAIT);
  }

  // Ask the server what the text says. The form follows the text, unless the text has just followed the form.
  async check(follow) {
    const text = this.text.value;
    let found;
    try {
      found = await (await post("/api/recipes/check", { toml: text })).json();
    } catch (problem) {
      found = { ok: false, errors: [{ field: "", line: null, message: problem.message }] };
    }
    if (text !== this.text.value) return found;
    this.ok = found.ok;
    this.showFaults(found.errors ?? []);
    if (found.ok) this.take(found, follow);
    return found;
  }

  take(recipe, follow = true) {
    this.name = recipe.name;
    draw(this.drawn, recipe.drawn);
    say(
      this.facts,
      [
        many(recipe.calls ?? 0, "call"),
        recipe.typical_dollars != null && `typically ${dollars(recipe.typical_dollars)}`,
        recipe.worst_dollars != null && `${dollars(recipe.worst_dollars)} at most`,
        recipe.unusable,
      ]
        .filter(Boolean)
        .join(" · "),
    );
    if (follow) this.form.show(recipe);
  }

  showFaults(faults) {
    fill(
      this.faults,
      faults.map(({ field, line, message }) =>
        make(
          "li",
          {},
          `${line ? `line ${line}: ` : ""}${field && !message.startsWith(field) ? `${field}: ` : ""}${message}`,
        ),
      ),
    );
    if (faults.length) this.text.setAttribute("aria-invalid", "true");
    else this.text.removeAttribute("aria-invalid");
    this.form.showFaults(faults);
  }

  showTrying() {
    this.trying.toggleAttribute("aria-disabled", !this.saved);
    this.trying.title = this.saved ? "" : "Save it first";
  }

  async save(replace = false) {
    clearTimeout(this.timer);
    const found = await this.check(true);
    if (!found.ok) {
      say(this.said, "It is not saved: it has a fault.");
      return;
    }
    const options = {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ toml: this.text.value, replace }),
    };
    try {
      const kept = await (await call(`/api/recipes/${encodeURIComponent(found.name)}`, options)).json();
      this.saved = true;
      this.showTrying();
      say(this.title, kept.name);
      say(
        this.said,
        `Saved as ${kept.path}.${kept.restart ? " The server's other processes know it when it is started again." : ""}`,
      );
    } catch (problem) {
      if (problem.status === 409 && problem.message.includes("replace"))
        fill(
          this.said,
          `${problem.message.split(";")[0]}. `,
          make("button", { type: "button", class: "quiet", onclick: () => this.save(true) }, "Replace it"),
        );
      else say(this.said, `It is not saved: ${problem.message}`);
    }
  }

  download() {
    const url = URL.createObjectURL(new Blob([this.text.value], { type: "application/toml" }));
    make("a", { href: url, download: `${this.name ?? "recipe"}.toml` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function draw(place, { layers, aggregator }) {
  const column = (title, agents) =>
    make("section", { "aria-label": title }, make("h3", {}, title), agents.map(agentOf));
  fill(
    place,
    layers.map((agents, number) => column(`Layer ${number + 1}`, agents)),
    column("Aggregator", [aggregator]),
  );
}

function agentOf({ model, samples = 1, ...settings }) {
  const told = Object.entries(settings).map(
    ([name, value]) => `${name} ${Array.isArray(value) ? value.join(", ") : value}`,
  );
  return make(
    "div",
    { class: "agent" },
    make("b", {}, samples > 1 ? `${count(samples)} × ${model}` : model),
    told.map((line) => make("span", { class: "sub" }, line, make("br"))),
  );
}
