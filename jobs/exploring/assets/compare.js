// Two runs of the same images: how often their min tokens agree, and which images moved most.
import { ask, Superseded } from "./answers.js";
import { change, conditionsOn, current, onChange, same } from "./view.js";
import { count, decimals, element, visible } from "./elements.js";

const label = (tokens) => (tokens === "never" ? "+" : visible(tokens));

const chosen = (here, there) =>
  conditionsOn("tokens").some((c) => same(c.values, [here])) && conditionsOn("against_tokens").some((c) => same(c.values, [there]));

const choose = (here, there) => {
  const others = current().where.filter((c) => c.column !== "tokens" && c.column !== "against_tokens");
  const cell = [["tokens", here], ["against_tokens", there]].map(([column, value]) => ({ column, op: "in", values: [value] }));
  change({ where: chosen(here, there) ? others : [...others, ...cell] });
};

const cellOf = (here, there, rows, most) => {
  const name = `${label(here)} here, ${label(there)} there: ${count(rows)} images`;
  return element("td", { class: here === there ? "same" : null },
    rows ? element("button", { type: "button", "aria-label": name, title: name, "aria-pressed": String(chosen(here, there)),
      style: { "--share": `${Math.round(100 * Math.sqrt(rows / most))}%` }, onclick: () => choose(here, there) }, count(rows)) : "");
};

const show = (answer, about) => {
  const panel = document.querySelector("#agreement");
  if (!answer.rows) return panel.replaceChildren(element("p", { class: "missing" }, "No image was judged in both runs."));
  const counts = new Map(answer.cells.map(([here, there, rows]) => [JSON.stringify([here, there]), rows]));
  const most = Math.max(...counts.values());
  const lines = answer.here.map((here) => element("tr", {}, element("th", { scope: "row" }, label(here)),
    ...answer.there.map((there) => cellOf(here, there, counts.get(JSON.stringify([here, there])) ?? 0, most))));
  const shifted = answer.mean_score_moved;
  const summary = `${count(answer.same)} of ${count(answer.rows)} images (${((100 * answer.same) / answer.rows).toFixed(1)} %) need the same number of tokens in both runs`
    + (shifted === null ? "." : `; the score is ${decimals(Math.abs(shifted), 2)} tokens ${shifted < 0 ? "lower" : "higher"} there in the mean.`);
  const moved = about.columns.find((c) => c.name === "score_moved").range ? "score_moved" : "moved";
  const focused = document.activeElement?.closest?.("#agreement button")?.ariaLabel;
  panel.replaceChildren(
    element("p", {}, summary),
    element("p", { class: "caption" }, "There: ", element("bdi", {}, visible(about.against.url))),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Agreement table" },
      element("table", { class: "agreement" },
        element("caption", {}, "Min tokens: rows this run, columns the other run"),
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "here \\ there"), ...answer.there.map((there) => element("th", { scope: "col" }, label(there))))),
        element("tbody", {}, ...lines))),
    element("button", { type: "button", class: "plain-button", id: "moved-most", onclick: () => {
      change({ sort: moved, down: true, where: [...current().where.filter((c) => c.column !== moved), { column: moved, op: "present" }] });
      document.querySelector("#results").scrollIntoView();
    } }, "Show the images that moved most"));
  if (focused) panel.querySelector(`button[aria-label="${CSS.escape(focused)}"]`)?.focus();
};

/** Show the comparison of a run, if it is compared. */
export const prepare = (about, failed) => {
  if (!about.against) return;
  document.querySelector("#compare").hidden = false;
  let shown = null;
  onChange(async (view) => {
    const now = [view.find, view.where];
    if (same(now, shown)) return;
    shown = now;
    try {
      const { find, where } = view;
      show(await ask("agreement", { view: JSON.stringify({ find, where }) }), about);
    } catch (error) {
      if (!(error instanceof Superseded)) failed(error);
    }
  });
};
