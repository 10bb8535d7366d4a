// Elements made without any HTML being parsed: text stays text, whoever wrote it.

const SVG = "http://www.w3.org/2000/svg";

export function make(name, properties = {}, ...children) {
  return dress(document.createElement(name), properties, children);
}

export function draw(name, properties = {}, ...children) {
  return dress(document.createElementNS(SVG, name), properties, children);
}

export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

// Change a text only where it is another one: an equal one would be laid out again all the same.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let last = 0;

// An id that no other element of the page has.
export function newId(stem) {
  last += 1;
  return `${stem}-${last}`;
}
