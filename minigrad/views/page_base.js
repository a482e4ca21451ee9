// What the other scripts of the page stand on: its numbers, what is chosen, elements, hints, arrow keys.

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);

// Numbers: the codes of all that is shown, and the exact norms that clipping multiplies.

const bytes = (text) => {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) found[k] = raw.charCodeAt(k);
  return found.buffer;
};
const codes = data.wide ? new Uint32Array(bytes(data.series)) : new Uint16Array(bytes(data.series));
const exact = new Float64Array(bytes(data.exact));
const [TEXT, BRIEF, LOOK, NORM] = [0, 1, 2, 3];
const T = data.steps;
const plainBins = data.bounds.length + 1;

// What stands for several: one that is not finite, else the largest; as `palette.largest`.
const ranks = Float64Array.from(data.readings, (reading) => {
  if (!reading) return -1;
  return data.kinds[reading[LOOK] - plainBins] === "not finite" ? Infinity : reading[NORM] ?? 0;
});
const largest = (place, from, to) => {
  let best = codes[place + from];
  for (let t = from + 1; t < to; t++) if (ranks[codes[place + t]] > ranks[best]) best = codes[place + t];
  return best;
};

// x with n digits as [digits, exponent of the first]; a tie goes to the even digit, as in Python.
function rounded(x, n) {
  let [digits, exponent] = x.toExponential(n - 1).split("e");
  const [all, power] = x.toExponential(100).split("e");
  const whole = all.replace(".", "");
  if (/^50*$/.test(whole.slice(n)) && Number(whole[n - 1]) % 2 === 0) {
    digits = n > 1 ? `${whole[0]}.${whole.slice(1, n)}` : whole[0];
    exponent = power;
  }
  return [digits, Number(exponent)];
}
// Two digits, short, as `palette.number`.
function number(x) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "inf" : "-inf";
  if (x === 0) return "0";
  if (x < 0) return "-" + number(-x);
  const [digit, exponent] = rounded(x, 1);
  if (x >= 9999.5 || (x < 0.001 && Number(`${digit}e${exponent}`) < 0.001)) return `${digit}e${exponent}`;
  if (x >= 99.5) return x % 1 === 0.5 ? String(2 * Math.round(x / 2)) : x.toFixed(0);
  const [two, power] = rounded(x, 2);
  return String(Number(`${two}e${power}`));
}
// The look of a norm, as `record.kind_of` and `palette.look` say.
function lookOf(norm, tiny) {
  const special = (kind) => plainBins + data.kinds.indexOf(kind);
  if (!Number.isFinite(norm)) return special("not finite");
  if (norm === 0) return special("zero");
  if (norm < tiny) return special("underflow");
  const bin = data.bounds.findIndex((bound) => norm < bound);
  return bin < 0 ? data.bounds.length : bin;
}

const styleOf = (look) => `look${look} ${data.looks[look].style.split(",").pop()}`;
const legendOf = (look) => data.looks[look].legend.replace("…\n", "…").replace("\n", " ");
const isNumber = (look) => look < plainBins;
const kindOf = (code) => data.kinds[data.readings[code][LOOK] - plainBins]; // undefined: a number on the scale
const digits = (t) => String(t).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);
const symbolAt = (symbol, t) => symbol + (symbol.length > 2 ? " " : "") + digits(t + 1);
const stepName = (t) => `t = ${t + 1}` + (data.labels && data.labels[t] ? `, reads “${data.labels[t]}”` : "");
// ‖∂L/∂name‖ and what it is; of a number on the scale its bin too, where no colour stands beside it.
function gradient(name, code, bin = true) {
  if (!code) return `‖∂L/∂${name}‖: not recorded at this update`;
  const [text, , look] = data.readings[code];
  if (isNumber(look)) return `‖∂L/∂${name}‖ = ${text}` + (bin ? `   (${legendOf(look)})` : "");
  const kind = kindOf(code);
  if (kind === "underflow" || kind === "not finite") return `‖∂L/∂${name}‖ = ${text}   (${legendOf(look)})`;
  return `‖∂L/∂${name}‖: ${legendOf(look)}`;
}

// What is chosen

const state = { cell: 0, layer: 0, level: "cell", update: 0, step: 0, threshold: 1, row: "", playing: 0, highlight: "" };
const cell = () => data.cells[state.cell];
const layer = () => cell().layers[state.layer] ?? cell().layers[0];
const level = () => layer().levels[state.level];
const nearest = (updates, wanted) => {
  let best = 0;
  updates.forEach((u, k) => { if (Math.abs(u - wanted) < Math.abs(updates[best] - wanted)) best = k; });
  return best;
};

// Elements

const make = (tag, attributes = {}, ...inside) => {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...inside);
  return found;
};
const draw = (parent, tag, attributes = {}, text) => {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  parent?.append(found);
  return found;
};
const picture = (parent, width, height, label) => {
  parent.replaceChildren();
  return draw(parent, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
};

// The hint: what is under the pointer, has the focus, or was tapped.

const hints = new WeakMap(); // element: () => [first line, …]
const hint = get("hint");
let hinted = null;
function showHint(lines, box) {
  hint.replaceChildren(make("b", {}, lines[0]), ...lines.slice(1).map((line) => make("div", {}, line)));
  hint.hidden = false;
  const own = hint.getBoundingClientRect(), room = document.documentElement.clientWidth;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), room - own.width - 8);
  const above = box.top - own.height - 8;
  hint.style.left = `${left}px`;
  hint.style.top = `${above > 4 ? above : Math.min(box.bottom + 8, innerHeight - own.height - 4)}px`;
}
function hintFor(element) {
  const owner = element?.closest?.("[data-hint]");
  hinted = owner && hints.has(owner) ? owner : null;
  if (hinted) showHint(hints.get(hinted)(), hinted.getBoundingClientRect());
  else hint.hidden = true;
}
const rehint = () => { if (hinted?.isConnected) hintFor(hinted); else if (hinted) hintFor(null); };
document.addEventListener("pointerover", (event) => { if (!event.target.closest?.("canvas")) hintFor(event.target); });
document.addEventListener("focusin", (event) => { if (!event.target.closest("canvas")) hintFor(event.target); });
document.addEventListener("focusout", () => hintFor(null));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hintFor(null); });
document.documentElement.addEventListener("pointerleave", () => hintFor(null));
addEventListener("scroll", rehint, { passive: true });

// Arrow keys inside a picture: one stop of the tab key, and from there to every element.

function roving(container, find, move) {
  container.addEventListener("keydown", (event) => {
    const here = event.target.closest("[data-hint]");
    if (!here) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const far = { Home: "first", End: "last" }[event.key];
    if (way || far) {
      event.preventDefault();
      const next = find(here, way, far);
      if (next) { stop(container, next); next.focus({ preventScroll: false }); }
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      move(here);
    }
  });
  container.addEventListener("click", (event) => {
    const here = event.target.closest("[data-hint]");
    if (here) { stop(container, here); move(here); hintFor(here); }
  });
}
function stop(container, element) {
  for (const other of container.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
  element.setAttribute("tabindex", "0");
}
