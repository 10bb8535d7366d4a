// A recipe as TOML: what the form says, written as a person would write it.

const PLAIN = /^[A-Za-z0-9_-]+$/;

export function tomlOf({ name, about, drawn }) {
  const { layers, aggregator, layer_settings: more = [], settings = {} } = drawn;
  const lines = [`name = ${valueOf(name)}`];
  if (about) lines.push(`about = ${valueOf(about)}`);
  lines.push(...linesOf(settings));
  layers.forEach((agents, number) => {
    lines.push(
      "",
      "[[layers]]",
      "agents = [",
      ...agents.map((agent) => `    ${tableOf(agent)},`),
      "]",
      ...linesOf(more[number] ?? {}),
    );
  });
  lines.push("", "[aggregator]", ...linesOf(aggregator));
  return `${lines.join("\n")}\n`;
}

function linesOf(table) {
  return Object.entries(table)
    .filter(([, value]) => value !== null && value !== "")
    .map(([key, value]) => `${keyOf(key)} = ${valueOf(value, key)}`);
}

// An agent in a line: its id alone, where nothing else is said of it.
function tableOf(agent) {
  const entries = Object.entries(agent).filter(([, value]) => value !== null && value !== "");
  if (entries.length === 1 && entries[0][0] === "model") return valueOf(agent.model);
  return `{ ${entries.map(([key, value]) => `${keyOf(key)} = ${valueOf(value, key)}`).join(", ")} }`;
}

function keyOf(key) {
  return PLAIN.test(key) ? key : JSON.stringify(key);
}

function valueOf(value, key = "") {
  if (Array.isArray(value)) return `[${value.map((each) => valueOf(each)).join(", ")}]`;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if ((key === "date" && /^\d{4}-\d\d-\d\d$/.test(value)) || (key === "max_dollars" && /^\d+(\.\d+)?$/.test(value)))
    return value;
  const text = String(value);
  if (text.includes("\n")) return `"""\n${text.replaceAll("\\", "\\\\").replaceAll('"""', '""\\"')}"""`;
  return JSON.stringify(text).replaceAll("\u007f", "\\u007F");
}
