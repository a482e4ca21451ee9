// The words of the page, its controls, and what a choice changes. It comes last: here the page starts.

// Words

function paintWords() {
  const one = cell(), l = layer(), u = state.update, many = one.updates.length;
  const moment = `${one.updates[u]}${many > 1 ? ` of ${one.updates.at(-1)}` : ""}, loss ${data.words[codes[one.losses + u]]}`;
  get("moment").textContent = moment;
  get("update").setAttribute("aria-valuetext", `update ${moment}`);
  const row = l.rows.find((r) => r.title === l.lead), [end, start] = l.ends;
  const name = `${one.name}${one.layers.length > 1 ? ` ${l.name}` : ""} at update ${one.updates[u]}, T = ${T}`;
  const at = (t) => data.readings[codes[row.codes + u * T + t]];
  const ratio = data.words[codes[l.ratios + u]];
  const ends = `‖∂L/∂${symbolAt(l.lead, start)}‖ = ${at(start)[TEXT]} where the gradient begins, ‖∂L/∂${symbolAt(l.lead, end)}‖ = ${at(end)[TEXT]} where it ends`;
  get("story").textContent = `${name}: ${ends}${ratio === "0" ? ": nothing is left" : ratio === "—" ? "" : `: times ${ratio}`}`;
  const here = l.rows.map((r) => `${r.title} ${data.readings[codes[r.codes + u * T + state.step]][TEXT]}`).join(" · ");
  get("chosen").textContent = `Chosen step ${stepName(state.step)}. ‖∂L/∂name‖ of ${here}`;
  const gate = state.level === "gate" && !level().arrows, unknown = state.level === "op" && !level().known[u];
  get("note").hidden = !(gate || unknown);
  get("note").textContent = gate ? "No arrows between gates: these records were made with keep=\"steps\". With keep=\"ops\" they have them." :
    unknown ? "No ops at this update: its record was made with keep=\"steps\"." : "";
  const whys = data.cells.flatMap((other) => other.layers.map((some) => some.levels.op.why)).filter(Boolean);
  get("why").hidden = !whys.length; // it keeps its room: nothing moves under a pointer that goes from cell to cell
  get("why").textContent = l.levels.op.why ?? whys[0] ?? "";
  get("why").style.visibility = l.levels.op.why ? "" : "hidden";
}

// Choices

function choose(wanted, from) {
  const before = { ...state };
  const update = cell().updates[state.update];
  Object.assign(state, wanted);
  if (state.cell !== before.cell && wanted.update === undefined) state.update = nearest(cell().updates, update);
  if (state.layer >= cell().layers.length) state.layer = 0;
  if (state.level === "op" && level().why) state.level = "gate";
  if (!level()?.anatomy?.highlights.some((h) => h.symbol === state.highlight)) state.highlight = "";
  const rebuilt = state.cell !== before.cell || state.layer !== before.layer || state.level !== before.level;
  if (rebuilt) build(state.layer !== before.layer, state.cell !== before.cell);
  else {
    if (state.highlight !== before.highlight) radios();
    if (from !== "graph" && state.step !== before.step) {
      if (!get("graph").hidden) graph.stop = { t: columnOf(state.step), key: graph.stop.key };
      reveal(state.step);
    }
    paint();
  }
}
function paint() {
  get("update").value = state.update;
  paintMap();
  renderSteps(true);
  paintMarks();
  paintClipping();
  paintWords();
  paintAnatomy();
  rehint();
}
function build(all, other) {
  radios();
  document.documentElement.style.scrollPaddingTop = `${get("controls").offsetHeight + 12}px`; // they stay in sight
  paintAnatomy(); // which takes its room beside the graph
  get("update").max = cell().updates.length - 1;
  buildMap();
  buildGraph();
  if (all) buildHeats();
  if (all || other) buildClipping();
  paint();
}
function radios() {
  const group = (home, name, options, chosen, take) => {
    home.querySelectorAll("label").forEach((label, k) => { label.firstChild.checked = k === chosen; });
    if (home.querySelector("label") && home.dataset.of === options.join("\n")) return;
    home.querySelectorAll("label").forEach((label) => label.remove());
    home.dataset.of = options.join("\n");
    options.forEach((text, k) => {
      const input = make("input", { type: "radio", name, value: k });
      input.checked = k === chosen;
      input.addEventListener("change", () => take(k));
      home.append(make("label", {}, input, make("span", {}, text)));
    });
  };
  const levels = ["strip", "cell", "gate", "op"], names = cell().layers.map((l) => l.name);
  group(get("cells"), "cell", data.cells.map((c) => c.name), state.cell, (k) => choose({ cell: k }));
  group(get("levels"), "level", levels, levels.indexOf(state.level), (k) => choose({ level: levels[k] }));
  group(get("layers"), "layer", names, state.layer, (k) => choose({ layer: k }));
  get("layers").hidden = names.length < 2;
  get("levels").querySelector("label:last-of-type input").disabled = Boolean(layer().levels.op.why);
  const some = level()?.anatomy?.highlights ?? [], symbols = ["", ...some.map((h) => h.symbol)];
  group(get("highlights"), "highlight", symbols.map((symbol) => symbol || "none"), symbols.indexOf(state.highlight),
    (k) => choose({ highlight: k ? get("highlights").querySelectorAll("label")[k].textContent : "" }));
  get("highlights").querySelectorAll("input").forEach((input, k) => {
    input.setAttribute("aria-label", k ? `${symbols[k]}: ${some[k - 1].name}` : "none");
  });
}

get("update").addEventListener("input", (event) => choose({ update: Number(event.target.value) }));
function play(on) {
  clearInterval(state.playing);
  state.playing = 0;
  get("chosen").setAttribute("aria-live", on ? "off" : "polite"); // nobody can listen that fast
  get("play").textContent = on ? "❚❚" : "▶";
  get("play").setAttribute("aria-label", on ? "Stop" : "Play the training");
  if (!on) return;
  if (state.update === cell().updates.length - 1) choose({ update: 0 });
  state.playing = setInterval(() => {
    if (state.update + 1 < cell().updates.length) choose({ update: state.update + 1 });
    else play(false);
  }, 250);
}
get("play").addEventListener("click", () => play(!state.playing));
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { get("theme").textContent = isDark() ? "Light" : "Dark"; get("theme").setAttribute("aria-label", `Change to ${isDark() ? "light" : "dark"} colours`); };
get("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
dark.addEventListener("change", nameTheme);
nameTheme();

// The start

const titles = [...new Set(data.cells.flatMap((c) => c.layers.flatMap((l) => l.rows.map((r) => r.title))))];
state.row = layer().lead;
for (const title of titles) get("row").append(make("option", { value: title }, title));
get("row").value = state.row;
get("row").addEventListener("change", (event) => { state.row = event.target.value; buildHeats(); paintMarks(); });
state.step = layer().ends[1];
const norms = data.cells.flatMap((c) => [...exact.subarray(c.totals, c.totals + c.updates.length)]);
const [low, high] = scaleOf(norms, 2);
get("threshold").min = 20 * (low - 1);
get("threshold").max = 20 * (high + 1);
state.threshold = data.cells.find((c) => c.threshold !== null)?.threshold ?? 1;
build(true);
setThreshold(state.threshold);
let width = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  const home = get("graph"), from = home.scrollLeft / graph.scale;
  const [first, last] = home.hidden ? [0, 0] : inSight(), at = home.hidden ? 0 : graph.columns.indexOf(graph.places.get(columnOf(state.step)));
  const seen = first <= at && at <= last;
  build(true);
  if (!seen) home.scrollLeft = from * graph.scale; // what was in sight stays there
});
window.minigrad = Object.freeze({ choose, lookOf, number, state });
