// Figures with values on hover, drawn by plotly.js when they come into view. Until then, and in browsers that cannot
// unpack the library, the page shows the same figures as images.

const data = JSON.parse(document.getElementById("page-data").textContent);
const NARROW = 700;
let library = null;

/** Unpacks plotly.js, which the page carries with gzip, once. */
function loadLibrary() {
  library ??= (async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("page-library").textContent), (c) => c.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
    return window.Plotly;
  })();
  return library;
}

/** A text that plotly shows as it is; it would read markup otherwise. */
function literal(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The colour of a series; one that could not be seen on a dark ground becomes that of the text. */
function visibleColour(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return dark && 0.3 * r + 0.6 * g + 0.1 * b < 60 ? colour("ink") : hex;
}

/** A series in plotly's terms. */
function traceOf(series, named) {
  const axis = series.panel ? series.panel + 1 : "";
  const own = visibleColour(series.colour);
  const spread = (values) => (values ? { type: "data", array: values, thickness: 1, width: 3 } : undefined);
  const isBar = series.mode === "bars";
  const name = literal(series.name);
  const [x, y, text, hollow] = [series.x, series.y, series.text, series.hollow ?? []].map((list) => [...list]);
  for (const gap of [...(series.gaps ?? [])].reverse()) {
    for (const list of [x, y, text, hollow]) list.splice(gap, 0, null);
  }
  const digits = "%{y:.4~g}";
  const shown = isBar ? `%{x}: ${digits}` : `%{x:.4~g}, ${digits}`;
  const first = !named.has(name);
  named.add(name);
  return {
    type: isBar ? "bar" : "scatter",
    mode: isBar ? undefined : series.mode,
    name, x: isBar ? x.map(literal) : x, y, text: text.map((each) => (each === null ? "" : literal(each))),
    textposition: "none",
    hovertemplate: `${name}<br>${shown}${series.dy ? " ± %{customdata:.2~g}" : ""}<br>%{text}<extra></extra>`,
    customdata: series.dy,
    legendgroup: name, showlegend: first,
    line: { color: own, width: 1.6 },
    marker: { color: own, size: 8, symbol: hollow.some(Boolean) ? hollow.map((h) => series.symbol + (h ? "-open" : "")) : series.symbol },
    error_x: spread(series.dx), error_y: series.mode === "lines" ? undefined : spread(series.dy),
    xaxis: `x${axis}`, yaxis: `y${axis}`,
  };
}

/** A logarithmic axis with plain numbers at its ticks: 20, 50, 100. */
function logAxis(chart, panel) {
  const values = chart.series.filter((each) => each.panel === panel).flatMap((each) => each.y.filter((y) => y > 0));
  const [low, high] = values.reduce(([a, b], y) => [Math.min(a, y), Math.max(b, y)], [Infinity, 0]);
  const digits = high / low < 10 ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(...digits.map((digit) => Number((digit * 10 ** power).toPrecision(2))));
  }
  return { type: "log", tickvals: ticks, ticktext: ticks.map(String) };
}

/** The layout: panels side by side, or one below the other in a narrow window. */
function layoutOf(chart, width) {
  const narrow = width < NARROW;
  const panels = chart.panels.length;
  const isBars = chart.series[0].mode === "bars";
  const grid = narrow || isBars ? { rows: panels, columns: 1 } : { rows: 1, columns: panels };
  const text = { color: colour("ink"), size: 12, family: "system-ui, sans-serif" };
  const height = 120 + (grid.rows === 1 ? 340 : 290 * grid.rows);
  const layout = {
    grid: { ...grid, pattern: "independent", xgap: 0.18, ygap: 0.3 },
    height, width,
    margin: { l: 60, r: 15, t: 45, b: 50 }, font: text, title: { text: literal(chart.title), font: { size: 14 } }, barmode: "group", hovermode: "closest",
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    hoverlabel: { bgcolor: colour("band"), bordercolor: colour("line"), font: text, align: "left", namelength: -1 },
    legend: { orientation: "h", y: -65 / (height - 95), yanchor: "top" },
  };
  const line = { gridcolor: colour("line"), zerolinecolor: colour("line"), automargin: true };
  chart.panels.forEach((panel, i) => {
    layout[`xaxis${i ? i + 1 : ""}`] = { ...line, title: { text: literal(panel.x) } };
    layout[`yaxis${i ? i + 1 : ""}`] = { ...line, title: { text: literal(panel.y) }, ...(panel.log ? logAxis(chart, i) : {}) };
  });
  return layout;
}

/** Draws a figure with the series that the filters leave. */
function draw(Plotly, figure, chart) {
  const named = new Set();
  const traces = chart.series.filter((series) => isShown(series.labels)).map((series) => traceOf(series, named));
  const place = figure.querySelector(".chart");
  const settings = { displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const width = Math.min(1180, figure.clientWidth);
  Plotly.react(place, traces, layoutOf(chart, width), settings);
}

function makeChart(figure, chart) {
  const place = document.createElement("div");
  place.className = "chart";
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", figure.querySelector("img").alt);
  figure.prepend(place);
  const again = () => loadLibrary().then((Plotly) => draw(Plotly, figure, chart));
  const seen = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    await again();
    figure.querySelector("img").hidden = true;
    onFilter.push(again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    let last = figure.clientWidth;
    new ResizeObserver(() => {
      if (figure.clientWidth === last) return;
      last = figure.clientWidth;
      again();
    }).observe(figure);
  });
  seen.observe(figure);
}

if (document.getElementById("page-library").textContent && "DecompressionStream" in window) {
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const chart = data.charts[figure.dataset.chart];
    if (chart) makeChart(figure, chart);
  }
}
