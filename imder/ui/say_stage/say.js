// The imagined voice and face of a sentence. Runs inside gr.HTML's js_on_load, after face.js, where `element`, `props`
// and `watch` are given. Messages come from imder/ui/say.py; nothing is computed here but pictures.
(() => {
  "use strict";

  const root = element.querySelector("#say-stage");
  const ref = Object.fromEntries([...root.querySelectorAll("[data-ref]")].map((node) => [node.dataset.ref, node]));
  const FPS = 30;
  const COLOURS = [
    "ink", "soft", "line", "front", "others", "band", "skin", "skin-shade", "skin-line", "hair", "shirt", "backdrop",
    "lip",
  ];

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const known = (x) => typeof x === "number" && Number.isFinite(x);
  const signed = (x) => (known(x) ? (x > 0 ? "+" : "") + x.toFixed(2).replace("-", "−") : "–");

  let shown = null; // the message, with its tables unpacked
  let colour = {};
  const time = { fraction: 0.35, playing: false, sounding: false };

  // --- decoding ------------------------------------------------------------------------------------------------------

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  const floats = (text) => new Float32Array(bytes(text).buffer);

  /** A stack (draws, frames, columns) with a range for each column. */
  function unpack(packed) {
    const [low, high, raw] = [floats(packed.low), floats(packed.high), bytes(packed.data)];
    const [, frames, width] = packed.shape;
    const values = Float32Array.from(raw, (q, i) => low[i % width] + (q / 255) * (high[i % width] - low[i % width]));
    return { frames, width, at: (draw, frame, column) => values[(draw * frames + frame) * width + column] };
  }

  /** The row of a draw at a fraction of the clip, between the frames' middles by linear interpolation. */
  function rowAt(table, draw, fraction) {
    const at = clamp(fraction * table.frames - 0.5, 0, table.frames - 1);
    const a = Math.floor(at);
    const b = Math.min(a + 1, table.frames - 1);
    return Array.from({ length: table.width }, (_, c) => {
      const from = table.at(draw, a, c);
      return from + (table.at(draw, b, c) - from) * (at - a);
    });
  }

  // --- pictures ------------------------------------------------------------------------------------------------------

  function readTheme() {
    const style = getComputedStyle(root);
    colour = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  }

  /** The context of a canvas in CSS pixels, cleared, and its size; null where it is not laid out. */
  function surface(canvas) {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return null;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    return { c, width, height };
  }

  function paintFace(canvas, draw) {
    const found = surface(canvas);
    if (!found) return;
    found.c.fillStyle = colour.backdrop;
    found.c.fillRect(0, 0, found.width, found.height);
    FACE.draw(found.c, Math.min(found.width, found.height), FACE.read(rowAt(shown.face, draw, time.fraction)), colour);
  }

  function line(c, points, stroke, width, dash = []) {
    c.strokeStyle = stroke;
    c.lineWidth = width;
    c.setLineDash(dash);
    c.beginPath();
    points.forEach(([x, y], i) => (i ? c.lineTo(x, y) : c.moveTo(x, y)));
    c.stroke();
    c.setLineDash([]);
  }

  function paintContours() {
    const found = surface(ref.contours);
    if (!found) return;
    const { c, width, height } = found;
    const { voice } = shown;
    const [left, top, base, foot] = [54, 14, height - 34, height - 22];
    const x = (fraction) => left + fraction * (width - left - 6);
    const y = (pitch) => base - ((pitch - shown.pitch[0]) / (shown.pitch[1] - shown.pitch[0])) * (base - top);
    c.font = "12px " + getComputedStyle(root).fontFamily;
    c.fillStyle = colour.soft;
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const hertz of [60, 80, 120, 160, 240, 320, 400]) {
      const at = y(Math.log(hertz));
      if (at < top - 4 || at > base + 2) continue;
      c.fillText(hertz + " Hz", left - 6, at);
      line(c, [[left, at], [width - 6, at]], colour.line, 1);
    }
    const middle = (i) => x((i + 0.5) / voice.frames);
    const rows = Array.from({ length: voice.frames }, (_, i) => i);
    const energy = rows.map((i) => voice.at(shown.front, i, 1));
    const [quiet, loud] = [Math.min(...energy), Math.max(...energy)];
    c.fillStyle = colour.band;
    c.beginPath();
    c.moveTo(middle(0), base);
    rows.forEach((i) => c.lineTo(middle(i), base - ((energy[i] - quiet) / (loud - quiet || 1)) * 0.55 * (base - top)));
    c.lineTo(middle(voice.frames - 1), base);
    c.fill();
    for (let draw = 0; draw < shown.count; draw++) {
      if (draw !== shown.front) {
        line(c, rows.map((i) => [middle(i), y(voice.at(draw, i, 0))]), colour.others, 1.3, [5, 4]);
      }
    }
    line(c, rows.map((i) => [middle(i), y(voice.at(shown.front, i, 0))]), colour.front, 3);
    c.textAlign = "left";
    c.fillStyle = colour.ink;
    let free = 0;
    for (const [word, start, end] of shown.words) {
      line(c, [[x(start), foot - 6], [x(end) - 1, foot - 6]], colour.soft, 2);
      if (x(start) < free) continue;
      c.fillText(word, x(start), foot + 8);
      free = x(start) + c.measureText(word).width + 6;
    }
    line(c, [[x(time.fraction), 4], [x(time.fraction), foot - 2]], colour.ink, 1.5);
  }

  function paint() {
    if (!shown) return;
    paintFace(ref.face, shown.front);
    [...ref.draws.children].forEach((button, draw) => paintFace(button.querySelector("canvas"), draw));
    paintContours();
  }

  // --- words around the pictures -------------------------------------------------------------------------------------

  function make(tag, text, attributes = {}) {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  const moment = () => (time.fraction * shown.seconds).toFixed(2) + " s";

  function tell() {
    if (!shown) return;
    ref.time.value = String(Math.round(time.fraction * 1000));
    ref.time.setAttribute("aria-valuetext", moment() + " into the clip");
    ref.clock.textContent = moment() + " / " + shown.seconds.toFixed(2) + " s";
    ref.play.textContent = time.playing ? "Pause" : shown.sounds[shown.front] ? "Play with sound" : "Play";
    ref.play.setAttribute("aria-pressed", String(time.playing));
    root.dataset.playing = String(time.playing);
    root.dataset.sounding = String(time.sounding);
    root.dataset.draw = String(shown.front);
    [...ref.line.querySelectorAll("span")].forEach((span, i) => {
      const [, start, end] = shown.words[i];
      span.classList.toggle("now", time.playing && time.fraction >= start && time.fraction < end);
    });
  }

  function showScale() {
    const [low, high] = shown.label_range;
    const place = (v) => clamp(((v - low) / (high - low)) * 100, 0, 100) + "%";
    const mark = (name, at, style = "") => make("i", null, { class: name, style: "left:" + place(at) + ";" + style });
    const [from, to] = shown.interval;
    const width = "right:calc(100% - " + place(to) + ")";
    const nodes = [make("i", null, { class: "axis" }), mark("range", from, width)];
    for (let v = low; v <= high; v++) {
      const label = make("span", (v > 0 ? "+" : "") + String(v).replace("-", "−"));
      label.style.left = place(v);
      nodes.push(mark("tick", v), label);
    }
    nodes.push(...shown.predictions.map((v) => mark("one", v)), mark("mean", shown.mean));
    ref.scale.replaceChildren(...nodes);
    const words =
      "The mean over " + shown.predictions.length + " draws is " + signed(shown.mean) + " (diamond); single draws say " +
      signed(Math.min(...shown.predictions)) + " to " + signed(Math.max(...shown.predictions)) +
      " (dashed); with 90 % the label of a corpus sentence lies between " + signed(from) + " and " + signed(to) +
      " (bar). The scale runs from " + signed(low) + ", very negative, to " + signed(high) + ", very positive.";
    ref.verdict.textContent = words;
    ref.scale.setAttribute("aria-label", words);
  }

  function choose(draw) {
    const before = time.playing;
    setPlaying(false);
    shown.front = draw;
    [...ref.draws.children].forEach((b, i) => b.setAttribute("aria-pressed", String(i === draw)));
    ref.caption.textContent = "Imagined face, draw " + (draw + 1) + ": a drawing of numbers, no video";
    if (shown.sounds[draw]) ref.audio.src = shown.sounds[draw];
    else ref.audio.removeAttribute("src");
    if (before) {
      time.fraction = 0;
      setPlaying(true);
    }
    tell();
    paintSoon();
  }

  function receive(message) {
    if (!message || message.kind !== "said") return;
    setPlaying(false);
    shown = { ...message, front: 0, face: unpack(message.face), voice: unpack(message.voice) };
    shown.count = message.face.shape[0];
    const pitches = [];
    for (let d = 0; d < shown.count; d++) for (let i = 0; i < shown.voice.frames; i++) pitches.push(shown.voice.at(d, i, 0));
    shown.pitch = [Math.min(...pitches) - 0.06, Math.max(...pitches) + 0.06];
    time.fraction = 0.35;
    ref.line.replaceChildren(
      ...message.text.split(" ").flatMap((word, i) => (i ? [document.createTextNode(" ")] : []).concat(make("span", word))),
    );
    ref.source.textContent = message.source;
    ref.far.textContent = message.far;
    ref.far.hidden = !message.far;
    ref.draws.replaceChildren(
      ...Array.from({ length: shown.count }, (_, draw) => {
        const button = make("button", null, { type: "button", class: "draw", "aria-pressed": String(draw === 0) });
        const name = "Draw " + (draw + 1);
        button.append(make("canvas", null, { "aria-hidden": "true" }), make("b", name));
        button.append(make("span", "sentiment " + signed(message.predictions[draw])));
        button.addEventListener("click", () => choose(draw));
        return button;
      }),
    );
    root.dataset.run = message.run;
    showScale();
    choose(0);
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  let asked = 0;
  let before = 0;
  let due = 0;
  let onScreen = true;

  function paintSoon() {
    if (!asked) asked = requestAnimationFrame(tick);
  }

  function tick(now) {
    asked = 0;
    const passed = before ? clamp((now - before) / 1000, 0, 0.1) : 0;
    due += passed;
    if (time.playing && due >= 1 / FPS - 0.004) {
      const length = known(ref.audio.duration) && ref.audio.duration > 0 ? ref.audio.duration : shown.seconds;
      time.fraction = time.sounding ? clamp(ref.audio.currentTime / length, 0, 1) : time.fraction + due / shown.seconds;
      due = 0;
      if (time.fraction >= 1) {
        time.fraction = 1;
        setPlaying(false);
      }
      tell();
      paint();
    } else if (!time.playing) {
      paint();
    }
    before = time.playing ? now : 0;
    if (time.playing && onScreen) paintSoon();
  }

  function setPlaying(on) {
    if (time.playing === on) return;
    time.playing = on;
    due = 0;
    if (!on) {
      time.sounding = false;
      ref.audio.pause();
    } else {
      if (time.fraction >= 0.995) time.fraction = 0;
      if (shown.sounds[shown.front]) {
        const length = known(ref.audio.duration) ? ref.audio.duration : shown.seconds;
        ref.audio.currentTime = time.fraction * length;
        const heard = (sounding) => {
          time.sounding = sounding && time.playing;
          tell();
        };
        ref.audio.play().then(() => heard(true), () => heard(false)); // refused: the face goes on silently
      }
    }
    tell();
    paintSoon();
  }

  // --- controls ------------------------------------------------------------------------------------------------------

  ref.play.addEventListener("click", () => {
    if (!shown) return;
    if (!time.playing) time.fraction = time.fraction === 0.35 ? 0 : time.fraction; // the opening pose is no place to begin
    setPlaying(!time.playing);
  });
  ref.time.addEventListener("input", () => {
    if (!shown) return;
    setPlaying(false);
    time.fraction = Number(ref.time.value) / 1000;
    tell();
    paintSoon();
  });
  ref.audio.addEventListener("ended", () => {
    if (!shown || !time.sounding) return;
    time.fraction = 1;
    setPlaying(false);
  });
  new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    if (onScreen) paintSoon();
    else if (shown) setPlaying(false);
  }).observe(root);
  new ResizeObserver(paintSoon).observe(root);
  const themes = new MutationObserver(() => {
    readTheme();
    paintSoon();
  });
  for (const node of [document.documentElement, document.body])
    themes.observe(node, { attributes: true, attributeFilter: ["class"] });

  root.say = { state: () => ({ ...time, front: shown?.front ?? null, count: shown?.count ?? 0 }) };
  readTheme();
  watch("value", () => receive(props.value));
  receive(props.value);
})();
