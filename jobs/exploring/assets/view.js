// What is looked at: kept in the address, so that a reload or a bookmark shows it again.
const FIRST = { find: "", where: [], sort: "number", down: false, page: 1, size: 60, mode: "table", columns: null,
  histogram: "tokens", x: "score", y: "reference_distance" };

let view = { ...FIRST };
let restored = {}; // what the address differs by from the first view
const listeners = [];

const valid = (found) =>
  found && typeof found === "object" && Object.entries(found).every(([key, value]) =>
    key in FIRST && (key === "columns" || (Array.isArray(value) ? Array.isArray(FIRST[key]) : typeof value === typeof FIRST[key])));

const read = () => {
  try {
    const found = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return valid(found) ? found : {};
  } catch {
    return {};
  }
};

const write = () => {
  const changed = Object.entries(view).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(FIRST[key]));
  const text = changed.length ? `#${encodeURIComponent(JSON.stringify(Object.fromEntries(changed)))}` : "";
  history.replaceState(null, "", location.pathname + text);
};

export const current = () => view;
export const onChange = (listener) => listeners.push(listener);

/** Change parts of the view; what rows are shown changes back to the first page. */
export const change = (parts) => {
  const before = view;
  view = { ...view, ...("page" in parts || "mode" in parts || "columns" in parts ? {} : { page: 1 }), ...parts };
  write();
  for (const listener of listeners) listener(view, before);
};

/** Take over the view of the address. */
export const restore = (defaults = {}) => {
  restored = read();
  change({ ...FIRST, ...defaults, page: 1, ...restored });
};
addEventListener("hashchange", () => restore());

/** The question to the server: without what only the page needs. */
export const question = ({ find, where, sort, down, page, size }, all = false) =>
  ({ find, where, sort, down, ...(all ? {} : { offset: (page - 1) * size, limit: size }) });

/** Conditions on other columns stay; those on this one are replaced. */
export const setConditions = (column, conditions) =>
  change({ where: [...view.where.filter((c) => c.column !== column), ...conditions] });

/** Conditions on one column. */
export const conditionsOn = (column) => view.where.filter((c) => c.column === column);

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
