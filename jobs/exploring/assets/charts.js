// A histogram whose bars select, and a scatter plot in which a rectangle selects.
import { ask, Superseded } from "./answers.js";
import { change, current, onChange, question, same, setConditions } from "./view.js";
import { count, decimals, drawn, element, labelOf, options, visible } from "./elements.js";

const histogram = document.querySelector("#histogram");
const scatter = document.querySelector("#scatter");
const select = { histogram: document.querySelector("#histogram-column"), x: document.querySelector("#scatter-x"), y: document.querySelector("#scatter-y") };
let fail = () => {};

const labelled = (bar) => (bar.label === null ? "none" : bar.label === "never" ? "+" : visible(bar.label));
const description = (bar) => `${bar.to ? `${bar.label} to ${bar.to}` : bar.label === "never" ? "never redrawn" : labelled(bar)}: ${count(bar.rows)} images`;

const isChosen = (bar, name) => {
  const active = current().where.filter((c) => c.column === name);
  if (!active.length) return false;
  const [first] = bar.where;
  if (first.op === "in") return active.some((c) => (c.values ?? []).includes(first.values[0]));
  if (first.op === "from") {
    const low = active.find((c) => c.op === "from")?.value ?? -Infinity;
    const high = active.find((c) => c.op === "below" || c.op === "to")?.value ?? Infinity;
    return bar.where[0].value >= low - 1e-9 && bar.where[1].value <= high + 1e-9;
  }
  return bar.where.every((wanted) => active.some((c) => same(c, wanted)));
};

/** Select one bar, or take it back; with Shift, all from those selected to this one, or this one beside them. */
const choose = (bars, bar, name, extend) => {
  const chosen = bars.filter((other) => isChosen(other, name));
  if (!extend || !chosen.length) {
    return setConditions(name, chosen.length === 1 && chosen[0] === bar ? [] : bar.where);
  }
  if (bar.where[0].op === "in") {
    const values = [...new Set([...chosen, bar].flatMap((b) => b.where[0].values ?? []))];
    return setConditions(name, [{ column: name, op: "in", values }]);
  }
  if (bar.where[0].op !== "from") return setConditions(name, bar.where);
  const span = [...chosen, bar].sort((a, b) => a.where[0].value - b.where[0].value);
  return setConditions(name, [span[0].where[0], span.at(-1).where[1]]);
};

const showHistogram = (bars, name) => {
  const most = Math.max(1, ...bars.map((bar) => bar.rows));
  const focused = [...histogram.children].indexOf(document.activeElement);
  histogram.classList.toggle("dense", bars.length > 12);
  histogram.replaceChildren(...bars.map((bar) =>
    element("button", { type: "button", class: `bar ${bar.label === "never" ? "own" : ""}`, "aria-label": description(bar), title: description(bar),
      "aria-pressed": String(isChosen(bar, name)), onclick: (event) => choose(bars, bar, name, event.shiftKey) },
    element("span", { class: "column" },
      element("span", { class: "amount" }, bar.rows >= 10000 ? `${Math.round(bar.rows / 1000)}k` : count(bar.rows)),
      element("i", { style: { "--share": bar.rows / most } })),
    element("span", { class: "label" }, labelled(bar)))));
  if (!bars.length) histogram.append(element("p", { class: "missing" }, "No image has a value in this column."));
  histogram.children[focused]?.focus?.();
};

/** Where in a grid's ranges a point of the plot is: [x, y] as values. */
const valueAt = (answer, box, event) => {
  const share = (part, whole) => Math.min(1, Math.max(0, part / whole));
  const [x, y] = [share(event.clientX - box.left, box.width), 1 - share(event.clientY - box.top, box.height)];
  return [answer.x[0] + x * (answer.x[1] - answer.x[0]), answer.y[0] + y * (answer.y[1] - answer.y[0])];
};

const selection = (answer, plot, { x, y }) => {
  let from = null;
  plot.addEventListener("pointerdown", (event) => {
    from = valueAt(answer, plot.getBoundingClientRect(), event);
    plot.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  plot.addEventListener("pointermove", (event) => {
    if (from) showRectangle(answer, plot, from, valueAt(answer, plot.getBoundingClientRect(), event));
  });
  plot.addEventListener("pointercancel", () => (from = null));
  plot.addEventListener("pointerup", (event) => {
    if (!from) return;
    const to = valueAt(answer, plot.getBoundingClientRect(), event);
    const ends = [0, 1].map((k) => [Math.min(from[k], to[k]), Math.max(from[k], to[k])]);
    const others = current().where.filter((c) => c.column !== x && c.column !== y);
    const moved = ends.some(([low, high], k) => high - low > 0.01 * ([answer.x, answer.y][k][1] - [answer.x, answer.y][k][0]));
    from = null;
    const chosen = [x, y].flatMap((column, k) => ends[k].map((value, end) => ({ column, op: end ? "to" : "from", value })));
    change({ where: moved ? [...others, ...chosen] : others }); // a mere click takes the selection back
  });
};

const showRectangle = (answer, plot, from, to) => {
  plot.querySelector(".chosen")?.remove();
  const place = (value, [low, high], cells) => (cells * (Math.min(high, Math.max(low, value)) - low)) / (high - low);
  const xs = [from[0], to[0]].map((v) => place(v, answer.x, answer.columns)).sort((a, b) => a - b);
  const ys = [from[1], to[1]].map((v) => answer.rows - place(v, answer.y, answer.rows)).sort((a, b) => a - b);
  plot.append(drawn("rect", { class: "chosen", x: xs[0], y: ys[0], width: xs[1] - xs[0], height: ys[1] - ys[0], "vector-effect": "non-scaling-stroke" }));
};

const showScatter = (answer, view) => {
  if (!answer.cells.length) {
    return scatter.replaceChildren(element("p", { class: "missing" }, "No image has values in both columns."));
  }
  const most = Math.log1p(Math.max(...answer.cells.map((cell) => cell[2])));
  const plot = drawn("svg", { viewBox: `0 0 ${answer.columns} ${answer.rows}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${view.y} against ${view.x} of ${count(answer.cells.reduce((sum, cell) => sum + cell[2], 0))} images` });
  for (const [column, row, rows] of answer.cells) {
    plot.append(drawn("rect", { class: "cell", x: column, y: answer.rows - 1 - row, width: 1.02, height: 1.02,
      "fill-opacity": (0.15 + 0.85 * (Math.log1p(rows) / most)).toFixed(2) }));
  }
  const ends = [view.x, view.y].map((name, k) => {
    const active = current().where.filter((c) => c.column === name);
    const [low, high] = [answer.x, answer.y][k];
    return active.length ? [active.find((c) => c.op === "from")?.value ?? low, active.find((c) => c.op !== "from")?.value ?? high] : null;
  });
  if (ends[0] || ends[1]) {
    const [x, y] = [ends[0] ?? answer.x, ends[1] ?? answer.y];
    if ([...x, ...y].every(Number.isFinite)) showRectangle(answer, plot, [x[0], y[0]], [x[1], y[1]]);
  }
  selection(answer, plot, view);
  const ticks = (axis, [low, high]) => element("div", { class: `ticks ${axis}`, "aria-hidden": "true" },
    ...[low, (low + high) / 2, high].map((tick) => element("span", {}, decimals(tick, high - low > 20 ? 0 : 2))));
  scatter.replaceChildren(ticks("up", answer.y), plot, ticks("across", answer.x));
};

const attempt = async (load, show) => {
  try {
    show(await load());
  } catch (error) {
    if (!(error instanceof Superseded)) fail(error);
  }
};

const drawCharts = (view) => {
  const request = JSON.stringify(question({ ...view, page: 1 }));
  attempt(() => ask("histogram", { view: request, column: view.histogram }), (bars) => showHistogram(bars, view.histogram));
  attempt(() => ask("scatter", { view: request, x: view.x, y: view.y }), (answer) => showScatter(answer, view));
};

/** Make the charts' controls for a run. */
export const prepare = (about, failed) => {
  fail = failed;
  const numbers = about.columns.filter((column) => column.kind === "number" && column.range);
  const all = about.columns.filter((column) => column.kind !== "number" || column.range);
  const entries = (columns) => columns.map((column) => [column.name, labelOf(column)]);
  options(select.histogram, entries(all), current().histogram);
  options(select.x, entries(numbers), current().x);
  options(select.y, entries(numbers), current().y);
  for (const [key, control] of Object.entries(select)) control.addEventListener("change", () => change({ [key]: control.value }));
  let shown = null;
  onChange((view) => {
    for (const [key, control] of Object.entries(select)) control.value = view[key];
    const now = [view.find, view.where, view.histogram, view.x, view.y];
    if (same(now, shown)) return;
    shown = now;
    drawCharts(view);
  });
};
