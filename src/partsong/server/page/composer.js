// Where a question is written: words, pictures by drop, paste or choice, the recipe with its calls and typical cost, and
// the button that sends, or stops.

import { fill, make, newId } from "./dom.js";
import { dollars, many } from "./format.js";

const LARGEST = 20 * 1024 * 1024; // bytes of all pictures: the server takes 32 MiB, and they grow by a third
const PICTURES = /^image\/(png|jpeg|gif|webp)$/;

export class Composer {
  // `send(question, model)` and `stop()` are called when the reader wants them.
  constructor({ send, stop }) {
    this.send = send;
    this.stop = stop;
    this.images = [];
    this.running = false;
    this.offered = new Promise((resolve) => (this.resolve = resolve));
    const ids = { text: newId("question"), recipe: newId("recipe"), file: newId("file") };
    this.text = make("textarea", { id: ids.text, rows: 2, placeholder: "Ask several models at once …" });
    this.recipe = make("select", { id: ids.recipe, onchange: () => this.tell() });
    this.cost = make("span", { class: "cost" });
    this.file = make("input", {
      type: "file",
      id: ids.file,
      accept: "image/png,image/jpeg,image/gif,image/webp",
      multiple: true,
      class: "unseen",
      tabindex: "-1",
      "aria-label": "Pictures to ask about",
    });
    this.shown = make("ul", { class: "pictures", "aria-label": "Pictures" });
    this.problem = make("p", { class: "problem", role: "alert" });
    this.fresh = make("a", { class: "button quiet", href: "#/ask", hidden: true }, "New conversation");
    this.button = make("button", { class: "main" }, "Send");
    this.element = make(
      "form",
      { class: "composer" },
      make("label", { for: ids.text, class: "unseen" }, "Your question"),
      this.shown,
      this.text,
      this.problem,
      make(
        "div",
        { class: "row" },
        make("label", { for: ids.recipe, class: "unseen" }, "Recipe or model"),
        this.recipe,
        this.cost,
        this.file,
        this.fresh,
        make("button", { type: "button", class: "quiet", onclick: () => this.file.click() }, "Add a picture"),
        this.button,
      ),
    );
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.press();
    });
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.file.addEventListener("change", () => this.take([...this.file.files]));
    this.text.addEventListener("paste", (event) => this.takeFrom(event, event.clipboardData));
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => this.takeFrom(event, event.dataTransfer));
  }

  // What can be asked: recipes first, those that cannot be used with the reason.
  offer({ recipes, models }) {
    this.recipes = recipes;
    const before = this.recipe.value;
    const option = ({ name, unusable }) =>
      make(
        "option",
        { value: name, disabled: Boolean(unusable), title: unusable },
        unusable ? `${name} (cannot be used)` : name,
      );
    fill(
      this.recipe,
      make("optgroup", { label: "Recipes" }, recipes.map(option)),
      models.length
        ? make(
            "optgroup",
            { label: "Single models" },
            models.map((name) => make("option", { value: name }, name)),
          )
        : null,
    );
    this.resolve();
    this.choose(before || recipes.find(({ unusable }) => !unusable)?.name || "");
  }

  choose(name) {
    if ([...this.recipe.options].some((option) => option.value === name)) this.recipe.value = name;
    this.tell();
  }

  // Take up a question again, to be changed.
  edit({ text, images }) {
    this.text.value = text;
    this.images = [...images];
    this.showImages();
    this.text.focus();
  }

  run(running) {
    this.running = running;
    this.fresh.hidden = false;
    this.button.textContent = running ? "Stop" : "Send";
  }

  async press() {
    if (this.running) {
      this.stop();
      return;
    }
    await this.offered; // whoever is quick need not wait for the list
    const question = { text: this.text.value.trim(), images: this.images };
    if (!question.text && !question.images.length) return;
    if (!this.recipe.value) {
      this.problem.textContent = "There is no recipe that can be used.";
      return;
    }
    this.text.value = "";
    this.images = [];
    this.showImages();
    this.send(question, this.recipe.value);
  }

  key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!this.running) this.press();
    } else if (event.key === "Escape" && this.running) {
      this.stop();
    }
  }

  tell() {
    const recipe = this.recipes?.find(({ name }) => name === this.recipe.value);
    this.recipe.title = recipe?.about ?? "";
    const known = recipe ? [many(recipe.calls, "call")] : this.recipe.value ? ["1 call"] : [];
    if (recipe?.typical_dollars !== null && recipe?.typical_dollars !== undefined)
      known.push(`typically ${dollars(recipe.typical_dollars)}`);
    this.cost.textContent = known.join(" · ");
  }

  takeFrom(event, source) {
    const files = [...source.files].filter((file) => file.type.startsWith("image/"));
    if (!files.length) return;
    event.preventDefault();
    this.take(files);
  }

  async take(files) {
    this.file.value = "";
    this.problem.textContent = "";
    for (const file of files) {
      if (!PICTURES.test(file.type)) {
        this.problem.textContent = `${file.name}: pictures must be PNG, JPEG, GIF or WebP`;
      } else if (file.size + this.images.join("").length > LARGEST) {
        this.problem.textContent = `${file.name}: all pictures together may have 20 MB`;
      } else {
        this.images = [...this.images, await addressOf(file)];
      }
    }
    this.showImages();
  }

  showImages() {
    fill(
      this.shown,
      this.images.map((url, place) =>
        make(
          "li",
          {},
          make("img", { src: url, alt: `Picture ${place + 1}` }),
          make(
            "button",
            {
              type: "button",
              class: "quiet",
              "aria-label": `Remove picture ${place + 1}`,
              onclick: () => this.remove(place),
            },
            "✕",
          ),
        ),
      ),
    );
  }

  remove(place) {
    this.images = this.images.filter((_, each) => each !== place);
    this.showImages();
  }
}

function addressOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
