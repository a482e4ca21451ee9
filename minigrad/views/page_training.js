// The training: heat maps of all updates, and clipping by norm, which is computed here for the threshold that is chosen.

// Heat maps: one a cell, updates downwards, time to the right.

let heats = [];
function buildHeats() {
  const home = get("heats");
  home.replaceChildren();
  heats = data.cells.map((one, c) => {
    const l = one.layers[state.layer] ?? one.layers[0], row = l.rows.find((r) => r.title === state.row);
    const canvas = make("canvas", { tabindex: 0, role: "application", "aria-roledescription": "heat map" });
    const [across, down] = [make("div", { class: "across" }), make("div", { class: "down" })];
    const plot = make("div", { class: "plot" }, canvas, across, down);
    const name = make("b", {}, one.name);
    const words = make("span", {}, row ? `‖∂L/∂${row.symbol}‖: ↓ training, → time` : `no ${state.row}`);
    const axis = make("div", { class: "axis" }, make("span", {}, "t = 1"),
      make("span", {}, `updates ${one.updates[0]} to ${one.updates.at(-1)}`), make("span", {}, `t = ${T}`));
    home.append(make("figure", {}, make("figcaption", {}, name, words), plot, axis));
    const heat = { c, one, l, row, canvas, plot, across, down };
    if (row) paintHeat(heat);
    else plot.hidden = true;
    wireHeat(heat);
    return heat;
  });
}
function paintHeat(heat) {
  const { canvas, row, one } = heat, count = one.updates.length;
  const ratio = devicePixelRatio || 1, width = Math.max(60, heat.plot.clientWidth - 4);
  const chunk = Math.max(1, Math.ceil(T / width)), columns = Math.ceil(T / chunk);
  const rowHigh = Math.max(2, Math.min(24, Math.floor(200 / count))), fold = Math.max(1, Math.ceil((count * 2) / 400));
  const rows = Math.ceil(count / fold);
  Object.assign(heat, { chunk, columns, rows, fold });
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(rows * rowHigh * ratio);
  canvas.style.height = `${rows * rowHigh}px`;
  const pen = canvas.getContext("2d", { alpha: false });
  const x = (k) => Math.round((k * canvas.width) / columns), y = (r) => Math.round((r * canvas.height) / rows);
  const at = (r, k) => {
    let code = 0;
    for (let u = r * fold; u < Math.min(count, (r + 1) * fold); u++) {
      const found = largest(row.codes + u * T, k * chunk, Math.min(T, (k + 1) * chunk));
      if (ranks[found] > ranks[code]) code = found;
    }
    return data.readings[code][LOOK];
  };
  for (let r = 0; r < rows; r++) {
    for (let k = 0, next; k < columns; k = next) {
      const look = at(r, k), { fill, edge, style } = data.looks[look];
      for (next = k + 1; next < columns && at(r, next) === look; ) next++;
      const [top, high] = [y(r), y(r + 1) - y(r)];
      pen.fillStyle = fill;
      pen.fillRect(x(k), top, x(next) - x(k), high);
      if (!style || style === "invisible") continue;
      pen.fillStyle = edge; // a dot for what is no number
      for (let one = k; one < next; one++) {
        const wide = x(one + 1) - x(one), third = (size) => Math.max(1, Math.round(size / 3));
        pen.fillRect(x(one) + Math.floor(wide / 3), top + Math.floor(high / 3), third(wide), third(high));
      }
    }
  }
}
function wireHeat(heat) {
  const { canvas, one, row } = heat;
  if (!row) return;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const k = Math.floor(((event.clientX - box.left) / box.width) * heat.columns);
    const r = Math.floor(((event.clientY - box.top) / box.height) * heat.rows);
    return [Math.min(T - 1, Math.max(0, k * heat.chunk)), Math.min(one.updates.length - 1, Math.max(0, r * heat.fold))];
  };
  const describe = (t, u) => [`${one.name}, update ${one.updates[u]}`, stepName(t),
    gradient(symbolAt(row.symbol, t), codes[row.codes + u * T + t])];
  const show = (t, u) => {
    const box = canvas.getBoundingClientRect(), w = box.width / heat.columns, h = box.height / heat.rows;
    const left = box.left + Math.floor(t / heat.chunk) * w, top = box.top + Math.floor(u / heat.fold) * h;
    hinted = null;
    showHint(describe(t, u), { left, top, width: w, height: h, bottom: top + h });
  };
  heat.describe = describe;
  const take = (t, u) => choose({ cell: heat.c, step: t, update: u });
  let held = false;
  canvas.addEventListener("pointerdown", (event) => {
    held = true;
    canvas.setPointerCapture(event.pointerId);
    take(...place(event));
    show(...place(event));
  });
  canvas.addEventListener("pointermove", (event) => { if (held) take(...place(event)); show(...place(event)); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
  canvas.addEventListener("pointerleave", () => { if (!held) hintFor(null); });
  const here = () => [state.step, state.cell === heat.c ? state.update : nearest(one.updates, cell().updates[state.update])];
  canvas.addEventListener("focus", () => show(...here()));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-T, 0], End: [T, 0],
      PageUp: [0, -10], PageDown: [0, 10], Enter: [0, 0], " ": [0, 0] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [t, u] = here(), clamp = (x, n) => Math.min(n - 1, Math.max(0, x));
    take(clamp(t + way[0] * (way[0] % T ? heat.chunk : 1), T), clamp(u + way[1] * heat.fold, one.updates.length));
    show(...here());
  });
}
function paintMarks() {
  for (const heat of heats) {
    if (!heat.row) continue;
    const own = heat.c === state.cell, u = own ? state.update : nearest(heat.one.updates, cell().updates[state.update]);
    heat.plot.classList.toggle("current", own);
    const percent = (x, n) => `${(100 * x) / n}%`;
    heat.across.style.top = percent(Math.floor(u / heat.fold), heat.rows);
    heat.across.style.height = percent(1, heat.rows);
    heat.down.style.left = percent(Math.floor(state.step / heat.chunk), heat.columns);
    heat.down.style.width = percent(1, heat.columns);
    heat.canvas.setAttribute("aria-label", `Heat map of ${heat.describe(state.step, u).join("; ")}. Arrow keys move.`);
  }
}

// Clipping

const total = (u, one = cell()) => exact[one.totals + u];
const clipped = (u) => {
  const before = total(u), c = state.threshold, coefficient = before <= c ? 1 : c / before;
  return { before, coefficient, fires: before > c && before < Infinity, after: before * coefficient };
};
const sized = (norm, tiny) => {
  const look = lookOf(norm, tiny);
  return data.kinds[look - plainBins] === "zero" ? "exactly 0" : number(norm) + (isNumber(look) ? "" : ` (${legendOf(look)})`);
};
function scaleOf(values, least) {
  const found = values.filter((v) => Number.isFinite(v) && v > 0).map(Math.log10);
  if (!found.length) return [-1, 1];
  const low = Math.floor(found.reduce((a, b) => Math.min(a, b))), high = Math.ceil(found.reduce((a, b) => Math.max(a, b)));
  return [Math.min(low, high - least), Math.max(high, low + least)];
}
function ticks(svg, [low, high], y, left, right) {
  const every = Math.max(1, Math.ceil((high - low) / 6));
  for (let k = Math.ceil(low / every) * every; k <= high; k += every) {
    draw(svg, "path", { class: "grid", d: `M${left} ${y(k)}H${right}` });
    draw(svg, "text", { x: left - 6, y: y(k) + 4, class: "end quiet" }, k > -4 && k < 4 ? String(Number(`1e${k}`)) : `1e${k}`);
  }
}
const SHOWN = 8; // decades
let bars = [], dots = [];
// The terms of one update, and the decades that show its largest ones: what is smaller adds nothing to be seen.
function decades() {
  const clip = layer().clip, from = clip.terms + state.update * T;
  const range = scaleOf([...exact.subarray(from, from + T), total(state.update)], 3);
  return [Math.max(range[0] - 1, range[1] - SHOWN), range[1]];
}
function buildTerms() {
  const clip = layer().clip, home = get("terms"), range = decades();
  const focused = bars.find((bar) => bar.g === document.activeElement)?.k;
  const width = Math.max(220, home.clientWidth), height = 210;
  const svg = picture(home, width, height, `Terms of the gradient of ${clip.weight}, one a time step`);
  home.setAttribute("aria-label", "Terms of the gradient; arrow keys move, Enter chooses the step");
  const left = 46, foot = height - 38, top = 8, sums = 108, right = width - sums;
  const y = (power) => top + ((range[1] - power) / (range[1] - range[0])) * (foot - top);
  const up = (norm) => {
    if (!Number.isFinite(norm)) return top;
    return norm > 0 ? Math.min(foot - 4, Math.max(top, y(Math.log10(norm)))) : foot - 1;
  };
  ticks(svg, range, y, left, width);
  const space = right - left - 12, chunk = Math.max(1, Math.ceil((T * 2) / space));
  const count = Math.ceil(T / chunk), wide = space / count;
  svg.classList.toggle("dense", wide < 6);
  bars = [];
  function bar(x, w, norm, head, t = "") {
    const k = bars.length;
    const g = draw(svg, "g", { class: "bar", tabindex: -1, role: "button", "data-hint": "", "data-t": t, "data-k": k });
    draw(g, "rect", { class: "reach", x, y: top, width: w, height: foot - top });
    const before = draw(g, "rect", { class: "before", x: x + 0.12 * w, width: 0.76 * w });
    const after = draw(g, "rect", { x: x + 0.12 * w, width: 0.76 * w });
    const both = () => [norm(), norm() * clipped(state.update).coefficient];
    hints.set(g, () => [...head(), ...both().map((n, i) => `${i ? "after" : "before"}: ${sized(n, clip.tiny)}`)]);
    bars.push({ g, k, x, w, t, paint() {
      const sizes = both();
      [before, after].forEach((rect, i) => {
        rect.setAttribute("y", up(sizes[i]));
        rect.setAttribute("height", foot - up(sizes[i]));
      });
      after.setAttribute("class", `after ${styleOf(lookOf(sizes[1], clip.tiny))}`);
      g.setAttribute("aria-label", hints.get(g)().join("; "));
    } });
  }
  const term = (t) => exact[clip.terms + state.update * T + t];
  for (let k = 0; k < count; k++) {
    const from = k * chunk, to = Math.min(T, from + chunk);
    const most = () => {
      let best = from;
      for (let t = from; t < to; t++) if (!(term(t) <= term(best))) best = t;
      return best;
    };
    bar(left + 4 + k * wide, wide, () => term(most()), () => [stepName(most()), `its term of ∂L/∂${clip.weight}`], from);
  }
  draw(svg, "text", { x: left + 4, y: foot + 14, class: "start quiet" }, "t = 1");
  if (T > 1) draw(svg, "text", { x: left + 4 + space, y: foot + 14, class: "end quiet" }, `t = ${T}`);
  const sumAt = right + 8, each = (sums - 16) / 2;
  bar(sumAt, each, () => exact[clip.sums + state.update], () => [`the sum of all steps: ∂L/∂${clip.weight}`, clip.parameter]);
  bar(sumAt + each + 6, each, () => total(state.update), () => ["‖g‖: all parameters together"]);
  draw(svg, "text", { x: sumAt + each / 2, y: foot + 14 }, `Σ ${clip.weight}`);
  draw(svg, "text", { x: sumAt + each * 1.5 + 6, y: foot + 14 }, "‖g‖");
  const words = `${wide < 6 ? "grey" : "outline"}: before clipping, coloured: after; below 1e${range[0]} a stub`;
  draw(svg, "text", { x: left + 4, y: foot + 31, class: "start quiet" }, words);
  Object.assign(bars, {
    chunk, y, range, span: [sumAt + each + 4, width],
    cursor: draw(svg, "rect", { class: "cursor", y: top, height: foot - top }),
    limit: draw(svg, "path", { class: "limit" }),
  });
  const start = bars[focused] ?? bars[count - 1];
  start.g.setAttribute("tabindex", "0");
  if (focused !== undefined) start.g.focus();
  get("terms_title").textContent = `norm of what each time step adds to ∂L/∂${clip.weight}; Σ: of all of it; ‖g‖: of the gradient of all parameters`;
}
function buildClipping() {
  get("clipping").hidden = !layer().clip;
  if (!layer().clip) return;
  buildTerms();
  buildNorms();
}
function buildNorms() {
  const one = cell(), updates = one.updates.length, home = get("norms"), width = Math.max(200, home.clientWidth), height = 210;
  const svg = picture(home, width, height, "Norm of the whole gradient at every update");
  home.setAttribute("aria-label", "Norm of the gradient at every update; arrow keys move, Enter chooses the update");
  const left = 46, foot = height - 34, top = 8, room = width - left - 10;
  const range = scaleOf([...exact.subarray(one.totals, one.totals + updates)], 2);
  const y = (power) => top + ((range[1] - power) / (range[1] - range[0])) * (foot - top);
  ticks(svg, range, y, left, width);
  dots = one.updates.map((update, u) => {
    const x = left + 6 + (updates === 1 ? room / 2 : (u * (room - 6)) / (updates - 1)), norm = total(u), w = Math.max(3, room / updates);
    const cy = Number.isFinite(norm) ? (norm > 0 ? y(Math.log10(norm)) : foot) : top;
    const g = draw(svg, "g", { class: "bar", tabindex: -1, role: "button", "data-hint": "", "data-u": u });
    draw(g, "rect", { class: "reach", x: x - w / 2, y: top, width: w, height: foot - top });
    const dot = draw(g, "circle", { cx: x, cy, r: Math.min(5, Math.max(2.5, w / 2.4)) });
    hints.set(g, () => {
      const c = clipped(u);
      const what = c.fires ? `clipped: times ${number(c.coefficient)}` : Number.isFinite(norm) ? "not clipped" : "clipping refuses it";
      return [`update ${update}`, `‖g‖ = ${number(norm)}`, what];
    });
    return { g, dot, x, w, norm };
  });
  dots.y = y; dots.span = [left, width]; dots.range = range;
  dots.limit = draw(svg, "path", { class: "limit" });
  dots.words = draw(svg, "text", { class: "end limit", x: width });
  dots.cursor = draw(svg, "rect", { class: "cursor", y: top, height: foot - top });
  draw(svg, "text", { x: left, y: foot + 16, class: "start quiet" }, `update ${one.updates[0]}`);
  draw(svg, "text", { x: width, y: foot + 16, class: "end quiet" }, `update ${one.updates.at(-1)}`);
  get("norms_title").textContent = "‖g‖, one dot an update; filled: clipped";
}
function paintClipping() {
  const clip = layer().clip;
  if (!clip) return;
  const c = clipped(state.update), finite = Number.isFinite(c.before);
  if (String(decades()) !== String(bars.range)) buildTerms();
  for (const bar of bars) bar.paint();
  const chosen = bars.find((b) => b.t !== "" && b.t <= state.step && state.step < b.t + bars.chunk);
  bars.cursor.setAttribute("x", chosen.x);
  bars.cursor.setAttribute("width", chosen.w);
  const power = Math.log10(state.threshold);
  for (const plot of [bars, dots]) {
    const inside = power >= plot.range[0] && power <= plot.range[1];
    plot.limit.setAttribute("d", `M${plot.span[0]} ${plot.y(power)}H${plot.span[1]}`);
    plot.limit.style.display = inside ? "" : "none";
  }
  dots.words.style.display = dots.limit.style.display;
  dots.words.setAttribute("y", dots.y(power) - 5);
  dots.words.textContent = `C = ${number(state.threshold)}`;
  let fired = 0;
  dots.forEach((dot, u) => {
    const { fires } = clipped(u);
    fired += fires;
    const look = lookOf(dot.norm, clip.tiny);
    dot.dot.setAttribute("class", `after ${styleOf(look)}${fires ? "" : " hollow"}`);
    dot.g.setAttribute("aria-label", hints.get(dot.g)().join("; "));
    dot.g.setAttribute("tabindex", u === state.update ? 0 : -1);
  });
  const at = dots[state.update];
  dots.cursor.setAttribute("x", at.x - 8);
  dots.cursor.setAttribute("width", 16);
  const often = `At this threshold clipping fires at ${fired} of ${dots.length} updates.`;
  const now = `Update ${cell().updates[state.update]}:`, norm = `‖g‖ = ${number(c.before)}`, limit = `C = ${number(state.threshold)}`;
  const fires = `clipping fires. ${norm} > ${limit}, so every term is multiplied by C/‖g‖ = ${number(c.coefficient)}.`;
  const stays = `clipping does not fire. ${norm} ≤ ${limit}: nothing changes.`;
  const refused = `${norm}, which clipping cannot mend: clip_grad_norm refuses it.`;
  get("verdict").textContent = `${now} ${c.fires ? fires : finite ? stays : refused} ${often}`;
  const used = [];
  for (let t = 0; t < T; t++) { const n = exact[clip.terms + state.update * T + t]; if (n > 0 && Number.isFinite(n)) used.push([t, n]); }
  if (layer().reverse) used.reverse();
  get("meaning").textContent = c.fires ? data.oneTerm : "";
  if (used.length < 2 || !c.fires) return;
  const [a, b] = [used[0], used.at(-1)], [end, start] = [a[0] + 1, b[0] + 1], ratio = a[1] / b[1];
  const [, means] = data.meanings.find(([bound]) => bound === null || ratio < bound);
  get("meaning").textContent = `Term at t=${end} : term at t=${start} = ${number(ratio)} before and after: `
    + means.replace("{end}", end).replace("{start}", start);
}
roving(get("terms"), (here, way, far) => {
  const k = far ? (far === "first" ? 0 : bars.length - 1) : Number(here.dataset.k) + (way[0] || way[1]);
  return bars[k]?.g;
}, (here) => { if (here.dataset.t !== "") choose({ step: Number(here.dataset.t) }); });
roving(get("norms"), (here, way, far) => {
  const u = far ? (far === "first" ? 0 : dots.length - 1) : Number(here.dataset.u) + (way[0] || way[1]);
  return dots[u]?.g;
}, (here) => choose({ update: Number(here.dataset.u) }));

function setThreshold(c, from) {
  const usable = c > 0 && Number.isFinite(c);
  get("exact").setAttribute("aria-invalid", !usable);
  if (!usable) return;
  state.threshold = c;
  if (from !== "exact") get("exact").value = String(c);
  if (from !== "slider") get("threshold").value = Math.round(20 * Math.log10(c));
  paintClipping();
  get("threshold").setAttribute("aria-valuetext", `C = ${number(c)}. ${get("verdict").textContent}`);
  rehint();
}
get("threshold").addEventListener("input", (event) => setThreshold(Number((10 ** (event.target.value / 20)).toPrecision(2)), "slider"));
get("exact").addEventListener("input", (event) => setThreshold(Number(event.target.value), "exact"));
get("exact").addEventListener("change", () => setThreshold(state.threshold)); // in place of what is no threshold
