// What cards and player draw alike: a frame with where it was looked, the film as a bar, scores by step.

const ranks = new Map();

// The same label has the same colour everywhere; the most frequent ones are the easiest to tell apart.
function hue(label) {
  if (!ranks.has(label)) ranks.set(label, ranks.size);
  return { "--hue": String((255 + ranks.get(label) * 137.5) % 360) };
}

const dot = (label) => el("i", { class: "dot", style: hue(label) });

function placeBox(node, box, [width, height]) {
  const [left, top, right, bottom] = box;
  node.style.left = `${(100 * left) / width}%`;
  node.style.top = `${(100 * top) / height}%`;
  node.style.width = `${(100 * (right - left)) / width}%`;
  node.style.height = `${(100 * (bottom - top)) / height}%`;
}

const MOST_JOINED = 24;

// The way from look to look, in the order of the film. Lines between many looks would hide the picture: of these there
// are dots, each as large as there are looks at its place.
function pathOf({ size: [width, height], looks }) {
  const points = looks.map(([, left, top, right, bottom]) => `${(left + right) / 2},${(top + bottom) / 2}`);
  const box = { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" };
  if (looks.length > MOST_JOINED) return svg("svg", { class: "path many", ...box }, ...spotsOf(looks, width, height));
  const line = (name) => svg("polyline", { class: name, points: points.join(" ") });
  const dots = [...new Set(points)].map((point) => `M${point}h0`);
  const marks = (name) => svg("path", { class: name, d: dots.join("") });
  return svg("svg", { class: "path", ...box }, line("casing"), line("line"), marks("rim"), marks("dots"));
}

const SPOTS_ACROSS = 10;

function spotsOf(looks, width, height) {
  const side = width / SPOTS_ACROSS;
  const counts = new Map();
  for (const [, left, top, right, bottom] of looks) {
    const [column, row] = [(left + right) / 2, (top + bottom) / 2].map((middle) => Math.floor(middle / side));
    counts.set(`${column} ${row}`, (counts.get(`${column} ${row}`) ?? 0) + 1);
  }
  const most = Math.max(...counts.values());
  return [...counts].map(([place, count]) => {
    const [column, row] = place.split(" ").map(Number);
    const middle = { cx: (column + 0.5) * side, cy: Math.min((row + 0.5) * side, height) };
    return svg("circle", { ...middle, r: side * (0.14 + 0.34 * Math.sqrt(count / most)) });
  });
}

// The places that were looked at, for a video without a picture; of many looks the spots say enough.
const allBoxes = ({ size: [width, height], looks }) =>
  svg(
    "svg",
    { class: "boxes", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    ...(looks.length > MOST_JOINED ? [] : looks).map(([, x, y, right, bottom]) =>
      svg("rect", { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) }),
    ),
  );

const imageOf = (address) => el("img", { src: address, alt: "", loading: "lazy", decoding: "async", draggable: "false" });

// A picture, or a plain frame, with the path and with the box of one look.
function frameOf(detail, [, look, address] = [0, -1, null], withPath = true) {
  const frame = el("div", { class: address ? "frame" : "frame plain" });
  frame.style.aspectRatio = `${detail.size[0]} / ${detail.size[1]}`;
  frame.append(address ? imageOf(address) : allBoxes(detail));
  if (look >= 0) {
    const box = el("div", { class: "look" });
    placeBox(box, detail.looks[look].slice(1), detail.size);
    frame.append(box);
  }
  if (withPath && detail.looks.length) frame.append(pathOf(detail));
  return frame;
}

// The film from left to right: its segments in their colours, a tick for every look, a short one for a skipped frame.
function timelineOf(detail, seconds) {
  const share = (time) => `${between((100 * time) / (seconds || 1), 0, 100)}%`;
  const segments = detail.segments.map(([start, end, label, score]) =>
    el("div", {
      class: "segment",
      title: `${label}, ${duration(start)} to ${duration(end)}, ${percent(score)}`,
      style: { left: share(start), width: share(end - start), ...hue(label) },
    }),
  );
  const tick = (time, drawn) => `M${between((1000 * time) / (seconds || 1), 1, 999).toFixed(1)} ${drawn}`;
  const look = svg("path", { d: detail.looks.map(([time]) => tick(time, "0v1")).join("") });
  const skipped = svg("path", { d: detail.skipped.map((time) => tick(time, ".65v.35")).join("") });
  const crowd = detail.looks.length > 60 ? "crowd" : "";
  const ticked = svg("svg", { class: crowd, viewBox: "0 0 1000 1", preserveAspectRatio: "none", "aria-hidden": "true" }, look, skipped);
  return el("div", { class: "timeline" }, ...segments, ticked);
}

// A line for each of the best labels; the last step is the one that answered.
function stepsOf(labels, steps, count = 1) {
  const x = (step) => (steps.length > 1 ? (100 * step) / (steps.length - 1) : 50);
  const y = (score) => 38 - 36 * score;
  const lines = labels.slice(0, count).map(([label], place) =>
    svg("polyline", {
      style: hue(label),
      points: steps.map((scores, step) => `${x(step).toFixed(2)},${y(scores[place]).toFixed(2)}`).join(" "),
    }),
  );
  const grid = [0, 0.5, 1].map((score) => svg("line", { x1: 0, x2: 100, y1: y(score), y2: y(score) }));
  const box = { class: "steps", viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" };
  return svg("svg", box, ...grid, ...lines.reverse());
}

const meter = (share, properties = {}) =>
  el("div", { class: "meter", ...properties }, el("div", { style: { width: `${between(100 * share, 0, 100)}%` } }));
