// The stage: a sample and its recovery on canvases. Runs inside gr.HTML's js_on_load, where `element`, `props` and
// `watch` are given. Messages come from imder/ui/messages.py; nothing is computed here but pictures.
(() => {
  "use strict";

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

  // --- numbers and words ---------------------------------------------------------------------------------------------

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

  // --- decoding ------------------------------------------------------------------------------------------------------

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

  // --- colours -------------------------------------------------------------------------------------------------------

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

  // --- canvases ------------------------------------------------------------------------------------------------------

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

  // --- state ---------------------------------------------------------------------------------------------------------

  let sample = null; // the clip in the sample panel
  let run = null; // the run shown
  let resting = false; // a stored run is being opened
  let pending = null; // a run that has begun and has no step yet: the last one stays in sight
  const version = { layout: 0, sample: 0, run: 0, step: 0, clip: 0 };
  const step = { at: 0, shown: -1, playing: false, waited: 0 }; // waited: seconds at the last step, for more to come
  const PATIENCE = 3;
  const clip = { fraction: 0, playing: false, sound: false };

  function openRun(message) {
    return {
      ...message,
      views: message.views ?? Object.keys(message.readable ?? {}), // runs stored before there was a list
      truth: each(message.truth, (packed) => unpackMaps(packed)[0]),
      cloud: each(message.cloud, floats),
      readable: unpackReadable(message.readable),
      saved: [],
      last: -1,
      result: null,
    };
  }

  /** The saved steps of a chunk, one object each. */
  function openChunk(message) {
    const rows = each({ step: 0, t: 0, std: 0, nfe: 0, prediction: 0 }, (_, name) => floats(message[name]));
    const maps = each(message.maps, (kinds) => each(kinds, unpackMaps));
    const curves = each(message.curves, (kinds) => each(kinds, floats));
    const drawn = unpackReadable(message.readable);
    const width = rows.prediction.length / message.count; // of classes each step has so many
    return Array.from({ length: message.count }, (_, i) => ({
      ...each(rows, (values) => values[i]),
      ...(width > 1 ? { prediction: rows.prediction.subarray(i * width, (i + 1) * width) } : {}),
      maps: each(maps, (kinds) => each(kinds, (steps) => steps[i])),
      curves: each(curves, (of) => ({
        state: of.path_state.subarray(2 * i, 2 * i + 2),
        estimate: of.path_denoised.subarray(2 * i, 2 * i + 2),
        error: of.error[i],
        refined: of.error_reconstructed[i],
        norm: of.score_norm[i],
      })),
      readable: each(drawn, (table) => slice(table, i)),
    }));
  }

  const receivers = {
    sample(message) {
      sample = { ...message, readable: each(unpackReadable(message.readable), (table) => slice(table, 0)) };
      version.sample++;
      showSample();
    },
    start(message) {
      if (message.run === run?.run || message.run === pending?.run) return;
      pending = openRun(message);
      hideNotice();
    },
    chunk(message) {
      if (pending && message.run === pending.run) beginRun();
      if (!run || message.run !== run.run) return;
      openChunk(message).forEach((saved, i) => (run.saved[message.k0 + i] = saved));
      while (run.saved[run.last + 1]) run.last++;
      version.run++;
      if (step.waited > PATIENCE && !reduced.matches) step.playing = true;
      step.waited = 0;
      if (reduced.matches) seek(run.last);
      else if (step.shown < 0) seek(0);
      showSteps();
    },
    done(message) {
      if (!run || message.run !== run.run) return;
      run.result = { ...message, fan: unpackReadable(message.fan) };
      if (run.classes) run.result.draws = message.draws.map(floats);
      version.run++;
      showResult();
    },
    notice(message) {
      ref.notice.textContent = message.text;
      ref.notice.hidden = !message.text;
    },
    bundle(message) {
      resting = Boolean(message.rest);
      for (const item of message.items) receive(item);
      resting = false;
      if (message.rest && run) {
        step.playing = false;
        seek(run.last);
        showStep();
      }
    },
  };

  function receive(message) {
    if (!message || typeof message !== "object" || !Object.hasOwn(receivers, message.kind)) return;
    receivers[message.kind](message);
    mark();
    paintSoon();
  }

  function beginRun() {
    run = pending;
    pending = null;
    Object.assign(step, { at: 0, shown: -1, playing: !reduced.matches, waited: 0 });
    version.run++;
    showRun();
    if (!reduced.matches && !clip.playing && run.views.includes("face")) setLoop(true);
    if (!resting && root.clientWidth < NARROW)
      ref.player.scrollIntoView({ behavior: reduced.matches ? "auto" : "smooth" });
  }

  function hideNotice() {
    ref.notice.hidden = true;
  }

  /** The state in attributes, for tests and the page. */
  function mark() {
    Object.assign(root.dataset, {
      run: run?.run ?? "",
      step: String(step.shown),
      last: String(run?.last ?? -1),
      done: String(Boolean(run?.result)),
      playing: String(step.playing),
      sample: sample?.clip ?? "",
    });
  }

  // --- the two clocks: denoising step, time in the clip --------------------------------------------------------------

  function seek(k) {
    if (!run || run.last < 0) return;
    step.at = clamp(k, 0, run.last);
    const shown = Math.floor(step.at + 1e-6);
    if (shown !== step.shown) {
      step.shown = shown;
      version.step++;
      showStep();
    }
    mark();
    paintSoon();
  }

  function setPlaying(on) {
    if (!run || run.last < 0) return;
    if (on && step.shown >= run.last && run.result) seek(0);
    Object.assign(step, { playing: on, waited: 0 });
    showStep();
    mark();
    paintSoon();
  }

  function nudge(by) {
    Object.assign(step, { playing: false, waited: 0 });
    seek(step.shown + by);
    showStep();
  }

  function advanceStep(seconds) {
    if (!step.playing || !run) return;
    const rate = clamp(Math.min(run.steps, 60) / PLAY_SECONDS, 2.5, 12);
    seek(Math.min(step.at + seconds * rate * Number(ref.speed.value), run.last));
    if (step.shown < run.last) return;
    step.waited += seconds;
    if (run.result || step.waited > PATIENCE) {
      step.playing = false;
      showStep();
      mark();
    }
  }

  const seconds = () => sample?.seconds ?? run?.seconds ?? null;

  function setClip(fraction) {
    clip.fraction = clamp(fraction, 0, 1);
    version.clip++;
    showClip();
    paintSoon();
  }

  function setLoop(on) {
    if (clip.sound) {
      advanceClip(0);
      ref.audio.pause();
    }
    Object.assign(clip, { playing: on, sound: false });
    showClip();
    paintSoon();
  }

  /** Whether what the listen button starts is going on: the sound if there is one, else the silent loop. */
  const heard = () => (sample?.sound ? clip.sound : clip.playing);

  function listen() {
    if (heard()) return setLoop(false);
    const silent = clip.playing;
    Object.assign(clip, { playing: true, sound: false });
    if (sample?.sound) {
      const begin = silent || clip.fraction >= 0.995 ? 0 : clip.fraction;
      setClip(begin);
      ref.audio.currentTime = begin * (known(ref.audio.duration) ? ref.audio.duration : (seconds() ?? 0));
      const started = (on) => {
        clip.sound = on;
        setClip(clip.fraction);
      };
      ref.audio.play().then(
        () => started(true),
        () => started(false),
      ); // refused: the clip goes on silently
    }
    showClip();
    paintSoon();
  }

  function advanceClip(passed) {
    if (!clip.playing) return;
    if (clip.sound) {
      const length = known(ref.audio.duration) ? ref.audio.duration : seconds();
      if (length > 0) setClip(ref.audio.currentTime / length);
      return;
    }
    setClip((clip.fraction + passed / (seconds() || 4)) % 1);
  }

  // --- words around the pictures -------------------------------------------------------------------------------------

  function make(tag, text, attributes = {}) {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  /** Covers a place of the sample: hatched where the modality is dropped, plain where it cannot be drawn. */
  function cover(node, dropped, drawable, words) {
    node.hidden = !dropped && drawable;
    node.textContent = dropped ? words.dropped : words.blank;
    node.classList.toggle("blank", !dropped);
  }

  function showSample() {
    const named = sample.title !== sample.clip;
    ref.title.textContent = named ? sample.title : "The sample";
    const about = [
      sample.clip,
      known(sample.seconds) ? sample.seconds.toFixed(1) + " s" : null,
      sample.synthetic ? "synthetic: written and generated by this project" : null,
    ];
    ref.meta.textContent = about.filter(Boolean).join(" · ");
    const lacks = (k) => !sample.available.includes(k) && !sample.missing.includes(k);
    ref.chips.replaceChildren(
      ...MODALITIES.map((k) => {
        const given = sample.available.includes(k);
        const chip = make("li", null, given ? {} : { class: "off" });
        chip.append(make("b", NAMES[k]), make("span", given ? "given" : lacks(k) ? "not in these data" : "dropped"));
        return chip;
      }),
    );
    const [text, voice, face] = MODALITIES.map((k) => sample.available.includes(k));
    ref.sentence.hidden = !text;
    ref.sentence.replaceChildren(...sentence(sample));
    cover(ref.goneText, !text, true, {
      dropped: lacks("text") ? "These data have no language" : "Language dropped: no words reach the model",
      blank: "",
    });
    cover(ref.goneVoice, !voice, "voice" in sample.readable, {
      dropped: lacks("audio") ? "These data have no voice" : "Voice dropped",
      blank: "The voice is there, but its features have no pitch and energy to draw",
    });
    cover(ref.goneFace, !face, "face" in sample.readable, {
      dropped: lacks("vision") ? "These data have no face" : "Face dropped",
      blank: "The face is there, but its features have no action units to draw",
    });
    ref.goneFace.parentElement.classList.toggle("empty", !ref.goneFace.hidden);
    ref.laneWords.hidden = !text || !sample.words.some((w) => known(w[1]));
    ref.transport.hidden = ref.laneWords.hidden && !ref.goneVoice.hidden && !ref.goneFace.hidden && !sample.sound;
    ref.audio.pause();
    if (sample.sound) ref.audio.src = sample.sound;
    else ref.audio.removeAttribute("src");
    Object.assign(clip, { fraction: 0, sound: false });
    version.clip++;
    showClip();
    showStale();
    showScale();
  }

  function sentence(source) {
    if (!source.words.length) return [document.createTextNode(source.text || "")];
    return source.words.flatMap(([word], i) => {
      const span = make("span", word);
      return i ? [document.createTextNode(" "), span] : [span];
    });
  }

  function showClip() {
    const moment = momentOf(clip.fraction, seconds());
    for (const slider of [ref.clipTime, ref.clipTimeTop]) {
      slider.value = String(Math.round(clip.fraction * 1000));
      slider.setAttribute("aria-valuetext", moment + " into the clip");
    }
    const whole = known(seconds()) ? " / " + seconds().toFixed(2) + " s" : "";
    ref.clock.textContent = ref.clockTop.textContent = moment.replace(" s", whole ? "" : " s") + whole;
    ref.listen.setAttribute("aria-pressed", String(heard()));
    ref.loop.setAttribute("aria-pressed", String(clip.playing && !clip.sound));
    ref.listenText.textContent = heard() ? "Pause" : sample?.sound ? "Play with sound" : "Play without sound";
    ref.loopText.textContent = clip.playing && !clip.sound ? "Pause" : "Loop the clip";
    ref.listenBelow.hidden = !sample?.sound || sample.clip !== run?.clip;
    ref.listenBelow.setAttribute("aria-pressed", String(clip.sound));
    ref.listenBelowText.textContent = clip.sound ? "Pause" : "With its sound";
    if (!sample || ref.sentence.hidden) return;
    [...ref.sentence.children].forEach((span, i) => {
      const [, start, end] = sample.words[i] || [];
      span.classList.toggle("now", known(start) && clip.fraction > 0 && clip.fraction >= start && clip.fraction < end);
    });
  }

  function showRun() {
    ref.results.hidden = false;
    const sampler = SAMPLERS[run.sampler] || run.sampler;
    const about = [
      `${listing(run.missing)} recovered from ${listing(run.available)}`,
      `${sampler}, ${run.steps} steps`,
    ];
    ref.runMeta.textContent = [...about, run.title].join(" · ");
    buildBlocks();
    buildCurves();
    ref.words.hidden = !run.missing.includes("text");
    ref.voice.hidden = !run.missing.includes("audio") || !run.views.includes("voice");
    ref.faces.hidden = !run.missing.includes("vision") || !run.views.includes("face");
    ref.faceTrue.parentElement.hidden = !run.readable.face;
    ref.loopBar.hidden = ref.faces.hidden && ref.voice.hidden;
    showClip();
    const mute = run.missing.filter((k) => (k === "audio" && ref.voice.hidden) || (k === "vision" && ref.faces.hidden));
    const notes = [];
    if (!ref.faces.hidden)
      notes.push(
        run.readable.face
          ? "One routine draws both faces; the recovered one is drawn from the estimate at this denoising step."
          : "The face is drawn from the estimate at this denoising step.",
      );
    const unknown = run.missing.filter((k) => !run.truth[k]);
    if (unknown.length) notes.push(`${listing(unknown)}: the file has none, so there is no truth to compare with.`);
    if (mute.length)
      notes.push(
        `${listing(mute)}: these features carry no names that can be drawn, so only the maps below show them.`,
      );
    ref.readableNote.textContent = notes.join(" ");
    ref.mapsNote.textContent =
      `${run.channels} latent channels (rows) over ${run.frames} frames (columns), in units of the training set's ` +
      "standard deviation. Point at a map to read its values.";
    showErrors();
    showWords();
    showStale();
    showScale();
    showStep();
  }

  function showStale() {
    const other = run && sample && (run.clip !== sample.clip || run.missing.join() !== sample.missing.join());
    ref.stale.hidden = !other;
    if (other) ref.stale.textContent = "Earlier run, kept until the next Recover";
  }

  function showSteps() {
    ref.stepSlider.max = String(run.last);
    showStep();
  }

  function showStep() {
    const ready = Boolean(run && run.last >= 0);
    for (const name of ["back", "play", "forward", "stepSlider"]) ref[name].disabled = !ready;
    ref.play.setAttribute("aria-pressed", String(step.playing));
    ref.play.setAttribute("aria-label", step.playing ? "Pause the denoising" : "Play the denoising");
    const now = run?.saved[step.shown];
    if (!now) return;
    ref.stepSlider.value = String(step.shown);
    const valueText = `step ${now.step} of ${run.steps}, noise level ${say(now.std)}`;
    ref.stepSlider.setAttribute("aria-valuetext", valueText);
    const rows = [
      ["step", `${Math.round(now.step)} / ${run.steps}`],
      ["t", say(now.t, 3)],
      ["σ(t)", say(now.std, 3)],
      ["network evaluations", `${Math.round(now.nfe)} / ${run.nfe_total}`],
    ];
    ref.readout.replaceChildren(
      ...rows.map(([name, value]) => {
        const row = make("div");
        row.append(make("dt", name), make("dd", value));
        return row;
      }),
    );
    showPrediction();
  }

  function showErrors() {
    const told = each(run.result?.feature_error ?? {}, (error, k) => {
      const [draw, refined, mean, both] = ["draw", "draw_refined", "mean", "mean_refined"].map((name) =>
        say(error[name]),
      );
      const one = `${draw} for one draw (${refined} after Dₖ)`;
      return `${NAMES[k]}: feature error ${one}, ${mean} for the mean of the draws (${both} after Dₖ).`;
    });
    ref.errorNote.textContent = Object.values(told).join(" ");
  }

  function showResult() {
    showErrors();
    showWords();
    showScale();
    showStep();
  }

  // --- the sentiment scale -------------------------------------------------------------------------------------------

  const ROWS = [
    ["label", "Label", "ink"],
    ["complete", "Complete", "complete"],
    ["zero", "Zero-filled", "zero"],
    ["recovered", "Recovered", "estimate"],
  ];
  const scaleValues = {};
  const scaleSurface = new Surface(ref.scaleCanvas);

  ref.scaleNames.replaceChildren(
    ...ROWS.map(([key, name, tint]) => {
      const row = make("div");
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      mark.setAttribute("viewBox", "0 0 16 16");
      mark.setAttribute("aria-hidden", "true");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", SHAPES[key]);
      path.style.fill = "var(--" + tint + ")";
      mark.append(path);
      const term = make("dt");
      term.append(mark, name);
      row.append(term, make("dd", "–", { "data-value": key }));
      return row;
    }),
  );

  const scaleRun = () =>
    run && (!sample || (run.clip === sample.clip && run.missing.join() === sample.missing.join())) ? run : null;

  function showScale() {
    const shown = scaleRun();
    scaleValues.label = shown?.label ?? sample?.label ?? null;
    scaleValues.complete = shown?.baseline.complete ?? null;
    scaleValues.zero = shown?.baseline.zero ?? null;
    scaleValues.range = (shown ?? sample)?.label_range ?? [-3, 3];
    scaleValues.classes = (shown ?? sample)?.classes ?? null;
    const name = (shown ?? sample)?.label_name || "class";
    ref.scaleTitle.textContent = scaleValues.classes ? name[0].toUpperCase() + name.slice(1) : "Sentiment";
    ref.scale.classList.toggle("of-classes", Boolean(scaleValues.classes));
    ref.scaleCanvas.style.height = scaleValues.classes ? CLASSES.height(scaleValues.classes.length) + "px" : "";
    showPrediction();
  }

  function showPrediction() {
    const shown = scaleRun();
    const last = shown?.result && step.shown >= shown.last;
    scaleValues.recovered = last ? shown.result.predictions.recovered : (shown?.saved[step.shown]?.prediction ?? null);
    if (scaleValues.classes) return showClasses(shown, last);
    for (const node of ref.scaleNames.querySelectorAll("[data-value]"))
      node.textContent = signed(scaleValues[node.dataset.value]);
    const draws = shown?.result?.draws.length ?? 0;
    ref.verdict.textContent = !shown
      ? "The label and the predictions, from negative to positive."
      : draws > 1
        ? `Recovered: at the last step the mean of ${draws} draws (ticks; bar: 90 % interval for the label), before it the first draw.`
        : "The recovered prediction moves with the denoising step.";
    const told = ROWS.map(([key, name]) => `${name} ${signed(scaleValues[key])}`);
    ref.scaleCanvas.setAttribute("aria-label", `Sentiment scale: ${told.join(", ")}`);
  }

  /** The same of classes: `scaleValues` then holds probabilities, and the spread of the draws once they are there. */
  function showClasses(shown, last) {
    const names = scaleValues.classes;
    const result = last && shown.result.draws.length > 1 ? shown.result : null;
    const ranking = [shown?.baseline.complete, shown?.baseline.zero, shown?.result?.predictions.recovered];
    Object.assign(scaleValues, {
      rows: CLASSES.rows(names, scaleValues.label, ranking.filter(Boolean)),
      draws: result?.draws ?? null,
      votes: result?.votes ?? null,
    });
    for (const node of ref.scaleNames.querySelectorAll("[data-value]")) {
      const value = scaleValues[node.dataset.value];
      node.textContent = node.dataset.value === "label" ? (names[value] ?? "–") : CLASSES.best(names, value);
    }
    const draws = shown?.result?.draws.length ?? 0;
    ref.verdict.textContent = !shown
      ? "The true class, and how likely each class is predicted to be."
      : draws > 1
        ? `How likely each class is. Recovered: at the last step the mean of ${draws} draws (ticks: each draw; right: in how many the class is the likeliest), before it the first draw.`
        : "How likely each class is. The recovered prediction moves with the denoising step.";
    const told = CLASSES.words(scaleValues.rows, scaleValues);
    ref.scaleCanvas.setAttribute("aria-label", `Probabilities of the classes: ${told}`);
  }

  function paintScale() {
    const c = scaleSurface.begin();
    if (!c) return;
    if (scaleValues.classes) {
      const pens = { write, rule, shape, colour, family };
      return CLASSES.paint(c, scaleSurface, pens, scaleValues.rows, scaleValues);
    }
    const { width, height } = scaleSurface;
    const [low, high] = scaleValues.range || [-3, 3];
    const at = (v) => mix(14, width - 14, (clamp(v, low - 0.15, high + 0.15) - low) / (high - low));
    const floor = height - 30;
    const pitch = (floor - 22) / ROWS.length;
    const level = (i) => (i + 0.5) * pitch;
    const ticks =
      high - low > 3
        ? Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i)
        : [low, (low + high) / 2, high];
    scaleSurface.still([version.layout, low, high].join(), (b) => {
      for (const v of ticks) {
        rule(b, at(v), 0, at(v), floor, { stroke: colour.ink, alpha: v === 0 ? 0.4 : 0.13 });
        write(b, signed(v).replace(/\.00$/, ""), at(v), floor + 10, { align: "center", base: "middle" });
      }
      ROWS.forEach((_, i) => rule(b, at(low), level(i), at(high), level(i), { alpha: 0.13 }));
      write(b, "negative", 4, height - 8);
      write(b, "positive", width - 4, height - 8, { align: "right" });
    });
    if (known(scaleValues.label))
      rule(c, at(scaleValues.label), 4, at(scaleValues.label), floor, { dash: [2, 4], alpha: 0.7, width: 1.3 });
    const result = scaleRun()?.result;
    const y = level(3);
    if (result?.draws.length > 1) {
      c.save();
      c.globalAlpha = 0.28;
      c.fillStyle = colour.estimate;
      c.beginPath();
      c.roundRect(at(result.interval[0]), y - 7, Math.max(2, at(result.interval[1]) - at(result.interval[0])), 14, 7);
      c.fill();
      c.restore();
      for (const v of result.draws)
        rule(c, at(v), y + 13, at(v), y + 23, { stroke: colour.estimate, width: 1.6, alpha: 0.75 });
    }
    ROWS.forEach(([key, , tint], i) => {
      if (known(scaleValues[key]))
        shape(c, key, at(scaleValues[key]), level(i), colour[tint], key === "recovered" ? 19 : 16);
    });
  }

  // --- faces on canvases ---------------------------------------------------------------------------------------------

  function paintFace(surface, table, marks) {
    const c = surface.begin();
    if (!c || !table) return null;
    const face = FACE.read(rowAt(table, clip.fraction));
    const size = Math.min(surface.width, surface.height);
    FACE.draw(c, size, face, colour);
    if (marks) {
      face.clamped.forEach((_, i) =>
        rule(c, size - 12, 14 + i * 7, size - 5, 14 + i * 7, { stroke: colour.zero, width: 3 }),
      );
    }
    return face;
  }

  // --- the sample ----------------------------------------------------------------------------------------------------

  const sampleFace = new Surface(ref.sampleFace);
  const laneWords = new Surface(ref.laneWords);
  const laneVoice = new Surface(ref.laneVoice);

  function paintSample() {
    paintFace(sampleFace, sample?.readable.face, false);
    paintWordLane();
    paintVoiceLane();
  }

  /** Words at their time, on as many lines as they need so that none covers another. */
  function paintWordLane() {
    const c = laneWords.begin();
    if (!c || !sample || ref.laneWords.hidden) return;
    const { width } = laneWords;
    laneWords.still([version.sample, version.layout].join(), (b) => {
      b.font = "400 12px " + family;
      const free = [0, 0, 0];
      for (const [word, start, end] of sample.words) {
        if (!known(start)) continue;
        const x = start * width;
        const wide = b.measureText(word).width;
        let lane = free.findIndex((edge) => edge <= x);
        if (lane < 0) lane = free.indexOf(Math.min(...free));
        free[lane] = x + wide + 5;
        b.save();
        b.globalAlpha = 0.85;
        b.fillStyle = colour.accent;
        b.fillRect(x, 47, Math.max(2, (end - start) * width - 1.5), 3);
        b.restore();
        write(b, word, Math.min(x, width - wide), 8 + lane * 13, { fill: colour.ink });
      }
    });
    const now = sample.words.find(([, start, end]) => known(start) && clip.fraction >= start && clip.fraction < end);
    if (now && clip.fraction > 0) {
      c.fillStyle = colour.ink;
      c.fillRect(now[1] * width, 46, Math.max(2, (now[2] - now[1]) * width - 1.5), 5);
    }
  }

  const column = (table, i) => Array.from({ length: table.frames }, (_, f) => table.values[f * table.width + i]);

  function bounds(lists, room = 0.08) {
    let [low, high] = [Infinity, -Infinity];
    for (const list of lists) for (const v of list) if (known(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
    if (low > high) return [0, 1];
    const spare = (high - low || 1) * room;
    return [low - spare, high + spare];
  }

  /** Pitch in hertz for a logarithm of it; feature sets may carry hertz already. */
  const hertz = (v) => (v < 9 ? Math.exp(v) : v);

  function ribbon(values, [left, right], [top, bottom], [low, high]) {
    return Array.from(values, (v, i) => [
      mix(left, right, values.length < 2 ? 0.5 : i / (values.length - 1)),
      mix(bottom, top, clamp((v - low) / (high - low), -0.05, 1.05)),
    ]);
  }

  function area(c, points, floor, tint, alpha) {
    c.save();
    c.globalAlpha = alpha;
    c.fillStyle = tint;
    c.beginPath();
    c.moveTo(points[0][0], floor);
    for (const p of points) c.lineTo(...p);
    c.lineTo(points.at(-1)[0], floor);
    c.fill();
    c.restore();
  }

  function paintVoiceLane() {
    const c = laneVoice.begin();
    const voice = sample?.readable.voice;
    if (!c || !voice) return;
    const { width, height } = laneVoice;
    laneVoice.still([version.sample, version.layout].join(), (b) => {
      const [pitch, energy] = [column(voice, 0), column(voice, 1)];
      area(b, ribbon(energy, [0, width], [height * 0.35, height], bounds([energy], 0)), height, colour.accent, 0.2);
      const range = bounds([pitch], 0.15);
      line(b, ribbon(pitch, [0, width], [14, height * 0.72], range), { stroke: colour.accent, width: 2.2 });
      const [lowest, highest] = [Math.min(...pitch), Math.max(...pitch)].map((v) => Math.round(hertz(v)));
      write(b, `pitch ${lowest}–${highest} Hz`, 0, 8);
      write(b, "energy", width, height - 9, { align: "right" });
    });
    const x = clip.fraction * width;
    if (clip.fraction > 0) rule(c, x, 16, x, height, { width: 1.5, alpha: 0.8 });
  }

  // --- the readable view ---------------------------------------------------------------------------------------------

  const faceNow = new Surface(ref.faceNow);
  const faceTrue = new Surface(ref.faceTrue);
  const voiceSurface = new Surface(ref.voiceCanvas);
  let faceNote = "";

  ref.voiceKey.replaceChildren(
    ...[
      ["estimate", "recovered"],
      ["ink", "true"],
      ["cloud", "other draws"],
    ].map(([tint, name]) => {
      const entry = make("span");
      const mark = make("i");
      mark.style.borderColor = "var(--" + tint + ")";
      entry.append(mark, name);
      return entry;
    }),
  );

  function paintReadable() {
    const now = run?.saved[step.shown];
    if (!now) return;
    if (!ref.faces.hidden) {
      const face = paintFace(faceNow, now.readable.face, true);
      if (run.readable.face) paintFace(faceTrue, slice(run.readable.face, 0), false);
      const beyond = face?.clamped ?? [];
      const more = beyond.length > 6 ? ` and ${beyond.length - 6} more` : "";
      const note = beyond.length
        ? `Drawn at their limit (ticks): ${beyond.slice(0, 6).join(", ")}${more}`
        : "All values within the range of a face.";
      if (note !== faceNote) ref.faceNote.textContent = faceNote = note;
    }
    if (!ref.voice.hidden) paintVoice(now);
  }

  /** Two plots, pitch above energy, with ranges from the truth, the draws and the last step. */
  function voiceFrame() {
    const { width, height } = voiceSurface;
    const truth = run.readable.voice && slice(run.readable.voice, 0);
    const fan = run.result?.fan.voice;
    const draws = fan ? Array.from({ length: fan.shape[0] }, (_, i) => slice(fan, i)) : [];
    const across = [40, width - 2];
    const middle = height * 0.58;
    return [
      { name: "pitch, Hz", top: 22, floor: middle, ticks: pitchTicks },
      {
        name: "energy (first cepstral coefficient)",
        top: middle + 30,
        floor: height - 4,
        ticks: (low, high) => linearTicks(low, high).map((v) => [v, say(v, 0)]),
      },
    ].map((plot, i) => {
      const shown = [truth, run.saved[run.last].readable.voice, ...draws].filter(Boolean);
      const lists = shown.map((table) => column(table, i));
      const range = bounds(lists, 0.12);
      const place = (table) => ribbon(column(table, i), across, [plot.top, plot.floor], range);
      return { ...plot, across, range, place, truth: truth && place(truth), draws: draws.map(place) };
    });
  }

  function paintVoice(now) {
    const c = voiceSurface.begin();
    if (!c) return;
    const key = [version.run, version.layout].join();
    if (voiceSurface.plotKey !== key) Object.assign(voiceSurface, { plotKey: key, plots: voiceFrame() });
    const { plots } = voiceSurface;
    voiceSurface.still(key, (b) => plots.forEach((plot) => voiceGround(b, plot)));
    plots.forEach(({ across: [left, right], top, floor, place, truth }, i) => {
      c.save();
      c.beginPath();
      c.rect(left, top - 4, right - left, floor - top + 8);
      c.clip();
      const points = place(now.readable.voice);
      if (i === 1) area(c, points, floor, colour.estimate, 0.35);
      line(c, points, { stroke: colour.estimate, width: i === 0 ? 4 : 1.5, alpha: i === 0 ? 0.75 : 1 });
      if (truth) line(c, truth, { stroke: colour.ink, width: 1.5 });
      const x = mix(left, right, clip.fraction);
      if (clip.fraction > 0) rule(c, x, top - 4, x, floor + 4, { alpha: 0.6 });
      c.restore();
    });
  }

  /** Pitches that are round in hertz, at their place on the scale of the feature. */
  function pitchTicks(low, high) {
    const place = low > 9 ? (v) => v : Math.log;
    const within = (pitches) => pitches.filter((v) => place(v) >= low && place(v) <= high);
    const fine = within([50, 75, 100, 150, 200, 250, 300, 400, 500]);
    const round = fine.length > 4 ? within([50, 100, 200, 400]) : fine;
    return round.map((v) => [place(v), String(v)]);
  }

  function voiceGround(b, { name, across: [left, right], top, floor, range: [low, high], ticks, draws }) {
    write(b, name, left, top - 12);
    for (const [v, text] of ticks(low, high)) {
      const y = mix(floor, top, (v - low) / (high - low));
      rule(b, left, y, right, y, { alpha: 0.12 });
      write(b, text, left - 6, y, { align: "right" });
    }
    for (const points of draws) line(b, points, { stroke: colour.cloud, alpha: 0.5 });
  }

  function showWords() {
    if (ref.words.hidden) return;
    const nearest = run.result?.words;
    const draws = run.result?.draws.length ?? 0;
    ref.wordsNote.textContent = !run.result
      ? "come with the last step"
      : nearest
        ? `share over ${draws} draw${draws === 1 ? "" : "s"}; the word that was said is bold`
        : "this feature set has no vocabulary, so its features cannot be turned back into words";
    ref.wordList.hidden = Boolean(run.result) && !nearest;
    ref.wordList.replaceChildren(
      ...run.words.map(([word], i) => {
        const item = make("li");
        item.append(make("b", word));
        for (const [guess, share] of nearest?.[i] ?? []) item.append(guessLine(word, guess, share));
        return item;
      }),
    );
  }

  const plain = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}']/gu, "");

  function guessLine(word, guess, share) {
    const row = make("div");
    const match = plain(word) === plain(guess);
    row.style.setProperty("--share", Math.round(share * 100) + "%");
    row.append(make("span", guess, match ? { class: "match" } : {}), make("span", Math.round(share * 100) + " %"));
    return row;
  }

  // --- heat maps -----------------------------------------------------------------------------------------------------

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

  // --- the plane -----------------------------------------------------------------------------------------------------

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

  // --- curves by step ------------------------------------------------------------------------------------------------

  let panels = [];

  /** What the curve of the prediction shows: the sentiment; of classes the probability of the true one, or else of the
   * likeliest. */
  function chance(prediction) {
    if (!run.classes || !prediction) return prediction;
    return known(run.label) ? prediction[run.label] : Math.max(...prediction);
  }

  function chanceTitle() {
    if (!run.classes) return "Prediction";
    return "Probability of the " + (known(run.label) ? `true class, ${run.classes[run.label]}` : "likeliest class");
  }

  function buildCurves() {
    for (const panel of panels) panel.surface.release();
    const several = run.missing.length > 1;
    const of = (pick) => () => run.saved.slice(0, run.last + 1).map(pick);
    const wanted = [
      ...run.missing.filter((k) => run.truth[k]).map((k) => ({
        title: "Feature error" + (several ? ", " + NAMES[k] : ""),
        log: true,
        wide: true,
        series: [
          { name: "estimate", tint: "estimate", values: of((s) => s.curves[k].error) },
          { name: "after Dₖ", tint: "refined", dash: [6, 4], values: of((s) => s.curves[k].refined) },
        ],
      })),
      {
        title: chanceTitle(),
        series: [{ name: "recovered", tint: "estimate", values: of((s) => chance(s.prediction)) }],
        lines: () => [
          ...(run.classes ? [] : [["label", run.label, "ink"]]),
          ["complete", chance(run.baseline.complete), "complete"],
          ["zero", chance(run.baseline.zero), "zero"],
        ],
      },
      { title: "Noise level σ(t)", log: true, series: [{ name: "σ(t)", tint: "state", values: of((s) => s.std) }] },
      {
        title: "Norm of the score",
        log: true,
        series: run.missing.map((k, i) => ({
          name: several ? NAMES[k] : "score",
          tint: i ? "refined" : "estimate",
          dash: i ? [6, 4] : [],
          values: of((s) => s.curves[k].norm),
        })),
      },
    ];
    panels = wanted.map((panel) => ({
      ...panel,
      figure: make("figure", null, several && !panel.wide ? { class: "third" } : {}),
    }));
    for (const panel of panels) {
      panel.canvas = make("canvas", null, { role: "img", "aria-label": panel.title + " by denoising step" });
      const caption = make("figcaption");
      panel.value = make("span");
      caption.append(make("b", panel.title), panel.value);
      panel.figure.append(caption, panel.canvas);
    }
    ref.curves.replaceChildren(...panels.map((panel) => panel.figure));
    for (const panel of panels) panel.surface = new Surface(panel.canvas);
  }

  function logTicks(low, high) {
    const out = [];
    const many = Math.log10(high / low) > 2.2;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of many ? [1] : [1, 2, 5]) if (m * 10 ** e >= low && m * 10 ** e <= high) out.push(m * 10 ** e);
    }
    return out.length > 6 ? out.filter((_, i) => i % 2 === 0) : out;
  }

  function linearTicks(low, high) {
    const raw = (high - low) / 4;
    const base = 10 ** Math.floor(Math.log10(raw));
    const by = [1, 2, 5, 10].map((m) => m * base).find((v) => v >= raw);
    const out = [];
    for (let v = Math.ceil(low / by) * by; v <= high + 1e-9; v += by) out.push(Math.abs(v) < by / 1e6 ? 0 : v);
    return out;
  }

  /** The panel's axes, from what has come so far. */
  function frame(panel) {
    const { width, height } = panel.surface;
    const values = panel.series.map((s) => s.values());
    const lines = (panel.lines?.() ?? []).filter((entry) => known(entry[1]));
    const all = [...values, lines.map((entry) => entry[1])];
    const bend = panel.log ? (v) => Math.log10(Math.max(v, 1e-9)) : (v) => v;
    const positive = all.flat().filter((v) => known(v) && (!panel.log || v > 0));
    let [low, high] = bounds([positive.map(bend)], 0.08);
    if (panel.log && high - low < 0.3) [low, high] = [(low + high) / 2 - 0.15, (low + high) / 2 + 0.15];
    panel.surface.context.font = "600 12px " + family;
    const names = [...panel.series.map((s) => s.name), ...lines.map((entry) => entry[0])];
    const room = Math.max(...names.map((name) => panel.surface.context.measureText(name).width));
    const box = { left: 40, right: width - room - 12, top: 8, bottom: height - 22 };
    const steps = run.saved.slice(0, run.last + 1).map((s) => s.step);
    const x = (s) => mix(box.left, box.right, run.steps ? clamp(s / run.steps, 0, 1) : 0);
    const y = (v) => mix(box.bottom, box.top, clamp((bend(v) - low) / (high - low), 0, 1));
    const powers = panel.log ? logTicks(10 ** low, 10 ** high) : [];
    const ticks = powers.length > 2 ? powers : panel.log ? linearTicks(10 ** low, 10 ** high) : linearTicks(low, high);
    return { box, x, y, values, lines, steps, ticks };
  }

  function paintPanel(panel) {
    const c = panel.surface.begin();
    if (!c || run.last < 0) return;
    const key = [version.run, version.layout].join();
    if (panel.key !== key) [panel.key, panel.frame] = [key, frame(panel)];
    const { box, x, y, values, lines, steps, ticks } = panel.frame;
    panel.surface.still(key, (b) => {
      for (const v of ticks) {
        rule(b, box.left, y(v), box.right, y(v), { alpha: 0.12 });
        write(b, say(v, v !== 0 && Math.abs(v) < 0.1 ? 2 : 1).replace(/\.0$/, ""), box.left - 6, y(v), {
          align: "right",
        });
      }
      write(b, "step 0", box.left, box.bottom + 13);
      write(b, String(run.steps), box.right, box.bottom + 13, { align: "right" });
      for (const [, value, tint] of lines)
        rule(b, box.left, y(value), box.right, y(value), { stroke: colour[tint], width: 1.3, dash: [2, 3] });
      panel.series.forEach((s, i) =>
        line(
          b,
          values[i].map((v, j) => [x(steps[j]), y(v), v]).filter(([, , v]) => !panel.log || v > 0),
          { stroke: colour[s.tint], width: 2, dash: s.dash ?? [] },
        ),
      );
      const labels = [
        ...panel.series.map((s, i) => [s.name, values[i].findLast((v) => !panel.log || v > 0), s.tint]),
        ...lines,
      ];
      spread(
        labels.map(([name, value, tint]) => ({ name, tint, y: y(value) })),
        box,
      ).forEach(({ name, tint, y: at }) => write(b, name, box.right + 7, at, { fill: colour[tint], weight: 600 }));
    });
    const k = Math.min(step.shown, steps.length - 1);
    if (k < 0) return;
    rule(c, x(steps[k]), box.top, x(steps[k]), box.bottom, { alpha: 0.55, width: 1.3 });
    panel.series.forEach((s, i) => {
      if (!panel.log || values[i][k] > 0) disc(c, x(steps[k]), y(values[i][k]), 4, colour[s.tint]);
    });
    const text = values.map((v) => say(v[k])).join(" · ");
    if (panel.value.textContent !== text) panel.value.textContent = text;
  }

  /** Labels at the right end, moved apart so that none covers another. */
  function spread(labels, box) {
    const gap = 13;
    labels.sort((a, b) => a.y - b.y);
    for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
    const over = labels.length ? labels.at(-1).y - (box.bottom + 4) : 0;
    if (over > 0) labels.at(-1).y -= over;
    for (let i = labels.length - 2; i >= 0; i--) labels[i].y = Math.min(labels[i].y, labels[i + 1].y - gap);
    return labels;
  }

  // --- painting ------------------------------------------------------------------------------------------------------

  // What each view depends on; a view is painted when one of these versions has moved.
  const VIEWS = [
    { paint: paintSample, needs: ["layout", "sample", "clip"] },
    { paint: paintScale, needs: ["layout", "sample", "run", "step"] },
    { paint: paintReadable, needs: ["layout", "run", "step", "clip"] },
    { paint: paintMaps, needs: ["layout", "run", "step"] },
    { paint: () => panels.forEach(paintPanel), needs: ["layout", "run", "step"] },
  ];
  let asked = 0;
  let before = 0;
  let faceDue = 0;
  const cost = { frames: 0, milliseconds: 0 };

  function paintSoon() {
    if (!asked) asked = requestAnimationFrame(tick);
  }

  function tick(now) {
    asked = 0;
    const begun = performance.now();
    const passed = before ? clamp((now - before) / 1000, 0, 0.1) : 0;
    advanceStep(passed);
    faceDue += passed;
    if (clip.playing && faceDue >= 1 / FACE_FPS - 0.004) {
      advanceClip(faceDue);
      faceDue = 0;
    }
    for (const view of VIEWS) {
      const seen = view.needs.map((name) => version[name]).join();
      if (seen === view.seen) continue;
      view.seen = seen;
      view.paint();
    }
    cost.frames++;
    cost.milliseconds += performance.now() - begun;
    const going = step.playing || clip.playing;
    before = going ? now : 0;
    if (going && onScreen) paintSoon();
  }

  let onScreen = true;
  new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    if (onScreen) paintSoon();
  }).observe(root);

  // --- controls ------------------------------------------------------------------------------------------------------

  root.addEventListener("pointerdown", (event) => {
    for (const block of blocks) if (block.pointed && !block.node.contains(event.target)) pointAt(block, null, null);
  });
  ref.play.addEventListener("click", () => setPlaying(!step.playing));
  ref.back.addEventListener("click", () => nudge(-1));
  ref.forward.addEventListener("click", () => nudge(1));
  ref.stepSlider.addEventListener("input", () => nudge(Number(ref.stepSlider.value) - step.shown));
  for (const slider of [ref.clipTime, ref.clipTimeTop]) {
    slider.addEventListener("input", () => {
      setLoop(false);
      setClip(Number(slider.value) / 1000);
    });
  }
  ref.planeScale.addEventListener("change", () => {
    planeScale = ref.planeScale.value;
    version.run++;
    paintSoon();
  });
  ref.listen.addEventListener("click", listen);
  ref.listenBelow.addEventListener("click", listen);
  ref.loop.addEventListener("click", () => setLoop(clip.sound || !clip.playing));
  ref.audio.addEventListener("ended", () => {
    setLoop(false);
    setClip(1);
  });

  ref.player.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !run) return;
    const own = event.target === ref.player || event.target === ref.stepSlider || event.target.closest(".keys");
    if (!own || (event.key === " " && event.target.closest("button"))) return;
    const actions = {
      " ": () => setPlaying(!step.playing),
      ArrowLeft: () => nudge(-1),
      ArrowRight: () => nudge(1),
      ArrowDown: () => nudge(-1),
      ArrowUp: () => nudge(1),
      Home: () => nudge(-step.shown),
      End: () => nudge(run.last - step.shown),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });

  // --- beginning -----------------------------------------------------------------------------------------------------

  const themes = new MutationObserver(() => {
    readTheme();
    version.layout++;
    paintSoon();
  });
  for (const node of [document.documentElement, document.body])
    themes.observe(node, { attributes: true, attributeFilter: ["class"] });

  root.stage = {
    receive,
    seek,
    play: () => setPlaying(true),
    pause: () => setPlaying(false),
    time: setClip,
    cost,
    face: (canvas, row) => FACE.draw(canvas.getContext("2d"), canvas.width, FACE.read(row), colour),
    state: () => ({
      sample: sample?.clip ?? null,
      missing: sample?.missing ?? [],
      run: run?.run ?? null,
      step: step.shown,
      last: run?.last ?? -1,
      done: Boolean(run?.result),
      playing: step.playing,
      clip: clip.fraction,
      clipPlaying: clip.playing,
      sounding: clip.sound,
      planeScale,
      dark,
      scale: { ...scaleValues },
      saved: run?.saved[step.shown] ? { step: run.saved[step.shown].step, std: run.saved[step.shown].std } : null,
    }),
  };

  // Gradio's container hides its overflow and would hold the sticky bar; clipping looks the same and lets it go.
  root.closest(".gradio-container")?.style.setProperty("overflow", "clip");

  readTheme();
  showStep();
  showScale();
  watch("value", () => receive(props.value));
  receive(props.value);
  paintSoon();
})();
