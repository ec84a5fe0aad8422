// What all the records come to, above the cards. Bars filter the cards when they are pressed.

const MOST_BARS = 8;

function showSummary({ title, summary, before, rows, previous, next }, show) {
  byId("title").textContent = title;
  const models = summary.models.map(([name]) => name).join(", ");
  byId("subtitle").textContent = models ? `Tagged by ${models}` : "No video could be tagged";
  const figures = [
    figure(summary.tagged.toLocaleString("en"), `of ${plural(summary.tagged + summary.failed, "video")} tagged`),
  ];
  if (summary.tagged)
    figures.push(
      ...(summary.share === null ? [] : [figure(percent(summary.share, 0), "of the cost of whole frames")]),
      figure(gmacs(summary.gmacs / summary.tagged), "a video, on average"),
      figure(summary.looks.toLocaleString("en"), `careful looks in ${duration(summary.seconds)} of film`),
    );
  const panels = [labelsPanel(summary, show), costPanel(summary), exitsPanel(summary), failuresPanel(summary, show)];
  byId("summary").append(el("div", { class: "figures" }, ...figures), el("div", { class: "panels" }, ...panels));
  showPages(before, rows.length, summary.tagged + summary.failed, previous, next);
}

const figure = (value, text) => el("div", { class: "figure" }, el("b", {}, value), el("span", {}, text));

const panel = (title, name, ...children) => el("section", { class: `panel ${name}` }, el("h2", {}, title), ...children);

function labelsPanel({ labels, tagged }, show) {
  if (!tagged) return null;
  const differ = new Set(labels.map(([, count]) => count)).size > 1; // or bars would say nothing
  const bars = (entries) =>
    entries.map(([label, count]) =>
      el(
        "button",
        { class: differ ? "row" : "row plain", type: "button", title: `Show only ${label}`, onclick: () => show(`label ${label}`) },
        el("span", { class: "name" }, label),
        differ ? meter(count / labels[0][1], { style: hue(label) }) : dot(label),
        el("span", { class: "number" }, count.toLocaleString("en")),
      ),
    );
  const list = el("div", { class: "rows" }, ...bars(labels.slice(0, MOST_BARS)));
  const rest = labels.slice(MOST_BARS);
  const all = el("button", { class: "link", type: "button" }, `${rest.length} more`);
  all.addEventListener("click", () => {
    list.append(...bars(rest));
    all.remove();
  });
  return panel("What was found", "wide", list, rest.length ? all : null);
}

const valuesOf = (counts) => counts.filter((count) => count > 0).length;

function costPanel({ costs, tagged, share }) {
  if (!tagged || valuesOf(costs) < 2) return null; // one value is among the figures
  const most = Math.max(...costs);
  const bars = costs.map((count, place) => {
    const range = place === costs.length - 1 ? "100 % and more" : `${5 * place} to ${5 * place + 5} %`;
    const height = count ? Math.max(3, (100 * count) / most) : 0;
    return el("div", { class: "column", title: `${range}: ${plural(count, "video")}` },
      el("div", { style: { height: `${height}%` } }));
  });
  const mean = between(share, 0, 1);
  const width = (costs.length - 1) / costs.length;
  const mark = el("div", { class: "mark", style: { left: `${100 * mean * width}%` } },
    el("span", {}, `mean ${percent(mean, 0)}`));
  const axis = ["0", "25", "50", "75", "100 %"].map((text, place) =>
    el("span", { style: { left: `${25 * place * width}%` } }, text));
  return panel(
    "Cost, in percent of whole frames", "cost",
    el("div", { class: "columns" }, ...bars, mark),
    el("div", { class: "axis" }, ...axis),
  );
}

function exitsPanel({ exits, tagged }) {
  if (!tagged || valuesOf(exits) < 2) return null; // each card has it
  const most = Math.max(...exits, 1);
  const bars = exits.map((count, step) =>
    el("div", { class: "column", title: `after step ${step + 1}: ${plural(count, "video")}` },
      el("div", { style: { height: `${count ? Math.max(3, (100 * count) / most) : 0}%` } })));
  const ends = [el("span", { class: "first" }, "step 1"), el("span", { class: "last" }, `${exits.length}`)];
  return panel("After which step it was sure", "exits",
    el("div", { class: "columns" }, ...bars), el("div", { class: "axis" }, ...ends));
}

function failuresPanel({ reasons, failed }, show) {
  if (!failed) return null;
  const rows = reasons.map(([reason, count]) =>
    el("button", { class: "row reason", type: "button", onclick: () => show(`reason ${reason}`) },
      el("span", { class: "number" }, count.toLocaleString("en")), el("span", { class: "name" }, reason)));
  return panel(`${plural(failed, "video")} could not be tagged`, "failures", el("div", { class: "rows" }, ...rows));
}

function showPages(before, count, total, previous, next) {
  if (!previous && !next) return;
  const link = (href, text) => (href ? el("a", { href }, text) : el("span", {}));
  const range = `Videos ${(before + 1).toLocaleString("en")} to ${(before + count).toLocaleString("en")} of ${total.toLocaleString("en")}`;
  byId("pages").append(link(previous, "← Previous"), el("span", { class: "muted" }, range), link(next, "Next →"));
}
