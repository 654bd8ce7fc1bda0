// The features themselves: heat maps, and the path in the plane.

// --- heat maps -------------------------------------------------------------------------------------------------------

const CELLS = [
  ["state", "Noisy state", "diverging"],
  ["denoised", "Estimate", "diverging"],
  ["reconstructed", "After Dₖ", "diverging"],
  ["truth", "Truth", "diverging"],
  ["difference", "|After Dₖ − truth|", "cividis"],
];
/** Without truth there is nothing to compare with. */
const cellsOf = (k) => (run.truth[k] ? CELLS : CELLS.slice(0, 3));
const LIMIT = 3;
const DIFFERENCE_LIMIT = 2;
let blocks = [];
let planeScale = "compressed";

function buildBlocks() {
  for (const block of blocks)
    for (const surface of [...Object.values(block.surfaces), block.plane]) surface.release();
  blocks = run.missing.map(buildBlock);
  ref.blocks.replaceChildren(...blocks.map((block) => block.node));
  const image = document.createElement("canvas");
  image.width = run.frames;
  image.height = run.channels;
  const context = image.getContext("2d");
  buffer = { image, context, pixels: context.createImageData(run.frames, run.channels) };
}

let buffer = null;

function buildBlock(k) {
  const block = { k, node: make("div", null, { class: "block" }), surfaces: {}, limits: {}, pointed: null };
  const cells = make("div", null, { class: "cells" });
  for (const [name, title, table] of cellsOf(k)) {
    const figure = make("figure", null, { class: "map cell-" + name });
    const caption = make("figcaption");
    const legend = make("span", null, { class: "legend" });
    const bar = make("i");
    bar.style.background = "var(--" + table + ")";
    block.limits[name] = [make("span"), make("span")];
    legend.append(block.limits[name][0], bar, block.limits[name][1]);
    caption.append(make("b", title), legend);
    const canvas = make("canvas", null, {
      role: "img",
      "data-map": k + "-" + name,
      "aria-label": NAMES[k] + ", " + title,
    });
    if (name === "denoised") {
      canvas.tabIndex = 0;
      canvas.setAttribute("aria-label", NAMES[k] + ", " + title + ": the arrow keys read single values of all maps");
    }
    figure.append(caption, canvas);
    cells.append(figure);
    point(block, canvas);
    block.surfaces[name] = canvas;
  }
  const plane = buildPlane(k);
  cells.append(plane);
  block.tip = make("div", null, { class: "tip", role: "status", hidden: "" });
  block.node.append(make("h4", NAMES[k]), cells, block.tip);
  ref.blocks.append(block.node);
  for (const name of Object.keys(block.surfaces)) block.surfaces[name] = new Surface(block.surfaces[name]);
  block.plane = new Surface(plane.querySelector("canvas"));
  return block;
}

function valuesOf(block, name, now) {
  if (name === "truth") return run.truth[block.k];
  if (name !== "difference") return now.maps[block.k][name];
  const [a, b] = [now.maps[block.k].reconstructed, run.truth[block.k]];
  return a.map((v, i) => Math.abs(v - b[i]));
}

/** The colour range: fixed for features; the noisy state's follows its spread, which falls step by step. */
function limitOf(name, values) {
  if (name !== "state") return name === "difference" ? DIFFERENCE_LIMIT : LIMIT;
  let sum = 0;
  for (const v of values) sum += v * v;
  return Math.max(LIMIT, 2.5 * Math.sqrt(sum / values.length));
}

function paintMaps() {
  const now = run?.saved[step.shown];
  if (!now) return;
  for (const block of blocks) {
    for (const [name, , table] of cellsOf(block.k)) {
      const surface = block.surfaces[name];
      const c = surface.begin();
      if (!c) continue;
      const values = valuesOf(block, name, now);
      const limit = limitOf(name, values);
      paintMap(c, surface, values, limit, table);
      const texts = name === "difference" ? ["0", say(limit, 0)] : [say(-limit, 0), "+" + say(limit, 0)];
      block.limits[name].forEach((node, i) => node.textContent !== texts[i] && (node.textContent = texts[i]));
      if (block.pointed) cross(c, surface, block.pointed);
    }
    paintPlane(block);
    if (block.pointed) showTip(block);
  }
}

function paintMap(c, { width, height }, values, limit, table) {
  const words = new Uint32Array(buffer.pixels.data.buffer);
  const colours = tables[table];
  const [scale, zero] = table === "cividis" ? [255 / limit, 0] : [127.5 / limit, 127.5];
  for (let i = 0; i < words.length; i++) words[i] = colours[clamp(Math.round(values[i] * scale + zero), 0, 255)];
  buffer.context.putImageData(buffer.pixels, 0, 0);
  c.imageSmoothingEnabled = false;
  c.drawImage(buffer.image, 0, 0, width, height);
}

function cross(c, { width, height }, { channel, frame }) {
  const [w, h] = [width / run.frames, height / run.channels];
  for (const [stroke, out] of [
    ["#ffffff", 2.5],
    ["#000000", 1],
  ]) {
    c.strokeStyle = stroke;
    c.lineWidth = 1.5;
    c.strokeRect(frame * w - out, channel * h - out, w + 2 * out, h + 2 * out);
  }
}

/** Points at the cell of a map, in all maps of the block; null points at none. */
function pointAt(block, canvas, cell) {
  block.pointed = cell && {
    canvas,
    channel: clamp(Math.floor(cell.channel), 0, run.channels - 1),
    frame: clamp(Math.floor(cell.frame), 0, run.frames - 1),
  };
  block.tip.hidden = !cell;
  version.step++;
  paintSoon();
}

function point(block, canvas) {
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    pointAt(block, canvas, {
      channel: ((event.clientY - box.top) / box.height) * run.channels,
      frame: ((event.clientX - box.left) / box.width) * run.frames,
    });
  };
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  canvas.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && pointAt(block, canvas, null));
  canvas.addEventListener("blur", () => pointAt(block, canvas, null));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    const from = block.pointed ?? { channel: run.channels / 2, frame: run.frames / 2 };
    pointAt(block, canvas, move ? { channel: from.channel + move[0], frame: from.frame + move[1] } : null);
  });
}

function showTip(block) {
  const now = run.saved[step.shown];
  const { canvas, channel, frame } = block.pointed;
  const [box, place] = [canvas.getBoundingClientRect(), block.node.getBoundingClientRect()];
  const x = box.left - place.left + ((frame + 0.5) / run.frames) * box.width;
  const y = box.top - place.top + ((channel + 0.5) / run.channels) * box.height;
  const i = channel * run.frames + frame;
  const rows = [
    ["Channel", String(channel + 1)],
    ["Time in the clip", momentOf((frame + 1.5) / (run.frames + 2), run.seconds)],
    ...cellsOf(block.k).map(([name, title]) => [title, say(valuesOf(block, name, now)[i])]),
  ];
  block.tip.replaceChildren(
    ...rows.map(([name, value]) => {
      const row = make("div");
      row.append(make("span", name), make("b", value));
      return row;
    }),
  );
  const left = x + 16 + block.tip.offsetWidth > block.node.clientWidth ? x - 16 - block.tip.offsetWidth : x + 16;
  block.tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.max(0, y - block.tip.offsetHeight / 2)}px)`;
}

// --- the plane -------------------------------------------------------------------------------------------------------

function buildPlane(k) {
  const figure = make("figure", null, { class: "cell-plane" });
  const caption = make("figcaption");
  caption.append(make("b", "Path in the plane"));
  const canvas = make("canvas", null, {
    role: "img",
    "aria-label": `${NAMES[k]}: path of the state and of the estimate in the plane of the training set`,
  });
  figure.append(caption, canvas);
  figure.hidden = !run.cloud[k].length;
  return figure;
}

/** Distance from the origin within which nine in ten training clips lie: the compressed scale is straight there. */
function cloudRadius(cloud) {
  const distances = Array.from({ length: cloud.length / 2 }, (_, i) => Math.hypot(cloud[2 * i], cloud[2 * i + 1]));
  return distances.sort((a, b) => a - b)[Math.floor(0.9 * distances.length)] || 1;
}

/** Plane coordinates to pixels, the same scale in both directions. */
function planeView(block) {
  const { k, plane } = block;
  const cloud = run.cloud[k];
  const radius = cloudRadius(cloud);
  const bent = (v) => (planeScale === "compressed" ? Math.asinh(v / radius) : v);
  const path = run.saved.slice(0, run.last + 1).map((saved) => saved.curves[k]);
  const points = Array.from({ length: cloud.length / 2 }, (_, i) => cloud.subarray(2 * i, 2 * i + 2));
  if (run.truth_path[k]) points.push(run.truth_path[k]);
  if (planeScale === "end") points.push(...path.slice(-Math.ceil(path.length / 3)).map((p) => p.estimate));
  else points.push(...path.flatMap((p) => [p.state, p.estimate]));
  const [x0, x1] = bounds([points.map((p) => bent(p[0]))], 0.06);
  const [y0, y1] = bounds([points.map((p) => bent(p[1]))], 0.06);
  const unit = Math.min((plane.width - 16) / (x1 - x0), (plane.height - 36) / (y1 - y0));
  return ([x, y]) => [
    plane.width / 2 + (bent(x) - (x0 + x1) / 2) * unit,
    plane.height / 2 - 10 - (bent(y) - (y0 + y1) / 2) * unit,
  ];
}

function paintPlane(block) {
  const surface = block.plane;
  const { k } = block;
  const c = run.cloud[k].length ? surface.begin() : null;
  if (!c) return;
  const key = [version.run, version.layout].join();
  if (block.planeKey !== key) [block.planeKey, block.toPlane] = [key, planeView(block)];
  const at = block.toPlane;
  surface.still(key, (b) => {
    const cloud = run.cloud[k];
    b.fillStyle = colour.cloud;
    b.globalAlpha = 0.5;
    for (let i = 0; i < cloud.length; i += 2) {
      const [x, y] = at([cloud[i], cloud[i + 1]]);
      b.fillRect(x - 1, y - 1, 2, 2);
    }
    b.globalAlpha = 1;
  });
  const path = run.saved.slice(0, step.shown + 1).map((s) => s.curves[k]);
  line(
    c,
    path.map((p) => at(p.state)),
    { stroke: colour.state, width: 1.4, dash: [4, 3] },
  );
  line(
    c,
    path.map((p) => at(p.estimate)),
    { stroke: colour.estimate, width: 2 },
  );
  if (run.truth_path[k]) shape(c, "label", ...at(run.truth_path[k]), colour.ink, 13);
  const now = path.at(-1);
  disc(c, ...at(now.state), 4, colour.state);
  shape(c, "recovered", ...at(now.estimate), colour.estimate, 15);
  planeKey(c, surface);
}

function planeKey(c, { height }) {
  let x = 8;
  for (const [text, tint] of [
    ["state", "state"],
    ["estimate", "estimate"],
    ["truth", "ink"],
    ["training", "cloud"],
  ]) {
    disc(c, x + 3, height - 10, 3.2, colour[tint]);
    write(c, text, x + 10, height - 10, { size: 11 });
    x += c.measureText(text).width + 22;
  }
}
