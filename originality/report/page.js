// Filter, sort, turn pages, enlarge. Without this script the page shows the first images.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const section = document.querySelector("#images");
  const report = JSON.parse(section.dataset.report);
  const build = cards(report);
  const { element } = build;
  const count = (number) => number.toLocaleString("en-US");

  // --- the files beside the page
  const arrived = new Map(); // name -> entries
  const asked = new Map(); // name -> promise of its entries
  window.reportPart = (name, entries) => arrived.set(name, entries);
  const load = (kind, number) => {
    const name = `${kind}-${report.generation}-${number}`;
    if (!asked.has(name)) {
      asked.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        const failed = () => {
          asked.delete(name); // the next try may succeed
          reject(new Error(name));
        };
        script.nonce = report.generation;
        script.src = `data/${name}.js`;
        script.onerror = failed;
        script.onload = () => (arrived.has(name) ? resolve(arrived.get(name)) : failed());
        document.head.append(script);
        script.remove();
      }));
    }
    return asked.get(name);
  };

  const allFiles = () => Promise.all(
    Array.from({ length: Math.ceil(report.listed / report.perRowsFile) }, (_, number) => load("rows", number)));
  let all = null; // every row, most original first
  const everything = async () => {
    if (!all) {
      const entries = report.rows ?? (await allFiles()).flat();
      all = entries.map(([id, name, group, tokens, tried, distance, reason], place) => (
        { place, id, name, group, tokens, tried, distance, reason, lower: name.toLowerCase() }));
    }
    return all;
  };

  // Cards that the page holds keep their pictures, also where the run folder is not at hand.
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
  const columns = { // what to compare, null last in either direction; the direction of a first click
    name: { key: (row) => row.name, descending: false },
    verdict: { key: (row) => (judged(row) ? -row.place : null), descending: true },
    distance: { key: (row) => row.distance, descending: true },
    tried: { key: (row) => row.tried || null, descending: true },
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

  // --- what is shown
  const status = section.querySelector("#status");
  const tools = section.querySelector(".tools");
  const pagers = [...section.querySelectorAll(".pager")];
  const heads = [...section.querySelectorAll("thead th")];
  let turn = 0; // of two changes the later one counts, whichever arrives first

  const show = async (change) => {
    view = { ...view, page: 1, ...change };
    const mine = ++turn;
    section.setAttribute("aria-busy", "true");
    try {
      const rows = await chosen();
      view.page = Math.min(Math.max(1, view.page), Math.max(1, Math.ceil(rows.length / view.size)));
      const start = (view.page - 1) * view.size;
      const shown = rows.slice(start, start + view.size);
      const made = await Promise.all(shown.map(cardOf));
      if (mine !== turn) return;
      section.querySelector("tbody").replaceChildren(...shown.map(build.row));
      section.querySelector(".cards").replaceChildren(...made);
      tell(rows.length, start, shown.length);
      section.classList.add("turned"); // away from what the page was written with
    } catch (error) {
      if (mine !== turn) return;
      status.textContent =
        "The other images could not be read: they lie in files beside this page. If the report was written " +
        "again since, reload this page; if this page was copied alone, open it in its run folder.";
    } finally {
      if (mine === turn) section.removeAttribute("aria-busy");
    }
  };

  const tell = (found, start, length) => {
    const of = found === report.total ? count(found) : `${count(found)} (${count(report.total)} in all)`;
    status.textContent = length ? `Images ${count(start + 1)} to ${count(start + length)} of ${of}.` : "No such image.";
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
        const there = { first: 1, previous: view.page - 1, next: view.page + 1, last: pages }[button.name];
        button.value = there;
        // not disabled: it would lose the keyboard's place
        button.setAttribute("aria-disabled", String(there < 1 || there > pages || there === view.page));
      }
    }
    if (tools) {
      for (const field of tools.elements) {
        if (field.type === "radio") field.checked = field.value === view.show;
        else if (field.name && document.activeElement !== field) field.value = view[field.name];
      }
    }
  };

  // --- the address: "#image-ID" is an image, "#show=failed&sort=name" a view
  const address = () => {
    const parts = Object.keys(first).filter((key) => view[key] !== first[key]).map((key) => [key, view[key]]);
    history.replaceState(null, "", `#${parts.length ? new URLSearchParams(parts) : "images"}`);
  };
  const change = async (asked) => {
    await show(asked);
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
          view = { ...first, size: view.size }; // it may have been filtered out
          place = await find();
        }
      } catch {
        place = 0; // to be said by show
      }
      if (place < 0) status.textContent = "The image of this link is not in the report.";
      else await show({ page: Math.floor(place / view.size) + 1 });
    }
    const card = document.getElementById(hash);
    card?.scrollIntoView();
    card?.focus({ preventScroll: true });
  };

  // --- hands
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
    const go = async (there) => {
      await change({ page: there });
      if (index > 0) section.querySelector("#images-title").focus(); // at the end of a page, begin at the top
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
    tell(report.listed === report.total ? report.total : report.listed, 0, report.held);
    window.addEventListener("hashchange", follow);
    follow();
  }
})();
