// Builds rows and cards of images that the page does not hold, with the same markup as page.html.j2 (a test compares
// them). Everything that comes from outside is inserted as text, never as HTML.
const cards = (report) => {
  "use strict";
  const COLUMNS = 8; // redraws in a row of a sheet

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") for (const [key, length] of Object.entries(value)) made.style.setProperty(key, length);
      else if (value !== null) made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== ""));
    return made;
  };
  const decimals = (value, places = 3) => (value === null ? "–" : value.toFixed(places));
  const tokens = (count) => (count === 1 ? "token" : "tokens");

  const verdict = ({ group, tokens: count }) => {
    if (group === "never") {
      return element("span", { class: "verdict never" }, element("b", {}, "+"), " not redrawn");
    }
    if (group === "redrawn") {
      return element("span", { class: "verdict redrawn" }, element("b", {}, `${count}`), ` ${tokens(count)}`);
    }
    return element("span", { class: "verdict problem" }, group);
  };

  const row = (entry) =>
    element("tr", {},
      element("th", { scope: "row" },
        element("a", { href: `#image-${entry.id}` }, element("bdi", {}, entry.name))),
      element("td", {}, verdict(entry)),
      element("td", { class: "number" }, decimals(entry.distance)),
      element("td", { class: "number" }, `${entry.tried || "–"}`),
      element("td", { class: "number" }, decimals(entry.score, 2)),
      element("td", { class: "number" }, entry.confidence === null ? "–" : `${entry.confidence} %`),
      element("td", {}, entry.reason));

  // A picture from the run folder, or a note that it was not found.
  const picture = (shown, image, alt, shape) => {
    const button = element("button", { type: "button", class: "zoom", "aria-label": `Enlarge: ${alt}` }, shown);
    image.addEventListener("error", () => {
      button.replaceWith(element("p", { class: `missing ${shape}` }, "picture not found"));
    });
    return button;
  };

  const query = (entry, folder) => {
    const alt = `the image ${entry.name}`;
    const image = element("img", { class: "query-image", alt, decoding: "async", loading: "lazy" });
    const shown = picture(image, image, alt, "query-image");
    image.src = `${folder}/query.webp`;
    return shown;
  };

  // One row of the sheet of redraws: the sheet behind a window that is as high as a redraw.
  const strip = (entry, folder, place, line) => {
    const alt = `redraws with ${line.tokens} ${tokens(line.tokens)} of ${entry.name}`;
    const image = element("img", { alt, decoding: "async", loading: "lazy" });
    image.style.width = `${(100 * COLUMNS) / line.tiles}%`;
    image.style.top = `${-100 * place}%`;
    const shown = picture(element("span", { class: "strip window" }, image), image, alt, "strip");
    image.src = `${folder}/redraws.webp`;
    return shown;
  };

  const sign = (good) =>
    element("span", {
      class: `sign ${good ? "good" : ""}`, role: "img", "aria-label": good ? "passes" : "does not pass",
    }, good ? "✓" : "✗");

  const scores = (line) => {
    const limit = report.threshold === null ? null : element("span", {}, `(below ${report.threshold})`);
    const from = report.checkFrom === null ? null : element("span", {}, `(${report.checkFrom} or more)`);
    const gauge = line.near === null ? null : element("dd", {
      class: `gauge ${line.near ? "good" : ""}`, "aria-hidden": "true",
      style: { "--value": `${line.share}%`, "--aim": `${report.aim}%` },
    }, element("i"));
    const kept = line.editable === null ? element("span", {}, "not measured") : sign(line.editable);
    return element("dl", { class: "scores" },
      element("div", {},
        element("dt", {}, "distance", limit && " ", limit),
        element("dd", {}, line.distance, " ", line.near === null ? null : sign(line.near)), gauge),
      report.check === null ? null : element("div", {},
        element("dt", {}, report.check, from && " ", from), element("dd", {}, line.score, " ", kept)));
  };

  const attempt = (entry, folder, place, line) =>
    element("li", { class: `attempt${line.passed ? " passed" : ""}` },
      element("p", { class: "tokens" }, element("b", {}, `${line.tokens}`), ` ${tokens(line.tokens)} `,
        element("span", { class: "mark" }, line.passed ? "✓ passed" : "✗ not redrawn")),
      line.failure
        ? element("p", { class: "missing" }, `Not measured: ${line.failure}`)
        : element("div", { class: "redraws", style: { "--tiles": `${line.tiles}` } },
            strip(entry, folder, place, line)),
      scores(line));

  const evidenceOf = ([id, uris, files, sure, lines, message, advice, again, note, folder]) => ({
    id, uris, files, sure, message, advice, again, note, folder,
    lines: lines.map(([tokens, passed, distance, near, share, score, editable, tiles, failure]) => (
      { tokens, passed, distance, near, share, score, editable, tiles, failure })),
  });

  const problem = (entry, evidence) =>
    element("div", { class: "problem-text" },
      element("p", {}, element("b", {}, "Why:"), ` ${evidence.message} `,
        entry.reason ? element("code", {}, entry.reason) : ""),
      element("p", {}, element("b", {}, "What to do:"), ` ${evidence.advice}`,
        evidence.again ? [" Then ", element("a", { href: "#again" }, "retry it"), "."] : []));

  const card = (entry, written) => {
    const evidence = evidenceOf(written);
    const folder = `../${evidence.folder.split("/").map(encodeURIComponent).join("/")}`;
    const more = evidence.files - evidence.uris.length;
    const others = more === 1 ? "1 more file" : `${more.toLocaleString("en-US")} more files`;
    return element("article",
      { class: "card", id: `image-${entry.id}`, tabindex: "-1", "aria-labelledby": `name-${entry.id}` },
      element("header", {},
        element("h3", { id: `name-${entry.id}` }, element("bdi", {}, entry.name)), verdict(entry)),
      evidence.advice ? problem(entry, evidence) : "",
      evidence.note ? element("p", { class: "remark" }, `Note: ${evidence.note}`) : "",
      evidence.sure ? element("p", { class: "remark" }, evidence.sure) : "",
      evidence.lines.length
        ? element("div", { class: "evidence" },
            element("div", { class: "query" }, query(entry, folder),
              element("p", { class: "caption" }, "the image")),
            element("ol", { class: "attempts" },
              evidence.lines.map((line, place) => attempt(entry, folder, place, line))))
        : evidence.advice
          ? ""
          : element("p", { class: "missing" }, "The details of this image were not found in the run folder."),
      element("footer", {},
        evidence.uris.map((uri) => [element("code", {}, uri), " "]).flat(),
        more > 0 ? element("span", {}, `and ${others} with identical bytes`) : "",
        element("code", { title: "sha256 of the file" }, evidence.id)));
  };

  return { element, row, card };
};
