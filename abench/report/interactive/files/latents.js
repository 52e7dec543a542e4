// The latent browser: some latents of each SAE with their contexts; a search by token, and an order.

const FULL = 99;
const SHOWN_AT_ONCE = 20;
const MARKED_FROM = 10;
const COLOURS = { positive: "213, 94, 0", negative: "0, 114, 178" };

/** A latent of the data as an object, with its two-sidedness: the rarer sign's share of its firings. */
function latentOf([number, up, down, opposite, cosine, greatest, positive, negative]) {
  const rate = up + down;
  return { number, up, down, rate, opposite, cosine, greatest, positive, negative, sided: rate ? Math.min(up, down) / rate : 0 };
}

const ORDERS = {
  rate: ["firing rate, highest first", (a, b) => b.rate - a.rate],
  rare: ["firing rate, lowest first", (a, b) => a.rate - b.rate],
  sided: ["two-sidedness", (a, b) => b.sided - a.sided],
  opposite: ["opposite pairs (lowest cosine first)", (a, b) => a.cosine - b.cosine],
  number: ["number", (a, b) => a.number - b.number],
};

const element = (name, text = "", attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const percent = (share) => `${(100 * share).toPrecision(2)} %`;

/** The words on which a latent is strong, in lower case, for the search. */
function strongWords(latent, words) {
  const found = new Set();
  for (const [, tokens, values] of [...latent.positive, ...latent.negative]) {
    tokens.forEach((token, i) => Math.abs(values[i]) >= MARKED_FROM && found.add(words[token].toLowerCase()));
  }
  return found;
}

/** Whether a latent is sought: by a part of a token on which it is strong, or by `#` and its number. */
function isSought(latent, query, words) {
  if (!query) return true;
  if (query.startsWith("#")) return String(latent.number) === query.slice(1).trim();
  latent.strong ??= [...strongWords(latent, words)];
  return latent.strong.some((word) => word.includes(query));
}

/** A context: its tokens, shaded by the latent's value, with the value on hover. */
function contextLine([peak, tokens, values], greatest, words) {
  const line = element("p", "", { class: "context", dir: "auto" });
  tokens.forEach((token, i) => {
    const span = element("span", words[token], { title: ((values[i] / FULL) * greatest).toPrecision(3) });
    const share = Math.abs(values[i]) / FULL;
    if (share >= 0.02) {
      span.style.background = `rgba(${values[i] > 0 ? COLOURS.positive : COLOURS.negative}, ${0.75 * share})`;
    }
    if (i === peak) span.className = "peak";
    line.append(span);
  });
  return line;
}

function latentCard(latent, sae, words, seek) {
  const card = element("section", "", { class: "latent" });
  const rates = `fires positively on ${percent(latent.up)}, negatively on ${percent(latent.down)}; most opposite: `;
  const other = element("button", `latent ${latent.opposite}`, { type: "button", class: "link" });
  other.addEventListener("click", () => seek(`#${latent.opposite}`));
  const about = element("p", rates, { class: "soft" });
  about.append(other, ` (cosine ${latent.cosine.toFixed(2).replace("-", "−")})`);
  const sides = element("div", "", { class: "sides" });
  for (const side of ["positive", "negative"]) {
    const box = element("div");
    box.append(element("p", side === "positive" || sae.signed ? side : "lowest pre-activation", { class: "side" }));
    for (const context of latent[side]) box.append(contextLine(context, latent.greatest, words));
    if (!latent[side].length) box.append(element("p", "none", { class: "context soft" }));
    sides.append(box);
  }
  card.append(element("h4", `Latent ${latent.number}`), about, sides);
  return card;
}

function field(text, control) {
  const label = element("label", `${text} `);
  label.append(control);
  return label;
}

function makeBrowser(place, { words, saes }) {
  const which = element("select", "", { id: "latent-sae" });
  const search = element("input", "", { id: "latent-search", type: "search", placeholder: "part of a token, or #number" });
  const order = element("select", "", { id: "latent-order" });
  for (const [value, [text]] of Object.entries(ORDERS)) order.append(element("option", text, { value }));
  const count = element("p", "", { class: "soft", role: "status", id: "latent-count" });
  const list = element("div", "", { id: "latent-list" });
  const more = element("button", "Show more", { type: "button", id: "latent-more" });
  const bar = element("div", "", { class: "bar", role: "group", "aria-label": "Latents" });
  bar.append(field("SAE", which), field("Search", search), field("Order", order));
  place.append(bar, count, list, more);
  const latents = saes.map((sae) => sae.latents.map(latentOf));
  let sought = [];
  let shown = 0;

  function grow() {
    const sae = saes[Number(which.value)];
    const next = sought.slice(shown, shown + SHOWN_AT_ONCE);
    list.append(...next.map((latent) => latentCard(latent, sae, words, seek)));
    shown += next.length;
    more.hidden = shown >= sought.length;
  }

  function renew() {
    const number = which.value === "" ? -1 : Number(which.value);
    const all = latents[number] ?? [];
    const query = search.value.trim().toLowerCase();
    sought = all.filter((latent) => isSought(latent, query, words)).sort(ORDERS[order.value][1]);
    const sae = saes[number];
    count.textContent = sae
      ? `${sought.length} of ${all.length} stored latents; ${sae.alive} of ${sae.width} latents fire on ${sae.tokens} tokens.`
      : "The filters leave no SAE.";
    list.replaceChildren();
    shown = 0;
    grow();
  }

  function seek(text) {
    search.value = text;
    renew();
    search.focus();
  }

  function refill() {
    const before = which.value;
    const left = saes.map((sae, i) => [sae, String(i)]).filter(([sae]) => isShown(sae.labels));
    which.replaceChildren(...left.map(([sae, value]) => element("option", sae.name, { value })));
    if (left.some(([, value]) => value === before)) which.value = before;
    renew();
  }

  which.addEventListener("change", renew);
  order.addEventListener("change", renew);
  search.addEventListener("input", renew);
  more.addEventListener("click", grow);
  onFilter.push(refill);
  refill();
}

if (data.latents) makeBrowser(document.getElementById("latents"), data.latents);
