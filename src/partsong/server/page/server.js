// @ts-check
// The one server that this page talks to: its own. If the server wants a key, the reader is asked for one. The key is
// kept in this module's memory only, and is gone when the page is closed.

import { make } from "./dom.js";

/** @type {string | null} */
let key = null;
/** @type {Promise<void> | null} */
let asking = null;

export class ServerError extends Error {
  /**
   * @param {string} message
   * @param {number} status of the response; 0 if there was none
   * @param {string | null} run
   */
  constructor(message, status, run = null) {
    super(message);
    this.status = status;
    this.run = run;
  }
}

/**
 * The message of whatever was thrown.
 *
 * @param {unknown} problem
 */
export function messageOf(problem) {
  return problem instanceof Error ? problem.message : String(problem);
}

/**
 * Fetch from the server, asking for a key if one is missing. Throws `ServerError` for a response that is not 2xx.
 *
 * @param {string} path
 * @param {RequestInit & { headers?: Record<string, string> }} options
 */
export async function call(path, options = {}) {
  for (;;) {
    const shown = key;
    let response;
    try {
      response = await fetch(path, { ...options, headers: { ...options.headers, ...(key && { "x-api-key": key }) } });
    } catch (problem) {
      if (problem instanceof Error && problem.name === "AbortError") throw problem;
      throw new ServerError("the server does not answer", 0);
    }
    if (response.ok) return response;
    const error = await problemOf(response);
    if (response.status !== 401) throw error;
    if (shown === key) await askForKey(shown === null ? "" : error.message);
  }
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  return (await call(path)).json();
}

/**
 * @param {string} path
 * @param {object} body
 * @param {RequestInit} options
 */
export function post(path, body, options = {}) {
  return call(path, {
    ...options,
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** @param {Response} response */
async function problemOf(response) {
  try {
    const { error, partsong } = await response.json();
    const run = error?.partsong?.run ?? partsong?.run ?? response.headers.get("x-partsong-run");
    return new ServerError(error?.message ?? response.statusText, response.status, run);
  } catch {
    return new ServerError(`the server says ${response.status} ${response.statusText}`, response.status);
  }
}

/**
 * One dialog, however many requests wait for the key. Throws `ServerError` if no key is given.
 *
 * @param {string} problem
 */
function askForKey(problem) {
  asking ??= new Promise((resolve, reject) => {
    const field = make("input", { type: "password", id: "key", autocomplete: "off", required: true });
    const form = make(
      "form",
      { method: "dialog" },
      make("h2", { id: "key-title" }, "This server needs a key"),
      make("p", {}, "The key is kept in this page's memory only, until the page is closed or loaded again."),
      problem ? make("p", { class: "problem", role: "alert" }, problem) : null,
      make("label", { for: "key" }, "Key"),
      field,
      make("p", { class: "actions" }, make("button", { class: "main" }, "Use this key")),
    );
    const dialog = make("dialog", { class: "small", "aria-labelledby": "key-title" }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      key = field.value.trim();
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      asking = null;
      if (field.value.trim()) resolve();
      else reject(new ServerError("the server needs a key", 401));
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
