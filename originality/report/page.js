// Order, filter and enlarge. Without this script the page shows everything, most original first.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const lists = [...document.querySelectorAll("[data-list]")];
  const tools = document.querySelector(".tools");
  const status = document.querySelector("#cards-status");
  const tableStatus = document.querySelector("#table-status"); // only where the table lacks some
  const number = (count) => count.toLocaleString("en-US");

  const visible = (list) => [...list.children].filter((item) => !item.hidden).length;

  const arrange = () => {
    const { order, group } = Object.fromEntries(new FormData(tools));
    for (const list of lists) {
      const items = [...list.children];
      items.sort((a, b) => a.dataset[order] - b.dataset[order]);
      for (const item of items) {
        item.hidden = group !== "all" && item.dataset.group !== group;
      }
      list.append(...items);
    }
    const [cards, rows] = lists;
    status.textContent = `Showing ${visible(cards)} of ${cards.children.length} images with their details.`;
    if (tableStatus) {
      const total = Number(tools.querySelector("[name=group]:checked").dataset.total);
      tableStatus.textContent = `Listed here: ${number(visible(rows))} of ${number(total)}.`;
    }
  };
  if (tools) {
    tools.addEventListener("change", arrange);
    tools.addEventListener("submit", (event) => event.preventDefault());
    arrange();
  }

  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", "Enlarged picture");
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      const small = button.querySelector("img");
      const scroll = document.createElement("div");
      scroll.className = "scroll";
      scroll.tabIndex = 0;
      scroll.append(small.cloneNode());
      const caption = document.createElement("p");
      caption.textContent = small.alt;
      dialog.replaceChildren(close, scroll, caption);
      dialog.showModal();
    });
  }
})();
