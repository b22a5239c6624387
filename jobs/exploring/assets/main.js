// The explorer's page: asks what the run has, then lets each part show the view and change it.
import { ask } from "./answers.js";
import { restore } from "./view.js";
import { count, plural, visible } from "./elements.js";
import * as charts from "./charts.js";
import * as compare from "./compare.js";
import * as filters from "./filters.js";
import * as rows from "./rows.js";
import * as sheet from "./sheet.js";

const problem = document.querySelector("#problem");
const failed = (error) => {
  problem.hidden = error === null;
  problem.textContent = error === null ? "" : `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
};

const title = (about) => {
  const statuses = about.statuses.map((bar) => `${count(bar.rows)} ${bar.label}`);
  const { run } = about;
  document.querySelector("#title").textContent = plural(about.rows, "image");
  const rule = `Model ${run.model ?? "unknown"}; redrawn if the mean distance (${run.metric ?? "unknown"}) is under ${run.threshold ?? "?"}.`;
  document.querySelector("#about").textContent = visible(`${statuses.join(", ")}. ${rule}`);
  document.querySelector("#where").textContent = visible(run.url);
  document.title = `${plural(about.rows, "image")} – Originality explorer`;
};

const start = async () => {
  if (matchMedia("(max-width: 600px)").matches) {
    for (const part of document.querySelectorAll(".roomy")) part.open = false; // so that the images are near
  }
  const about = await ask("run");
  const has = (name) => about.columns.some((column) => column.name === name && column.range);
  title(about);
  filters.prepare(about);
  rows.prepare(about, sheet.openSheet, failed);
  charts.prepare(about, failed);
  compare.prepare(about, failed);
  sheet.prepare(about, failed);
  const numbers = about.columns.filter((column) => column.kind === "number" && column.range).map((column) => column.name);
  restore({ x: has("score") ? "score" : numbers[0] ?? "number", y: has("reference_distance") ? "reference_distance" : has("confidence") ? "confidence" : numbers[0] ?? "number" });
};

start().catch(failed);
