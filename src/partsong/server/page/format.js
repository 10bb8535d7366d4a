// @ts-check
// Numbers as people read them. A value that is not known is shown as unknown, and never as 0.

const COUNT = new Intl.NumberFormat("en");

/** @param {number} number */
export function count(number) {
  return COUNT.format(number);
}

/**
 * @param {number} number
 * @param {string} one
 */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** @param {number} number */
export function seconds(number) {
  if (number < 0.1) return "< 0.1 s";
  if (number < 10) return `${number.toFixed(1)} s`;
  if (number < 120) return `${Math.round(number)} s`;
  return `${Math.floor(number / 60)} min ${Math.round(number % 60)} s`;
}

/**
 * Dollars come as decimal strings or numbers, or as null where a price is not known.
 *
 * @param {string | number | null | undefined} amount
 */
export function dollars(amount) {
  if (amount === null || amount === undefined) return "unknown price";
  const number = Number(amount);
  if (number === 0) return "$0";
  if (number < 0.0001) return "<$0.0001";
  return `$${number < 1 ? Number(number.toPrecision(2)) : number.toFixed(2)}`;
}

/**
 * A model's name without the query in its id: the ids of scripted models hold their script there.
 *
 * @param {string} id
 */
export function modelName(id) {
  return id.split("?", 1)[0];
}

/**
 * The name without its provider, where there is little room.
 *
 * @param {string} id
 */
export function shortName(id) {
  return modelName(id).replace(/^[^:]*:/, "");
}
