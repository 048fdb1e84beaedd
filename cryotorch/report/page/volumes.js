// Maps as grids of bytes: unpacked, cut into slices, contoured into a surface that WebGL draws.

async function unpack(text) {
  const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The bytes of a slice: plane xy, xz or yz, at an index of the third axis; rows run upwards.
function cut(map, plane, at) {
  const m = map.m, v = map.bytes, out = new Uint8Array(m * m);
  for (let row = 0; row < m; row++)
    for (let column = 0; column < m; column++) {
      const [x, y, z] = plane === "xy" ? [column, row, at] : plane === "xz" ? [column, at, row] : [at, column, row];
      out[(m - 1 - row) * m + column] = v[(z * m + y) * m + x];
    }
  return out;
}

function drawSlice(canvas, map, plane, at, mask) {
  const [c, width] = sized(canvas, (w) => w), m = map.m, image = new ImageData(m, m);
  const [low, high] = map.kind === "angstrom" ? map.ends : map.window, bytes = cut(map, plane, at);
  bytes.forEach((b, k) => {
    const shade = Math.min(Math.max(Math.round(((b - low) / (high - low)) * 255), 0), 255);
    const rgb = map.kind !== "angstrom" ? [shade, shade, shade] : b === 0 ? [128, 128, 128] : RAMP[255 - shade];
    image.data.set([...rgb, 255], 4 * k);
  });
  const small = el("canvas", { width: m, height: m });
  small.getContext("2d").putImageData(image, 0, 0);
  c.imageSmoothingQuality = "high";
  c.imageSmoothingEnabled = map.kind !== "angstrom";
  c.drawImage(small, 0, 0, width, width);
  if (mask && mask.m === m) outline(c, cut(mask, plane, at), m, width);
  scaleBar(c, map.edge, width);
}

// Where a mask crosses a half, by marching squares.
function outline(c, bytes, m, width) {
  const s = width / m, at = (r, k) => bytes[r * m + k] - 127.5;
  c.strokeStyle = "#E69F00";
  c.lineWidth = 1.5;
  c.beginPath();
  for (let r = 0; r + 1 < m; r++)
    for (let k = 0; k + 1 < m; k++) {
      const corner = [[r, k], [r, k + 1], [r + 1, k + 1], [r + 1, k]], ends = [];
      corner.forEach(([a, b], i) => {
        const [p, q] = corner[(i + 1) % 4], v = at(a, b), w = at(p, q);
        if (v > 0 !== w > 0) ends.push([b + (v / (v - w)) * (q - b) + 0.5, a + (v / (v - w)) * (p - a) + 0.5]);
      });
      for (let i = 0; i + 1 < ends.length; i += 2) { c.moveTo(ends[i][0] * s, ends[i][1] * s); c.lineTo(ends[i + 1][0] * s, ends[i + 1][1] * s); }
    }
  c.stroke();
}

function scaleBar(c, edge, width) {
  const unit = 10 ** Math.floor(Math.log10(edge / 4)), length = Math.max(...[1, 2, 5].map((f) => f * unit).filter((v) => v <= edge / 4));
  const wide = (length / edge) * width;
  c.fillStyle = "rgba(0,0,0,.6)";
  c.fillRect(8, width - 30, Math.max(wide, 44) + 12, 24);
  c.fillStyle = "#fff";
  c.fillRect(14, width - 12, wide, 2);
  c.font = "11px system-ui, sans-serif";
  c.textAlign = "left";
  c.textBaseline = "alphabetic";
  c.fillText(`${length} Å`, 14, width - 16);
}

// Density (m + 2)^3 with a border of zeros, which closes the surface, and within a mask where there is one.
function density(map, mask) {
  const m = map.m, n = m + 2, out = new Float32Array(n * n * n), step = (map.high - map.low) / 255;
  for (let z = 0, k = 0; z < m; z++)
    for (let y = 0; y < m; y++)
      for (let x = 0; x < m; x++, k++) out[((z + 1) * n + y + 1) * n + x + 1] = (map.low + step * map.bytes[k]) * (mask ? mask.bytes[k] / 255 : 1);
  return out;
}

// Naive surface nets: a vertex in every cell that the surface crosses, the mean of where it cuts the edges; a quad around every edge.
function surfaceNets(v, n, level) {
  const at = new Int32Array(n * n * n).fill(-1), points = [], quads = [], step = [1, n, n * n];
  const corner = Array.from({ length: 8 }, (_, i) => [i & 1, (i >> 1) & 1, i >> 2]);
  const offset = corner.map(([x, y, z]) => x + y * n + z * n * n);
  const edges = [];
  for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) edges.push([i, i | bit]);
  for (let z = 0; z + 1 < n; z++)
    for (let y = 0; y + 1 < n; y++)
      for (let x = 0; x + 1 < n; x++) {
        const cell = x + y * n + z * n * n;
        let inside = 0;
        for (let i = 0; i < 8; i++) if (v[cell + offset[i]] > level) inside++;
        if (inside === 0 || inside === 8) continue;
        let sx = 0, sy = 0, sz = 0, count = 0;
        for (const [a, b] of edges) {
          const p = v[cell + offset[a]], q = v[cell + offset[b]];
          if (p > level === q > level) continue;
          const t = (level - p) / (q - p), c = corner[a], d = corner[b];
          sx += c[0] + t * (d[0] - c[0]);
          sy += c[1] + t * (d[1] - c[1]);
          sz += c[2] + t * (d[2] - c[2]);
          count++;
        }
        at[cell] = points.length / 3;
        points.push(x + sx / count - 1, y + sy / count - 1, z + sz / count - 1);
      }
  for (let z = 1; z + 1 < n; z++)
    for (let y = 1; y + 1 < n; y++)
      for (let x = 1; x + 1 < n; x++) {
        const cell = x + y * n + z * n * n, here = v[cell] > level;
        for (let axis = 0; axis < 3; axis++) {
          if (here === v[cell + step[axis]] > level) continue;
          const u = step[(axis + 1) % 3], w = step[(axis + 2) % 3];
          const [a, b, c, d] = [at[cell - u - w], at[cell - w], at[cell], at[cell - u]];
          here ? quads.push(a, b, c, a, c, d) : quads.push(a, c, b, a, d, c);
        }
      }
  return { points: new Float32Array(points), faces: new Uint32Array(quads) };
}

function normals({ points, faces }) {
  const out = new Float32Array(points.length);
  for (let k = 0; k < faces.length; k += 3) {
    const [a, b, c] = [3 * faces[k], 3 * faces[k + 1], 3 * faces[k + 2]];
    const u = [0, 1, 2].map((i) => points[b + i] - points[a + i]), w = [0, 1, 2].map((i) => points[c + i] - points[a + i]);
    const n = [u[1] * w[2] - u[2] * w[1], u[2] * w[0] - u[0] * w[2], u[0] * w[1] - u[1] * w[0]];
    for (const at of [a, b, c]) for (let i = 0; i < 3; i++) out[at + i] += n[i];
  }
  return out;
}

// A colour for each vertex: the value of another map there, between its ends; grey where it says nothing.
function shades(points, m, tint) {
  const out = new Float32Array(points.length);
  for (let k = 0; k < points.length; k += 3) {
    let rgb = [150, 170, 190];
    if (tint) {
      const scale = tint.m / m, [x, y, z] = [0, 1, 2].map((i) => Math.min(Math.max(Math.round((points[k + i] - (m >> 1)) * scale + (tint.m >> 1)), 0), tint.m - 1));
      const b = tint.bytes[(z * tint.m + y) * tint.m + x], [low, high] = tint.ends, share = Math.min(Math.max((b - low) / (high - low), 0), 1);
      rgb = tint.kind === "angstrom" ? (b === 0 ? [128, 128, 128] : RAMP[Math.round(255 * (1 - share))]) : RAMP[Math.round(255 * share)];
    }
    for (let i = 0; i < 3; i++) out[k + i] = rgb[i] / 255;
  }
  return out;
}

const VERTEX = `#version 300 es
in vec3 place, normal, shade; uniform mat3 turn; uniform vec2 zoom; out vec3 n, tone;
void main() { vec3 p = turn * place; n = turn * normal; tone = shade; gl_Position = vec4(p.xy * zoom, -p.z * 0.4, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float; in vec3 n, tone; out vec4 colour;
void main() { vec3 u = normalize(n); u = u.z < 0.0 ? -u : u; float light = 0.35 + 0.5 * u.z + 0.25 * max(dot(u, normalize(vec3(-0.5, 0.7, 0.5))), 0.0);
colour = vec4(tone * light, 1.0); }`;

class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true, alpha: true });
    if (!this.gl) return;
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.program = program;
    this.count = 0;
    this.buffers = {};
  }

  // mesh of a map of m voxels; its vertices become -1 to 1.
  set(mesh, m, tint) {
    const gl = this.gl, places = mesh.points.map((v) => (v - (m >> 1)) / (m / 2));
    for (const [name, values] of [["place", places], ["normal", normals(mesh)], ["shade", shades(mesh.points, m, tint)]]) {
      const at = gl.getAttribLocation(this.program, name);
      this.buffers[name] = this.buffers[name] || gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, 3, gl.FLOAT, false, 0, 0);
    }
    this.buffers.faces = this.buffers.faces || gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.faces);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.faces, gl.STATIC_DRAW);
    this.count = mesh.faces.length;
    this.reach = Math.max(0.05, furthest(places));
  }

  draw(turn) {
    const gl = this.gl, canvas = this.canvas, scale = pixelScale(), width = Math.max(canvas.clientWidth, 40);
    const tall = Math.min(width, 460);
    canvas.style.height = tall + "px";
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(tall * scale);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const zoom = 0.94 / this.reach, short = Math.min(width, tall);
    gl.uniformMatrix3fv(gl.getUniformLocation(this.program, "turn"), true, turn);
    gl.uniform2f(gl.getUniformLocation(this.program, "zoom"), (zoom * short) / width, (zoom * short) / tall);
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
  }
}

function furthest(places) {
  let most = 0;
  for (let k = 0; k < places.length; k += 3) most = Math.max(most, Math.hypot(places[k], places[k + 1], places[k + 2]));
  return most;
}

// Rows of a rotation: of the view, about the screen's x and y.
function turned(turn, about, by) {
  const [c, s] = [Math.cos(by), Math.sin(by)], r = about === "x" ? [1, 0, 0, 0, c, -s, 0, s, c] : [c, 0, s, 0, 1, 0, -s, 0, c];
  return Array.from({ length: 9 }, (_, k) => [0, 1, 2].reduce((sum, i) => sum + r[3 * Math.floor(k / 3) + i] * turn[3 * i + (k % 3)], 0));
}

// Drag and arrow keys turn what a canvas shows.
function turning(canvas, state, draw) {
  let last = null;
  const by = (dx, dy) => { state.turn = turned(turned(state.turn, "y", dx), "x", dy); draw(); };
  canvas.addEventListener("pointerdown", (e) => { last = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (!last) return;
    by((e.clientX - last[0]) / 120, (e.clientY - last[1]) / 120);
    last = [e.clientX, e.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
    if (step) { e.preventDefault(); by(...step); }
  });
}
