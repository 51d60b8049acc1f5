// Numbers and times as text, and small makers of elements. All text goes in as text, never as markup.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const END_OF_TIME_MS = 8.64e15; // of what Date can show
export const NONE = "–";

export const count = (value) => (value == null ? NONE : number.format(value));
export const brief = (value) => (value == null ? NONE : short.format(value).replace("K", "k"));
export const rate = (value, digits = 3) => (value == null || Number.isNaN(value) ? NONE : value.toFixed(digits));
export const signed = (value, digits = 2) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits);

export function span(seconds) {
  if (seconds == null) return NONE;
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= 2 * size) return `${number.format(seconds / size)} ${unit}`;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : `${number.format(seconds)} s`;
}

// Date and time in UTC, as all times of the page are, to the minute; what stands above or beside it names the zone.
export const stamp = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

export const stampWithSeconds = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

export function when(ms) {
  if (ms == null || ms >= END_OF_TIME_MS) return "the end of its log";
  return `${stamp(ms)} UTC`;
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value != null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== ""));
  return node;
}

export const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const svg = (tag, properties, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

export const byId = (id) => document.getElementById(id);

// Replaces the children of a node only where the data behind them has changed, so that focus and scrolling stay.
const drawn = new WeakMap();
export function render(node, data, draw) {
  const key = JSON.stringify(data);
  if (drawn.get(node) === key) return;
  drawn.set(node, key);
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.replaceChildren(...[draw(data)].flat());
  if (focused) node.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

export function table(columns, rows, caption) {
  const cell = (value, column, tag) =>
    el(tag, { class: column.class, scope: tag === "th" ? "col" : null }, value instanceof Node ? value : String(value));
  return [
    caption ? el("caption", {}, caption) : "",
    el("thead", {}, el("tr", {}, ...columns.map((column) => cell(column.title, column, "th")))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...columns.map((column) => cell(column.of(row), column, "td"))))),
  ].filter((part) => part !== "");
}
