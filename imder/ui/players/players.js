// Cards of a comparison: the face and the pitch of each at one time in the clip, its prediction on a scale.
(() => {
  "use strict";

  const root = element.querySelector("#players");
  const ref = (name) => root.querySelector("[data-ref=" + name + "]");
  const [bar, play, clock, list] = [ref("time"), ref("play"), ref("clock"), ref("cards")];
  const COLOURS = [
    "ink", "soft", "line", "answer", "label", "skin", "skin-shade", "skin-line", "hair", "shirt", "backdrop", "lip",
  ];
  const FACE_SIZE = 104;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  let colour = {};
  let message = null;
  let truth = {};
  let cards = [];
  let time = Number(bar.value) / 1000;
  let playing = false;
  let before = 0;
  let asked = false;

  // --- messages ------------------------------------------------------------------------------------------------------

  function bytes(text) {
    const raw = atob(text);
    return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
  }

  const floats = (text) => new Float32Array(bytes(text).buffer);

  /** A table of frames; see pack_columns in messages.py. */
  function unpack(packed) {
    const [low, high, raw] = [floats(packed.low), floats(packed.high), bytes(packed.data)];
    const [frames, width] = packed.shape.slice(-2);
    const values = Float32Array.from(raw, (q, i) => low[i % width] + (q / 255) * (high[i % width] - low[i % width]));
    return { frames, width, values };
  }

  const unpacked = (shown) => Object.fromEntries(Object.entries(shown ?? {}).map(([k, p]) => [k, unpack(p)]));

  /** A row between frames. */
  function rowAt(table, fraction) {
    const at = fraction * (table.frames - 1);
    const a = Math.floor(at);
    const b = Math.min(a + 1, table.frames - 1);
    const value = (row, column) => table.values[row * table.width + column];
    return Float32Array.from({ length: table.width }, (_, c) => value(a, c) + (value(b, c) - value(a, c)) * (at - a));
  }

  // --- cards ---------------------------------------------------------------------------------------------------------

  function made(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text) node.textContent = text;
    return node;
  }

  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);

  /** A place on the scale in percent, kept on it. */
  function place(value) {
    const [low, high] = message.true ? [0, 1] : message.range;
    return Math.min(100, Math.max(0, ((value - low) / (high - low)) * 100));
  }

  function mark(scale, name, value) {
    const node = made("i", name);
    node.style.left = place(value) + "%";
    scale.append(node);
    return node;
  }

  function scaleOf(card) {
    const scale = made("div", "scale");
    scale.setAttribute("aria-hidden", "true");
    if (card.interval) {
      const [low, high] = card.interval.map(place);
      mark(scale, "range", card.interval[0]).style.width = Math.max(1, high - low) + "%";
    }
    if (message.true) {
      for (const p of [0, 1]) mark(scale, "tick zero", p);
      if (typeof card.share === "number") mark(scale, "dot", card.share);
      return scale;
    }
    mark(scale, "tick zero", 0);
    mark(scale, "tick label", message.label);
    if (typeof card.prediction === "number") mark(scale, "dot", card.prediction);
    return scale;
  }

  function view(card, tables, kind, name) {
    const box = made("div");
    const own = (card.recovered ?? []).includes(name);
    if (!tables[kind]) {
      box.append(made("div", "none", own ? "no picture of the " + name.toLowerCase() : "no " + name.toLowerCase() + " to draw in this data set"));
      return [box, null];
    }
    const canvas = made("canvas", kind);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", (own ? "imagined " : "true ") + name.toLowerCase() + ", " + card.title);
    box.append(canvas, made("small", "", name + (own ? " (imagined)" : " (true)")));
    return [box, canvas];
  }

  function cardOf(card) {
    const node = made("li", card.true ? "true" : "");
    const tables = unpacked(card.shown);
    const views = made("div", "views");
    const [faceBox, face] = view(card, tables, "face", "Face");
    const [voiceBox, voice] = view(card, tables, "voice", "Voice");
    views.append(faceBox, voiceBox);
    node.append(made("h3", "", card.title), views, scaleOf(card));
    const says = made("p");
    if (card.true) says.append("Label ", made("b", "", message.true ?? signed(message.label)));
    else if (card.verdict) says.append("Predicted ", made("b", "", card.verdict[0]), ", " + card.verdict[1]);
    else if (typeof card.prediction === "number") {
      says.append("Predicted ", made("b", "", signed(card.prediction)), ", off by ");
      says.append(made("b", "", signed(card.prediction - message.label)));
      if (card.interval) says.append("; 90 % interval " + signed(card.interval[0]) + " to " + signed(card.interval[1]));
    } else says.append("No prediction");
    node.append(says);
    for (const line of card.told) node.append(made("p", "quiet", line));
    list.append(node);
    return { node, tables, face, voice, own: (card.recovered ?? []).includes("Voice") };
  }

  /** New cards are added to those that stand; another run begins anew. */
  function receive(value) {
    if (!value || !value.cards) return;
    if (!message || value.run !== message.run) {
      list.replaceChildren();
      cards = [];
      truth = unpacked(value.truth);
    }
    message = value;
    for (const node of root.querySelectorAll("[data-of]"))
      node.hidden = (node.dataset.of === "classes") !== Boolean(message.true);
    for (const card of value.cards.slice(cards.length)) cards.push(cardOf(card));
    root.dataset.run = value.run;
    root.dataset.cards = String(cards.length);
    tell();
    paintSoon();
  }

  // --- painting ------------------------------------------------------------------------------------------------------

  function readTheme() {
    const style = getComputedStyle(root);
    colour = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  }

  /** The context of a cleared canvas in CSS pixels, or null while it is not shown. */
  function cleared(canvas) {
    const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
    if (!width) return null;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const c = canvas.getContext("2d");
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    return { c, width, height };
  }

  function paintFace(card) {
    const surface = cleared(card.face);
    if (surface) FACE.draw(surface.c, FACE_SIZE, FACE.read(rowAt(card.tables.face, time)), colour);
  }

  function pitch(table) {
    return Array.from({ length: table.frames }, (_, i) => table.values[i * table.width]);
  }

  function curve(c, values, x, y, tint, dash) {
    c.strokeStyle = tint;
    c.lineWidth = 2;
    c.setLineDash(dash);
    c.beginPath();
    values.forEach((value, i) => c.lineTo(x(i / Math.max(values.length - 1, 1)), y(value)));
    c.stroke();
    c.setLineDash([]);
  }

  function paintVoice(card) {
    const surface = cleared(card.voice);
    if (!surface) return;
    const { c, width, height } = surface;
    const [own, real] = [pitch(card.tables.voice), truth.voice ? pitch(truth.voice) : []];
    const all = [...own, ...real];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (part) => 4 + part * (width - 8);
    const y = (value) => height - 8 - ((value - low) / (high - low || 1)) * (height - 16);
    c.strokeStyle = colour.line;
    c.lineWidth = 1;
    c.strokeRect(0.5, 0.5, width - 1, height - 1);
    if (card.own) curve(c, real, x, y, colour.label, [5, 4]);
    curve(c, own, x, y, colour.answer, []);
    c.strokeStyle = colour.soft;
    c.beginPath();
    c.moveTo(x(time), 2);
    c.lineTo(x(time), height - 2);
    c.stroke();
  }

  function paint() {
    asked = false;
    for (const card of cards) {
      if (card.face) paintFace(card);
      if (card.voice) paintVoice(card);
    }
  }

  function paintSoon() {
    if (!asked) requestAnimationFrame(paint);
    asked = true;
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  const length = () => message?.seconds || 3;

  function tell() {
    const text = (time * length()).toFixed(1) + " of " + length().toFixed(1) + " s";
    clock.textContent = text;
    bar.setAttribute("aria-valuetext", text);
    root.dataset.time = String(Math.round(time * 1000));
  }

  function seek(fraction) {
    time = Math.min(1, Math.max(0, fraction));
    bar.value = String(Math.round(time * 1000));
    tell();
    paintSoon();
  }

  function setPlaying(on) {
    if (on && !playing) {
      if (time >= 0.999) seek(0);
      before = performance.now();
      requestAnimationFrame(advance);
    }
    playing = on;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
    root.dataset.playing = String(on);
  }

  function advance(now) {
    if (!playing) return;
    if (!root.isConnected || !root.clientWidth) return setPlaying(false); // another tab is shown
    seek(time + Math.max(0, now - before) / 1000 / length());
    before = now;
    if (time >= 1) return setPlaying(false);
    requestAnimationFrame(advance);
  }

  play.addEventListener("click", () => setPlaying(!playing));
  bar.addEventListener("input", () => {
    setPlaying(false);
    seek(Number(bar.value) / 1000);
  });
  still.addEventListener("change", () => setPlaying(false));
  new ResizeObserver(paintSoon).observe(root);
  const themes = new MutationObserver(() => {
    readTheme();
    paintSoon();
  });
  for (const node of [document.documentElement, document.body])
    themes.observe(node, { attributes: true, attributeFilter: ["class"] });

  readTheme();
  watch("value", () => receive(props.value));
  receive(props.value);
})();
