// What the reader has chosen on the page, so that it can be chosen again after a reload: sorting, filters, columns.
// Tables and lists are known by what they show, because others may have been added since.

/** The elements by the name of each and its number among those of the same name. */
function keyed(elements, nameOf) {
  const found = new Map();
  for (const each of elements) {
    let number = 0;
    while (found.has(`${nameOf(each)}#${number}`)) number += 1;
    found.set(`${nameOf(each)}#${number}`, each);
  }
  return found;
}

const checklists = () => keyed(document.querySelectorAll("details.pick"), (box) => box.dataset.name);
const namedTables = () => keyed(tables, headingsOf);

window.abenchChoices = {
  made() {
    const sorted = [];
    for (const [name, known] of namedTables()) {
      const column = known.heads.findIndex((head) => head.hasAttribute("aria-sort"));
      if (column >= 0) sorted.push([name, column, known.heads[column].getAttribute("aria-sort") === "ascending" ? 1 : -1]);
    }
    const off = [...checklists()].map(([name, box]) => [
      name,
      [...box.querySelectorAll("input:not(:checked)")].map((input) => input.value),
    ]);
    return { sorted, off };
  },
  make({ sorted, off }) {
    const boxes = checklists();
    for (const [name, values] of off) {
      for (const input of boxes.get(name)?.querySelectorAll("input") ?? []) {
        if (values.includes(input.value)) input.click();
      }
    }
    const known = namedTables();
    for (const [name, column, direction] of sorted) {
      if (known.has(name)) sortBy(known.get(name), column, direction);
    }
  },
};
