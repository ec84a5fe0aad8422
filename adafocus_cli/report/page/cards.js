// A card for each video. Its pictures are unpacked when it is built, and it is built when it is about to be seen.

const TILE = 4 / 3;
const details = new Map();

// The videos' blocks stand behind this script: the first cards may be there before theirs are.
function withDetail(place, use) {
  if (details.has(place)) return use(details.get(place));
  if (!byId(`video-${place}`)) return document.addEventListener("DOMContentLoaded", () => withDetail(place, use));
  details.set(place, dataOf(`video-${place}`));
  return use(details.get(place));
}

function cardOf(row, place, open) {
  const tile = el("button", { class: "tile", type: "button", "aria-label": `Open ${row.name}`, onclick: open });
  const card = el("article", { class: "card" }, tile);
  const title = row.folder ? `${row.folder}/${row.name}` : row.name;
  const name = el("header", { title }, el("h3", {}, row.name), row.apart ? el("p", { class: "folder" }, row.apart) : null);
  if (row.reason !== undefined) {
    card.classList.add("failed");
    tile.append(el("span", { class: "cross" }, "✗"), el("span", {}, row.failed));
    card.append(el("div", { class: "body" }, name, el("p", { class: "why" }, row.reason)));
    return card;
  }
  const body = el("div", { class: "body" }, name, answerOf(row));
  card.append(body);
  withDetail(place, (detail) => {
    showPictures(tile, detail);
    tile.append(el("span", { class: "badge" }, duration(row.seconds)));
    if (detail.pictures.length > 1) tile.after(stripOf(tile, detail));
    body.append(timelineOf(detail, row.seconds), factsOf(row, detail));
  });
  return card;
}

// The best label, and others that were found, too.
function answerOf({ labels, also }) {
  if (!labels.length) return el("p", { class: "answer muted" }, "no label");
  const found = labels.filter(([label], place) => !place || also.includes(label)).slice(0, 3);
  return el("div", { class: "answers" }, ...found.map(([label, score]) =>
    el("p", { class: "answer" }, dot(label), el("span", { class: "name" }, label),
      el("span", { class: "number" }, percent(score)))));
}

function showPictures(tile, detail, picture = detail.pictures[detail.pictures.length >> 1]) {
  tile.querySelectorAll(".frame, .backdrop").forEach((old) => old.remove());
  const frame = frameOf(detail, picture);
  frame.style.width = `${100 * Math.min(1, detail.size[0] / detail.size[1] / TILE)}%`;
  tile.prepend(frame);
  if (picture && Math.abs(detail.size[0] / detail.size[1] - TILE) > 0.05) {
    const backdrop = imageOf(picture[2]);
    backdrop.className = "backdrop";
    tile.prepend(backdrop);
  }
}

function stripOf(tile, detail) {
  const strip = el("div", { class: "strip", "aria-hidden": "true", style: { "--cells": Math.max(4, detail.pictures.length) } });
  for (const picture of detail.pictures) {
    const choose = () => showPictures(tile, detail, picture);
    strip.append(el("div", { class: "cell", onpointerenter: choose, onclick: choose }, frameOf(detail, picture, false)));
  }
  return strip;
}

function factsOf(row, detail) {
  const [step, of] = row.exit;
  const cost = row.share === null
    ? el("div", { class: "fact" }, el("span", {}, gmacs(row.gmacs)))
    : el("div", { class: "fact", title: `${gmacs(row.gmacs)} of ${gmacs(detail.full)}` },
      meter(row.share), el("span", {}, `${percent(row.share, 0)} of full`));
  const sure = of > 1 ? `step ${step + 1} of ${of}` : plural(row.looks, "look");
  const graph = detail.steps.length > 1 ? stepsOf(row.labels, detail.steps) : null;
  return el("div", { class: "facts" }, cost, el("div", { class: "fact sure" }, graph, el("span", {}, sure)));
}
