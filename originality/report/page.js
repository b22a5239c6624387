// Filtering, sorting, paging and enlarging of images. Without this script the page shows the first images.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const section = document.querySelector("#images");
  const report = JSON.parse(section.dataset.report);
  const build = cards(report);
  const { element } = build;
  const count = (number) => number.toLocaleString("en-US");

  // --- files beside the page
  // They are scripts that call reportPart, because a page opened from a file may load scripts but no other data.
  const loaded = new Map(); // name -> entries
  const requested = new Map(); // name -> promise of its entries
  window.reportPart = (name, entries) => loaded.set(name, entries);
  const load = (kind, number) => {
    const name = `${kind}-${report.generation}-${number}`;
    if (!requested.has(name)) {
      requested.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        const failed = () => {
          requested.delete(name); // a later request may succeed
          reject(new Error(name));
        };
        script.nonce = report.generation;
        script.src = `data/${name}.js`;
        script.onerror = failed;
        script.onload = () => (loaded.has(name) ? resolve(loaded.get(name)) : failed());
        document.head.append(script);
        script.remove();
      }));
    }
    return requested.get(name);
  };

  const allFiles = () => Promise.all(
    Array.from({ length: Math.ceil(report.listed / report.perRowsFile) }, (_, number) => load("rows", number)));
  let all = null; // every row, most original first
  const everything = async () => {
    if (!all) {
      const entries = report.rows ?? (await allFiles()).flat();
      all = entries.map(([id, name, group, tokens, tried, distance, score, confidence, reason], place) => (
        { place, id, name, group, tokens, tried, distance, score, confidence, reason, lower: name.toLowerCase() }));
    }
    return all;
  };

  // Cards that the page holds keep their embedded pictures, so they also work without the run folder.
  const held = new Map([...section.querySelectorAll(".card")].map((card) => [card.id.slice("image-".length), card]));
  const cardOf = async (row) => {
    if (held.has(row.id)) return held.get(row.id);
    const file = Math.floor(row.place / report.perEvidenceFile);
    const entries = await load("evidence", file);
    return build.card(row, entries[row.place - file * report.perEvidenceFile]);
  };

  // --- order
  const names = new Intl.Collator("en", { numeric: true });
  const judged = ({ group }) => group === "never" || group === "redrawn";
  const columns = { // sort key (null sorts last in both directions) and direction of the first click
    name: { key: (row) => row.name, descending: false },
    verdict: { key: (row) => (judged(row) ? -row.place : null), descending: true },
    distance: { key: (row) => row.distance, descending: true },
    tried: { key: (row) => row.tried || null, descending: true },
    score: { key: (row) => row.score, descending: true },
    confidence: { key: (row) => row.confidence, descending: false },
    reason: { key: (row) => row.reason || null, descending: false },
  };
  const first = { show: "all", reason: "", find: "", sort: "verdict", down: true, page: 1, size: Math.max(20, report.held) };
  let view = first;
  let sorted = { by: "", rows: [] };
  const inOrder = (rows) => {
    const by = `${view.sort} ${view.down}`;
    if (sorted.by !== by) {
      const { key } = columns[view.sort];
      const sign = view.down ? -1 : 1;
      const compare = (a, b) => (typeof a === "string" ? names.compare(a, b) : a - b);
      const keyed = rows.map((row) => ({ row, key: key(row) }));
      keyed.sort((a, b) =>
        (a.key === null) - (b.key === null) ||
        (a.key === null ? 0 : sign * compare(a.key, b.key)) || a.row.place - b.row.place);
      sorted = { by, rows: keyed.map(({ row }) => row) };
    }
    return sorted.rows;
  };
  const chosen = async () => {
    const wanted = view.find.trim().toLowerCase();
    return inOrder(await everything()).filter((row) =>
      (view.show === "all" || row.group === view.show) &&
      (!view.reason || row.reason === view.reason) &&
      (!wanted || row.lower.includes(wanted) || row.id.startsWith(wanted)));
  };

  // --- view
  const status = section.querySelector("#status");
  const tools = section.querySelector(".tools");
  const pagers = [...section.querySelectorAll(".pager")];
  const heads = [...section.querySelectorAll("thead th")];
  let latest = 0; // number of the last change: an older one that finishes later must not overwrite it

  const show = async (change) => {
    view = { ...view, page: 1, ...change };
    const mine = ++latest;
    section.setAttribute("aria-busy", "true");
    try {
      const rows = await chosen();
      view.page = Math.min(Math.max(1, view.page), Math.max(1, Math.ceil(rows.length / view.size)));
      const start = (view.page - 1) * view.size;
      const shown = rows.slice(start, start + view.size);
      const made = await Promise.all(shown.map(cardOf));
      if (mine !== latest) return;
      section.querySelector("tbody").replaceChildren(...shown.map(build.row));
      section.querySelector(".cards").replaceChildren(...made);
      updateControls(rows.length, start, shown.length);
      section.classList.add("turned"); // no longer the view that the page was written with
    } catch (error) {
      if (mine !== latest) return;
      status.textContent =
        "The other images could not be loaded from the files beside this page. If the report was written again " +
        "meanwhile, reload the page; if the page was copied without its run folder, open it there.";
    } finally {
      if (mine === latest) section.removeAttribute("aria-busy");
    }
  };

  const updateControls = (found, start, length) => {
    const of = found === report.total ? count(found) : `${count(found)} (${count(report.total)} in total)`;
    status.textContent = length ? `Images ${count(start + 1)} to ${count(start + length)} of ${of}.` : "No matching images.";
    for (const head of heads) {
      const direction = view.down ? "descending" : "ascending";
      if (head.dataset.sort === view.sort) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    }
    const pages = Math.ceil(found / view.size);
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
    if (tools) {
      for (const field of tools.elements) {
        if (field.type === "radio") field.checked = field.value === view.show;
        else if (field.name && document.activeElement !== field) field.value = view[field.name];
      }
    }
  };

  // --- address: "#image-ID" names an image, "#show=failed&sort=name" a view
  const address = () => {
    const parts = Object.keys(first).filter((key) => view[key] !== first[key]).map((key) => [key, view[key]]);
    history.replaceState(null, "", `#${parts.length ? new URLSearchParams(parts) : "images"}`);
  };
  const change = async (wanted) => {
    await show(wanted);
    address();
  };
  const follow = async () => {
    const hash = location.hash.slice(1);
    if (hash.startsWith("image-")) {
      await reveal(hash);
    } else if (hash.includes("=")) {
      const given = new URLSearchParams(hash);
      const text = (key) => given.get(key) ?? first[key];
      await show({
        show: text("show"), reason: text("reason"), find: text("find"),
        sort: text("sort") in columns ? text("sort") : first.sort,
        down: String(text("down")) === "true",
        page: Number(text("page")) || 1,
        size: Math.min(Number(text("size")) || first.size, 100),
      });
      section.scrollIntoView();
    }
  };
  const reveal = async (hash) => {
    if (!document.getElementById(hash)) {
      let place = -1;
      try {
        const find = async () => (await chosen()).findIndex((row) => `image-${row.id}` === hash);
        place = await find();
        if (place < 0) {
          view = { ...first, size: view.size }; // the filter may have hidden it
          place = await find();
        }
      } catch {
        place = 0; // show() reports the error
      }
      if (place < 0) status.textContent = "The image that this link names is not in the report.";
      else await show({ page: Math.floor(place / view.size) + 1 });
    }
    const card = document.getElementById(hash);
    card?.scrollIntoView();
    card?.focus({ preventScroll: true });
  };

  // --- controls
  for (const head of heads) {
    const button = element("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => {
      const same = head.dataset.sort === view.sort;
      change({ sort: head.dataset.sort, down: same ? !view.down : columns[head.dataset.sort].descending });
    });
    head.append(button);
  }
  for (const [index, pager] of pagers.entries()) {
    const button = (name, text) => element("button", { type: "button", name }, text);
    const page = element("input", { type: "number", min: 1, inputmode: "numeric" });
    pager.append(
      button("first", "First"), button("previous", "Previous"),
      element("label", {}, "Page ", page, " ", element("output")),
      button("next", "Next"), button("last", "Last"));
    const go = async (target) => {
      await change({ page: target });
      if (index > 0) section.querySelector("#images-title").focus(); // from the lower pager, go to the top
    };
    page.addEventListener("change", () => go(Math.round(Number(page.value)) || 1));
    pager.addEventListener("click", ({ target }) => {
      if (target.name && target.getAttribute("aria-disabled") === "false") go(Number(target.value));
    });
  }
  tools?.addEventListener("submit", (event) => event.preventDefault());
  tools?.addEventListener("input", ({ target }) => {
    change({ [target.name]: target.name === "size" ? Number(target.value) : target.value });
  });

  const dialog = element("dialog", { "aria-label": "Enlarged picture" });
  const close = element("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close();
  });
  document.body.append(dialog);
  document.addEventListener("click", ({ target }) => {
    const zoom = target.closest?.(".zoom");
    if (!zoom) return;
    const scroll = element("div", { class: "scroll", tabindex: "0" }, zoom.firstElementChild.cloneNode(true));
    dialog.replaceChildren(close, scroll, element("p", {}, zoom.querySelector("img").alt));
    dialog.showModal();
  });

  if (report.total) {
    updateControls(report.listed === report.total ? report.total : report.listed, 0, report.held);
    window.addEventListener("hashchange", follow);
    follow();
  }
})();
