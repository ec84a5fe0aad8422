// One video, large: the film if the browser finds and plays it, else its key frames; the box moves as time passes.

const player = byId("player");
let current = null; // what is open: { row, detail, video, time, … }

// Where the box is at a time: at the looks where the record says, eased in between.
function boxAt(looks, time) {
  const after = looks.findIndex((look) => look[0] > time);
  if (after === 0) return looks[0].slice(1);
  if (after < 0) return looks[looks.length - 1].slice(1);
  const [from, to] = [looks[after - 1], looks[after]];
  const way = (time - from[0]) / (to[0] - from[0]);
  const eased = way * way * (3 - 2 * way);
  return from.slice(1).map((value, place) => value + (to[place + 1] - value) * eased);
}

function openPlayer(row, detail, step) {
  closePlayer();
  const frame = frameOf(detail, undefined, true);
  frame.style.width = `min(100%, calc(var(--tall) * ${detail.size[0] / detail.size[1]}))`;
  const box = el("div", { class: "look" });
  frame.querySelector(".path")?.before(box);
  const bar = timelineOf(detail, row.seconds);
  const head = el("div", { class: "head" });
  bar.append(head);
  const button = el("button", { class: "play", type: "button", "aria-label": "Play or pause", onclick: togglePlay }, "▶");
  const time = el("span", { class: "time" });
  const note = el("p", { class: "note", hidden: "" });
  current = { row, detail, frame, box, head, button, time, note, video: null, still: 0, shown: null };
  if (detail.file) addVideo(detail.file);
  else say("The file was not found, so there are pictures only.");
  const close = el("button", { class: "round", type: "button", "aria-label": "Close", onclick: closePlayer }, "✕");
  const go = (by, text, label) => el("button", { class: "round", type: "button", "aria-label": label, onclick: () => step(by) }, text);
  player.replaceChildren(
    el("div", { class: "screen" }, el("div", { class: "stage", onclick: togglePlay }, frame), el("div", { class: "controls" }, button, bar, time), note),
    el("aside", {}, el("header", {}, el("div", {}, el("h2", {}, row.name), el("p", { class: "muted" }, row.folder)),
      el("div", { class: "actions" }, go(-1, "‹", "Previous video"), go(1, "›", "Next video"), close)), ...aboutOf(row, detail)),
  );
  bar.addEventListener("pointerdown", (event) => scrub(bar, event));
  player.showModal();
  button.focus();
  draw();
  return current;
}

function addVideo(address) {
  const video = el("video", { src: address, preload: "auto", playsinline: "", loop: "" });
  video.addEventListener("loadedmetadata", () => {
    // What browsers show may be wider than its pixels.
    current.frame.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  });
  video.addEventListener("loadeddata", () => current.frame.classList.add("playing"));
  video.addEventListener("error", () => {
    video.remove();
    current.video = null;
    say("This browser cannot play the file, so there are pictures only.");
    draw();
  });
  current.frame.prepend(video);
  current.video = video;
}

function say(text) {
  current.note.textContent = text;
  current.note.hidden = false;
}

function closePlayer() {
  if (!current) return;
  current.video?.pause();
  current = null;
  player.close();
  player.replaceChildren();
}

function togglePlay() {
  if (!current?.video) return;
  if (current.video.paused) current.video.play().catch(() => {});
  else current.video.pause();
}

const timeNow = () => (current.video ? current.video.currentTime : current.still);

function seek(time) {
  const { row, video } = current;
  const wanted = between(time, 0, row.seconds);
  if (video) video.currentTime = wanted;
  else current.still = wanted;
}

function seekLook(by) {
  const times = [...new Set(current.detail.looks.map((look) => look[0]))];
  const now = timeNow();
  const near = 0.02;
  const next = by > 0 ? times.find((time) => time > now + near) : times.findLast((time) => time < now - near);
  if (next !== undefined) seek(next);
}

function scrub(bar, event) {
  const { left, width } = bar.getBoundingClientRect();
  const move = ({ clientX }) => seek((current.row.seconds * (clientX - left)) / width);
  move(event);
  bar.setPointerCapture(event.pointerId);
  bar.addEventListener("pointermove", move);
  bar.addEventListener("lostpointercapture", () => bar.removeEventListener("pointermove", move), { once: true });
}

// Once for every picture of the screen, as long as a video is open.
function draw() {
  if (!current) return;
  const { row, detail, box, head, button, time, video } = current;
  const now = timeNow();
  if (detail.looks.length) placeBox(box, boxAt(detail.looks, now), detail.size);
  if (!video) showStill(now);
  head.style.left = `${between((100 * now) / (row.seconds || 1), 0, 100)}%`;
  time.textContent = `${clock(now)} / ${clock(row.seconds)}`;
  button.textContent = !video ? "▨" : video.paused ? "▶" : "❚❚";
  button.disabled = !video;
  requestAnimationFrame(draw);
}

function showStill(now) {
  const { detail, frame } = current;
  const picture = detail.pictures.findLast(([time]) => time <= now + 0.02) ?? detail.pictures[0];
  if (!picture || current.shown === picture) return;
  current.shown = picture;
  frame.querySelectorAll("img, .boxes").forEach((old) => old.remove());
  frame.classList.remove("plain");
  frame.prepend(imageOf(picture[2]));
}

function aboutOf(row, detail) {
  const answers = row.labels.map(([label, score]) =>
    el("div", { class: "row" }, el("span", { class: "name" }, label), meter(score, { style: hue(label) }),
      el("span", { class: "number" }, percent(score))));
  const sections = [section("Answer", el("div", { class: "rows" }, ...answers))];
  if (detail.steps.length > 1) {
    const ends = el("div", { class: "axis" }, el("span", { class: "first" }, "step 1"),
      el("span", { class: "last" }, `${detail.steps.length}`));
    sections.push(section("Score by step", stepsOf(row.labels, detail.steps, 3), ends));
  }
  if (detail.segments.length) sections.push(section("When", el("div", { class: "rows" }, ...detail.segments.map(whenOf))));
  const most = Math.max(detail.full, row.gmacs) || 1;
  const stages = detail.stages.map(([name, value], place) =>
    el("div", { title: `${name}: ${gmacs(value)}`, class: `part part-${place}`, style: { width: `${(100 * value) / most}%` } }));
  const legend = detail.stages.filter(([, value]) => value / most > 0.005).map(([name, value]) =>
    el("span", { class: `part-${detail.stages.findIndex(([other]) => other === name)}` }, `${name} ${value.toFixed(2)}`));
  const compared = row.share !== null;
  sections.push(section(compared ? `Cost: ${percent(row.share, 0)} of whole frames` : "Cost",
    el("div", { class: "stack" }, ...stages), el("p", { class: "legend" }, ...legend),
    el("p", { class: "muted" }, compared ? `${gmacs(row.gmacs)} of ${gmacs(detail.full)}` : gmacs(row.gmacs))));
  const facts = [
    ["Looked", `${plural(row.looks, "time")}${row.looks > detail.looks.length ? `; ${detail.looks.length} are drawn` : ""}`],
    ...(detail.skippedCount ? [["Skipped", plural(detail.skippedCount, "frame")]] : []),
    ["Steps", `${row.exit[0] + 1} of ${row.exit[1]}`],
    ["Video", `${detail.size[0]}×${detail.size[1]} · ${detail.codec} · ${plural(detail.frames, "frame")}`],
    ["Model", detail.model],
  ];
  sections.push(el("dl", {}, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])));
  return sections;
}

const section = (title, ...children) => el("section", {}, el("h3", {}, title), ...children);

const whenOf = ([start, end, label, score]) =>
  el("button", { class: "row when", type: "button", onclick: () => seek(start) },
    el("span", { class: "number" }, `${clock(start)} – ${clock(end)}`), dot(label), el("span", { class: "name" }, label),
    el("span", { class: "number" }, percent(score, 0)));

player.addEventListener("close", closePlayer);
player.addEventListener("click", (event) => event.target === player && closePlayer());
