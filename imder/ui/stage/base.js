// What all parts of the stage share: its element, words and numbers, decoding, colours, pens.

const root = element.querySelector("#stage");
const ref = Object.fromEntries([...root.querySelectorAll("[data-ref]")].map((node) => [node.dataset.ref, node]));

const MODALITIES = ["text", "audio", "vision"];
const NAMES = { text: "Language", audio: "Voice", vision: "Face" };
const SAMPLERS = {
  "euler-maruyama": "Euler-Maruyama",
  "euler-maruyama-log": "Euler-Maruyama, log levels",
  heun: "Heun",
  "dpmpp-2m": "DPM-Solver++(2M)",
  "dpmpp-2m-sde": "SDE-DPM-Solver++(2M)",
};
const PLAY_SECONDS = 5; // at speed 1, for runs of 12 to 60 saved steps
const FACE_FPS = 30;
const NARROW = 700; // below it the player lies a screen or more under the button that starts a run
const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");

// --- numbers and words -----------------------------------------------------------------------------------------------

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const mix = (a, b, part) => a + (b - a) * part;
/** The object with f(value, key) for every value. */
const each = (object, f) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value, key)]));
const known = (x) => typeof x === "number" && Number.isFinite(x);

/** A number in as few letters as it needs; a true minus sign, powers of ten where they are shorter. */
function say(x, digits = 2) {
  if (!known(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e4 || size < 10 ** -digits / 2)) {
    const [factor, power] = x.toExponential(1).split("e");
    const raised = [...String(Number(power))].map((d) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(d)]).join("");
    return (factor === "1.0" ? "" : factor.replace("-", "−") + "·") + "10" + raised;
  }
  return x.toFixed(size >= 100 ? 0 : size >= 10 ? Math.min(1, digits) : digits).replace("-", "−");
}
const signed = (x) => (known(x) ? (x > 0 ? "+" : "") + x.toFixed(2).replace("-", "−") : "–");

function listing(names) {
  const words = names.map((k) => NAMES[k]);
  return words.length < 2 ? words.join("") : words.slice(0, -1).join(", ") + " and " + words.at(-1);
}

function momentOf(fraction, seconds) {
  return known(seconds) ? (fraction * seconds).toFixed(2) + " s" : Math.round(fraction * 100) + " %";
}

// --- decoding --------------------------------------------------------------------------------------------------------

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SIX_BITS = new Uint8Array(128);
for (let i = 0; i < 64; i++) SIX_BITS[LETTERS.charCodeAt(i)] = i;

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

const floats = (text) => new Float32Array(bytes(text).buffer);

function levels(packed) {
  if (packed.bits === 8) return bytes(packed.data);
  const out = new Uint8Array(packed.data.length);
  for (let i = 0; i < out.length; i++) out[i] = SIX_BITS[packed.data.charCodeAt(i)];
  return out;
}

/** Maps of several steps: an array of Float32Array, one a step. */
function unpackMaps(packed) {
  const scale = floats(packed.scale);
  const raw = levels(packed);
  const half = 2 ** (packed.bits - 1) - 1;
  const size = raw.length / scale.length;
  return Array.from(scale, (s, k) =>
    Float32Array.from(raw.subarray(k * size, (k + 1) * size), (q) => ((q - half) / half) * s),
  );
}

/** A table (..., frames, columns) of columns with a range each: {shape, values}. */
function unpackColumns(packed) {
  const low = floats(packed.low);
  const high = floats(packed.high);
  const raw = bytes(packed.data);
  const width = low.length;
  const values = Float32Array.from(raw, (q, i) => low[i % width] + (q / 255) * (high[i % width] - low[i % width]));
  return { shape: packed.shape, values };
}

/** One (frames, columns) table out of a stack. */
function slice(table, k) {
  const [frames, width] = table.shape.slice(-2);
  const size = frames * width;
  return { frames, width, values: table.values.subarray(k * size, (k + 1) * size) };
}

const unpackReadable = (packed) => each(packed ?? {}, unpackColumns);

/** Row of a table at a fraction of the clip, between frames by linear interpolation. */
function rowAt(table, fraction) {
  const at = clamp(fraction, 0, 1) * (table.frames - 1);
  const a = Math.floor(at);
  const b = Math.min(a + 1, table.frames - 1);
  const out = new Float32Array(table.width);
  for (let c = 0; c < table.width; c++) {
    out[c] = mix(table.values[a * table.width + c], table.values[b * table.width + c], at - a);
  }
  return out;
}

// --- colours ---------------------------------------------------------------------------------------------------------

// Blue and red about white, blue and orange about near-black (both are told apart with any colour vision); cividis.
const DIVERGING = {
  light: [
    "#053061",
    "#2166ac",
    "#4393c3",
    "#92c5de",
    "#d1e5f0",
    "#f7f7f7",
    "#fddbc7",
    "#f4a582",
    "#d6604d",
    "#b2182b",
    "#67001f",
  ],
  dark: [
    "#b5d4ff",
    "#7ab0f0",
    "#3f83c8",
    "#215a8f",
    "#143650",
    "#12161c",
    "#44210f",
    "#83401c",
    "#bd642b",
    "#ea9550",
    "#ffcf9c",
  ],
};
const CIVIDIS = [
  "#00224e",
  "#123570",
  "#3b496c",
  "#575d6d",
  "#707173",
  "#8a8678",
  "#a59c74",
  "#c3b369",
  "#e1cc55",
  "#fee838",
];
const COLOURS = [
  "ink",
  "soft",
  "card",
  "accent",
  "state",
  "estimate",
  "refined",
  "complete",
  "zero",
  "cloud",
  "skin",
  "skin-shade",
  "skin-line",
  "hair",
  "shirt",
  "backdrop",
  "lip",
];

let colour = {};
let tables = {};
let dark = false;
let family = "sans-serif";

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function lookup(stops) {
  const out = new Uint32Array(256);
  const rgb = stops.map(channels);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (rgb.length - 1);
    const a = Math.min(Math.floor(at), rgb.length - 2);
    const [r, g, b] = rgb[a].map((v, c) => Math.round(mix(v, rgb[a + 1][c], at - a)));
    out[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return out;
}

function readTheme() {
  const style = getComputedStyle(root);
  colour = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  family = style.fontFamily || "sans-serif";
  dark = Boolean(root.closest(".dark"));
  const stops = DIVERGING[dark ? "dark" : "light"];
  tables = { diverging: lookup(stops), cividis: lookup(CIVIDIS) };
  root.style.setProperty("--diverging", "linear-gradient(90deg," + stops.join(",") + ")");
  root.style.setProperty("--cividis", "linear-gradient(90deg," + CIVIDIS.join(",") + ")");
}

// --- canvases --------------------------------------------------------------------------------------------------------

const surfaces = new Map();
const sizes = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const surface = surfaces.get(entry.target);
    if (!surface) continue;
    surface.width = entry.contentRect.width;
    surface.height = entry.contentRect.height;
    surface.stale = true;
  }
  version.layout++;
  paintSoon();
});

/** A canvas with its context in CSS pixels; `begin` clears it, `still` keeps a layer that changes rarely. */
class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    this.stale = true;
    surfaces.set(canvas, this);
    sizes.observe(canvas);
  }

  get ratio() {
    return Math.min(window.devicePixelRatio || 1, 2); // finer than that costs more than it shows
  }

  begin() {
    const [w, h] = [this.width, this.height].map((v) => Math.max(1, Math.round(v * this.ratio)));
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    const c = this.context;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    c.lineCap = c.lineJoin = "round";
    return this.width > 4 && this.height > 4 ? c : null;
  }

  still(key, paint) {
    if (this.key !== key || this.stale) {
      this.layer = this.layer || document.createElement("canvas");
      this.layer.width = this.canvas.width;
      this.layer.height = this.canvas.height;
      const c = this.layer.getContext("2d");
      c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      c.lineCap = c.lineJoin = "round";
      paint(c);
      this.key = key;
      this.stale = false;
    }
    const c = this.context;
    c.save();
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(this.layer, 0, 0);
    c.restore();
  }

  release() {
    sizes.unobserve(this.canvas);
    surfaces.delete(this.canvas);
  }
}

function write(c, text, x, y, { size = 12, align = "left", base = "middle", fill = colour.soft, weight = 400 } = {}) {
  c.font = weight + " " + size + "px " + family;
  c.textAlign = align;
  c.textBaseline = base;
  c.fillStyle = fill;
  c.fillText(text, x, y);
}

function line(c, points, { stroke = colour.ink, width = 1, dash = [], alpha = 1 } = {}) {
  c.save();
  c.globalAlpha *= alpha;
  c.strokeStyle = stroke;
  c.lineWidth = width;
  c.setLineDash(dash);
  c.beginPath();
  points.forEach(([x, y], i) => (i ? c.lineTo(x, y) : c.moveTo(x, y)));
  c.stroke();
  c.restore();
}

const rule = (c, x0, y0, x1, y1, style) =>
  line(
    c,
    [
      [x0, y0],
      [x1, y1],
    ],
    style,
  );

function disc(c, x, y, r, tint) {
  c.fillStyle = tint;
  c.beginPath();
  c.arc(x, y, r, 0, 7);
  c.fill();
}

// Shapes of the sentiment scale, as SVG paths on 16 x 16, drawn on canvases too.
const SHAPES = {
  label: "M8 1.2 14.8 8 8 14.8 1.2 8z",
  complete: "M8 2a6 6 0 1 0 .001 0z",
  zero: "M2.5 2.5h11v11h-11z",
  recovered: "M8 1.5 15 14H1z",
};
const outlines = Object.fromEntries(Object.entries(SHAPES).map(([name, d]) => [name, new Path2D(d)]));

function shape(c, name, x, y, fill, size = 16) {
  c.save();
  c.translate(x - size / 2, y - size / 2);
  c.scale(size / 16, size / 16);
  c.fillStyle = fill;
  c.strokeStyle = colour.card;
  c.lineWidth = 1.6;
  c.stroke(outlines[name]);
  c.fill(outlines[name]);
  c.restore();
}
