// @ts-check
// Makes elements without parsing any HTML: text stays text, whoever wrote it.

/** @import { Child, Properties } from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Properties} properties
 * @param {...(Child | Child[])} children
 */
export function make(name, properties = {}, ...children) {
  return dress(document.createElement(name), properties, children);
}

/**
 * @template {keyof SVGElementTagNameMap} Name
 * @param {Name} name
 * @param {Properties} properties
 * @param {...(Child | Child[])} children
 */
export function draw(name, properties = {}, ...children) {
  return dress(document.createElementNS(SVG, name), properties, children);
}

/**
 * @param {Element} place
 * @param {...(Child | Child[])} children
 */
export function fill(place, ...children) {
  place.replaceChildren(...shown(children));
}

/**
 * @template {Element} Made
 * @param {Made} element
 * @param {Properties} properties
 * @param {(Child | Child[])[]} children
 */
function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice("on".length), value);
    else if (name === "value") Object.assign(element, { value });
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...shown(children));
  return element;
}

/** @param {(Child | Child[])[]} children */
function shown(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}

/**
 * Change a text only where it differs: the browser would lay out an equal text again.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let last = 0;

/**
 * An id that no other element of the page has.
 *
 * @param {string} stem
 */
export function newId(stem) {
  last += 1;
  return `${stem}-${last}`;
}

/**
 * The element that the page's HTML has at this selector.
 *
 * @template {Element} [Found=HTMLElement]
 * @param {string} selector
 * @param {ParentNode} place
 */
export function findElement(selector, place = document) {
  const found = place.querySelector(selector);
  if (!found) throw new Error(`the page has no element ${selector}`);
  return /** @type {Found} */ (found);
}
