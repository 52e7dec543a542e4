// One filter for the whole page: models, sites, variants and values of k of all tables, figures and latents.

const FILTERS = { model: "Model", site: "Site", variant: "Variant", k: "k" };
const VIEW = / \((native|split|paper)\)(?= \[|$)/;
const filteredOut = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, new Set()]));
const onFilter = [];

/** Whether something with these labels is shown; what has no k, such as the paper's rows, has every k. */
function isShown(labels) {
  return Object.entries(filteredOut).every(([name, off]) => !off.has(String(labels[name] ?? "")));
}

/** The choices of a filter in their order on the page: value -> text. */
function choicesOf(name) {
  const found = new Map();
  for (const { row, show } of tables.flatMap((known) => known.rows)) {
    const value = show[name] ?? "";
    if (value !== "" && !found.has(value)) found.set(value, name === "variant" ? row.dataset.title.replace(VIEW, "") : value);
  }
  const choices = [...found];
  return name === "k" ? choices.sort((a, b) => Number(a[0]) - Number(b[0])) : choices;
}

function applyFilter() {
  for (const known of tables) {
    const left = new Set();
    for (const each of known.rows) {
      each.row.hidden = !isShown(each.show);
      if (!each.row.hidden) left.add(each.section);
    }
    for (const heading of known.table.querySelectorAll("tbody.heading")) {
      heading.hidden = !left.has(heading.dataset.section);
    }
  }
  onFilter.forEach((act) => act());
  const rows = tables.flatMap((known) => known.rows);
  const shown = rows.filter((each) => !each.row.hidden).length;
  document.getElementById("said").textContent = `${shown} of ${rows.length} rows are shown.`;
}

{
  const bar = document.getElementById("filters");
  for (const [name, title] of Object.entries(FILTERS)) {
    const choices = choicesOf(name);
    if (choices.length < 2) continue;
    bar.append(
      checklist(title, choices, (off) => {
        filteredOut[name] = off;
        applyFilter();
      })
    );
  }
  bar.hidden = !bar.querySelector("details");
}
