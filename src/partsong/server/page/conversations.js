// @ts-check
// The list of conversations beside the one that is shown: grouped by day, searched in all words, and each one renamed,
// pinned, archived, saved or deleted. There is one list, which keeps its state when another conversation is opened.

import { messagesAsMarkdown } from "./conversation.js";
import { fill, make, newId } from "./dom.js";
import { offerFile } from "./download.js";
import { call, getJson, messageOf } from "./server.js";

/** @import { ConversationEntry, StoredRun } from "./types.js" */

const WAIT = 250; // milliseconds after the last key before a search begins
const DAY = 24 * 60 * 60 * 1000;

class Conversations {
  constructor() {
    /** @type {ConversationEntry[]} */
    this.entries = [];
    this.current = ""; // the id of the conversation that is shown
    /** @type {(entry: ConversationEntry | null) => void} */
    this.changed = () => {}; // called when the current conversation was changed, or deleted
    this.turn = 0; // counts the searches, so that a slow one does not replace a later one
    /** @type {number | undefined} */
    this.timer = undefined;
    this.seeking = false;
    const words = { type: "search", id: newId("find"), placeholder: "Search all words", autocomplete: "off" };
    this.text = make("input", { ...words, "aria-keyshortcuts": "Control+K", oninput: () => this.soon() });
    this.archived = make("input", { type: "checkbox", id: newId("archived"), onchange: () => this.read() });
    this.list = make("div", { class: "days" });
    this.note = make("p", { class: "note", role: "status" });
    this.problem = make("p", { class: "problem", role: "alert" });
    this.more = make(
      "button",
      { type: "button", class: "quiet", hidden: true, onclick: () => this.read(true) },
      "More",
    );
    /** @type {HTMLElement} */
    this.switch = make(
      "button",
      { type: "button", class: "quiet list-switch", "aria-expanded": "false", onclick: () => this.open(!this.isOpen) },
      "Conversations",
    );
    this.element = make(
      "aside",
      { class: "conversations", "aria-label": "Conversations" },
      this.switch,
      make(
        "div",
        { class: "list-body" },
        make("a", { class: "button", href: "#/ask" }, "New conversation"),
        make("label", { for: this.text.id, class: "unseen" }, "Search the conversations"),
        this.text,
        this.list,
        this.note,
        this.problem,
        this.more,
        make("p", { class: "check" }, this.archived, make("label", { for: this.archived.id }, "Archived")),
      ),
    );
    addEventListener("focus", () => this.element.isConnected && this.soon());
  }

  /** @returns {boolean} */
  get isOpen() {
    return this.switch.getAttribute("aria-expanded") === "true";
  }

  // On a narrow page, the list is folded until it is wanted.
  /** @param {boolean} open */
  open(open) {
    this.switch.setAttribute("aria-expanded", String(open));
  }

  /**
   * The list's element, for a view of one conversation.
   *
   * @param {(entry: ConversationEntry | null) => void} changed
   */
  placeFor(changed) {
    this.changed = changed;
    this.mark("");
    this.open(false);
    this.read();
    return this.element;
  }

  /** @param {string} id of the conversation that is shown */
  mark(id) {
    this.current = id;
    for (const link of this.list.querySelectorAll("a")) {
      if (link.dataset.id === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  seek() {
    this.seeking = false;
    this.open(this.switch.checkVisibility());
    this.text.focus();
    this.text.select();
  }

  // End what is being done in the list, and say whether there was something.
  escape() {
    const menu = this.list.querySelector("details[open]");
    if (menu instanceof HTMLDetailsElement) {
      menu.open = false;
      menu.querySelector("summary")?.focus();
      return true;
    }
    if (!this.element.contains(document.activeElement) || !(this.text.value || this.isOpen)) return false;
    if (this.text.value) this.text.value = "";
    else this.open(false);
    this.soon();
    return true;
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), WAIT);
  }

  // Read the list anew, or what follows it.
  async read(further = false) {
    const mine = ++this.turn;
    const before = further ? (this.entries.at(-1)?.id ?? "") : "";
    const wanted = { text: this.text.value.trim(), archived: this.archived.checked ? "1" : "", before };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
    try {
      /** @type {{ conversations: ConversationEntry[], more: boolean }} */
      const { conversations, more } = await getJson(`/api/conversations?${query}`);
      if (mine !== this.turn) return;
      const known = new Set(further ? this.entries.map(({ id }) => id) : []);
      this.entries = [...(further ? this.entries : []), ...conversations.filter(({ id }) => !known.has(id))];
      this.more.hidden = !more;
      this.problem.textContent = "";
      if (!this.list.querySelector("details[open], form")) this.show(); // else somebody is using it
    } catch (problem) {
      if (mine === this.turn) this.problem.textContent = messageOf(problem);
    }
  }

  show() {
    const none = this.text.value ? "None has these words." : "None yet.";
    this.note.textContent = this.entries.length ? "" : none;
    /** @type {Map<string, HTMLElement>} */
    const days = new Map();
    fill(this.list);
    for (const entry of this.entries) {
      const day = dayOf(entry);
      const list = days.get(day) ?? make("ul", {});
      if (!days.has(day)) this.list.append(make("h2", {}, day), list);
      days.set(day, list).get(day)?.append(this.itemOf(entry));
    }
    this.mark(this.current);
  }

  /** @param {ConversationEntry} entry */
  itemOf(entry) {
    const { id, pinned, archived, last } = entry;
    const item = make("li", {});
    const act = (/** @type {string} */ words, /** @type {() => void} */ work) =>
      make("button", { type: "button", class: "quiet", onclick: work }, words);
    const erase = act("Delete", () => {
      if (erase.textContent === "Delete") erase.textContent = "Delete for good";
      else this.erase(entry);
    });
    const title = titleOf(entry);
    fill(
      item,
      make("a", { href: `#/ask/${encodeURIComponent(last)}`, "data-id": id, title }, title),
      make(
        "details",
        { name: "conversation" },
        make("summary", { "aria-label": `More for ${title}` }, "⋯"),
        act("Rename", () => this.rename(entry, item)),
        act(pinned ? "Unpin" : "Pin", () => this.change(entry, { pinned: !pinned })),
        act(archived ? "Take out" : "Archive", () => this.change(entry, { archived: !archived })),
        act("Save", () => this.save(entry)),
        erase,
      ),
    );
    return item;
  }

  /**
   * @param {ConversationEntry} entry
   * @param {HTMLElement} item
   */
  rename(entry, item) {
    const field = make("input", { value: titleOf(entry), "aria-label": "Name", maxlength: 200, autocomplete: "off" });
    const form = make("form", {}, field);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.remove();
      this.change(entry, { title: field.value.trim() });
    });
    field.addEventListener("blur", () => form.isConnected && this.show());
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.show();
    });
    fill(item, form);
    field.focus();
    field.select();
  }

  /**
   * @param {ConversationEntry} entry
   * @param {{ title?: string, pinned?: boolean, archived?: boolean }} changes
   */
  async change(entry, changes) {
    await this.do(async () => {
      const headers = { "content-type": "application/json" };
      const options = { method: "PATCH", headers, body: JSON.stringify(changes) };
      const changed = await (await call(`/api/conversations/${encodeURIComponent(entry.id)}`, options)).json();
      if (entry.id === this.current) this.changed(changed);
    });
  }

  /** @param {ConversationEntry} entry */
  async erase({ id }) {
    await this.do(async () => {
      await call(`/v1/runs?conversation=${encodeURIComponent(id)}`, { method: "DELETE" });
      if (id === this.current) this.changed(null);
    });
  }

  /** @param {ConversationEntry} entry */
  async save(entry) {
    await this.do(async () => {
      /** @type {StoredRun & { answer: string | null }} */
      const run = await getJson(`/api/runs/${encodeURIComponent(entry.last)}`);
      const text = messagesAsMarkdown(titleOf(entry), run.events[0]?.event, run.answer ?? "");
      offerFile(new Blob([text], { type: "text/markdown" }), `partsong-${entry.last}.md`);
    });
  }

  /** @param {() => Promise<void>} work after which the list is read again */
  async do(work) {
    try {
      await work();
      this.list.querySelector("details[open]")?.removeAttribute("open");
      await this.read();
    } catch (problem) {
      this.problem.textContent = messageOf(problem);
    }
  }
}

/** @type {Conversations | null} */
let only = null;

export function conversations() {
  only ??= new Conversations();
  return only;
}

// Go to the search field of the list, in whatever view the reader is.
export function seekConversation() {
  const list = conversations();
  if (list.element.isConnected) list.seek();
  else {
    list.seeking = true;
    location.hash = "#/ask";
  }
  return true;
}

/** @param {ConversationEntry} entry */
export function titleOf({ title }) {
  return title.trim() || "(no words)";
}

/** @param {ConversationEntry} entry */
function dayOf({ pinned, at }) {
  if (pinned) return "Pinned";
  const day = new Date(at);
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / DAY);
  if (days < 2) return days < 1 ? "Today" : "Yesterday";
  const year = days > 300 ? /** @type {const} */ ({ year: "numeric" }) : {};
  return day.toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long", ...year });
}
