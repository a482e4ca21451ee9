// The network: the map of the whole sequence, the unrolled graph, the anatomy of a cell.

// The map: one row a name, one tile a step.

const map = { chunk: 1, tiles: [], left: 0, wide: 0, cursor: null, window: null };
function buildMap() {
  const home = get("map"), strip = state.level === "strip", l = layer();
  const rows = strip ? l.rows : l.rows.filter((row) => l.states.includes(row.title));
  const room = home.clientWidth, left = 14 + 8 * Math.max(...rows.map((row) => row.title.length));
  const high = strip ? 26 : 18, least = strip ? 9 : 3, space = Math.max(60, room - left - 4);
  const chunk = strip ? 1 : Math.max(1, Math.ceil((T * least) / space));
  const count = Math.ceil(T / chunk), wide = Math.min(40, Math.max(least, space / count));
  const top = 36, bottom = 22 + (data.labels && wide >= 8 && chunk === 1 ? 18 : 0);
  const width = Math.max(left + count * wide + 4, left + 330 > room ? 0 : left + 330);
  home.classList.toggle("wide", width > room + 1);
  const svg = picture(home, width, top + rows.length * high + bottom, "Map: one row a name, one tile a time step");
  Object.assign(map, { chunk, tiles: [], left, wide, high, top, rows: rows.length });
  svg.classList.toggle("dense", wide < 6);
  const end = left + count * wide;
  arrow(svg, left, 8, l.reverse ? "the network reads this way" : "time: the network reads this way", end, !l.reverse);
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e9].find((e) => (e * wide) / chunk >= 26);
  for (let k = 0; k < count; k++) {
    const t = k * chunk, last = k === count - 1;
    if (t === 0 || last || ((t + 1) % every < chunk && t + chunk <= T - every / 2))
      draw(svg, "text", { x: left + wide * (k + 0.5), y: top - 6, class: "quiet" }, last ? T : t + 1);
  }
  rows.forEach((row, r) => {
    const y = top + r * high;
    for (let k = 0; k < count; k++) {
      const from = k * chunk, to = Math.min(T, from + chunk);
      const place = { x: left + k * wide, y: y + 1, width: wide, height: high - 3 };
      const rect = draw(svg, "rect", { ...place, tabindex: -1, role: "button", "data-hint": "", "data-t": from });
      const words = wide >= 34 ? draw(svg, "text", { x: place.x + wide / 2, y: y + high / 2 + 3 }) : null;
      const tile = { rect, words, row, from, to, r, k };
      tile.code = () => largest(row.codes + state.update * T, from, to);
      hints.set(rect, () => [
        to - from === 1 ? stepName(from) : `t = ${from + 1}…${to}: the largest`,
        gradient(to - from === 1 ? symbolAt(row.symbol, from) : row.symbol, tile.code()),
      ]);
      map.tiles.push(tile);
    }
  });
  map.count = count;
  map.tiles[map.count - 1]?.rect.setAttribute("tabindex", "0");
  const foot = top + rows.length * high;
  if (bottom > 22)
    data.labels.forEach((label, t) => {
      if (label.length * 6 <= wide + 3) draw(svg, "text", { x: left + wide * (t + 0.5), y: foot + 16, class: "quiet" }, label);
    });
  arrow(svg, left, foot + bottom - 8, "the gradient travels this way", end, l.reverse);
  map.titles = draw(svg, "g"); // they stay at the left when the map is scrolled
  draw(map.titles, "rect", { class: "paper", x: 0, y: top - 2, width: left - 1, height: rows.length * high + 2 });
  rows.forEach((row, r) => {
    draw(map.titles, "text", { x: left - 6, y: top + (r + 0.5) * high + 4, class: "end" }, row.title);
  });
  map.cursor = draw(svg, "rect", { class: "cursor", y: top - 1, height: rows.length * high + 1 });
  map.window = draw(svg, "rect", { class: "window", y: foot - 1, height: 4, rx: 2, x: 0, width: 0 });
  home.setAttribute("aria-label", "Map of the whole sequence; arrow keys move, Enter chooses the step");
  if (chunk > 1) draw(svg, "text", { x: end, y: 11, class: "end quiet" }, `each tile: the largest of ${chunk} steps`);
}
// An arrow with words behind its tail, from the side where it starts.
function arrow(svg, left, y, words, end, right) {
  const size = words.length * 6 + 14, tail = right ? left + size : end - size, way = right ? 1 : -1;
  const tip = tail + way * Math.min(180, Math.max(40, end - left - size - 4));
  draw(svg, "text", { x: right ? left : end, y: y + 4, class: `${right ? "start" : "end"} quiet` }, words);
  draw(svg, "path", { class: "way", d: `M${tail} ${y}H${tip - way * 6}` });
  draw(svg, "path", { class: "tip", d: `M${tip} ${y}l${-way * 8} -4v8z` });
}
function paintMap() {
  for (const tile of map.tiles) {
    const code = tile.code(), look = data.readings[code][LOOK];
    tile.rect.setAttribute("class", `tile ${styleOf(look)}`);
    tile.rect.setAttribute("aria-label", hints.get(tile.rect)().join("; "));
    tile.rect.setAttribute("aria-current", tile.from <= state.step && state.step < tile.to ? "step" : "false");
    if (tile.words) {
      tile.words.textContent = data.readings[code][BRIEF];
      tile.words.style.fill = data.looks[look].text;
      tile.words.style.pointerEvents = "none";
    }
  }
  const k = Math.floor(state.step / map.chunk);
  map.cursor.setAttribute("x", map.left + k * map.wide - 1);
  map.cursor.setAttribute("width", map.wide + 2);
  const home = get("map"), x = map.left + (k + 0.5) * map.wide; // in sight, where the map is wider than the page
  if (x - map.left < home.scrollLeft || x > home.scrollLeft + home.clientWidth) home.scrollLeft = x - home.clientWidth / 2;
}
get("map").addEventListener("scroll", () => {
  map.titles.setAttribute("transform", `translate(${get("map").scrollLeft} 0)`);
  rehint();
}, { passive: true });
roving(get("map"), (here, way, far) => {
  const at = map.tiles.find((tile) => tile.rect === here);
  if (!at) return null;
  const k = far ? (far === "first" ? 0 : map.count - 1) : at.k + way[0], r = at.r + (way ? way[1] : 0);
  if (k < 0 || k >= map.count || r < 0 || r >= map.rows) return null;
  return map.tiles[r * map.count + k].rect;
}, (here) => choose({ step: Number(here.dataset.t) }));

// The unrolled graph: only the columns in sight, and the one that has the focus, are drawn. A column is a time step,
// what stands before the first one ("first"), or a tile of folded steps ("fold 0", …), from one step up to another.

const graph = { svg: null, shown: new Map(), scale: 1, stop: { t: 0, key: "" }, columns: [], places: new Map() };
const MOST_TILES = 48, TILE = 8;
// Where a step's numbers stand among those of the level.
const numbersOf = (l) => l.columns?.length ?? T;
const placeOf = (l, t) => (l.columns ? l.columns.indexOf(t) : t);
const columnX = (name) => graph.places.get(name).x;
const columnOf = (t) => (graph.places.has(t) ? t : graph.columns.find((c) => c.from <= t && t < c.to).name);
function layColumns() {
  const l = level(), found = [], kept = l.columns ?? [...Array(T).keys()];
  const first = { name: "first", from: 0, to: 0, width: l.boxes.find((b) => b.kind === "state").width * 0.8, gap: data.gap };
  if (l.firsts.length && !layer().reverse) found.push(first);
  kept.forEach((t, k) => {
    const from = k ? kept[k - 1] + 1 : 0, chunk = Math.ceil((t - from) / MOST_TILES);
    for (let s = from, n = 0; s < t; s += chunk, n++) {
      const to = Math.min(t, s + chunk);
      found.push({ name: `fold ${n}`, from: s, to, width: TILE, gap: to === t ? data.gap : 0, start: from, end: t });
    }
    found.push({ name: t, from: t, to: t + 1, width: l.width, gap: data.gap });
  });
  if (l.firsts.length && layer().reverse) found.push({ ...first, from: T, to: T });
  let x = 0;
  for (const column of found) { column.x = x; x += column.width + column.gap; }
  graph.columns = found;
  graph.places = new Map(found.map((column) => [column.name, column]));
  return x;
}
function buildGraph() {
  const home = get("graph");
  graph.shown.clear();
  home.hidden = state.level === "strip";
  map.window.style.display = home.hidden ? "none" : "";
  if (home.hidden) { home.replaceChildren(); return; }
  const l = level(), room = home.clientWidth;
  const fits = Math.max(1, Math.min(4 / 3, (room - 16) / l.width));
  graph.scale = Math.min(fits, state.level === "cell" ? 4 / 3 : Math.max(1.08, 470 / l.height));
  const width = layColumns() + 4, height = l.height + 4;
  home.replaceChildren();
  graph.svg = draw(home, "svg", {
    width: width * graph.scale, height: height * graph.scale, viewBox: `-2 -2 ${width} ${height}`, role: "group",
    "aria-label": `The unrolled ${layer().cell}, one frame a time step`,
  });
  graph.frames = draw(graph.svg, "g");
  graph.steps = draw(graph.svg, "g");
  graph.stop = { t: columnOf(state.step), key: "" };
  home.setAttribute("aria-label", "Unrolled network; arrow keys left and right change the step, up and down go through its boxes and arrows");
  reveal(state.step);
}
function reveal(t) {
  const home = get("graph");
  if (home.hidden) return;
  const column = graph.places.get(columnOf(t)), middle = (column.x + column.width / 2) * graph.scale;
  home.scrollLeft = middle - home.clientWidth / 2;
}
// The first and the last column in sight, by their places.
function inSight() {
  const home = get("graph"), from = home.scrollLeft / graph.scale, to = from + home.clientWidth / graph.scale;
  const all = graph.columns;
  let [first, last] = [0, all.length - 1];
  while (first < last && all[first].x + all[first].width + all[first].gap <= from) first++;
  while (last > first && all[last].x > to) last--;
  return [first, last];
}
function renderSteps(all) {
  if (get("graph").hidden) return;
  const [from, to] = inSight(), columns = graph.columns;
  const wanted = new Set([graph.stop.t, columnOf(state.step)]);
  for (let k = Math.max(0, from - 1); k <= Math.min(columns.length - 1, to + 1); k++) wanted.add(columns[k].name);
  for (const [t, drawn] of graph.shown)
    if (!wanted.has(t)) { drawn.frame?.remove(); drawn.group.remove(); graph.shown.delete(t); }
  for (const t of wanted) {
    const old = graph.shown.has(t);
    if (!old) graph.shown.set(t, String(t).startsWith("fold") ? drawFold(t) : drawStep(t));
    if (!old || all) paintStep(t);
  }
  const x = (t) => map.left + (t / map.chunk) * map.wide, [start, end] = [columns[from].from, columns[to].to];
  map.window.setAttribute("x", x(start));
  map.window.setAttribute("width", Math.max(2, x(end) - x(start)));
}
// Folded steps: a tile for each lane; the first of the walk has the arrows that come to it from the last column.
function drawFold(name) {
  const l = level(), one = layer(), column = graph.places.get(name), { from, to } = column;
  const group = draw(graph.steps, "g", { transform: `translate(${column.x} 0)`, "data-t": name });
  const items = [], paints = [], cells = one.levels.cell;
  if (one.reverse ? to === column.end : from === column.start)
    for (const flow of cells.carried.filter((f) => f.from in l.titles)) {
      const box = l.boxes.find((b) => b.key === flow.from), y = l.lanes[flow.from], t = one.reverse ? to - 1 : from;
      if (!box) continue;
      const reach = data.gap + (one.reverse ? box.x - box.width / 2 : l.width - box.x - box.width / 2);
      const points = one.reverse ? [column.width + reach, y, column.width, y] : [-reach, y, 0, y];
      const code = () => codes[flow.codes + state.update * T + t], letter = l.titles[flow.from];
      const paint = wireMaker(group, points, () => [
        `from ${symbolAt(letter, t)} back to ${symbolAt(letter, one.reverse ? t + 1 : t - 1)}`, `gradient along this way: ${along(code())}`,
      ]);
      group.lastChild.dataset.key = `${flow.from} ${flow.to}`;
      paints.push(() => items.push(paint(code())));
    }
  const lanes = Object.keys(l.titles).filter((key) => key in l.lanes).sort((a, b) => l.lanes[a] - l.lanes[b]);
  for (const key of lanes) {
    const row = one.rows.find((r) => r.title === l.titles[key]), high = 36;
    const g = draw(group, "g", { tabindex: -1, role: "button", "data-hint": "" });
    const rect = draw(g, "rect", { class: "shape", x: 0, y: l.lanes[key] - high / 2, width: column.width, height: high });
    const code = () => largest(row.codes + state.update * T, from, to);
    const words = () => [
      to - from === 1 ? stepName(from) : `t = ${from + 1}…${to}: the largest`,
      gradient(to - from === 1 ? symbolAt(row.symbol, from) : row.symbol, code()), "folded: its ops are not on this page",
    ];
    hints.set(g, words);
    g.dataset.key = key;
    paints.push(() => {
      g.setAttribute("class", "fold");
      rect.setAttribute("class", `tile ${styleOf(data.readings[code()][LOOK])}${from <= state.step && state.step < to ? " chosen" : ""}`);
      g.setAttribute("aria-label", words().join("; "));
      items.push(g);
    });
  }
  if (from === column.start)
    draw(group, "text", { x: 0, y: 13, class: "start" }, `t = ${column.start + 1}…${column.end}, folded`);
  return { group, frame: null, items, paints };
}
const along = (code) => {
  const reading = data.readings[code];
  return !reading ? "not recorded at this update" : isNumber(reading[LOOK]) ? reading[TEXT] : legendOf(reading[LOOK]);
};
function card(group, box, x, y, kind, describe) {
  const g = draw(group, "g", { tabindex: -1, role: "button", "data-hint": "" });
  const w = box.width, h = box.height, left = x - w / 2, top = y - h / 2, c = 0.29 * h;
  const square = ["input", "loss", "join"].includes(kind);
  if (kind === "loss")
    draw(g, "path", { class: "shape", d: `M${left + c} ${top}H${left + w - c}L${left + w} ${top + c}V${top + h - c}` +
      `L${left + w - c} ${top + h}H${left + c}L${left} ${top + h - c}V${top + c}Z` });
  else draw(g, "rect", { class: "shape", x: left, y: top, width: w, height: h, rx: square ? 0 : 10 });
  const bar = 0.08 * w;
  draw(g, "path", { class: "stripe", d: `M${left} ${top}h${bar}v${h}h${-bar}zM${left + w - bar} ${top}h${bar}v${h}h${-bar}z` });
  const texts = ["title", "", ""].map((name) => draw(g, "text", { class: name, x }));
  hints.set(g, describe);
  return (title, line, code, showsGradient) => {
    const reading = data.readings[code] ?? ["", "", plainBins + data.kinds.indexOf("no path"), null];
    g.setAttribute("class", `box ${kind} ${styleOf(reading[LOOK])}`);
    g.style.display = code ? "" : "none";
    const isSize = !["no path", "padding"].includes(data.kinds[reading[LOOK] - plainBins]);
    const lines = [title, line, showsGradient ? (isSize ? `g ${reading[TEXT]}` : reading[TEXT]) : ""].filter(Boolean);
    texts.forEach((text, k) => {
      text.textContent = lines[k] ?? "";
      text.setAttribute("y", y + 3.6 + (k - (lines.length - 1) / 2) * 12);
    });
    g.setAttribute("aria-label", describe().join("; "));
    return g;
  };
}
function wireMaker(group, points, describe) {
  const clean = [];
  for (let k = 0; k < points.length; k += 2) {
    const last = clean[clean.length - 1], p = [points[k], points[k + 1]];
    if (!last || Math.hypot(p[0] - last[0], p[1] - last[1]) > 0.01) clean.push(p);
  }
  if (clean.length < 2) return null;
  const g = draw(group, "g", { tabindex: -1, role: "img", "data-hint": "" });
  const way = clean.map((p) => p.join(" ")).join("L");
  const line = draw(g, "path", { class: "line" }), head = draw(g, "path", { class: "head" });
  draw(g, "path", { class: "reach", d: `M${way}` });
  hints.set(g, describe);
  return (code) => {
    const reading = data.readings[code], kind = reading && kindOf(code), waiting = kind === "no backward yet";
    const size = !reading ? -12 : !kind ? Math.log10(reading[NORM]) : kind === "not finite" ? 1 : -12;
    const pen = Math.min(Math.max(0.8 + 0.32 * (size + 7), 0.8), 3.2);
    const open = Math.min(Math.max(1.5 / pen, 0.4), 0.8);
    const run = waiting ? [...clean].reverse() : clean; // the tip comes first
    const [tip, far] = run, room = Math.hypot(far[0] - tip[0], far[1] - tip[1]);
    const back = Math.min(10 * open, 0.9 * room), u = [(far[0] - tip[0]) / room, (far[1] - tip[1]) / room];
    const rest = [tip[0] + u[0] * back, tip[1] + u[1] * back], half = Math.max(3 * open + pen / 2, 2.4);
    line.setAttribute("d", `M${[rest, ...run.slice(1)].map((p) => p.join(" ")).join("L")}`);
    line.setAttribute("stroke-width", pen);
    head.setAttribute("d", `M${tip.join(" ")}L${rest[0] - u[1] * half} ${rest[1] + u[0] * half}L${rest[0] + u[1] * half} ${rest[1] - u[0] * half}Z`);
    g.setAttribute("class", `wire ${reading ? styleOf(reading[LOOK]) : "unknown"}`);
    g.setAttribute("aria-label", describe().join("; "));
    return g;
  };
}
function drawStep(t) {
  const l = level(), one = layer(), x = columnX(t);
  const group = draw(graph.steps, "g", { transform: `translate(${x} 0)`, "data-t": t });
  const items = [], paints = [];
  const many = numbersOf(l), own = placeOf(l, t), at = (place) => codes[place + state.update * many + own];
  const chosen = () => l.anatomy?.highlights.find((h) => h.symbol === state.highlight);
  const outstanding = (g, kind, k, comesIn = false) => {
    const h = chosen();
    g.classList.toggle("faded", Boolean(h) && !(kind && h[kind].includes(k)) && !(comesIn && h.before.includes(comesIn)));
  };
  const isBefore = () => columnOf(state.step) === state.step && t === (one.reverse ? state.step + 1 : state.step - 1);
  if (t === "first") {
    const box = l.boxes.find((b) => b.kind === "state"), width = box.width * 0.8;
    for (const first of [...l.firsts].sort((a, b) => l.lanes[a.key] - l.lanes[b.key])) {
      const place = { width, height: box.height }, code = () => codes[first.codes + state.update];
      const paint = card(group, place, width / 2, l.lanes[first.key], "initial", () => [
        `first state ${first.title}`, `mean value ${data.words[codes[first.lines + state.update]]}`, gradient(first.title, code()),
      ]);
      paints.push(() => {
        const g = paint(first.title, data.words[codes[first.lines + state.update]], code(), true);
        outstanding(g, "", -1, first.key);
        items.push(g);
      });
      group.lastChild.dataset.key = first.key;
    }
    return { group, frame: null, items, paints };
  }
  const frame = draw(null, "g");
  draw(frame, "rect", { class: "frame", x, y: 0, width: l.width, height: l.height, rx: 8 });
  const label = data.labels && data.labels[t] ? `   “${data.labels[t]}”` : "";
  const real = one.real[t], more = real === one.batch ? "" : real ? `   ${real} of ${one.batch}` : "   padding";
  draw(frame, "text", { x: x + l.width / 2, y: 13 }, `t = ${t + 1}${label}${more}`);
  graph.frames.append(frame);
  const byKey = Object.fromEntries(l.boxes.map((box) => [box.key, box]));
  const title = (key, s) => (placeOf(l, s) < 0 ? symbolAt(l.titles[key], s) : data.words[codes[byKey[key].titles + placeOf(l, s)]]);
  const before = one.reverse ? t + 1 : t - 1, hasBefore = before >= 0 && before < T;
  const wires = [];
  l.flows.forEach((flow, k) => {
    if (anyAt(l, flow.codes, t)) wires.push([flow, flow.points, () => title(flow.from, t), "flows", k]);
  });
  l.carried.forEach((flow, k) => {
    const first = l.firsts.find((f) => f.key === flow.from);
    if (!anyAt(l, flow.codes, t) || !(hasBefore || first)) return;
    const box = byKey[flow.from], reach = box.x + box.width / 2;
    let start = hasBefore ? reach - l.width - data.gap : -data.gap;
    if (one.reverse) start = hasBefore ? l.width + data.gap + box.x - box.width / 2 : l.width + data.gap;
    if (hasBefore && !graph.places.has(before)) start = one.reverse ? l.width + data.gap : -data.gap; // from the fold
    const origin = () => (hasBefore ? title(flow.from, before) : first.title);
    wires.push([flow, [start, flow.points[1], ...flow.points.slice(2)], origin, "carried", k]);
  });
  for (const [flow, points, origin, kind, k] of wires) {
    const paint = wireMaker(group, points, () => [
      `from ${title(flow.to, t)} back to ${origin()}`, `gradient along this way: ${along(at(flow.codes))}`,
    ]);
    if (!paint) continue;
    paints.push(() => {
      const g = paint(at(flow.codes));
      outstanding(g, kind, k);
      wiresNow.push(g);
    });
    group.lastChild.dataset.key = `${flow.from} ${flow.to}`;
  }
  let wiresNow = [];
  const order = [...l.boxes].sort((a, b) => a.y - b.y || a.x - b.x);
  for (const box of order) {
    const line = () => data.words[at(box.lines)];
    const paint = card(group, box, box.x, box.y, box.kind, () => {
      const name = title(box.key, t), head = `${box.name} ${name}`.trim();
      if (box.kind === "loss")
          return [head, stepName(t), line() ? `its part of the loss: ${line()}` : "the loss reads this", "the gradient starts here: ∂L/∂L = 1"];
      if (box.kind === "join") return [`what ${line()} reads`, stepName(t)];
      const value = box.kind === "input" && data.labels ? [] : [`mean value ${line()}`];
      return [head, stepName(t), ...(line() ? value : []), gradient(name.split(" = ")[0], at(box.codes))]; // without its op
    });
    const shows = !["loss", "join"].includes(box.kind), place = l.boxes.indexOf(box);
    paints.push(() => {
      const g = paint(title(box.key, t), line(), at(box.codes), shows);
      outstanding(g, "boxes", place, isBefore() && box.key); // what comes in to the chosen step stands out too
      items.push(g);
    });
    group.lastChild.dataset.key = box.key;
    box.pills.forEach((pill, k) => {
      const y = box.y - box.height / 2 - data.pill * (k + 0.5), g = draw(group, "g", { tabindex: -1, role: "button", "data-hint": "" });
      draw(g, "rect", { class: "shape", x: box.x - box.width / 2, y: y - data.pill / 2, width: box.width, height: data.pill, rx: 5 });
      const text = draw(g, "text", { x: box.x, y: y + 3.6 });
      const size = () => data.readings[at(pill.codes)];
      const words = () => [`${pill.name} at ${stepName(t)}`, `norm of this step’s term of the gradient of ${pill.parameter}: ${along(at(pill.codes))}`];
      hints.set(g, words);
      g.dataset.key = `${box.key}: ${pill.name}`;
      paints.push(() => {
        const found = size();
        g.style.display = found ? "" : "none";
        if (!found) return;
        g.setAttribute("class", `pill ${styleOf(found[LOOK])}`);
        outstanding(g, "boxes", place);
        text.textContent = `${pill.name} ${found[BRIEF]}`.trim();
        g.setAttribute("aria-label", words().join("; "));
        items.push(g);
      });
    });
  }
  return {
    group, frame, items,
    paints: [() => { wiresNow = []; }, ...paints, () => items.push(...wiresNow)],
  };
}
// Whether there is such a flow at this step at any update.
function anyAt(l, place, t) {
  for (let u = 0; u < cell().updates.length; u++) if (codes[place + u * numbersOf(l) + placeOf(l, t)]) return true;
  return false;
}
function paintStep(t) {
  const drawn = graph.shown.get(t);
  drawn.items.length = 0;
  for (const paint of drawn.paints) paint();
  drawn.items.splice(0, drawn.items.length, ...drawn.items.filter((g) => g.style.display !== "none"));
  const stopped = t === graph.stop.t && itemAt(t, graph.stop.key);
  for (const g of drawn.items) {
    g.dataset.t = t;
    g.setAttribute("tabindex", g === stopped ? 0 : -1);
  }
  drawn.frame?.firstChild.classList.toggle("chosen", t === state.step);
}
get("graph").addEventListener("scroll", () => { renderSteps(); rehint(); }, { passive: true });
// The same part of another step; the first one, where there is none.
const itemAt = (t, key) => {
  const items = graph.shown.get(t).items;
  return items.find((g) => g.dataset.key === key) ?? items[0];
};
const stepOf = (here) => (/^\d/.test(here.dataset.t) ? Number(here.dataset.t) : here.dataset.t);
roving(get("graph"), (here, way, far) => {
  const t = stepOf(here);
  if (way && way[1]) {
    const items = graph.shown.get(t).items, next = items[items.indexOf(here) + way[1]];
    if (next) graph.stop = { t, key: next.dataset.key };
    return next;
  }
  const order = graph.columns.map((column) => column.name);
  const to = order[far ? (far === "first" ? 0 : order.length - 1) : order.indexOf(t) + way[0]];
  if (to === undefined) return null;
  graph.stop = { t: to, key: here.dataset.key };
  reach(to);
  renderSteps();
  return itemAt(to, graph.stop.key);
}, (here) => {
  graph.stop = { t: stepOf(here), key: here.dataset.key };
  if (graph.stop.t !== "first") choose({ step: graph.places.get(graph.stop.t).from }, "graph");
});
// Scroll just as far as it takes to see a step.
function reach(t) {
  const home = get("graph"), left = columnX(t) * graph.scale, right = left + graph.places.get(t).width * graph.scale;
  if (left < home.scrollLeft) home.scrollLeft = left - 8;
  else if (right > home.scrollLeft + home.clientWidth) home.scrollLeft = right - home.clientWidth + 8;
}

// The anatomy: the equations of a known cell, with the numbers of the chosen step and update.

// Text with its indices below the line; t stands for the chosen step, where there is one.
function typeset(text, t) {
  const indices = { t: 0, "t−1": -1, "t+1": 1 };
  return text.split(/\u0001(.*?)\u0002/).map((piece, k) => {
    if (k % 2 === 0) return piece;
    return make("sub", {}, t !== undefined && piece in indices ? String(t + 1 + indices[piece]) : piece);
  });
}
// What of a state's gradient goes to its old value without a weight matrix, where a step has such a way.
function straightBack(l, row, at, t) {
  const { words, ways } = row.straight ?? { ways: [] }, found = ways.map(([kind, k]) => at(l[kind][k].codes)).filter(Boolean);
  if (!words || !found.length || kindOf(found[0]) === "no path") return null;
  return [...typeset(words, t), `: ${along(found[0])}`];
}
const plainly = (text) => text.replace(/\u0001(.*?)\u0002/g, (_, index) => (index.length > 1 ? `_{${index}}` : `_${index}`));
function paintAnatomy() {
  const l = state.level === "op" ? level() : null, anatomy = l?.anatomy, t = state.step;
  get("anatomy").hidden = get("highlights").hidden = !anatomy;
  if (!anatomy) return;
  const h = anatomy.highlights.find((one) => one.symbol === state.highlight);
  get("anatomy_title").replaceChildren(...(h ? typeset(h.title, t) : ["One step in the textbook’s equations"]));
  get("anatomy_story").replaceChildren(...(h ? typeset(h.story, t) : ["Highlight a gate or a state: what belongs to it stands out."]));
  const place = placeOf(l, t), at = (codesAt) => codes[codesAt + state.update * numbersOf(l) + place];
  get("equations").replaceChildren(...anatomy.rows.map((row) => {
    const box = l.boxes.find((b) => b.key === row.key), name = symbolAt(row.symbol, t), known = place >= 0 && at(box.codes);
    const code = known ? at(box.codes) : 0, own = known ? row.said.map((place) => data.words[at(place)]).filter(Boolean) : [];
    const said = place < 0 ? [["folded at this step: choose one that is drawn"]] : !known ? [["no ops at this step and update"]] :
      [...own.map((words) => [words]), [gradient(name, code, false)], straightBack(l, row, at, t)].filter(Boolean);
    const numbers = said.flatMap((words, k) => (k ? [" · ", ...words] : words));
    const strong = !h || h.rows.includes(row.part);
    const look = known ? styleOf(data.readings[code][LOOK]) : "";
    return make("li", { class: `${look} ${!h ? "" : strong ? "strong" : "faded"}` }, make("b", {}, row.name),
      make("div", { class: "equation", role: "math", "aria-label": plainly(row.equation) }, ...typeset(row.equation)),
      make("div", { class: "numbers" }, ...numbers));
  }));
  get("anatomy_notes").replaceChildren(...anatomy.notes.map((note) => make("p", {}, note)));
}
