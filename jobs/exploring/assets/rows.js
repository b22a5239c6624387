// The images as a table or a grid, their order, pages and columns.
import { ask, exportAddress, Superseded } from "./answers.js";
import { change, current, onChange, question, same } from "./view.js";
import { count, element, labelOf, options, picture, plural, textOf, verdict, visible } from "./elements.js";

const ALWAYS = ["tokens", "score", "confidence", "reference_distance"];
const NEXT = ["against_confidence", "against_status"]; // shown if they are chosen
const MOST_SHOWN = 14; // columns of the table that are shown before somebody chooses
const FIRST_DOWN = ["score", "confidence", "reference_distance", "tokens", "moved", "score_moved", "against_score", "against_tokens"];

const part = (id) => document.querySelector(`#${id}`);
const status = part("status");
const pagers = [...document.querySelectorAll(".pager")];
let columns = [];
let total = 0;
let inside = 0; // images within tar, Parquet or Arrow files
let rows = [];
let openSheet = () => {};

/** The rows of the page that is shown. */
export const shownRows = () => rows;

const defaults = () => {
  const some = columns.filter((c) => c.origin !== "verdict" || ALWAYS.includes(c.name));
  const filled = some.filter((c) => c.kind !== "number" || c.range); // a column that no row has a number in is left out
  return filled.filter((c) => c.name !== "listed_as" && !NEXT.includes(c.name)).slice(0, MOST_SHOWN).map((c) => c.name);
};
const tableColumns = (view) => {
  const chosen = view.columns ?? defaults();
  const sorted = view.sort === "number" ? null : view.sort; // the order of the list needs no column
  return columns.filter(({ name }) => name !== "name" && (chosen.includes(name) || name === sorted));
};

const opener = (row, ...children) =>
  element("button", { type: "button", class: "open", "data-number": row.number, onclick: () => openSheet(row.number) }, ...children);

const cell = (column, row) => {
  const value = row[column.name];
  if (column.name === "tokens") return element("td", {}, verdict(value, row.status));
  if (column.name === "against_tokens") return element("td", {}, verdict(value, row.against_status));
  const text = textOf(column, value);
  return element("td", { class: column.kind === "number" ? "number" : "text" }, element("bdi", {}, text));
};

const head = (column, view) => {
  const sorted = view.sort === column.name;
  const button = element("button", { type: "button", onclick: () => sortBy(column.name) }, labelOf(column));
  return element("th", { scope: "col", "data-sort": column.name, class: column.kind === "number" ? "number" : null,
    "aria-sort": sorted ? (view.down ? "descending" : "ascending") : null }, button);
};

const sortBy = (name) => {
  const { sort, down } = current();
  change({ sort: name, down: sort === name ? !down : FIRST_DOWN.includes(name) });
  document.querySelector(`#table th[data-sort="${CSS.escape(name)}"] button`)?.focus();
};

const table = (view) => {
  const name = columns.find((column) => column.name === "name");
  const shown = tableColumns(view);
  const lines = rows.map((row) =>
    element("tr", {},
      element("th", { scope: "row" }, opener(row, picture(row, "query.webp", "run", ""), element("bdi", {}, visible(row.name)))),
      ...shown.map((column) => cell(column, row))));
  return element("table", { class: "rows" },
    element("caption", { class: "unseen" }, "The images"),
    element("thead", {}, element("tr", {}, head(name, view), ...shown.map((column) => head(column, view)))),
    element("tbody", {}, ...lines));
};

const tile = (row) =>
  element("li", {}, opener(row,
    element("span", { class: "thumb" }, picture(row, "query.webp", "run", "")),
    element("bdi", { class: "tile-name" }, visible(row.name)),
    element("span", { class: "tile-verdict" }, verdict(row.tokens, row.status),
      row.score === null ? "" : element("small", {}, row.score.toFixed(2)))));

const draw = (view) => {
  part("table").hidden = view.mode !== "table";
  part("grid").hidden = view.mode !== "grid";
  const focused = document.activeElement?.closest?.("#table thead th")?.dataset.sort;
  part("table").replaceChildren(...(view.mode === "table" ? [table(view)] : []));
  part("grid").replaceChildren(...(view.mode === "grid" ? rows.map(tile) : []));
  if (focused) document.querySelector(`#table th[data-sort="${CSS.escape(focused)}"] button`)?.focus();
};

const showControls = (view, all) => {
  const start = (view.page - 1) * view.size;
  const of = total === all ? count(total) : `${count(total)} (${count(all)} in all)`;
  status.textContent = rows.length ? `Images ${count(start + 1)} to ${count(start + rows.length)} of ${of}.`
    : total ? "There is no such page." : `No image of ${count(all)} fits these filters.`;
  part("direction").textContent = view.down ? "↓ descending" : "↑ ascending";
  part("sort").value = view.sort;
  part("export").textContent = `Export ${plural(total, "image")} as a list`;
  part("inside").hidden = !inside;
  part("export").href = exportAddress(question(view, true));
  for (const box of document.querySelectorAll("#mode input")) box.checked = box.value === view.mode;
  const pages = Math.max(1, Math.ceil(total / view.size));
  for (const pager of pagers) {
    pager.hidden = pages < 2;
    pager.querySelector("input").value = view.page;
    pager.querySelector("input").max = pages;
    pager.querySelector("output").textContent = `of ${count(pages)}`;
    for (const button of pager.querySelectorAll("button")) {
      const target = { first: 1, previous: view.page - 1, next: view.page + 1, last: pages }[button.name];
      button.value = target;
      // aria-disabled instead of disabled: a disabled button would lose the keyboard focus
      button.setAttribute("aria-disabled", String(target < 1 || target > pages || target === view.page));
    }
  }
};

/** Ask for the rows of a view and show them. */
const load = async (view, all, failed) => {
  part("results").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("rows", { view: JSON.stringify(question(view)) });
    ({ total, rows } = answer);
    failed(null);
    draw(view);
    showControls(view, all);
  } catch (error) {
    if (error instanceof Superseded) return; // the newer question ends the wait
    failed(error);
  }
  part("results").removeAttribute("aria-busy");
};

/** Move the focus among the images by the arrow keys, as they stand. */
const walk = (event) => {
  const from = event.target.closest?.(".open");
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!from || !steps || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = [...event.currentTarget.querySelectorAll(".open")];
  const perRow = current().mode === "table" ? 1 : all.filter((other) => other.offsetParent && other.getBoundingClientRect().top === all[0].getBoundingClientRect().top).length;
  if (current().mode === "table" && steps[0]) return; // left and right scroll the table
  const target = all[all.indexOf(from) + steps[0] + perRow * steps[1]];
  event.preventDefault();
  target?.focus();
};

const preparePagers = () => {
  for (const [index, pager] of pagers.entries()) {
    const button = (name, text) => element("button", { type: "button", name }, text);
    const page = element("input", { type: "number", min: 1, inputmode: "numeric" });
    pager.append(button("first", "First"), button("previous", "Previous"),
      element("label", {}, "Page ", page, " ", element("output")), button("next", "Next"), button("last", "Last"));
    const go = (target) => {
      const pages = Math.max(1, Math.ceil(total / current().size));
      change({ page: Math.min(Math.max(1, target), pages) });
      if (index > 0) part("results").focus(); // from the lower pager, go to the top
    };
    page.addEventListener("change", () => go(Math.round(Number(page.value)) || 1));
    pager.addEventListener("click", ({ target }) => {
      if (target.name && target.getAttribute("aria-disabled") === "false") go(Number(target.value));
    });
  }
};

const prepareChooser = () => {
  const boxes = columns.filter((c) => c.name !== "name").map((column) =>
    element("label", {}, element("input", { type: "checkbox", value: column.name, onchange: () =>
      change({ columns: [...part("chooser").querySelectorAll("input:checked")].map((box) => box.value) }) }),
    element("span", {}, labelOf(column))));
  part("chooser").querySelector("fieldset").append(...boxes);
  part("chooser").addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    part("chooser").open = false;
    part("chooser").querySelector("summary").focus();
  });
};

/** Make the controls for a run. ``failed`` shows an error, or null for none. */
export const prepare = (about, open, failed) => {
  ({ columns, inside } = about);
  openSheet = open;
  options(part("sort"), columns.map((column) => [column.name, column.name === "number" ? "order of the list" : labelOf(column)]), current().sort);
  part("sort").addEventListener("change", ({ target }) => change({ sort: target.value, down: FIRST_DOWN.includes(target.value) }));
  part("direction").addEventListener("click", () => change({ down: !current().down }));
  part("mode").append(...["table", "grid"].map((mode) => element("label", {},
    element("input", { type: "radio", name: "mode", value: mode, onchange: () => change({ mode }) }), element("span", {}, mode))));
  preparePagers();
  prepareChooser();
  for (const id of ["table", "grid"]) part(id).addEventListener("keydown", walk);
  onChange((view, before) => {
    for (const box of part("chooser").querySelectorAll("input")) box.checked = tableColumns(view).some((c) => c.name === box.value);
    const questions = [question(view), question(before)];
    if (!rows.length || !same(...questions)) load(view, about.rows, failed);
    else if (view.mode !== before.mode || !same(view.columns, before.columns)) {
      draw(view);
      showControls(view, about.rows);
    }
  });
};
