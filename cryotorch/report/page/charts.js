"use strict";
// Elements, colours of the theme, and line charts on a canvas: with a cursor, a legend that toggles, and keys.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs, SEVERAL = RUNS.length > 1;
const drawn = []; // what is drawn again when the theme or the width changes

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children); // text stays text, whatever it holds
  return made;
}

function colour(name) {
  const own = ["ink", "faint", "line", "paper", "card", "warn"];
  return own.includes(name) ? getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim() : name;
}

// 256 colours between those of the palette.
const RAMP = Array.from({ length: 256 }, (_, k) => {
  const at = (k / 255) * (DATA.palette.length - 1), low = Math.min(Math.floor(at), DATA.palette.length - 2);
  const part = (c, i) => parseInt(DATA.palette[c].slice(1 + 2 * i, 3 + 2 * i), 16);
  return [0, 1, 2].map((i) => Math.round(part(low, i) + (at - low) * (part(low + 1, i) - part(low, i))));
});

function ramp(low, high, label) {
  const stops = DATA.palette.join(",");
  return el("div", { class: "ramp" }, low, el("i", { style: `background:linear-gradient(90deg,${stops})` }), high, el("span", {}, label));
}

// Pixels of a canvas for one of the page, more on paper, where charts are lower.
const printing = () => document.documentElement.classList.contains("printing");
const pixelScale = () => Math.max(window.devicePixelRatio || 1, printing() ? 2 : 0);

// A canvas of the width of its place, and its context in CSS pixels.
function sized(canvas, height) {
  const width = Math.max(canvas.clientWidth, 40), scale = pixelScale();
  const tall = typeof height === "function" ? height(width) : height;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(tall * scale);
  canvas.style.height = tall + "px";
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, tall);
  return [context, width, tall];
}

function ticks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1), unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * unit >= rough) * unit, found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) found.push([v, String(+v.toPrecision(6))]);
  return found;
}

function logTicks(low, high) {
  const found = [], decades = Math.log10(high / low);
  const each = decades > 3 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
    for (const m of each) if (m * 10 ** p >= low * 0.999 && m * 10 ** p <= high * 1.001) found.push([m * 10 ** p, String(+(m * 10 ** p).toPrecision(3))]);
  return found;
}

// spec: label, height, x and y: {label, low, high, log, ticks}, series: [{label, colour, width, dash, x, y, steps, dots}],
// band: {x, y}, lines: [{x or y, label, colour}], read(x): text of the cursor.
class Chart {
  constructor(host, spec) {
    this.spec = spec;
    this.hidden = new Set();
    this.cursor = null;
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": spec.label });
    this.legend = el("div", { class: "legend" });
    this.text = el("div", { class: "read", "aria-live": "polite" });
    host.append(this.canvas, this.text, this.legend);
    this.canvas.addEventListener("pointermove", (e) => this.point(this.value(e.offsetX)));
    this.canvas.addEventListener("pointerdown", (e) => this.point(this.value(e.offsetX)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("keydown", (e) => this.key(e));
    this.setSeries(spec.series);
    drawn.push(() => this.draw());
  }

  setSeries(series) {
    this.spec.series = series;
    this.legend.replaceChildren(...(series.length > 1 ? series.map((s) => this.toggle(s)) : []));
    this.draw();
  }

  toggle(s) {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [n, v] of Object.entries({ x1: 0, y1: 5, x2: 26, y2: 5, "stroke-width": 2 * (s.width || 1.5), "stroke-dasharray": (s.dash || []).join(" ") })) line.setAttribute(n, v);
    line.style.stroke = ["ink", "faint"].includes(s.colour) ? `var(--${s.colour})` : s.colour;
    mark.setAttribute("viewBox", "0 0 26 10");
    mark.setAttribute("aria-hidden", "true");
    mark.append(line);
    return el("button", { type: "button", "aria-pressed": String(!this.hidden.has(s.label)), onclick: (e) => {
      this.hidden.has(s.label) ? this.hidden.delete(s.label) : this.hidden.add(s.label);
      e.currentTarget.setAttribute("aria-pressed", String(!this.hidden.has(s.label)));
      this.draw();
    } }, mark, s.legend || s.label);
  }

  get shown() { return this.spec.series.filter((s) => !this.hidden.has(s.label)); }

  key(e) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (!steps) return;
    e.preventDefault();
    const all = [...new Set(this.shown.flatMap((s) => s.x))].filter((x) => x >= this.spec.x.low && x <= this.spec.x.high).sort((a, b) => a - b);
    if (!all.length) return;
    const at = this.cursor === null ? (steps > 0 ? -1 : all.length) : all.findIndex((x) => x >= this.cursor - 1e-12);
    this.point(all[Math.min(Math.max(at + steps, 0), all.length - 1)]);
  }

  point(x) {
    this.cursor = x;
    this.text.textContent = x === null ? "" : this.spec.read(x, this.shown);
    this.draw();
  }

  // Between values and pixels.
  scale(axis, from, to) {
    const f = axis.log ? Math.log : (v) => v, [low, high] = [f(axis.low), f(axis.high)];
    return [(v) => from + ((f(v) - low) / (high - low)) * (to - from), (p) => {
      const v = low + ((p - from) / (to - from)) * (high - low);
      return axis.log ? Math.exp(v) : v;
    }];
  }

  value(pixel) { return Math.min(Math.max(this.inverse(pixel), this.spec.x.low), this.spec.x.high); }

  draw() {
    const { x, y } = this.spec, [c, width, height] = sized(this.canvas, (this.spec.height || 240) * (printing() ? 0.8 : 1));
    const left = 52, right = width - 14, top = 12, bottom = height - 40;
    const [px, inverse] = this.scale(x, left, right), [py] = this.scale(y, bottom, top);
    this.inverse = inverse;
    c.font = "12px system-ui, sans-serif";
    this.axes(c, px, py, { left, right, top, bottom });
    c.save();
    c.beginPath();
    c.rect(left, top - 3, right - left + 1, bottom - top + 6);
    c.clip();
    if (this.spec.band) this.area(c, px, py);
    for (const line of this.spec.lines || []) this.rule(c, line, px, py, { left, right, top, bottom });
    for (const s of this.shown) this.curve(c, s, px, py, bottom);
    if (this.cursor !== null) {
      c.strokeStyle = colour("faint");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(px(this.cursor), top);
      c.lineTo(px(this.cursor), bottom);
      c.stroke();
      for (const s of this.shown) this.dot(c, s, px, py);
    }
    c.restore();
  }

  axes(c, px, py, at) {
    const { x, y } = this.spec;
    c.lineWidth = 1;
    c.textBaseline = "middle";
    for (const [v, text] of y.ticks || (y.log ? logTicks(y.low, y.high) : ticks(y.low, y.high, 5))) {
      c.strokeStyle = colour("line");
      c.beginPath();
      c.moveTo(at.left, Math.round(py(v)) + 0.5);
      c.lineTo(at.right, Math.round(py(v)) + 0.5);
      c.stroke();
      c.fillStyle = colour("faint");
      c.textAlign = "right";
      c.fillText(text, at.left - 6, py(v));
    }
    let last = -Infinity;
    c.textAlign = "center";
    for (const [v, text] of x.ticks || (x.log ? logTicks(x.low, x.high) : ticks(x.low, x.high, (at.right - at.left) / 80))) {
      const place = px(v), half = c.measureText(text).width / 2;
      if (place - half < last + 8 || place + half > at.right + 13 || place < at.left - 1) continue;
      last = place + half;
      c.fillText(text, place, at.bottom + 13);
      c.strokeStyle = colour("faint");
      c.beginPath();
      c.moveTo(place, at.bottom);
      c.lineTo(place, at.bottom + 4);
      c.stroke();
    }
    c.strokeStyle = colour("faint");
    c.strokeRect(at.left, at.bottom, at.right - at.left, 0);
    c.fillStyle = colour("ink");
    c.fillText(x.label, (at.left + at.right) / 2, at.bottom + 31);
    c.save();
    c.translate(10, (at.top + at.bottom) / 2);
    c.rotate(-Math.PI / 2);
    c.fillText(y.label, 0, 0);
    c.restore();
  }

  area(c, px, py) {
    const { x, y } = this.spec.band;
    c.fillStyle = colour("line");
    c.globalAlpha = 0.7;
    c.beginPath();
    x.forEach((v, k) => c.lineTo(px(v), py(y[k])));
    for (let k = x.length - 1; k >= 0; k--) c.lineTo(px(x[k]), py(-y[k]));
    c.fill();
    c.globalAlpha = 1;
  }

  rule(c, line, px, py, at) {
    c.strokeStyle = c.fillStyle = colour(line.colour || "faint");
    c.lineWidth = 1;
    c.setLineDash(line.dash || []);
    c.beginPath();
    if (line.y !== undefined) { c.moveTo(at.left, py(line.y)); c.lineTo(at.right, py(line.y)); }
    else { c.moveTo(px(line.x), at.top); c.lineTo(px(line.x), at.bottom); }
    c.stroke();
    c.setLineDash([]);
    c.textAlign = line.y !== undefined ? "left" : "right";
    if (line.y !== undefined) c.fillText(line.label, at.left + 5, py(line.y) - 9);
    else c.fillText(line.label, px(line.x) - 5, at.top + 8);
  }

  curve(c, s, px, py, bottom) {
    c.strokeStyle = c.fillStyle = colour(s.colour);
    c.lineWidth = s.width || 1.5;
    c.setLineDash(s.dash || []);
    c.beginPath();
    let pen = false;
    if (s.steps) {
      s.y.forEach((v, k) => { c.lineTo(px(s.x[k]), py(v)); c.lineTo(px(s.x[k + 1]), py(v)); });
    } else s.x.forEach((v, k) => {
      const known = s.y[k] !== null && s.y[k] !== undefined && !(this.spec.y.log && s.y[k] <= 0);
      if (known) pen ? c.lineTo(px(v), py(s.y[k])) : c.moveTo(px(v), py(s.y[k]));
      pen = known;
    });
    c.stroke();
    c.setLineDash([]);
    if (s.steps) {
      c.globalAlpha = 0.15;
      c.lineTo(px(s.x[s.x.length - 1]), bottom);
      c.lineTo(px(s.x[0]), bottom);
      c.fill();
      c.globalAlpha = 1;
    }
    if (s.dots) s.x.forEach((v, k) => { if (s.y[k] !== null) this.spot(c, px(v), py(s.y[k]), 3); });
  }

  spot(c, x, y, r) {
    c.beginPath();
    c.arc(x, y, r, 0, 7);
    c.fill();
  }

  dot(c, s, px, py) {
    if (s.steps) return;
    const k = nearest(s.x, this.cursor);
    if (s.y[k] === null || s.y[k] === undefined) return;
    c.fillStyle = colour(s.colour);
    this.spot(c, px(s.x[k]), py(s.y[k]), 3.5);
  }
}

function nearest(values, x) {
  let best = 0;
  values.forEach((v, k) => { if (Math.abs(v - x) < Math.abs(values[best] - x)) best = k; });
  return best;
}
