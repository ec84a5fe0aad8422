// What is shown: search, filter and sort, cards as they are scrolled to, and the keys.

const AT_ONCE = 48;
const data = dataOf("page");
const rows = data.rows.map((row, place) => ({
  ...row,
  place,
  label: row.labels?.[0]?.[0] ?? "no label",
  text: [row.folder, row.name, ...(row.labels ?? []).map(([label]) => label), ...(row.also ?? []), row.reason ?? ""]
    .join("\n")
    .toLowerCase(),
}));
tellApart(rows);
const cards = byId("cards");
const [search, filter, sort] = ["search", "filter", "sort"].map(byId);
let shown = rows;

const score = (row) => row.labels?.[0]?.[1] ?? -1;
const orders = {
  "As in the file": () => 0,
  "By name": (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  "Surest first": (a, b) => score(b) - score(a),
  "Least sure first": (a, b) => (a.reason === undefined) === (b.reason === undefined) ? score(a) - score(b) : score(b) - score(a),
  "Costliest first": (a, b) => (b.gmacs ?? -1) - (a.gmacs ?? -1),
  "Cheapest first": (a, b) => (a.gmacs ?? Infinity) - (b.gmacs ?? Infinity),
  "Longest first": (a, b) => (b.seconds ?? -1) - (a.seconds ?? -1),
};

// Of videos with the same name, the end of the folder that no other of them has.
function tellApart(all) {
  const named = new Map();
  for (const row of all) named.set(row.name, [...(named.get(row.name) ?? []), row]);
  for (const twins of named.values()) {
    if (twins.length < 2) continue;
    const ends = (row, depth) => row.folder.split(/[\\/]/).slice(-depth).join("/");
    for (const row of twins) {
      let depth = 1;
      const deepest = row.folder.split(/[\\/]/).length;
      while (depth < deepest && twins.some((other) => other !== row && ends(other, depth) === ends(row, depth))) depth += 1;
      row.apart = ends(row, depth);
    }
  }
}

// The view stands in the address, so that it can be sent and survives a reload.
const controls = () => ({ search, filter, sort });
const usual = { search: "", filter: "all", sort: "As in the file" };

function writeAddress() {
  const set = Object.entries(controls()).filter(([name, control]) => control.value !== usual[name]);
  const view = new URLSearchParams(set.map(([name, control]) => [name, control.value])).toString();
  history.replaceState(null, "", view ? `#${view}` : location.pathname + location.search);
  for (const link of document.querySelectorAll("#pages a")) link.hash = view;
}

function readAddress() {
  const view = new URLSearchParams(location.hash.slice(1));
  search.value = view.get("search") ?? usual.search;
  choose(view.get("filter") ?? usual.filter);
  sort.value = view.get("sort") ?? usual.sort;
  if (!sort.value) sort.value = usual.sort;
  update();
}

function choose(value) {
  filter.value = value;
  if (filter.value !== value) filter.append(option(value, value.slice(value.indexOf(" ") + 1))); // on another page only
  filter.value = value;
}

function fits(row) {
  const [kind, ...rest] = filter.value.split(" ");
  const value = rest.join(" ");
  if (kind === "tagged") return row.reason === undefined;
  if (kind === "failed") return row.reason !== undefined;
  if (kind === "label") return row.reason === undefined && (row.label === value || row.also.includes(value));
  return kind === "reason" ? row.reason === value : true;
}

function update() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = rows.filter((row) => fits(row) && words.every((word) => row.text.includes(word)));
  shown.sort(orders[sort.value]);
  writeAddress();
  cards.replaceChildren();
  addCards();
  byId("nothing").hidden = shown.length > 0;
  byId("count").textContent =
    shown.length === rows.length ? plural(rows.length, "video") : `${shown.length} of ${plural(rows.length, "video")}`;
}

function addCards() {
  const from = cards.children.length;
  const part = shown.slice(from, from + AT_ONCE);
  cards.append(...part.map((row, index) => cardOf(row, row.place, () => openAt(from + index))));
}

function showOnly(value) {
  choose(value);
  search.value = "";
  update();
  document.querySelector(".bar").scrollIntoView({ behavior: "smooth" });
}

// The open video, by its place among those shown.
function openAt(index) {
  const row = shown[index];
  if (!row || row.reason !== undefined) return;
  withDetail(row.place, (detail) => {
    const step = (by) => {
      let next = index + by;
      while (shown[next]?.reason !== undefined) next += by;
      openAt(next);
    };
    openPlayer(row, detail, step).step = step;
  });
}

function focusCard(by) {
  const tiles = () => [...cards.querySelectorAll(".tile")];
  const here = tiles().indexOf(document.activeElement);
  const next = here < 0 ? 0 : here + by;
  if (next >= cards.children.length) addCards();
  tiles()[next]?.focus();
}

const inARow = () => {
  const tops = [...cards.children].map((card) => card.offsetTop);
  return Math.max(1, tops.filter((top) => top === tops[0]).length);
};

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

const listKeys = {
  "/": () => search.focus(),
  "?": () => byId("help").showModal(),
  t: toggleTheme,
  j: () => focusCard(1),
  k: () => focusCard(-1),
  ArrowRight: () => focusCard(1),
  ArrowLeft: () => focusCard(-1),
  ArrowDown: () => focusCard(inARow()),
  ArrowUp: () => focusCard(-inARow()),
  Escape: () => {
    search.blur();
    search.value = "";
    filter.value = "all";
    update();
  },
};
const playerKeys = {
  " ": togglePlay,
  t: toggleTheme,
  j: () => current.step(1),
  k: () => current.step(-1),
  ArrowDown: () => current.step(1),
  ArrowUp: () => current.step(-1),
  ArrowRight: () => seekLook(1),
  ArrowLeft: () => seekLook(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.matches("input, select");
  if (typing && event.key !== "Escape") return;
  if (event.key === " " && event.target.matches("button")) return; // which it presses
  const action = (current ? playerKeys : listKeys)[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const option = (value, text) => el("option", { value }, text);
const counted = (names) => [...names.reduce((all, name) => all.set(name, (all.get(name) ?? 0) + 1), new Map())]
  .sort(([, a], [, b]) => b - a);
const group = (label, kind, entries) => entries.length
  ? el("optgroup", { label }, ...entries.map(([name, count]) => option(`${kind} ${name}`, `${name} (${count})`)))
  : null;

function start() {
  data.summary.labels.forEach(([label]) => hue(label));
  showSummary(data, showOnly);
  const [tagged, failed] = [rows.filter((row) => row.reason === undefined), rows.filter((row) => row.reason !== undefined)];
  const labels = tagged.flatMap((row) => [...new Set([row.label, ...row.also])]);
  filter.append(...[
    option("all", "All videos"),
    ...(failed.length ? [option("tagged", `Tagged (${tagged.length})`), option("failed", `Failed (${failed.length})`)] : []),
    group("Label", "label", counted(labels)),
    group("Why it failed", "reason", counted(failed.map((row) => row.reason))),
  ].filter(Boolean));
  sort.append(...Object.keys(orders).map((name) => option(name, name)));
  search.addEventListener("input", update);
  filter.addEventListener("change", update);
  sort.addEventListener("change", update);
  byId("clear").addEventListener("click", listKeys.Escape);
  byId("theme").addEventListener("click", toggleTheme);
  byId("help-button").addEventListener("click", listKeys["?"]);
  byId("help").addEventListener("click", () => byId("help").close());
  const nearEnd = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting || cards.children.length === shown.length) return;
    addCards();
    nearEnd.unobserve(entry.target);
    nearEnd.observe(entry.target); // it may still be near
  }, { rootMargin: "1200px" });
  nearEnd.observe(byId("more"));
  addEventListener("hashchange", readAddress);
  readAddress();
}

start();
