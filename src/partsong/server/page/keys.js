// @ts-check
// The keys of providers: which are there, and on the page that `partsong ui` opened a field for one. A key is sent and
// forgotten: neither the page nor the server shows it again.

import { fill, make, newId, say } from "./dom.js";
import { ownerHeaders } from "./owner.js";
import { call, messageOf } from "./server.js";

/** @import { KeyedProvider, SetUp } from "./types.js" */

const KEPT = {
  environment: "set in the environment",
  session: "here until partsong ends",
  kept: "kept on this computer",
};

/** @returns {Promise<SetUp>} */
export async function readSetUp() {
  return (await call("/api/setup", { headers: ownerHeaders() })).json();
}

/**
 * A form for the key of one provider.
 *
 * @param {SetUp} setup
 * @param {(said: string) => void} done is called once a key has been taken
 * @param {(provider: KeyedProvider) => void} chosen is called with the provider that is chosen
 */
export function keyForm({ owner, providers }, done, chosen = () => {}) {
  const names = providers.map(({ name }) => make("option", { value: name }, name));
  const first = providers.some(({ name }) => name === "openrouter") ? "openrouter" : providers[0]?.name;
  const select = make("select", { id: newId("provider"), value: first }, names);
  select.value = first ?? "";
  const key = make("input", { type: "password", id: newId("key"), autocomplete: "off", required: true });
  const keep = make("input", { type: "checkbox", id: newId("keep") });
  const told = make("p", { class: "note" });
  const problem = make("p", { class: "problem", role: "alert" });
  const button = make("button", { class: "main" }, "Use this key");
  const provider = () => /** @type {KeyedProvider} */ (providers.find(({ name }) => name === select.value));
  const choose = () => {
    fill(told, ...wordsOf(provider(), owner));
    chosen(provider());
  };
  const form = make(
    "form",
    { class: "key-form" },
    make("label", { for: select.id }, "Provider"),
    select,
    told,
    owner && [
      make("label", { for: key.id }, "Key"),
      key,
      make("label", {}, keep, " Keep it on this computer, in a file that only you can read"),
      make("p", { class: "note" }, "Otherwise partsong forgets it when it ends. It is never shown again."),
      problem,
      button,
    ],
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    say(problem, "");
    try {
      done(await enter(provider().name, key.value, keep.checked));
      key.value = "";
    } catch (trouble) {
      say(problem, messageOf(trouble));
    }
    button.disabled = false;
  });
  select.addEventListener("change", choose);
  choose();
  return form;
}

/**
 * @param {string} provider
 * @param {string} key
 * @param {boolean} keep
 */
async function enter(provider, key, keep) {
  const headers = { ...ownerHeaders(), "content-type": "application/json" };
  const body = JSON.stringify({ key, keep });
  const response = await call(`/api/setup/keys/${encodeURIComponent(provider)}`, { method: "PUT", headers, body });
  const { models, unsure } = await response.json();
  if (unsure) return `${provider} could not be asked now, so the key has not been tried.`;
  return `${provider} takes the key${models === null ? "" : ` and lists ${models} models`}.`;
}

/**
 * Where a key is had, where it goes, and what to do where the page takes none.
 *
 * @param {KeyedProvider} provider
 * @param {boolean} owner
 */
function wordsOf({ name, variable, page, address, key }, owner) {
  const where = page
    ? [make("a", { href: page, target: "_blank", rel: "noreferrer" }, `Get a key of ${name}`), ". "]
    : [];
  const there = key ? `There is a key: ${KEPT[key]}. ` : "";
  if (owner) return [...where, there, `The key is sent to ${new URL(address).host} and nowhere else.`];
  const ways = [make("code", {}, variable), " in the environment, or ", make("code", {}, `partsong keys set ${name}`)];
  return [
    ...where,
    there,
    "Put it into ",
    ...ways,
    ", then start partsong again. The page that ",
    make("code", {}, "partsong ui"),
    " opens takes it at once.",
  ];
}

/**
 * The keys that are there, each with a button that forgets it.
 *
 * @param {SetUp} setup
 * @param {() => void} changed
 */
export function keyList({ owner, providers }, changed) {
  const there = providers.filter(({ key }) => key);
  if (!there.length) return make("p", { class: "note" }, "There is no key of a provider.");
  const lines = there.map(({ name, variable, key }) => {
    const forget = make(
      "button",
      { type: "button", class: "quiet", "aria-label": `Forget the key of ${name}` },
      "Forget",
    );
    forget.addEventListener("click", async () => {
      const path = `/api/setup/keys/${encodeURIComponent(name)}`;
      await call(path, { method: "DELETE", headers: ownerHeaders() });
      changed();
    });
    return make(
      "li",
      {},
      make("b", {}, name),
      ` ${KEPT[key ?? "kept"]} (${variable}) `,
      owner && key !== "environment" && forget,
    );
  });
  return make("ul", { class: "key-list" }, lines);
}
