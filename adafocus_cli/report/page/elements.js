// Elements, texts and numbers. Names from records only ever become text nodes and properties, never markup.

const byId = (id) => document.getElementById(id);
const dataOf = (id) => JSON.parse(byId(id).textContent);

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") for (const [key, part] of Object.entries(value)) node.style.setProperty(key, part);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const el = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

const svg = (tag, properties = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const gmacs = (value) => `${value < 0.1 ? value.toPrecision(2) : value.toFixed(value < 10 ? 2 : 1)} GMACs`;
const between = (value, low, high) => Math.min(Math.max(value, low), high);

// 2.8 s, 3:05, 1:02:03
function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// 0:02.8, for a clock that runs
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
