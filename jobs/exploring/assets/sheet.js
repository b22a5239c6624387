// One image in full: its picture, each number of tokens that was tried with its redraws, its texts.
import { ask, Superseded } from "./answers.js";
import { count, decimals, element, labelOf, picture, textOf, verdict, visible } from "./elements.js";
import { shownRows } from "./rows.js";

const dialog = document.querySelector("#sheet");
let about = null;
let fail = () => {};
let opener = null; // number of the row from which it was opened
let open = null; // number of the row that is shown

const sign = (good) => element("span", { class: `sign ${good ? "good" : ""}`, role: "img", "aria-label": good ? "passes" : "does not pass" }, good ? "✓" : "✗");
const pair = (name, ...value) => [element("dt", {}, name), element("dd", {}, ...value)];

/** A row of the sheet of redraws: the sheet behind a window that is as high as a redraw. */
const strip = (row, side, place, attempt, tiles) => {
  const shown = Math.min(attempt.redraws, tiles);
  if (!shown || attempt.failure) return element("p", { class: "missing" }, attempt.failure ? visible(attempt.failure) : "no redraws");
  const image = picture(row, "redraws.webp", side, `Redraws with ${attempt.tokens} of ${visible(row.name)}`);
  if (image.tagName !== "IMG") return image;
  image.style.width = `${(100 * tiles) / shown}%`;
  image.style.top = `${-100 * place}%`;
  return element("span", { class: "strip window", style: { "--tiles": shown } }, image);
};

/** Each redraw's distance as a dot, beside the threshold. */
const dots = (attempt, threshold) => {
  if (!attempt.distances?.length) return null;
  const end = Math.max(1, threshold ?? 0, ...attempt.distances);
  const at = (value) => `${((100 * Math.max(0, value)) / end).toFixed(2)}%`;
  return element("div", { class: "dots", role: "img", "aria-label": `distances of the redraws: ${attempt.distances.map((d) => d.toFixed(3)).join(", ")}` },
    ...attempt.distances.map((distance) => element("i", { style: { "--at": at(distance) } })),
    threshold === null ? null : element("b", { style: { "--at": at(threshold) } }));
};

const scores = (attempt, run) => {
  const near = attempt.distance_mean !== null && run.threshold !== null ? attempt.distance_mean < run.threshold : null;
  const hits = attempt.edit_hits;
  return element("dl", { class: "scores" },
    element("div", {}, ...pair("distance", decimals(attempt.distance_mean),
      attempt.distance_sem === null ? "" : element("span", {}, ` ± ${decimals(attempt.distance_sem)}`), near === null ? "" : sign(near))),
    dots(attempt, run.threshold),
    element("div", {}, ...pair(run.check === "editability" ? "subject found" : "in distribution",
      hits ? `${hits.filter(Boolean).length} of ${hits.length}` : attempt.editability === null ? "not measured" : decimals(attempt.editability, 2),
      attempt.editable === null ? "" : sign(attempt.editable))),
    attempt.pass_probability === null ? null
      : element("div", {}, ...pair("pass probability", `${(100 * attempt.pass_probability).toFixed(1)} %`)));
};

const attempts = (row, found, run, side) =>
  element("ol", { class: "attempts" }, ...found.sweep.map((attempt, place) =>
    element("li", { class: `attempt ${attempt.passed ? "passed" : ""}` },
      element("p", { class: "tokens" }, element("b", {}, String(attempt.tokens)), attempt.tokens === 1 ? " token" : " tokens",
        element("span", { class: "mark" }, attempt.passed ? "passes" : "does not pass")),
      element("div", { class: "redraws" }, strip(row, side, place, attempt, run.tiles)),
      scores(attempt, run))));

const sure = (found) => (found.score === null ? "" :
  `Score ${decimals(found.score, 2)} [${decimals(found.score_low, 2)}, ${decimals(found.score_high, 2)}] tokens; ` +
  `the same verdict with fresh redraws in ${Math.floor(100 * found.confidence)} %.`);

const ofRun = (row, found, run, side) => {
  const title = side === "run" ? "This run" : "The other run";
  if (!found) return [element("h3", {}, title), element("p", { class: "missing" }, "No verdict yet, or its record cannot be read.")];
  const tokens = found.status !== "judged" ? null : found.min_tokens === null ? "never" : String(found.min_tokens);
  return [
    element("header", { class: "of-run" }, about.against ? element("h3", {}, title) : null, verdict(tokens, found.status), element("p", { class: "caption" }, sure(found))),
    found.error_message || found.error_class
      ? element("p", { class: "problem-text" }, element("code", {}, visible(found.error_class ?? "")), element("span", {}, visible(found.error_message ?? ""))) : null,
    found.note ? element("p", { class: "note" }, visible(found.note)) : null,
    attempts(row, found, run, side),
  ];
};

const facts = (row) => {
  const shown = about.columns.filter((column) => row[column.name] !== null && row[column.name] !== "" && !["name", "tokens", "number"].includes(column.name));
  const list = (title, columns) => (columns.length ? [element("h3", {}, title), element("dl", { class: "facts" },
    ...columns.map((column) => element("div", {}, ...pair(labelOf(column), element("bdi", {}, textOf(column, row[column.name]))))))] : []);
  return [...list("From the list", shown.filter((c) => c.origin === "list")), ...list("Verdict and file", shown.filter((c) => c.origin !== "list"))];
};

const neighbour = (step) => {
  const rows = shownRows();
  const place = rows.findIndex((row) => row.number === open);
  return place < 0 ? undefined : rows[place + step]?.number;
};

const turn = (step, text) => element("button", { type: "button", class: "close", name: text.toLowerCase(), "aria-disabled": String(neighbour(step) === undefined),
  onclick: () => go(step) }, text);

const draw = ({ row, verdicts }) => {
  const place = shownRows().findIndex((other) => other.number === open);
  dialog.replaceChildren(
    element("header", { class: "sheet-head" },
      element("h2", { id: "sheet-title", tabindex: "-1" }, element("bdi", {}, visible(row.name))),
      element("p", { class: "buttons" }, place < 0 ? null : element("span", { class: "caption" }, `${place + 1} of ${count(shownRows().length)} on this page`),
        turn(-1, "Previous"), turn(1, "Next"), element("button", { type: "button", class: "close", name: "close", onclick: () => dialog.close() }, "Close"))),
    element("div", { class: "evidence" },
      element("div", { class: "query" }, element("div", { class: "query-image" }, picture(row, "query.webp", "run", visible(row.name)))),
      element("div", {}, ...ofRun(row, verdicts[0], about.run, "run"), ...(about.against ? ofRun(row, verdicts[1], about.against, "against") : []))),
    element("div", { class: "texts" }, ...facts(row)));
};

const show = async (number) => {
  open = number;
  try {
    const answer = await ask(`image/${number}`);
    if (open !== number) return;
    const turned = document.activeElement?.closest?.("#sheet")?.contains(document.activeElement) ? document.activeElement.name : null;
    draw(answer);
    if (!dialog.open) dialog.showModal();
    (dialog.querySelector(`button[name="${turned || "none"}"]`) ?? dialog.querySelector("#sheet-title")).focus({ preventScroll: true });
    dialog.scrollTop = 0;
  } catch (error) {
    if (!(error instanceof Superseded)) fail(error);
  }
};

const go = (step) => {
  const target = neighbour(step);
  if (target !== undefined) show(target);
};

/** Open the sheet of a row. */
export const openSheet = (number) => {
  opener = number;
  show(number);
};

/** Make the sheet for a run. */
export const prepare = (run, failed) => {
  about = run;
  fail = failed;
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      go(step);
    }
  });
  dialog.addEventListener("close", () => {
    const back = open ?? opener;
    open = null;
    document.querySelector(`#results .open[data-number="${back}"]`)?.focus();
  });
};
