// Tables: sorting by the headings, and the choice of columns. Without this script the page shows the same tables.

const collator = new Intl.Collator(undefined, { numeric: true });
const NUMBER = /^[+−-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![\d/,.])/;

/** The number that a text begins with, or null; "2/3" (seeds with a value) is not a number. */
function numberIn(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : null;
}

/** What a cell is sorted by: its unrounded value, the number that is printed, or (labels only) its text. */
function sortValue(cell, isLabel) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return numberIn(text) ?? (isLabel && text ? text : null);
}

/** Compares two values; absent ones come last in both directions. */
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
  return direction * order;
}

/** Prepares a table: its rows know what they show, and their places in the order of the page. */
function readTable(table, number) {
  table.dataset.table = number;
  const rows = [...table.querySelectorAll("tbody[data-k] > tr")].map((row, place) => {
    const home = row.parentElement;
    return { row, home, place, section: home.dataset.section, show: { ...home.dataset, variant: row.dataset.variant } };
  });
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  return { table, rows, heads, labels: Number(table.dataset.labels), groups: groupsOf(table), hidden: new Set() };
}

/** The headings that span the columns of a task, with the first of these columns. */
function groupsOf(table) {
  if (table.tHead.rows.length < 2) return [];
  let next = 0;
  return [...table.tHead.rows[0].cells].map((cell) => {
    const group = { cell, first: next, count: cell.colSpan };
    next += cell.colSpan;
    return group;
  });
}

/** The headings of a table as one text, by which it is known after a reload. */
function headingsOf(known) {
  return known.heads.map((head) => head.textContent.trim()).join("|");
}

/** Orders the rows of every section by a column; direction 0 restores the order of the page. */
function sortBy(known, column, direction) {
  const first = new Map();
  for (const each of known.rows) if (!first.has(each.section)) first.set(each.section, each.home);
  const keys = new Map(
    known.rows.map((each) => [each, direction ? sortValue(each.row.cells[column], column < known.labels) : null])
  );
  const order = [...known.rows].sort((a, b) => compare(keys.get(a), keys.get(b), direction) || a.place - b.place);
  for (const each of direction ? order : known.rows) {
    (direction ? first.get(each.section) : each.home).append(each.row);
  }
  known.heads.forEach((head, place) => {
    const words = direction > 0 ? "ascending" : "descending";
    if (place === column && direction) head.setAttribute("aria-sort", words);
    else head.removeAttribute("aria-sort");
  });
}

/** Turns the headings into buttons: best or largest first, then the reverse, then the order of the page. */
function makeSortable(known) {
  known.heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    const start = column < known.labels || head.dataset.better === "lower" ? 1 : -1;
    button.addEventListener("click", () => {
      const now = { ascending: 1, descending: -1 }[head.getAttribute("aria-sort")] ?? 0;
      sortBy(known, column, now === 0 ? start : now === start ? -start : 0);
      announce(head);
    });
  });
}

/** Tells screen readers how the table is sorted now. */
function announce(head) {
  const how = head.getAttribute("aria-sort");
  const name = head.textContent.trim();
  document.getElementById("said").textContent = how ? `Sorted by ${name}, ${how}.` : "In the original order.";
}

/** A folded list of checkboxes, which calls `changed` with the names that are not checked. */
function checklist(summary, choices, changed) {
  const box = document.createElement("details");
  box.className = "pick";
  box.dataset.name = summary;
  const title = document.createElement("summary");
  const list = document.createElement("div");
  const off = new Set();
  const tell = () => {
    title.textContent = off.size ? `${summary} (${choices.length - off.size} of ${choices.length})` : summary;
    changed(off);
  };
  for (const [value, text] of choices) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "checkbox";
    input.checked = true;
    input.value = value;
    input.addEventListener("change", () => {
      if (input.checked) off.delete(value);
      else off.add(value);
      tell();
    });
    const name = document.createElement("bdi");
    name.textContent = text;
    label.append(input, " ", name);
    list.append(label);
  }
  title.textContent = summary;
  box.append(title, list);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.open) return;
    box.open = false;
    title.focus();
  });
  return box;
}

/** Hides columns by a style rule, which is faster than touching every cell of a long table. */
function makeColumnsChosen(known) {
  const style = document.createElement("style");
  document.head.append(style);
  const choices = known.heads
    .map((head, place) => [place, head.dataset.name ?? head.textContent.trim()])
    .slice(known.labels);
  if (choices.length < 2) return;
  const box = checklist("Columns", choices, (off) => {
    known.hidden = off;
    const of = `table[data-table="${known.table.dataset.table}"] >`;
    style.textContent = [...off]
      .map((place) => `:nth-child(${place + 1})`)
      .map((cell) => `${of} thead > tr:last-child > ${cell}, ${of} tbody[data-k] > tr > ${cell} { display: none; }`)
      .join("\n");
    for (const group of known.groups) {
      const shown = [...Array(group.count).keys()].filter((i) => !off.has(group.first + i)).length;
      group.cell.hidden = shown === 0;
      group.cell.colSpan = Math.max(1, shown);
    }
    const all = known.heads.length - off.size;
    for (const cell of known.table.querySelectorAll("tbody.heading > tr > th")) cell.colSpan = all;
  });
  box.dataset.name = headingsOf(known);
  known.table.closest(".scroll").before(box);
}

const tables = [...document.querySelectorAll("table[data-labels]")].map(readTable);
tables.forEach(makeSortable);
tables.forEach(makeColumnsChosen);
