// Elements and texts. Everything that comes from a run is inserted as text, never as HTML.

/** An element with attributes, listeners (on*), styles and children; null children are left out. */
export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, length] of Object.entries(value)) made.style.setProperty(key, length);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
};

const SVG = "http://www.w3.org/2000/svg";
/** An SVG element with attributes. */
export const drawn = (tag, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

export const count = (number) => number.toLocaleString("en-US");
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
export const decimals = (value, places = 3) => (typeof value === "number" ? value.toFixed(places) : "–");

// Characters that are invisible or turn the direction of text would make two names look the same.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
export const visible = (text) =>
  String(text).replace(HIDDEN, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

const LABELS = { tokens: "min tokens", in_distribution_at: "in distribution at", against_tokens: "other: min tokens",
  against_score: "other: score", against_confidence: "other: confidence", against_status: "other: status",
  moved: "tokens moved", score_moved: "score moved" };
/** A column's name as the page shows it. */
export const labelOf = (column) =>
  (column.origin === "list" ? visible(column.name) : LABELS[column.name] ?? column.name.replaceAll("_", " "));

/** A value of a column as text. */
export const textOf = (column, value) => {
  if (value === null || value === undefined) return "–";
  if (column.name === "confidence" || column.name === "against_confidence") return `${Math.floor(100 * value + 1e-9)} %`;
  if (column.kind === "number" && typeof value === "number") {
    const sign = column.origin === "against" && value > 0 && column.name.endsWith("moved") ? "+" : "";
    return sign + (column.whole ? String(value) : Math.abs(value) >= 1e6 ? value.toPrecision(7) : value.toFixed(3));
  }
  if (column.kind === "time") return String(value).replace("T", " ").slice(0, 19);
  return visible(value);
};

/** Min tokens or a status as a coloured mark. */
export const verdict = (tokens, status) => {
  if (tokens === "never") return element("span", { class: "verdict never" }, element("b", {}, "+"), "not redrawn");
  if (tokens) return element("span", { class: "verdict redrawn" }, element("b", {}, visible(tokens)), tokens === "1" ? "token" : "tokens");
  return element("span", { class: "verdict problem" }, visible(status));
};

/** A picture of a row, or a plain box where there is none. */
export const picture = (row, name, side, alt) => {
  const box = element("span", { class: "no-picture" }, alt ? "no picture" : "");
  if ((side === "run" ? row.status : row.against_status) !== "judged") return box;
  const image = element("img", { alt, loading: "lazy", decoding: "async", onerror: () => image.replaceWith(box) });
  image.src = `picture/${row.number}/${side}/${name}`;
  return image;
};

/** Options of a select. */
export const options = (select, entries, chosen) => {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  select.value = chosen;
};
