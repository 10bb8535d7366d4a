// Numbers as people read them. What is not known is said to be unknown, and is never 0.

const COUNT = new Intl.NumberFormat("en");

export function count(number) {
  return COUNT.format(number);
}

export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

export function seconds(number) {
  if (number < 0.1) return "< 0.1 s";
  if (number < 10) return `${number.toFixed(1)} s`;
  if (number < 120) return `${Math.round(number)} s`;
  return `${Math.floor(number / 60)} min ${Math.round(number % 60)} s`;
}

// Dollars come as decimal strings, or as null where a price is not known.
export function dollars(amount) {
  if (amount === null || amount === undefined) return "unknown price";
  const number = Number(amount);
  if (number === 0) return "$0";
  if (number < 0.0001) return "<$0.0001";
  return `$${number < 1 ? Number(number.toPrecision(2)) : number.toFixed(2)}`;
}

// A model's name without what follows in its id: scripted models carry their script there.
export function modelName(id) {
  return id.split("?", 1)[0];
}

// And without its provider, where there is little room.
export function shortName(id) {
  return modelName(id).replace(/^[^:]*:/, "");
}
