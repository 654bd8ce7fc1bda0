// A score field: density, arrows and many paths on one canvas, with a slider over time. Runs inside gr.HTML's
// js_on_load, where `element`, `props` and `watch` are given. Messages come from imder/ui/flow/__init__.py, each with
// all that came before it, so that one that is missed does no harm; nothing is computed here but pictures.
(() => {
  "use strict";

  const root = element.querySelector(".flow");
  const ref = Object.fromEntries([...root.querySelectorAll("[data-ref]")].map((node) => [node.dataset.ref, node]));
  const canvas = ref.canvas;
  const context = canvas.getContext("2d");
  const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");

  const PLAY_SECONDS = 7;
  const TAIL = 4; // states
  const GAP_IN_STD = 4; // an arrow as long as the gap between two grid points
  const REST = 0.4; // where an untouched picture stays, as a part of the path
  const HINT = "Point at the picture, or focus it and press the arrow keys, to read the values of a point.";

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const mix = (a, b, part) => a + (b - a) * part;

  function say(x) {
    const size = Math.abs(x);
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return x.toFixed(digits).replace("-", "−");
  }

  // --- decoding ------------------------------------------------------------------------------------------------------

  function bytes(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  const floats = (text) => new Float32Array(bytes(text).buffer);

  let picture = null;
  let at = 0; // state shown, between two of them while it plays
  let playing = false;
  let touched = false;
  let paths = "both";
  let arrowsShown = true;
  let follow = true;
  let pointed = null; // {x, y}: parts of the window, -1 to 1
  const cost = { frames: 0, milliseconds: 0 };

  function receive(value) {
    if (!value || !value.id) return;
    if (picture?.id !== value.id) begin(value);
    picture.count = value.count;
    for (const kind of ["ode", "sde"]) if (value[kind] && !picture[kind]) picture[kind] = floats(value[kind]);
    for (const [index, packed] of Object.entries(value.arrows ?? {})) {
      if (picture.arrows.has(Number(index))) continue;
      picture.arrows.set(Number(index), floats(packed));
      if (!touched && !reduced.matches && !value.done) at = Number(index);
    }
    if (value.done && !picture.done) {
      picture.done = true;
      if (!touched) at = Math.round(REST * picture.last);
    }
    show();
  }

  function begin(value) {
    const levels = bytes(value.density.data);
    const scale = floats(value.density.scale);
    const size = levels.length / scale.length;
    picture = {
      id: value.id,
      t: floats(value.t),
      std: floats(value.std),
      reach: floats(value.reach),
      centre: value.centre,
      cloud: floats(value.cloud),
      truth: value.truth ?? null,
      fields: value.fields,
      side: value.side,
      floor: value.floor,
      cells: Math.round(Math.sqrt(size)),
      density: Array.from(scale, (s, k) => Float32Array.from(levels.subarray(k * size, (k + 1) * size), (q) => ((q - 127) / 127) * s)),
      count: 0,
      arrows: new Map(),
      shades: new Map(),
      done: false,
      last: floats(value.t).length - 1,
    };
    playing = false;
    pointed = null;
    if (!touched || at > picture.last) at = reduced.matches ? Math.round(REST * picture.last) : 0;
    root.setAttribute("aria-label", value.title);
    canvas.setAttribute("aria-label", value.title + ": density, arrows of the score and paths in the plane");
    ref.slider.max = String(picture.last);
    ref.keyTruth.hidden = !picture.truth;
    ref.keyCloud.textContent = value.cloud_name;
    ref.wait.hidden = true;
  }

  // --- colours -------------------------------------------------------------------------------------------------------

  let colour = {};
  let family = "sans-serif";

  function readTheme() {
    const style = getComputedStyle(root);
    for (const name of ["ink", "soft", "ode", "sde", "truth", "cloud", "low", "high", "edge"])
      colour[name] = style.getPropertyValue("--" + name).trim();
    family = style.fontFamily || "sans-serif";
    picture?.shades.clear();
  }

  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  /** The density of a state as a small canvas. */
  function shade(k) {
    if (picture.shades.has(k)) return picture.shades.get(k);
    const { cells, floor } = picture;
    const small = document.createElement("canvas");
    small.width = small.height = cells;
    const c = small.getContext("2d");
    const image = c.createImageData(cells, cells);
    const [low, high] = [channels(colour.low), channels(colour.high)];
    for (let row = 0; row < cells; row++) {
      for (let column = 0; column < cells; column++) {
        const part = clamp(1 + picture.density[k][row * cells + column] / floor, 0, 1);
        const i = 4 * ((cells - 1 - row) * cells + column); // the second coordinate points up
        for (let b = 0; b < 3; b++) image.data[i + b] = Math.round(mix(low[b], high[b], part));
        image.data[i + 3] = 255;
      }
    }
    c.putImageData(image, 0, 0);
    picture.shades.set(k, small);
    return small;
  }

  // --- painting ------------------------------------------------------------------------------------------------------

  /** Half the window in the picture's units at a state between two. */
  function halfAt(s) {
    const a = Math.min(Math.floor(s), picture.last - 1);
    return Math.exp(mix(Math.log(picture.reach[a]), Math.log(picture.reach[a + 1]), s - a));
  }

  const halfShown = () => (follow ? halfAt(at) : picture.reach[0]);

  function stdAt(s) {
    const a = Math.min(Math.floor(s), picture.last - 1);
    return mix(picture.std[a], picture.std[a + 1], s - a);
  }

  /** The arrows at a state between two fields, (side * side * 2) in units of the noise level; null: none have come. */
  function arrowsAt(s) {
    const have = picture.fields.filter((k) => picture.arrows.has(k));
    if (!have.length || s > picture.fields.at(-1) + 0.5) return null;
    const a = have.filter((k) => k <= s).at(-1) ?? have[0];
    const b = have.find((k) => k >= s) ?? a;
    const part = b > a ? (s - a) / (b - a) : 0;
    const [from, to] = [picture.arrows.get(a), picture.arrows.get(b)];
    return from.map((v, i) => mix(v / picture.std[a], to[i] / picture.std[b], part));
  }

  function paint() {
    asked = 0;
    if (!picture || canvas.clientWidth < 8) return;
    const begun = performance.now();
    const size = canvas.clientWidth;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const pixels = Math.round(size * ratio);
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
    const c = context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = colour.low;
    c.fillRect(0, 0, size, size);
    const half = halfShown();
    const per = size / 2 / half;
    const px = (x, y) => [size / 2 + (x - picture.centre[0]) * per, size / 2 - (y - picture.centre[1]) * per];
    paintDensity(c, size, half);
    paintCloud(c, px);
    if (arrowsShown) paintArrows(c, size, half);
    if (paths !== "ode") paintPaths(c, px, "sde");
    if (paths !== "sde") paintPaths(c, px, "ode");
    if (picture.truth) diamond(c, ...px(...picture.truth), 7);
    paintScale(c, size, half);
    if (pointed) paintCross(c, size);
    cost.frames++;
    cost.milliseconds += performance.now() - begun;
  }

  function paintDensity(c, size, half) {
    const k = Math.round(at);
    const width = (size * picture.reach[k]) / half;
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    c.drawImage(shade(k), (size - width) / 2, (size - width) / 2, width, width);
  }

  function paintCloud(c, px) {
    c.fillStyle = colour.cloud;
    c.globalAlpha = 0.7;
    for (let i = 0; i < picture.cloud.length; i += 2) {
      const [x, y] = px(picture.cloud[i], picture.cloud[i + 1]);
      c.fillRect(x - 1, y - 1, 2, 2);
    }
    c.globalAlpha = 1;
  }

  function paintArrows(c, size, half) {
    const arrows = arrowsAt(at);
    if (!arrows) return;
    const { side } = picture;
    const wide = (size * halfAt(at)) / half;
    const gap = wide / side;
    c.strokeStyle = colour.ink;
    c.lineWidth = 1.25;
    c.globalAlpha = 0.85;
    c.beginPath();
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const i = 2 * (row * side + column);
        const x = size / 2 - wide / 2 + (column + 0.5) * gap;
        const y = size / 2 + wide / 2 - (row + 0.5) * gap;
        arrow(c, x, y, (arrows[i] * gap) / GAP_IN_STD, (-arrows[i + 1] * gap) / GAP_IN_STD, gap);
      }
    }
    c.stroke();
    c.globalAlpha = 1;
  }

  function arrow(c, x, y, dx, dy, gap) {
    const length = Math.hypot(dx, dy);
    if (length < 0.6) return void (c.moveTo(x - 0.5, y), c.lineTo(x + 0.5, y));
    const cut = Math.min(1, (1.6 * gap) / length); // longer than that they would lie over each other
    const [ex, ey] = [x + dx * cut, y + dy * cut];
    const head = Math.min(5, 0.45 * length * cut);
    const angle = Math.atan2(dy, dx);
    c.moveTo(x, y);
    c.lineTo(ex, ey);
    for (const turn of [2.6, -2.6]) {
      c.moveTo(ex, ey);
      c.lineTo(ex + head * Math.cos(angle + turn), ey + head * Math.sin(angle + turn));
    }
  }

  /** Draw j of a kind at a state between two. */
  function pointOf(kind, j, s) {
    const a = Math.min(Math.floor(s), picture.last - 1);
    const i = 2 * (a * picture.count + j);
    const next = i + 2 * picture.count;
    const values = picture[kind];
    return [mix(values[i], values[next], s - a), mix(values[i + 1], values[next + 1], s - a)];
  }

  function paintPaths(c, px, kind) {
    if (!picture[kind]) return;
    const from = Math.max(0, at - TAIL);
    const stops = [from];
    for (let s = Math.floor(from) + 1; s < at; s++) stops.push(s);
    stops.push(at);
    c.save();
    c.strokeStyle = colour[kind];
    c.lineWidth = 1.5;
    c.lineJoin = "round";
    if (kind === "sde") c.setLineDash([4, 3]);
    c.globalAlpha = 0.5;
    c.beginPath();
    for (let j = 0; j < picture.count; j++)
      stops.forEach((s, i) => (i ? c.lineTo : c.moveTo).apply(c, px(...pointOf(kind, j, s))));
    c.stroke();
    c.restore();
    c.fillStyle = colour[kind];
    c.strokeStyle = colour.edge;
    c.lineWidth = 1.2;
    for (let j = picture.count - 1; j >= 0; j--) {
      const [x, y] = px(...pointOf(kind, j, at));
      const r = j === 0 && picture.truth ? 6.5 : 4; // draw 0 carries the slice
      c.beginPath();
      if (kind === "ode") c.arc(x, y, r, 0, 7);
      else {
        c.moveTo(x, y - 1.2 * r);
        c.lineTo(x + 1.1 * r, y + 0.8 * r);
        c.lineTo(x - 1.1 * r, y + 0.8 * r);
        c.closePath();
      }
      c.fill();
      c.stroke();
    }
  }

  function diamond(c, x, y, r) {
    c.fillStyle = colour.truth;
    c.strokeStyle = colour.edge;
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(x, y - r);
    c.lineTo(x + r, y);
    c.lineTo(x, y + r);
    c.lineTo(x - r, y);
    c.closePath();
    c.fill();
    c.stroke();
  }

  /** A bar of a round length. */
  function paintScale(c, size, half) {
    const wanted = half / 2;
    const base = 10 ** Math.floor(Math.log10(wanted));
    const length = [5, 2, 1].map((m) => m * base).find((v) => v <= wanted);
    const wide = (length / half / 2) * size;
    c.fillStyle = colour.low;
    c.globalAlpha = 0.8;
    c.fillRect(8, size - 32, wide + 12, 26);
    c.globalAlpha = 1;
    c.fillStyle = c.strokeStyle = colour.ink;
    c.lineWidth = 2;
    c.beginPath();
    c.moveTo(14, size - 11);
    c.lineTo(14 + wide, size - 11);
    c.stroke();
    c.font = "12px " + family;
    c.textAlign = "left";
    c.fillText(String(Number(length.toPrecision(3))), 14, size - 17);
  }

  function paintCross(c, size) {
    const x = (size / 2) * (1 + pointed.x);
    const y = (size / 2) * (1 - pointed.y);
    c.strokeStyle = colour.ink;
    c.lineWidth = 1;
    c.beginPath();
    c.arc(x, y, 8, 0, 7);
    c.moveTo(x - 13, y);
    c.lineTo(x - 5, y);
    c.moveTo(x + 5, y);
    c.lineTo(x + 13, y);
    c.stroke();
  }

  // --- what the visitor reads and sets -------------------------------------------------------------------------------

  let asked = 0;
  function paintSoon() {
    if (!asked) asked = requestAnimationFrame(paint);
  }

  /** Writes the state into the element, the slider and the text, and paints. */
  function show() {
    if (!picture) return;
    const k = Math.round(at);
    Object.assign(root.dataset, {
      id: picture.id,
      state: String(k),
      last: String(picture.last),
      arrows: String(picture.arrows.size),
      done: String(picture.done),
      playing: String(playing),
      paths,
    });
    const text = `t = ${say(picture.t[k])} · σ(t) = ${say(picture.std[k])}`;
    ref.slider.value = String(k);
    ref.slider.setAttribute("aria-valuetext", text);
    if (ref.clock.textContent !== text) ref.clock.textContent = text;
    ref.play.textContent = playing ? "Pause" : "Play";
    ref.play.setAttribute("aria-pressed", String(playing));
    ref.arrows.setAttribute("aria-pressed", String(arrowsShown));
    ref.follow.setAttribute("aria-pressed", String(follow));
    for (const button of root.querySelectorAll("button[data-paths]"))
      button.setAttribute("aria-pressed", String(button.dataset.paths === paths));
    if (!playing) readOut();
    paintSoon();
  }

  function readOut() {
    let text = HINT;
    if (pointed && picture) {
      const half = halfShown();
      const [x, y] = [picture.centre[0] + pointed.x * half, picture.centre[1] + pointed.y * half];
      text = `Point (${say(x)}, ${say(y)}). ` + densityText(x, y) + arrowText(x, y);
    }
    if (ref.readout.textContent !== text) ref.readout.textContent = text;
  }

  /** Which cell of `count` a side holds a point of the window of a half width; -1: none. */
  function cellOf(x, y, half, count) {
    const [i, j] = [x - picture.centre[0], y - picture.centre[1]].map((v) => Math.floor(((v / half + 1) / 2) * count));
    return i >= 0 && j >= 0 && i < count && j < count ? j * count + i : -1;
  }

  function densityText(x, y) {
    const k = Math.round(at);
    const cell = cellOf(x, y, picture.reach[k], picture.cells);
    if (cell < 0) return "Outside what was computed. ";
    const value = picture.density[k][cell];
    return value <= 0.02 - picture.floor
      ? `Density less than e^−${picture.floor} of its peak. `
      : `Density e^${say(value)} of its peak. `;
  }

  function arrowText(x, y) {
    const arrows = arrowsAt(at);
    const cell = cellOf(x, y, halfAt(at), picture.side);
    if (!arrows) return at > picture.fields.at(-1) + 0.5 ? "At t = 0 there is no score." : "";
    if (cell < 0) return "";
    const [dx, dy] = [arrows[2 * cell], arrows[2 * cell + 1]];
    const std = stdAt(at);
    return (
      `The nearest arrow is a step of (${say(dx * std)}, ${say(dy * std)}), ` +
      `${say(Math.hypot(dx, dy))} σ long; score (${say(dx / std)}, ${say(dy / std)}).`
    );
  }

  function go(to) {
    touched = true;
    playing = false;
    at = clamp(to, 0, picture?.last ?? 0);
    show();
  }

  let before = 0;
  function tick(now) {
    if (!playing || !root.isConnected) return;
    const passed = before ? clamp((now - before) / 1000, 0, 0.1) : 0;
    before = now;
    clockwork += (passed * picture.last) / PLAY_SECONDS;
    const to = Math.min(clockwork, picture.last);
    at = reduced.matches ? Math.round(to) : to; // without motion between the states
    if (to >= picture.last) playing = false;
    show();
    if (playing && onScreen) requestAnimationFrame(tick);
  }

  let clockwork = 0;
  function setPlaying(on) {
    if (!picture) return;
    touched = true;
    playing = on;
    if (on) {
      if (at >= picture.last) at = 0;
      clockwork = at;
      before = 0;
      requestAnimationFrame(tick);
    } else at = Math.round(at);
    show();
  }

  let onScreen = true;
  new IntersectionObserver((entries) => {
    const back = entries.at(-1).isIntersecting;
    if (back && !onScreen && playing) {
      before = 0;
      requestAnimationFrame(tick);
    }
    onScreen = back;
    if (back) paintSoon();
  }).observe(root);

  ref.play.addEventListener("click", () => setPlaying(!playing));
  ref.slider.addEventListener("input", () => go(Number(ref.slider.value)));
  for (const button of root.querySelectorAll("button[data-paths]"))
    button.addEventListener("click", () => {
      paths = button.dataset.paths;
      show();
    });
  ref.arrows.addEventListener("click", () => {
    arrowsShown = !arrowsShown;
    show();
  });
  ref.follow.addEventListener("click", () => {
    follow = !follow;
    show();
  });

  function pointAt(x, y) {
    pointed = x === null ? null : { x: clamp(x, -1, 1), y: clamp(y, -1, 1) };
    readOut();
    paintSoon();
  }
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    pointAt((2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height);
  });
  canvas.addEventListener("pointerleave", () => pointAt(null));
  canvas.addEventListener("blur", () => pointAt(null));
  canvas.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !picture) return;
    const by = 2 / picture.side;
    const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowDown: [0, -by], ArrowUp: [0, by] };
    if (event.key === " ") setPlaying(!playing);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(picture.last);
    else if (event.key === "Escape") pointAt(null);
    else if (Object.hasOwn(moves, event.key)) {
      const from = pointed ?? { x: 0, y: 0 };
      pointAt(from.x + moves[event.key][0], from.y + moves[event.key][1]);
    } else return;
    event.preventDefault();
  });

  // --- beginning -----------------------------------------------------------------------------------------------------

  new ResizeObserver(paintSoon).observe(canvas);
  const themes = new MutationObserver(() => {
    readTheme();
    paintSoon();
  });
  for (const node of [document.documentElement, document.body])
    themes.observe(node, { attributes: true, attributeFilter: ["class"] });

  root.flow = { cost, state: () => ({ at, playing, follow, arrowsShown, pointed, text: ref.readout.textContent }) };

  readTheme();
  readOut();
  watch("value", () => receive(props.value));
  receive(props.value);
})();
