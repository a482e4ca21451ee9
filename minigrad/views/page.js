"use strict";
// Draws what the page holds. It computes one thing: clipping by norm, for the threshold that is chosen.
(() => {
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
  const digits = (t) => String(t).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);
  const symbolAt = (symbol, t) => symbol + (symbol.length > 2 ? " " : "") + digits(t + 1);
  const stepName = (t) => `t = ${t + 1}` + (data.labels && data.labels[t] ? `, reads “${data.labels[t]}”` : "");
  // ‖∂L/∂name‖ and what it is.
  function gradient(name, code) {
    if (!code) return `‖∂L/∂${name}‖: not recorded at this update`;
    const [text, , look] = data.readings[code];
    if (isNumber(look)) return `‖∂L/∂${name}‖ = ${text}   (${legendOf(look)})`;
    const kind = data.kinds[look - plainBins];
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
  const explain = (element, words) => {
    hints.set(element, words);
    element.setAttribute("aria-label", words().join("; "));
  };
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

  // The map: one row a name, one tile a step.

  const map = { chunk: 1, tiles: [], left: 0, wide: 0, cursor: null, window: null };
  function buildMap() {
    const home = get("map"), strip = state.level === "strip", l = layer();
    const rows = strip ? l.rows : l.rows.filter((row) => l.states.includes(row.title));
    const room = home.clientWidth, left = 14 + 8 * Math.max(...rows.map((row) => row.title.length));
    const high = strip ? 26 : 18, least = strip ? 9 : 3, space = Math.max(60, room - left - 4);
    const chunk = strip ? 1 : Math.max(1, Math.ceil((T * least) / space));
    const count = Math.ceil(T / chunk), wide = Math.min(40, Math.max(least, space / count));
    const top = 36, bottom = 22 + (data.labels && wide >= 8 && chunk === 1 ? 16 : 0);
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
        if (label.length * 6 <= wide + 3) draw(svg, "text", { x: left + wide * (t + 0.5), y: foot + 14, class: "quiet" }, label);
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
      const reading = data.readings[code], waiting = reading && data.kinds[reading[LOOK] - plainBins] === "no backward yet";
      const kind = reading && data.kinds[reading[LOOK] - plainBins];
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
        if (box.kind === "loss") return [head, stepName(t), line() ? `its part of the loss: ${line()}` : "the loss reads this"];
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
        const words = () => [`${pill.name} at ${stepName(t)}`, `this step's term of the gradient of ${pill.parameter}: ` +
          (size() ? (isNumber(size()[LOOK]) ? size()[TEXT] : legendOf(size()[LOOK])) : "not recorded at this update")];
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
    get("terms_title").textContent = `what each time step adds to ∂L/∂${clip.weight}`;
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
    get("norms_title").textContent = "‖g‖ over all parameters, one dot an update; filled: clipped";
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
    const [a, b] = [used[0], used.at(-1)];
    get("moral").textContent = used.length < 2 ? "" :
      `Term at t=${a[0] + 1} : term at t=${b[0] + 1} = ${number(a[1] / b[1])} before and after: clipping tames an explosion; it does not cure vanishing.`;
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
    if (!(c > 0) || !Number.isFinite(c)) return;
    state.threshold = c;
    if (from !== "exact") get("exact").value = String(c);
    if (from !== "slider") get("threshold").value = Math.round(20 * Math.log10(c));
    paintClipping();
    get("threshold").setAttribute("aria-valuetext", `C = ${number(c)}. ${get("verdict").textContent}`);
    rehint();
  }
  get("threshold").addEventListener("input", (event) => setThreshold(Number((10 ** (event.target.value / 20)).toPrecision(2)), "slider"));
  get("exact").addEventListener("input", (event) => setThreshold(Number(event.target.value), "exact"));

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

  // The anatomy: the equations of a known cell, with the numbers of the chosen step and update.

  // Text with its indices below the line; t stands for the chosen step, where there is one.
  function typeset(text, t) {
    const indices = { t: 0, "t−1": -1, "t+1": 1 };
    return text.split(/\u0001(.*?)\u0002/).map((piece, k) => {
      if (k % 2 === 0) return piece;
      return make("sub", {}, t !== undefined && piece in indices ? String(t + 1 + indices[piece]) : piece);
    });
  }
  const plainly = (text) => text.replace(/\u0001(.*?)\u0002/g, (_, index) => index);
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
      const line = known ? data.words[at(box.lines)] : "", code = known ? at(box.codes) : 0;
      const numbers = place < 0 ? "folded at this step: choose one that is drawn" : !known ? "no ops at this step and update" :
        [line ? `mean of ${name}: ${line}` : "", gradient(name, code)].filter(Boolean).join(" · ");
      const strong = !h || h.rows.includes(row.part);
      const look = known ? styleOf(data.readings[code][LOOK]) : "";
      return make("li", { class: `${look} ${strong ? "" : "faded"}` }, make("b", {}, row.name),
        make("div", { class: "equation", "aria-label": plainly(row.equation) }, ...typeset(row.equation)),
        make("div", { class: "numbers" }, numbers));
    }));
    get("anatomy_notes").replaceChildren(...anatomy.notes.map((note) => make("p", {}, note)));
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
})();
