// @ts-check
// Where a question is written: the words, pictures and documents by drop, paste or choice, the recipe with its calls
// and typical cost, and the button that sends or stops.

import { firstOf, sizeOf } from "./about.js";
import { acceptDrops, isPicture, refusalOf } from "./attachments.js";
import { fill, make, newId, say } from "./dom.js";
import { dollars, many } from "./format.js";
import { settings } from "./wishes.js";

/** @import { About, AboutRecipe, AttachedFile, Question } from "./types.js" */

const LARGEST = 20 * 1024 * 1024; // bytes of all files: the server takes 32 MiB, and base64 adds a third

export class Composer {
  /**
   * @param {{ send: (question: Question, model: string) => void, stop: () => void, cancel: () => void }} wishes of the
   *   reader; `cancel` is called when an earlier question is not changed after all
   */
  constructor({ send, stop, cancel }) {
    this.send = send;
    this.stop = stop;
    this.cancelled = cancel;
    /** @type {Question | null} */
    this.draft = null; // what was written here before an earlier question was taken up
    /** @type {string[]} */
    this.images = [];
    /** @type {AttachedFile[]} */
    this.files = [];
    /** @type {AboutRecipe[]} */
    this.recipes = [];
    this.running = false;
    this.queued = false; // whether the question is to be sent when the run before it has ended
    // The recipe or model of the conversation, which may be known before the list of what can be asked, and need not be
    // on the list. Nothing else is ever asked in its place.
    this.wanted = "";
    this.picked = false; // whether the reader has chosen it
    this.guess = ""; // what stands there until anybody has chosen
    this.resolve = () => {};
    /** @type {Promise<void>} */
    this.offered = new Promise((resolve) => (this.resolve = resolve));
    this.text = make("textarea", { id: newId("question"), rows: 2, placeholder: "Ask several models at once …" });
    this.recipe = make("select", { id: newId("recipe"), onchange: () => this.pick() });
    this.cost = make("span", { class: "cost" });
    this.file = make("input", {
      type: "file",
      id: newId("file"),
      multiple: true,
      class: "unseen",
      tabindex: "-1",
      "aria-label": "Pictures and documents to ask about",
    });
    this.shown = make("ul", { class: "pictures", "aria-label": "Pictures and documents" });
    this.problem = make("p", { class: "problem", role: "alert" });
    this.note = make("p", { class: "note", role: "status" });
    this.fresh = make("a", { class: "button quiet", href: "#/ask", hidden: true }, "New conversation");
    this.cancelling = make(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => this.cancel() },
      "Cancel the change",
    );
    this.button = make("button", { class: "main" }, "Send");
    this.element = this.form();
    this.listen();
  }

  form() {
    return make(
      "form",
      { class: "composer" },
      make("label", { for: this.text.id, class: "unseen" }, "Your question"),
      this.shown,
      this.text,
      this.problem,
      this.note,
      make(
        "div",
        { class: "row" },
        make("label", { for: this.recipe.id, class: "unseen" }, "Recipe or model"),
        this.recipe,
        this.cost,
        this.file,
        this.cancelling,
        this.fresh,
        make("button", { type: "button", class: "quiet", onclick: () => this.file.click() }, "Add a file"),
        this.button,
      ),
    );
  }

  listen() {
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.press();
    });
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.text.addEventListener("input", () => this.queue(false));
    this.file.addEventListener("change", () => this.take([...(this.file.files ?? [])]));
    this.text.addEventListener("paste", (event) => this.takeFrom(event, event.clipboardData));
    acceptDrops(this.element, (event) => this.takeFrom(event, event.dataTransfer));
  }

  /**
   * Offer what can be asked: recipes first, those that cannot be used with the reason.
   *
   * @param {About} about
   */
  offer({ recipes, models }) {
    this.recipes = recipes;
    const single = models.map((name) => make("option", { value: name }, name));
    fill(
      this.recipe,
      make("optgroup", { label: "Recipes" }, recipes.map(optionOf)),
      models.length ? make("optgroup", { label: "Single models" }, single) : null,
    );
    this.resolve();
    const chosen = this.picked || this.wanted !== this.guess ? this.wanted : "";
    this.guess = settings().recipe ?? firstOf(recipes)?.name ?? "";
    this.choose(chosen || this.guess);
  }

  /** @param {string} name of the recipe or model of the conversation */
  choose(name) {
    if (!this.picked) this.wanted = name;
    const options = [...this.recipe.options];
    if (options.length && this.wanted && !options.some(({ value }) => value === this.wanted)) {
      const missing = `${this.wanted} (not offered here)`;
      this.recipe.append(make("option", { value: this.wanted, disabled: true }, missing));
    }
    this.recipe.value = this.wanted;
    this.tell();
  }

  pick() {
    this.picked = true;
    this.wanted = this.recipe.value;
    this.problem.textContent = "";
    this.tell();
  }

  /** @returns {string} the recipe or model that can be asked; "" if there is none, which the reader is then told */
  chosen() {
    const option = this.recipe.selectedOptions[0];
    if (option && !option.disabled) return option.value;
    this.problem.textContent = this.wanted
      ? `${this.wanted} cannot be asked here: choose another recipe or model.`
      : "There is no recipe that can be used.";
    return "";
  }

  /**
   * Take up a question again, to be changed. What is written here comes back when this is cancelled.
   *
   * @param {Question} question
   */
  edit(question) {
    this.draft ??= { text: this.text.value, images: this.images, files: this.files };
    this.write(question);
    this.cancelling.hidden = false;
    this.text.focus();
  }

  // Leave an earlier question as it is, and say whether one was being changed.
  cancel() {
    if (!this.draft) return false;
    this.write(this.draft);
    this.draft = null;
    this.cancelling.hidden = true;
    this.cancelled();
    return true;
  }

  /** @param {Question} question */
  write({ text, images, files }) {
    this.text.value = text;
    this.images = [...images];
    this.files = [...files];
    this.showFiles();
  }

  /** @param {boolean} running */
  run(running) {
    this.running = running;
    this.fresh.hidden = false;
    this.button.textContent = running ? "Stop" : "Send";
    if (!running) this.queue(false);
  }

  /** @param {boolean} queued */
  queue(queued) {
    this.queued = queued;
    say(this.note, queued ? "Your question is sent when the answer before it is complete." : "");
  }

  // Send the question that has waited for the run before it.
  sendQueued() {
    const { queued } = this;
    this.run(false);
    if (queued) this.press();
  }

  async press() {
    if (this.running) {
      this.queue(false);
      this.stop();
      return;
    }
    await this.offered; // a quick reader need not wait for the list
    const question = { text: this.text.value.trim(), images: this.images, files: this.files };
    if (!question.text && !question.images.length && !question.files.length) return;
    const model = this.chosen();
    if (!model) return;
    this.write(this.draft ?? { text: "", images: [], files: [] });
    this.draft = null;
    this.cancelling.hidden = true;
    this.send(question, model);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!this.running) this.press();
      else if (this.text.value.trim()) this.queue(true);
    }
  }

  // Say what the chosen recipe or model costs.
  tell() {
    const recipe = this.recipes.find(({ name }) => name === this.recipe.value);
    this.recipe.title = recipe?.about ?? "";
    const single = this.recipe.value ? ["1 call"] : [];
    const known = recipe ? [many(recipe.calls, "call")] : single;
    const typical = recipe?.typical_dollars ?? null;
    if (typical !== null) known.push(`typically ${dollars(typical)}`);
    if (recipe && sizeOf(recipe)) known.push(`first ${Math.round(sizeOf(recipe) / 1e6)} MB are fetched`);
    this.cost.textContent = known.join(" · ");
  }

  /**
   * @param {Event} event
   * @param {DataTransfer | null} source
   */
  takeFrom(event, source) {
    const files = [...(source?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.take(files);
  }

  /**
   * The server reads documents, and says which it cannot read.
   *
   * @param {File[]} files
   */
  async take(files) {
    this.file.value = "";
    this.problem.textContent = "";
    for (const file of files) {
      const refusal = await refusalOf(file);
      if (refusal) {
        this.problem.append(refusal, make("br"));
      } else if (file.size + this.length() > LARGEST) {
        this.problem.append(`${file.name}: all files together may have 20 MB`, make("br"));
      } else if (isPicture(file)) {
        this.images = [...this.images, await addressOf(file)];
      } else {
        this.files = [...this.files, { name: file.name, url: await addressOf(file) }];
      }
    }
    this.showFiles();
  }

  length() {
    return [...this.images, ...this.files.map(({ url }) => url)].join("").length;
  }

  showFiles() {
    fill(
      this.shown,
      this.files.map((file) => this.documentOf(file)),
      this.images.map((url, index) => this.pictureOf(url, index)),
    );
  }

  /**
   * @param {string} url
   * @param {number} index
   */
  pictureOf(url, index) {
    const remove = this.remover(`Remove picture ${index + 1}`, () => {
      this.images = this.images.filter((_, each) => each !== index);
    });
    return make("li", {}, make("img", { src: url, alt: `Picture ${index + 1}` }), remove);
  }

  /** @param {AttachedFile} file */
  documentOf(file) {
    const remove = this.remover(`Remove ${file.name}`, () => {
      this.files = this.files.filter((each) => each !== file);
    });
    return make("li", { class: "file" }, file.name, remove);
  }

  /**
   * @param {string} label
   * @param {() => void} act
   */
  remover(label, act) {
    const remove = make("button", { type: "button", class: "quiet", "aria-label": label }, "✕");
    remove.addEventListener("click", () => {
      act();
      this.showFiles();
    });
    return remove;
  }
}

/** @param {AboutRecipe} recipe */
function optionOf({ name, unusable }) {
  const words = unusable ? `${name} (cannot be used)` : name;
  return make("option", { value: name, disabled: Boolean(unusable), title: unusable }, words);
}

/**
 * @param {File} file
 * @returns {Promise<string>} a `data:` address
 */
function addressOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
