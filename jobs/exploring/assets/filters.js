// The form of filters: chips of tokens and status, ranges, conditions on any column, and those that are active.
import { change, conditionsOn, current, onChange, same, setConditions } from "./view.js";
import { count, element, labelOf, options, textOf, visible } from "./elements.js";

const OPERATIONS = {
  text: [["contains", "contains"], ["equals", "equals"], ["missing", "missing"], ["present", "present"]],
  number: [["from", "at least"], ["to", "at most"], ["equals", "equal to"], ["missing", "missing"], ["present", "present"]],
  flag: [["equals", "equal to"], ["missing", "missing"], ["present", "present"]],
  time: [["from", "from"], ["to", "until"], ["missing", "missing"], ["present", "present"]],
};
const SIGNS = { contains: "contains", equals: "=", in: "is", from: "≥", to: "≤", below: "<", missing: "is missing", present: "is present" };
const RANGES = ["score", "confidence", "reference_distance"];
const PAUSE = 250; // milliseconds after the last key before the rows are asked for

const form = document.querySelector("#filters");
const { find, column: chosen, op, value } = form.elements;
let columns = new Map();

/** One chip of a set of values; several of them are joined by or. */
const chip = (name, bar) =>
  element("label", {},
    element("input", { type: "checkbox", value: bar.label, onchange: () => {
      const values = [...form.querySelectorAll(`#${name}-choice input:checked`)].map((box) => box.value);
      setConditions(name, values.length ? [{ column: name, op: "in", values }] : []);
    } }),
    element("span", {}, bar.label === "never" ? "+ never" : visible(bar.label), element("small", {}, ` ${count(bar.rows)}`)));

const range = (column) => {
  const [low, high] = column.range;
  const field = (end, bound) =>
    element("input", { type: "number", step: "any", "aria-label": `${labelOf(column)} ${end}`, name: `${column.name} ${end}`,
      placeholder: Number(bound.toFixed(2)), onchange: () => {
        const ends = ["from", "to"].map((op) => [op, form.elements[`${column.name} ${op}`].value]);
        setConditions(column.name, ends.filter(([, text]) => text !== "")
          .map(([op, text]) => ({ column: column.name, op, value: Number(text) })));
      } });
  return element("fieldset", { class: "range" }, element("legend", {}, labelOf(column)), field("from", low), " to ", field("to", high));
};

const shown = (condition) => {
  const column = columns.get(condition.column);
  const values = condition.op === "in" ? condition.values.map((v) => visible(v)).join(" or ")
    : condition.value === undefined || condition.value === null ? "" : textOf(column ?? { kind: "text" }, condition.value);
  return `${column ? labelOf(column) : visible(condition.column)} ${SIGNS[condition.op] ?? condition.op} ${values}`.trim();
};

const showActive = (view) => {
  const items = view.where.map((condition, place) =>
    element("li", {}, element("button", { type: "button", class: "active", onclick: () => {
      change({ where: view.where.filter((_, other) => other !== place) });
      (document.querySelector("#conditions button") ?? find).focus();
    } }, element("bdi", {}, shown(condition)), element("span", { "aria-hidden": "true" }, " ×"), element("span", { class: "unseen" }, " remove"))));
  const clear = element("li", {}, element("button", { type: "button", class: "plain-button", id: "clear", onclick: () => {
    change({ where: [], find: "" });
    find.focus();
  } }, "Clear all"));
  form.querySelector("#conditions").replaceChildren(...items, ...(items.length || view.find ? [clear] : []));
};

const showValues = (view) => {
  if (document.activeElement !== find) find.value = view.find;
  for (const name of ["tokens", "status"]) {
    const values = conditionsOn(name).flatMap((c) => c.values ?? []);
    for (const box of form.querySelectorAll(`#${name}-choice input`)) box.checked = values.includes(box.value);
  }
  for (const name of RANGES) {
    for (const end of ["from", "to"]) {
      const field = form.elements[`${name} ${end}`];
      const condition = conditionsOn(name).find((c) => c.op === end || (end === "to" && c.op === "below"));
      if (field) field.value = condition ? Number(condition.value.toPrecision(4)) : "";
    }
  }
};

const showOperations = () => {
  const { kind } = columns.get(chosen.value);
  options(op, OPERATIONS[kind], OPERATIONS[kind][0][0]);
  showField();
};

const showField = () => {
  const { kind } = columns.get(chosen.value);
  const needed = !["missing", "present"].includes(op.value);
  form.querySelector(".value").hidden = !needed;
  value.type = kind === "number" ? "number" : kind === "time" ? "datetime-local" : "text";
  value.step = "any";
  value.required = needed;
  value.placeholder = kind === "flag" ? "true or false" : "";
  value.pattern = kind === "flag" ? "true|false" : ".*";
};

const typed = () => {
  const { kind } = columns.get(chosen.value);
  return kind === "number" ? Number(value.value) : kind === "flag" ? value.value === "true" : value.value;
};

/** Fill the form for a run. */
export const prepare = (about) => {
  columns = new Map(about.columns.map((column) => [column.name, column]));
  const ofValue = (bars) => bars.filter((bar) => bar.label !== null);
  form.querySelector("#tokens-choice").append(...ofValue(about.tokens).map((bar) => chip("tokens", bar)));
  form.querySelector("#status-choice").append(...ofValue(about.statuses).map((bar) => chip("status", bar)));
  form.querySelector("#ranges").append(...RANGES.map((name) => columns.get(name)).filter((c) => c.range).map(range));
  const first = about.columns.find((column) => column.origin === "list" && column.name !== "listed_as")?.name ?? "name";
  options(chosen, about.columns.map((column) => [column.name, labelOf(column)]), first);
  showOperations();
  chosen.addEventListener("change", showOperations);
  op.addEventListener("change", showField);
  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ find: find.value.trim() }), PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (document.activeElement === find) return void change({ find: find.value.trim() });
    if (!value.reportValidity()) return; // not by the form: Enter in the field of words needs no value here
    const needed = value.required;
    const condition = { column: chosen.value, op: op.value, ...(needed ? { value: typed() } : {}) };
    change({ where: [...current().where, condition] });
    value.value = "";
  });
  onChange((view, before) => {
    if (same(view.where, before.where) && view.find === before.find) return;
    showActive(view);
    showValues(view);
  });
};
