// What stands in each place of the page, made when the page is opened.

function slider(label, low, high, value, step, oninput, shown) {
  const text = el("span", {}, shown(value));
  const input = el("input", { type: "range", min: low, max: high, step, value, "aria-label": label, oninput: () => { text.textContent = shown(+input.value); oninput(+input.value); } });
  input.show = () => { text.textContent = shown(+input.value); };
  return [el("label", {}, label, input, text), input];
}

function choice(label, options, onchange) {
  const made = el("select", { "aria-label": label, onchange: () => onchange(made.value) }, ...options.map(([value, text]) => el("option", { value }, text)));
  return [el("label", {}, label, made), made];
}

const panel = (title, ...inside) => el("div", { class: "panel" }, ...(title ? [el("h3", {}, title)] : []), ...inside);
const unitOf = (unit) => (!unit || unit === "°" ? unit : "\u00a0" + unit);
const fixed = (v, digits) => (v === null || v === undefined || !isFinite(v) ? "–" : v.toFixed(digits).replace("-", "−"));
const short = (v) => String(+(+v).toPrecision(3)).replace("-", "−");

// Å at places where a frequency axis has room for them.
const LENGTHS = [100, 50, 30, 20, 15, 12, 10, 9, 8, 7, 6, 5.5, 5, 4.5, 4, 3.5, 3.2, 3, 2.8, 2.6, 2.4, 2.2, 2, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9, 0.8, 0.7, 0.6, 0.5];
const angstroms = (high) => LENGTHS.filter((d) => 1 / d <= high).map((d) => [1 / d, String(d)]);

function fscSeries(run, iteration) {
  const of = run.fsc, earlier = of.iterations[iteration];
  return Object.entries(of.curves).filter(([name]) => !earlier || earlier[name]).map(([name, curve]) => {
    const values = earlier ? earlier[name] : curve.values, claimed = of.curves.corrected && of.curves.corrected.resolution !== null;
    const number = earlier || !curve.judged || !claimed ? "" : `, ${fixed(curve.resolution, 2)} Å${name === "corrected" ? "" : " (not corrected)"}`;
    const told = name === "corrected" && !claimed && !earlier ? ", nothing to claim" : number;
    return { ...curve, legend: curve.label + told, x: values.map((_, s) => s / of.edge), y: values };
  });
}

function drawFsc(host, runs) {
  const first = runs[0].fsc, high = Math.max(...runs.map((r) => 1 / r.fsc.nyquist)), finest = Math.min(...runs.map((r) => r.fsc.nyquist));
  const lowest = Math.min(0, ...runs.flatMap((r) => Object.values(r.fsc.curves).flatMap((c) => c.values)));
  const kinds = [...new Set(runs.flatMap((r) => Object.keys(r.fsc.curves)))].map((k) => [k, runs.map((r) => r.fsc.curves[k]).find(Boolean).label]);
  const compare = (kind) => runs.filter((r) => r.fsc.curves[kind]).map((r) => ({ label: r.name, colour: r.colour, width: 1.8, y: r.fsc.curves[kind].values, x: r.fsc.curves[kind].values.map((_, s) => s / r.fsc.edge) }));
  const controls = el("div", { class: "controls" });
  host.append(controls);
  const chart = new Chart(host, {
    label: "FSC curves. Left and right arrow keys move the cursor.", height: 330,
    x: { label: "Resolution (Å)", low: 0, high: high * 1.02, ticks: angstroms(high) }, y: { label: "FSC", low: Math.max(-0.3, Math.min(-0.06, lowest - 0.03)), high: 1.03 },
    series: SEVERAL ? [] : fscSeries(runs[0]),
    band: SEVERAL || !first.band.length ? null : { x: first.band.map((_, s) => s / first.edge), y: first.band },
    lines: [{ y: first.threshold, label: String(first.threshold), colour: "#D55E00" }, { x: 1 / finest, label: `Nyquist ${fixed(finest, 2)} Å`, dash: [3, 3] }],
    read: (x, shown) => {
      const near = shown.length ? shown[0].x[nearest(shown[0].x, x)] : x, band = chart.spec.band;
      const values = shown.map((s) => `${s.label} ${fixed(s.y[nearest(s.x, near)], 3)}`);
      if (band) values.push(`noise stays below ${fixed(band.y[nearest(band.x, near)], 3)}`);
      return `${near > 0 ? fixed(1 / near, 2) + " Å" : "whole box"} (${fixed(near, 4)} 1/Å): ${values.join(" · ")}`;
    },
  });
  if (SEVERAL) {
    const show = (kind) => {
      chart.spec.y.label = `FSC, ${new Map(kinds).get(kind).toLowerCase()}`;
      chart.setSeries(compare(kind));
    };
    const [label, select] = choice("Curve", kinds, show);
    select.value = kinds.some(([k]) => k === "corrected") ? "corrected" : kinds[0][0];
    show(select.value);
    controls.append(label);
    return;
  }
  const steps = Object.keys(first.iterations).map(Number).sort((a, b) => a - b), last = steps.length - 1;
  if (last > 0)
    controls.append(slider("Iteration", 0, last, last, 1, (k) => {
      const step = k === last ? undefined : steps[k], band = step && first.iterations[step].noise_band;
      chart.spec.band = step ? band && { x: band.map((_, s) => s / first.edge), y: band } : { x: first.band.map((_, s) => s / first.edge), y: first.band };
      chart.setSeries(fscSeries(runs[0], step));
    }, (k) => `${steps[k]} of ${steps[last]}`)[0]);
  const corrected = first.curves.corrected, others = "the others are not corrected for what a mask alone makes agree.";
  const claim = !corrected ? "" : corrected.resolution === null ? "No resolution is claimed, whatever single curves reach." : `Of the curves, the corrected one is claimed; ${others}`;
  host.append(el("p", { class: "note" }, (first.band.length ? "Grey: what noise stays below (3 standard errors). " : "") + claim));
}

function drawHistory(host, runs) {
  const grid = el("div", { class: "grid" });
  host.append(grid);
  for (const [name, [title, unit, digits, tone]] of Object.entries(DATA.history)) {
    if (name === "limit") continue; // beside the resolution
    const have = runs.filter((r) => r.history[name]);
    const series = have.map((r) => ({ label: SEVERAL ? r.name : title, colour: SEVERAL ? r.colour : tone, width: 1.8, dots: true, x: r.history.iteration, y: r.history[name] }));
    if (name === "resolution" && !SEVERAL && have.length && have[0].history.limit) series.push({ label: DATA.history.limit[0], colour: DATA.history.limit[3], dash: [5, 4], width: 1.5, x: have[0].history.iteration, y: have[0].history.limit });
    const known = series.flatMap((s) => s.y).filter((v) => v !== null);
    if (!known.length || (name === "particles" && new Set(known).size < 2)) continue;
    const log = name.endsWith("_change") && Math.min(...known) > 0, last = Math.max(2, ...series.flatMap((s) => s.x));
    const place = panel(unit ? `${title} (${unit})` : title);
    grid.append(place);
    new Chart(place, {
      label: `${title} over the iterations`, height: 190, series,
      x: { label: "Iteration", low: 0.7, high: last + 0.3, ticks: ticks(1, last, 8).filter(([v]) => Number.isInteger(v)) },
      y: { label: unit, low: log ? Math.min(...known) / 1.3 : 0, high: Math.max(...known) * (log ? 1.3 : 1.08), log },
      read: (x, shown) => `Iteration ${Math.round(x)}: ` + shown.map((s) => { const v = s.y[s.x.indexOf(Math.round(x))]; return `${s.label} ${v === null ? "not claimed" : fixed(v, digits) + unitOf(unit)}`; }).join(" · "),
    });
  }
}

// Whether there is a mask, and a map that it can lie over.
const masked = (runs) => runs.some((r) => r.maps.some((m) => m.kind === "mask") && r.maps.some((m) => m.kind === "map"));
const thirds = { xy: "z", xz: "y", yz: "x" };

function drawSlices(host, runs) {
  const names = [...new Map(runs.flatMap((r) => r.maps.map((m) => [m.name, m.label])))];
  const state = { name: (names.find(([n]) => n === "map_sharp.mrc") || names[0])[0], plane: "xy", outline: true };
  const controls = el("div", { class: "controls" }), grid = el("div", { class: "grid" }), note = el("p", { class: "note" });
  const views = SEVERAL ? runs.map((run) => ({ run, title: run.name })) : Object.keys(thirds).map((plane) => ({ run: runs[0], plane, title: plane }));
  const of = (run) => run.maps.find((m) => m.name === state.name);
  const maskOf = (run) => state.outline && of(run) && of(run).kind !== "mask" ? run.maps.find((m) => m.name === "mask_fsc.mrc") || run.maps.find((m) => m.kind === "mask") : null;
  const place = (share, m) => Math.min(Math.round(share * (m - 1)), m - 1);
  for (const view of views) {
    view.canvas = el("canvas", { role: "img", "aria-label": `Slice ${view.plane || ""} of ${view.run.name}` });
    view.empty = el("p", { class: "note" });
    view.at = 0.5;
    const shown = (share) => { const map = of(view.run) || view.run.maps[0]; return `${thirds[view.plane || state.plane]} = ${fixed((place(share, map.m) - (map.m >> 1)) * (map.edge / map.m), 1)} Å`; };
    [view.label, view.input] = slider(SEVERAL ? "Depth" : "", 0, 1, 0.5, 0.01, (v) => { for (const other of SEVERAL ? views : [view]) { other.at = v; other.input.value = v; other.input.show(); } draw(); }, shown);
    view.input.setAttribute("aria-label", `Depth of slice ${view.title}`);
    grid.append(panel(view.title, view.canvas, view.empty, view.label));
  }
  function draw() {
    for (const { run, plane, canvas, at, empty } of views) {
      const map = of(run);
      canvas.hidden = !map;
      empty.textContent = map ? "" : `no ${names.find(([n]) => n === state.name)[1].toLowerCase()} in this run`;
      if (map) drawSlice(canvas, map, plane || state.plane, place(at, map.m), maskOf(run));
    }
    const map = runs.map(of).find(Boolean), grey = map.window.map((b) => map.low + (b / 255) * (map.high - map.low)).map((v) => short(Math.abs(v) < 1e-6 * (map.high - map.low) ? 0 : v));
    const scale = map.kind === "angstrom" ? `colours: bright ${fixed(map.high * map.ends[0] / 255, 1)} Å to dark ${fixed(map.high * map.ends[1] / 255, 1)} Å, grey where nothing is said` : `black ${grey[0]}, white ${grey[1]}`;
    const size = `${map.box} voxels along an edge, shown on ${map.m} of ${short(map.edge / map.m)} Å`;
    note.textContent = `${map.name}: ${size}; ${SEVERAL ? `${state.plane} planes, each run on its own grey scale` : scale}. ${maskOf(runs[0]) ? "Orange: where the mask is one half." : ""}`;
  }
  controls.append(choice("Map", names, (v) => { state.name = v; views.forEach((view) => view.input.show()); draw(); })[0]);
  controls.lastChild.lastChild.value = state.name;
  if (SEVERAL) controls.append(choice("Plane", Object.keys(thirds).map((p) => [p, p]), (v) => { state.plane = v; views.forEach((view) => view.input.show()); draw(); })[0]);
  if (masked(runs)) {
    const box = el("input", { type: "checkbox", checked: true, onchange: () => { state.outline = box.checked; draw(); } });
    controls.append(el("label", {}, box, "Outline of the mask"));
  }
  host.append(controls, grid, note);
  drawn.push(draw);
  draw();
}

function drawSurface(host, runs) {
  const names = [...new Map(runs.flatMap((r) => r.maps.filter((m) => m.kind === "map" || m.kind === "mask").map((m) => [m.name, m.label])))];
  const start = names.find(([n]) => n === "map_sharp.mrc") || names.find(([n]) => n === "map.mrc") || names[0];
  if (!start) return;
  const state = { name: start[0], factor: 1, masked: true, turn: [1, 0, 0, 0, 0, 1, 0, -1, 0] };
  const controls = el("div", { class: "controls" }), grid = el("div", { class: "grid wide" });
  const views = runs.map((run) => {
    const canvas = el("canvas", { class: "turned", tabindex: 0, role: "img", "aria-label": `Surface of ${run.name}. Drag it, or use the arrow keys, to turn it.` });
    const view = { run, canvas, surface: new Surface(canvas), text: el("p", { class: "note" }) };
    const tint = run.tint, end = (b) => tint && (tint.kind === "angstrom" ? fixed : short)(tint.low + (b / 255) * (tint.high - tint.low), 1); // a byte tells no more
    const key = tint ? [tint.kind === "angstrom" ? ramp(`${end(tint.ends[1])} Å`, `${end(tint.ends[0])} Å`, tint.label) : ramp(end(tint.ends[0]), end(tint.ends[1]), tint.label)] : [];
    grid.append(panel(SEVERAL ? run.name : "", canvas, view.text, ...key));
    return view;
  });
  if (!views[0].surface.gl) {
    host.append(el("p", { class: "note" }, "This browser draws no WebGL, which the turning surface needs: the slices above show the map."));
    return;
  }
  const draw = () => views.forEach((v) => { if (v.surface.count) v.surface.draw(state.turn); });
  function contour() {
    for (const { run, surface, text, canvas } of views) {
      const map = run.maps.find((m) => m.name === state.name);
      surface.count = 0;
      canvas.hidden = !map;
      text.textContent = map ? "" : "no such map in this run";
      if (!map) continue;
      const usual = map.low + (map.level / 255) * (map.high - map.low), level = Math.min(usual * state.factor, map.high * 0.98);
      const masks = run.maps.filter((m) => m.kind === "mask" && m.m === map.m), mask = state.masked && map.kind === "map" ? masks.find((m) => m.name === "mask_fsc.mrc") || masks[0] : null;
      const mesh = surfaceNets(density(map, mask), map.m + 2, level);
      surface.set(mesh, map.m, map.kind === "map" ? run.tint : null);
      text.textContent = mesh.faces.length ? `${map.label} at ${short(level)}${mask ? ", within the mask" : ""}: ${(mesh.faces.length / 3).toLocaleString("en")} triangles` : "nothing is that dense";
    }
    draw();
  }
  controls.append(choice("Map", names, (v) => { state.name = v; contour(); })[0]);
  controls.lastChild.lastChild.value = state.name;
  let waiting = 0;
  controls.append(slider("Level", -0.6, 0.7, 0, 0.02, (v) => { state.factor = 10 ** v; cancelAnimationFrame(waiting); waiting = requestAnimationFrame(contour); }, (v) => `× ${(10 ** v).toFixed(2)}`)[0]);
  if (masked(runs)) {
    const box = el("input", { type: "checkbox", checked: true, onchange: () => { state.masked = box.checked; contour(); } });
    controls.append(el("label", {}, box, "Only within the mask"));
  }
  host.append(el("h3", {}, "Surface"), controls, grid);
  views.forEach((v) => turning(v.canvas, state, draw));
  drawn.push(draw);
  contour();
}

// Density of directions at a longitude and latitude, radians, as a byte.
function densityAt(of, lon, lat) {
  const x = ((lon + Math.PI) / (2 * Math.PI)) * of.longitudes - 0.5, y = ((lat + Math.PI / 2) / Math.PI) * of.latitudes - 0.5;
  const x0 = Math.floor(x), y0 = Math.min(Math.max(Math.floor(y), 0), of.latitudes - 2), fx = x - x0, fy = Math.min(Math.max(y - y0, 0), 1);
  const v = (row, k) => of.bytes[row * of.longitudes + ((k % of.longitudes) + of.longitudes) % of.longitudes];
  return (1 - fy) * ((1 - fx) * v(y0, x0) + fx * v(y0, x0 + 1)) + fy * ((1 - fx) * v(y0 + 1, x0) + fx * v(y0 + 1, x0 + 1));
}

function paint(canvas, height, inside) {
  const [c, width, tall] = sized(canvas, height), scale = canvas.width / width, w = canvas.width, h = canvas.height, image = c.createImageData(w, h);
  const whole = el("canvas", { width: w, height: h }); // what is put into a canvas directly is lost in print
  for (let row = 0; row < h; row++)
    for (let column = 0; column < w; column++) {
      const byte = inside(column / scale, row / scale, width, tall);
      if (byte !== null) image.data.set([...RAMP[Math.round(byte)], 255], 4 * (row * w + column));
    }
  whole.getContext("2d").putImageData(image, 0, 0);
  c.drawImage(whole, 0, 0, width, tall);
  return [c, width, tall];
}

function drawGlobe(canvas, of, turn) {
  const [c, width, tall] = paint(canvas, (w) => Math.min(w, 320), (px, py, w, h) => {
    const r = Math.min(w, h) / 2 - 4, x = (px - w / 2) / r, y = (h / 2 - py) / r, z2 = 1 - x * x - y * y;
    if (z2 < 0) return null;
    const seen = [x, y, Math.sqrt(z2)], [a, b, d] = [0, 1, 2].map((k) => turn[k] * seen[0] + turn[3 + k] * seen[1] + turn[6 + k] * seen[2]);
    return densityAt(of, Math.atan2(b, a), Math.asin(Math.min(Math.max(d, -1), 1)));
  });
  const r = Math.min(width, tall) / 2 - 4;
  c.font = "600 12px system-ui, sans-serif";
  c.textAlign = "center";
  c.textBaseline = "middle";
  ["x", "y", "z"].forEach((name, k) => {
    if (turn[6 + k] < 0) return;
    const [x, y] = [width / 2 + turn[k] * r * 0.93, tall / 2 - turn[3 + k] * r * 0.93];
    c.fillStyle = "rgba(0,0,0,.55)";
    c.beginPath();
    c.arc(x, y, 9, 0, 7);
    c.fill();
    c.fillStyle = "#fff";
    c.fillText(name, x, y);
  });
}

function drawMollweide(canvas, of) {
  paint(canvas, (w) => Math.min(w / 2, 320), (px, py, w, h) => {
    const wide = Math.min(w, 2 * h) - 4, x = (px - w / 2) / (wide / 2), y = (h / 2 - py) / (wide / 4);
    if (x * x + y * y > 1) return null;
    const t = Math.asin(y);
    return densityAt(of, Math.min(Math.max((Math.PI * x) / Math.max(Math.cos(t), 1e-6), -Math.PI), Math.PI), Math.asin((2 * t + Math.sin(2 * t)) / Math.PI));
  });
}

function drawOrientations(host, runs) {
  const state = { turn: [1, 0, 0, 0, 0, 1, 0, -1, 0] }, grid = el("div", { class: SEVERAL ? "grid" : "grid pair" }), draws = [];
  host.append(el("h3", {}, "Viewing directions"), grid);
  for (const run of runs) {
    const of = run.orientations, globe = el("canvas", { class: "turned", tabindex: 0, role: "img", "aria-label": `Viewing directions of ${run.name} on a sphere. Drag it, or use the arrow keys, to turn it.` });
    grid.append(panel(SEVERAL ? run.name : "", globe, ...(SEVERAL ? [ramp("0", short(of.highest), "× uniform")] : [])));
    draws.push(() => drawGlobe(globe, of, state.turn));
    turning(globe, state, () => draws.forEach((d) => d()));
    if (SEVERAL) continue;
    const flat = el("canvas", { role: "img", "aria-label": "The same as a map of the whole sphere" });
    grid.append(panel("", flat));
    drawn.push(() => drawMollweide(flat, of));
    drawMollweide(flat, of);
    host.append(ramp("0", short(of.highest), `times the density of uniform directions; ${of.count.toLocaleString("en")} particles, smoothed by ${fixed(of.smoothing, 0)}°`),
      el("p", { class: "note" }, `${of.symmetry === "C1" ? "" : `Every particle in all its copies by ${of.symmetry}. `}The sphere can be turned; the flat map has rot from −180° to 180° and tilt from 0° (top) to 180°, in equal areas.`));
  }
  drawn.push(() => draws.forEach((d) => d()));
  draws.forEach((d) => d());
}

// A class is no number on an axis: how many particles are in each, and their share.
function drawClasses(grid, title, have) {
  const all = [...new Set(have.flatMap(([, h]) => h.names))], last = (n) => (isNaN(n) ? Infinity : +n), names = all.sort((a, b) => last(a) - last(b));
  const sets = have.flatMap(([r, h]) => {
    const counts = (s) => names.map((n) => s.counts[h.names.indexOf(n)] || 0);
    return SEVERAL ? [{ label: r.name, colour: r.colour, counts: h.series.map(counts).reduce((sum, c) => c.map((v, k) => v + sum[k])) }] : h.series.map((s) => ({ ...s, counts: counts(s) }));
  });
  const total = sets.map((s) => Math.max(1, s.counts.reduce((a, b) => a + b, 0))), share = (i, k) => (100 * sets[i].counts[k]) / total[i];
  const few = (i) => (names.length > 5 ? "" : ` (${names.map((n, k) => `${n}: ${fixed(share(i, k), 0)} %`).join(", ")})`), place = panel(title);
  grid.append(place);
  new Chart(place, {
    label: `Particles in each class`, height: 200,
    series: sets.map((s, i) => ({ ...s, steps: true, x: [0.5, ...names.map((_, k) => k + 1.5)], y: names.map((_, k) => share(i, k)), legend: s.label + few(i) })),
    x: { label: "Class", low: 0.5, high: names.length + 0.5, ticks: names.map((n, k) => [k + 1, n]) }, y: { label: "Particles (%)", low: 0, high: 1.08 * Math.max(...sets.flatMap((s, i) => names.map((_, k) => share(i, k)))) },
    read: (x, shown) => { const k = Math.min(names.length, Math.max(1, Math.round(x))) - 1; return `${isNaN(names[k]) ? names[k] : "Class " + names[k]}: ` + shown.map((s) => { const i = sets.findIndex((t) => t.label === s.label); return `${s.label} ${sets[i].counts[k].toLocaleString("en")}, ${fixed(share(i, k), 1)} %`; }).join(" · "); },
  });
  if (sets.length === 1 && few(0)) place.append(el("p", { class: "note" }, sets[0].label + few(0)));
}

function drawHistograms(host, runs) {
  const grid = el("div", { class: "grid pair" });
  host.append(el("h3", {}, "Numbers of the particles"), grid);
  for (const title of new Set(runs.flatMap((r) => r.histograms.map((h) => h.title)))) {
    const have = runs.map((r) => [r, r.histograms.find((h) => h.title === title)]).filter(([, h]) => h), unit = have[0][1].unit;
    if (have[0][1].names) { drawClasses(grid, title, have); continue; }
    const series = have.flatMap(([r, h]) => {
      const sets = SEVERAL ? [{ label: r.name, colour: r.colour, counts: h.series.reduce((sum, s) => s.counts.map((v, k) => v + (sum[k] || 0)), []), median: null }] : h.series;
      const total = sets.map((s) => s.counts.reduce((a, b) => a + b, 0));
      return sets.map((s, i) => ({ ...s, steps: true, x: h.edges, y: SEVERAL ? s.counts.map((v) => (100 * v) / total[i]) : s.counts, legend: s.median === null ? s.label : `${s.label}, median ${short(s.median)}${unitOf(unit)}` }));
    });
    const edges = series.flatMap((s) => s.x), log = have.every(([, h]) => h.log), place = panel(unit ? `${title} (${unit})` : title);
    grid.append(place);
    new Chart(place, {
      label: `Histogram: ${title}`, height: 200, series,
      x: { label: unit, low: Math.min(...edges), high: Math.max(...edges), log }, y: { label: SEVERAL ? "Particles (%)" : "Particles", low: 0, high: Math.max(1e-9, ...series.flatMap((s) => s.y)) * 1.08 },
      read: (x, shown) => `${short(x)}${unitOf(unit)}: ` + shown.map((s) => { const k = s.x.findIndex((e) => e > x) - 1; return `${s.label} ${k < 0 ? 0 : SEVERAL ? fixed(s.y[k], 1) + " %" : s.y[k]}`; }).join(" · "),
    });
    if (series.length === 1) place.append(el("p", { class: "note" }, series[0].legend));
  }
}

const DRAW = { fsc: [drawFsc, (r) => r.fsc], history: [drawHistory, (r) => r.history.iteration], slices: [drawSlices, (r) => r.maps.length],
  surface: [drawSurface, (r) => r.maps.length], orientations: [drawOrientations, (r) => r.orientations], histograms: [drawHistograms, (r) => r.histograms.length] };

async function start() {
  for (const run of RUNS) {
    for (const map of [...run.maps, ...(run.tint ? [run.tint] : [])]) map.bytes = await unpack(map.data);
    for (const map of run.maps) if (map.kind === "angstrom") {
      const said = map.bytes.filter((b) => b > 0).sort();
      map.ends = said.length ? [said[Math.floor(said.length * 0.01)], Math.max(said[Math.floor(said.length * 0.99)], said[0] + 1)] : [0, 255];
    }
    if (run.orientations) run.orientations.bytes = Uint8Array.from(atob(run.orientations.data), (c) => c.charCodeAt(0));
  }
  for (const host of document.querySelectorAll("[data-draw]")) {
    const [draw, has] = DRAW[host.dataset.draw];
    try {
      draw(host, RUNS.filter(has));
    } catch (error) {
      host.append(el("p", { class: "warning" }, `This part could not be drawn (${error.message})`));
      console.error(error);
    }
  }
  redraw(); // now that all panels have their widths
  document.documentElement.dataset.ready = "true";
}

const redraw = () => drawn.forEach((draw) => draw());
const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark";
  redraw();
});
dark.addEventListener("change", redraw);
let before = "", width = 0;
// The layout of paper is that of the screen while all is drawn again for it: canvases know no other width. What WebGL draws now is not printed, a copy is.
window.addEventListener("beforeprint", () => {
  before = root.dataset.theme || "";
  root.dataset.theme = "light";
  root.classList.add("printing");
  redraw();
  for (const canvas of document.querySelectorAll("[data-draw=surface] canvas:not([hidden])")) {
    const copy = el("canvas", { class: "copy", width: canvas.width, height: canvas.height });
    copy.getContext("2d").drawImage(canvas, 0, 0);
    canvas.before(copy);
  }
});
window.addEventListener("afterprint", () => {
  before ? (root.dataset.theme = before) : delete root.dataset.theme;
  root.classList.remove("printing");
  document.querySelectorAll("canvas.copy").forEach((copy) => copy.remove());
  redraw();
});
new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; redraw(); } }).observe(root);
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => { await navigator.clipboard.writeText(button.previousSibling.textContent); button.textContent = "Copied"; });
}
start();
