// The stage: a sample and its recovery on canvases. Runs inside gr.HTML's js_on_load, where `element`, `props` and
// `watch` are given. Messages come from imder/ui/messages.py; nothing is computed here but pictures.
(() => {
  "use strict";

  const root = element.querySelector("#stage");
  const ref = Object.fromEntries([...root.querySelectorAll("[data-ref]")].map((node) => [node.dataset.ref, node]));

  const MODALITIES = ["text", "audio", "vision"];
  const NAMES = { text: "Language", audio: "Voice", vision: "Face" };
  const SAMPLERS = {
    "euler-maruyama": "Euler-Maruyama", "euler-maruyama-log": "Euler-Maruyama, log levels", heun: "Heun",
    "dpmpp-2m": "DPM-Solver++(2M)", "dpmpp-2m-sde": "SDE-DPM-Solver++(2M)",
  };
  const PLAY_SECONDS = 5; // at speed 1, for runs of 20 to 60 saved steps
  const FACE_FPS = 30;
  const NARROW = 700; // below it the player lies a screen or more under the button that starts a run
  const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");

  // --- numbers and words ---------------------------------------------------------------------------------------------

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const mix = (a, b, part) => a + (b - a) * part;
  const known = (x) => typeof x === "number" && Number.isFinite(x);
  const smooth = (x) => x * x * (3 - 2 * x);

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
  const signed = (x) => (known(x) ? (x > 0 ? "+" : "") + say(x) : "–");

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
    return Array.from(scale, (s, k) => Float32Array.from(raw.subarray(k * size, (k + 1) * size), (q) => ((q - half) / half) * s));
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

  function unpackReadable(packed) {
    const out = {};
    for (const view of Object.keys(packed || {})) out[view] = unpackColumns(packed[view]);
    return out;
  }

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
    light: ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"],
    dark: ["#b5d4ff", "#7ab0f0", "#3f83c8", "#215a8f", "#143650", "#12161c", "#44210f", "#83401c", "#bd642b", "#ea9550", "#ffcf9c"],
  };
  const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
  const COLOURS = ["ink", "soft", "card", "accent", "state", "estimate", "refined", "complete", "zero", "cloud", "skin",
    "skin-shade", "skin-line", "hair", "shirt", "backdrop", "lip"];

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
      return Math.min(window.devicePixelRatio || 1, 3);
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

  // Shapes of the sentiment scale, as SVG paths on 16 x 16, drawn on canvases too.
  const SHAPES = {
    label: "M8 1.2 14.8 8 8 14.800 1.200 8z",
    complete: "M8 2a6 6 0 1 0 .001 0z",
    zero: "M2.500 2.500h11v11h-11z",
    recovered: "M8 1.500 15 14H1z",
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
      truth: Object.fromEntries(message.missing.map((k) => [k, unpackMaps(message.truth[k])[0]])),
      cloud: Object.fromEntries(message.missing.map((k) => [k, floats(message.cloud[k])])),
      readable: unpackReadable(message.readable),
      saved: [],
      last: -1,
      result: null,
    };
  }

  /** The saved steps of a chunk, one object each. */
  function openChunk(message) {
    const row = Object.fromEntries(["step", "t", "std", "nfe", "prediction"].map((name) => [name, floats(message[name])]));
    const maps = {};
    const curves = {};
    for (const k of Object.keys(message.maps)) {
      maps[k] = Object.fromEntries(Object.entries(message.maps[k]).map(([name, packed]) => [name, unpackMaps(packed)]));
      curves[k] = Object.fromEntries(Object.entries(message.curves[k]).map(([name, text]) => [name, floats(text)]));
    }
    const drawn = unpackReadable(message.readable);
    return Array.from({ length: message.count }, (_, i) => ({
      ...Object.fromEntries(Object.entries(row).map(([name, values]) => [name, values[i]])),
      maps: Object.fromEntries(Object.keys(maps).map((k) => [k, {
        state: maps[k].state[i], denoised: maps[k].denoised[i], reconstructed: maps[k].reconstructed[i],
      }])),
      curves: Object.fromEntries(Object.keys(curves).map((k) => [k, {
        state: curves[k].path_state.subarray(2 * i, 2 * i + 2),
        estimate: curves[k].path_denoised.subarray(2 * i, 2 * i + 2),
        error: curves[k].error[i],
        refined: curves[k].error_reconstructed[i],
        norm: curves[k].score_norm[i],
      }])),
      readable: Object.fromEntries(Object.keys(drawn).map((view) => [view, slice(drawn[view], i)])),
    }));
  }

  const receivers = {
    sample(message) {
      sample = { ...message, readable: unpackReadable(message.readable) };
      for (const view of Object.keys(sample.readable)) sample.readable[view] = slice(sample.readable[view], 0);
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
    if (!reduced.matches && !clip.playing && "face" in run.readable) setLoop(true);
    if (!resting && root.clientWidth < NARROW) ref.player.scrollIntoView({ behavior: reduced.matches ? "auto" : "smooth" });
  }

  function hideNotice() {
    ref.notice.hidden = true;
  }

  /** The state in attributes, for tests and the page. */
  function mark() {
    Object.assign(root.dataset, {
      run: run?.run ?? "", step: String(step.shown), last: String(run?.last ?? -1), done: String(Boolean(run?.result)),
      playing: String(step.playing), sample: sample?.clip ?? "",
    });
  }

  // --- the two clocks: denoising step, time in the clip ----------------------------------------------------------------

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
    const rate = clamp(Math.min(run.steps, 60) / PLAY_SECONDS, 4, 12);
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
    if (clip.sound) ref.audio.pause();
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
      ref.audio.currentTime = begin * (known(ref.audio.duration) ? ref.audio.duration : seconds() ?? 0);
      ref.audio.play().then(() => (clip.sound = true), () => (clip.sound = false)).finally(() => setClip(clip.fraction));
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

  // --- words around the pictures ---------------------------------------------------------------------------------------

  function make(tag, text, attributes = {}) {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  function gone(node, name, rest = "") {
    node.textContent = name + " dropped" + rest;
  }

  function showSample() {
    const named = sample.title !== sample.clip;
    ref.title.textContent = named ? sample.title : "The sample";
    const about = [sample.clip,
      known(sample.seconds) ? sample.seconds.toFixed(1) + " s" : null,
      sample.synthetic ? "synthetic: written and generated by this project" : null];
    ref.meta.textContent = about.filter(Boolean).join(" · ");
    ref.chips.replaceChildren(...MODALITIES.map((k) => {
      const off = sample.missing.includes(k);
      const chip = make("li", null, off ? { class: "off" } : {});
      chip.append(make("b", NAMES[k]), make("span", off ? "dropped" : "given"));
      return chip;
    }));
    const [text, voice, face] = MODALITIES.map((k) => !sample.missing.includes(k));
    ref.sentence.hidden = !text;
    ref.goneText.hidden = text;
    gone(ref.goneText, NAMES.text, ": no words reach the model");
    ref.sentence.replaceChildren(...sentence(sample));
    ref.goneVoice.hidden = voice && "voice" in sample.readable;
    if (voice) ref.goneVoice.textContent = "These voice features have no pitch and energy to draw";
    else gone(ref.goneVoice, NAMES.audio);
    ref.goneFace.hidden = face && "face" in sample.readable;
    if (face) ref.goneFace.textContent = "No action units to draw a face from";
    else gone(ref.goneFace, NAMES.vision);
    ref.goneFace.parentElement.classList.toggle("empty", !ref.goneFace.hidden);
    ref.laneWords.hidden = !text || !sample.words.some((w) => known(w[1]));
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
    ref.loop.setAttribute("aria-pressed", String(clip.playing));
    ref.listenText.textContent = heard() ? "Pause" : sample?.sound ? "Play with sound" : "Play without sound";
    ref.loopText.textContent = clip.playing ? "Pause" : "Loop the clip";
    if (!sample || ref.sentence.hidden) return;
    [...ref.sentence.children].forEach((span, i) => {
      const [, start, end] = sample.words[i] || [];
      span.classList.toggle("now", known(start) && clip.fraction > 0 && clip.fraction >= start && clip.fraction < end);
    });
  }

  function showRun() {
    ref.results.hidden = false;
    const sampler = SAMPLERS[run.sampler] || run.sampler;
    ref.runMeta.textContent = listing(run.missing) + " recovered from " + listing(run.available) + " · " + sampler + ", "
      + run.steps + " steps · " + run.title;
    buildBlocks();
    buildCurves();
    ref.words.hidden = !run.missing.includes("text");
    ref.voice.hidden = !run.missing.includes("audio") || !("voice" in run.readable);
    ref.faces.hidden = !run.missing.includes("vision") || !("face" in run.readable);
    ref.loopBar.hidden = ref.faces.hidden && ref.voice.hidden;
    const mute = run.missing.filter((k) => (k === "audio" && ref.voice.hidden) || (k === "vision" && ref.faces.hidden));
    ref.readableNote.textContent = [
      run.missing.includes("vision") && !ref.faces.hidden
        ? "One routine draws both faces from 17 action units, head pose and gaze; the recovered one is the estimate at this denoising step." : "",
      mute.length ? listing(mute) + ": these features carry no names that can be drawn, so only the maps below show them." : "",
    ].filter(Boolean).join(" ");
    ref.mapsNote.textContent = run.channels + " latent channels (rows) over " + run.frames + " frames (columns), in units of the "
      + "training set's standard deviation. Point at a map to read its values.";
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
    ref.stepSlider.setAttribute("aria-valuetext", "step " + now.step + " of " + run.steps + ", noise level " + say(now.std));
    const rows = [["step", Math.round(now.step) + " / " + run.steps], ["t", say(now.t, 3)], ["σ(t)", say(now.std, 3)],
      ["network evaluations", Math.round(now.nfe) + " / " + run.nfe_total]];
    ref.readout.replaceChildren(...rows.map(([name, value]) => {
      const row = make("div");
      row.append(make("dt", name), make("dd", value));
      return row;
    }));
    showPrediction();
  }

  function showErrors() {
    const errors = Object.entries(run.result?.feature_error ?? {});
    ref.errorNote.textContent = errors.map(([k, e]) => NAMES[k] + ": feature error " + say(e.draw) + " for one draw (" + say(e.draw_refined)
      + " after Dₖ), " + say(e.mean) + " for the mean of the draws (" + say(e.mean_refined) + ")").join(". ");
  }

  function showResult() {
    showErrors();
    showWords();
    showScale();
    showStep();
  }

  // --- the sentiment scale -----------------------------------------------------------------------------------------------

  const ROWS = [
    ["label", "Label", "ink"],
    ["complete", "Complete", "complete"],
    ["zero", "Zero-filled", "zero"],
    ["recovered", "Recovered", "estimate"],
  ];
  const scaleValues = {};
  const scaleSurface = new Surface(ref.scaleCanvas);

  ref.scaleNames.replaceChildren(...ROWS.map(([key, name, tint]) => {
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
  }));

  const scaleRun = () => (run && (!sample || (run.clip === sample.clip && run.missing.join() === sample.missing.join())) ? run : null);

  function showScale() {
    const shown = scaleRun();
    scaleValues.label = shown?.label ?? sample?.label ?? null;
    scaleValues.complete = shown?.baseline.complete ?? null;
    scaleValues.zero = shown?.baseline.zero ?? null;
    scaleValues.range = (shown ?? sample)?.label_range ?? [-3, 3];
    showPrediction();
  }

  function showPrediction() {
    const shown = scaleRun();
    const last = shown?.result && step.shown >= shown.last;
    scaleValues.recovered = last ? shown.result.predictions.recovered : shown?.saved[step.shown]?.prediction ?? null;
    for (const node of ref.scaleNames.querySelectorAll("[data-value]")) node.textContent = signed(scaleValues[node.dataset.value]);
    const spread = shown?.result?.draws.length > 1 ? shown.result : null;
    ref.verdict.textContent = !shown ? "The label and the predictions, from negative to positive."
      : spread ? "Recovered: at the last step the mean of " + spread.draws.length + " draws (ticks; bar: 5 to 95 %), before it the first draw."
        : "The recovered prediction moves with the denoising step.";
    ref.scaleCanvas.setAttribute("aria-label", "Sentiment scale: " + ROWS.map(([key, name]) => name + " " + signed(scaleValues[key])).join(", "));
  }

  function paintScale() {
    const c = scaleSurface.begin();
    if (!c) return;
    const { width, height } = scaleSurface;
    const [low, high] = scaleValues.range || [-3, 3];
    const at = (v) => mix(14, width - 14, (clamp(v, low - 0.15, high + 0.15) - low) / (high - low));
    const floor = height - 30;
    const pitch = (floor - 22) / ROWS.length;
    const level = (i) => (i + 0.5) * pitch;
    const ticks = high - low > 3 ? Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i)
      : [low, (low + high) / 2, high];
    scaleSurface.still([version.layout, low, high].join(), (b) => {
      for (const v of ticks) {
        line(b, [[at(v), 0], [at(v), floor]], { stroke: colour.ink, alpha: v === 0 ? 0.4 : 0.13 });
        write(b, signed(v).replace(/\.00$/, ""), at(v), floor + 10, { align: "center", base: "middle" });
      }
      ROWS.forEach((_, i) => line(b, [[at(low), level(i)], [at(high), level(i)]], { alpha: 0.13 }));
      write(b, "negative", 4, height - 8);
      write(b, "positive", width - 4, height - 8, { align: "right" });
    });
    if (known(scaleValues.label)) line(c, [[at(scaleValues.label), 4], [at(scaleValues.label), floor]], { dash: [2, 4], alpha: 0.7, width: 1.3 });
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
      for (const v of result.draws) line(c, [[at(v), y + 13], [at(v), y + 23]], { stroke: colour.estimate, width: 1.6, alpha: 0.75 });
    }
    ROWS.forEach(([key, , tint], i) => {
      if (known(scaleValues[key])) shape(c, key, at(scaleValues[key]), level(i), colour[tint], key === "recovered" ? 19 : 16);
    });
  }

  // --- the face ----------------------------------------------------------------------------------------------------------

  const AU_NAMES = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45];
  const POSE_NAMES = ["pitch", "yaw", "roll", "gaze x", "gaze y"];
  const POSE_LIMIT = [0.6, 0.7, 0.5, 0.7, 0.5];

  /** 22 numbers as what the drawing needs (action units 0 to 1), with the names of those that had to be clamped. */
  function expression(row) {
    const au = {};
    const clamped = [];
    AU_NAMES.forEach((n, i) => {
      if (row[i] < -0.5 || row[i] > 5.5) clamped.push("AU" + n);
      au[n] = clamp(row[i] / 5, 0, 1);
    });
    const pose = POSE_LIMIT.map((limit, i) => {
      const v = row[17 + i];
      if (Math.abs(v) > limit) clamped.push(POSE_NAMES[i]);
      return clamp(v, -limit, limit);
    });
    return { au, pitch: pose[0], yaw: pose[1], roll: pose[2], gaze: [pose[3], pose[4]], clamped };
  }

  /** A smooth path through points (Catmull-Rom as Bezier curves). */
  function spline(c, points, closed = false) {
    const n = points.length;
    const at = (i) => points[closed ? (i + n) % n : clamp(i, 0, n - 1)];
    c.beginPath();
    c.moveTo(...points[0]);
    for (let i = 0; i < (closed ? n : n - 1); i++) {
      const [p, a, b, q] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
      c.bezierCurveTo(a[0] + (b[0] - p[0]) / 6, a[1] + (b[1] - p[1]) / 6, b[0] - (q[0] - a[0]) / 6, b[1] - (q[1] - a[1]) / 6, b[0], b[1]);
    }
    if (closed) c.closePath();
  }

  const mirrored = (points) => [...points, ...points.slice(1, -1).reverse().map(([x, y]) => [-x, y])];

  /** Draws one face into a square of `size` pixels. Units: the head spans about -1 to 1, y downwards. */
  function drawFace(c, size, face) {
    const { au } = face;
    const unit = size * 0.385;
    const thin = (w) => Math.max(w, 1.1 / unit);
    const project = projection(face);
    const ink = (w = 0.03, alpha = 1) => {
      c.strokeStyle = colour["skin-line"];
      c.lineWidth = thin(w);
      c.globalAlpha = alpha;
    };
    const stroke = (points, w, alpha = 1) => {
      if (alpha < 0.04) return;
      ink(w, alpha);
      spline(c, points.map((p) => project(...p)));
      c.stroke();
      c.globalAlpha = 1;
    };
    const fill = (points, tint, alpha = 1) => {
      c.globalAlpha = alpha;
      c.fillStyle = tint;
      spline(c, points.map((p) => project(...p)), true);
      c.fill();
      c.globalAlpha = 1;
    };
    c.save();
    c.translate(size / 2, size * 0.515);
    c.scale(unit, unit);
    c.lineCap = c.lineJoin = "round";
    drawBody(c, thin);
    c.translate(0, 1);
    c.rotate(face.roll);
    c.translate(0, -1);
    drawHead(c, face, ink, thin);
    const pen = { c, au, face, project, stroke, fill, ink, thin };
    drawCheeks(pen);
    for (const side of [-1, 1]) {
      drawEye(pen, side);
      drawBrow(pen, side);
    }
    drawForehead(pen);
    drawNose(pen);
    drawMouth(pen);
    drawHair(c, face, ink);
    c.restore();
  }

  /** Points of the face lie on an ellipsoid that yaw and pitch turn, so inner features move against the outline. */
  function projection({ yaw, pitch }) {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return (x, y, bump = 0) => {
      const z = 0.48 * Math.sqrt(Math.max(0.05, 1 - (x / 0.86) ** 2 - (y / 1.3) ** 2)) + bump;
      const turned = -x * sy + z * cy;
      return [x * cy + z * sy, y * cp + turned * sp];
    };
  }

  function drawBody(c, thin) {
    c.strokeStyle = colour["skin-line"];
    c.lineWidth = thin(0.03);
    c.fillStyle = colour["skin-shade"];
    c.beginPath();
    c.moveTo(-0.29, 0.6);
    c.quadraticCurveTo(-0.25, 1.0, -0.36, 1.22);
    c.lineTo(-0.36, 1.8);
    c.lineTo(0.36, 1.8);
    c.lineTo(0.36, 1.22);
    c.quadraticCurveTo(0.25, 1.0, 0.29, 0.6);
    c.fill();
    c.stroke();
    c.fillStyle = colour.shirt;
    spline(c, [[-1.6, 1.8], [-1.15, 1.33], [-0.62, 1.21], [-0.32, 1.12], [0, 1.3], [0.32, 1.12], [0.62, 1.21], [1.15, 1.33], [1.6, 1.8]]);
    c.fill();
    c.stroke();
  }

  function drawHead(c, { au, yaw, pitch }, ink, thin) {
    const [dx, dy] = [Math.sin(yaw) * 0.06, Math.sin(pitch) * 0.05];
    const jaw = 0.13 * au[26] + 0.02 * au[25];
    const cheek = 0.025 * Math.max(au[6], au[12]);
    c.save();
    c.translate(dx, dy);
    c.fillStyle = colour.hair;
    spline(c, mirrored([[0, -1.13], [0.46, -1.03], [0.79, -0.66], [0.84, -0.15], [0.74, 0.2], [0, 0.3]]), true);
    c.fill();
    for (const side of [-1, 1]) {
      c.fillStyle = colour["skin-shade"];
      c.beginPath();
      c.ellipse(side * 0.745 - Math.sin(yaw) * 0.1, 0.05, 0.1, 0.18, side * 0.12, 0, 7);
      c.fill();
      ink(0.028);
      c.stroke();
      c.beginPath();
      c.arc(side * 0.775 - Math.sin(yaw) * 0.1, 0.05, 0.07, side < 0 ? 1.9 : -1.2, side < 0 ? 4.4 : 1.3);
      ink(0.016, 0.5);
      c.stroke();
      c.globalAlpha = 1;
    }
    c.fillStyle = colour.skin;
    spline(c, mirrored([[0, -1.02], [0.42, -0.94], [0.67, -0.6], [0.73, -0.15], [0.71 + cheek, 0.2], [0.615 + cheek, 0.55 + jaw * 0.4],
      [0.38, 0.88 + jaw * 0.9], [0, 1.02 + jaw]]), true);
    c.fill();
    ink(0.034);
    c.stroke();
    c.restore();
  }

  function drawHair(c, { yaw, pitch }, ink) {
    c.save();
    c.translate(Math.sin(yaw) * 0.06, Math.sin(pitch) * 0.05);
    const part = Math.sin(yaw) * 0.1;
    c.fillStyle = colour.hair;
    c.beginPath();
    c.moveTo(-0.755, -0.02);
    c.bezierCurveTo(-0.9, -0.62, -0.64, -1.17, 0.02, -1.16);
    c.bezierCurveTo(0.66, -1.16, 0.9, -0.62, 0.755, -0.02);
    c.bezierCurveTo(0.7, -0.16, 0.69, -0.36, 0.6, -0.5);
    c.bezierCurveTo(0.34 + part, -0.55, 0 + part, -0.62, -0.2 + part, -0.82);
    c.bezierCurveTo(-0.3 + part, -0.62, -0.5, -0.55, -0.6, -0.44);
    c.bezierCurveTo(-0.69, -0.33, -0.71, -0.16, -0.755, -0.02);
    c.closePath();
    c.fill();
    ink(0.026);
    c.stroke();
    c.strokeStyle = "#ffffff";
    for (const [from, bend, to] of [[[-0.14, -0.92], [0.22, -0.78], [0.56, -0.62]], [[-0.02, -1.02], [0.36, -0.94], [0.64, -0.72]], [[-0.3, -0.9], [-0.5, -0.76], [-0.62, -0.56]]]) {
      c.globalAlpha = 0.16;
      c.beginPath();
      c.moveTo(from[0] + part, from[1]);
      c.quadraticCurveTo(bend[0] + part, bend[1], to[0], to[1]);
      c.stroke();
    }
    c.restore();
  }

  function drawCheeks({ c, au, project, stroke }) {
    const lift = Math.max(au[6], au[12] * 0.7);
    for (const side of [-1, 1]) {
      const [x, y] = project(side * 0.43, 0.3 - 0.05 * lift);
      c.fillStyle = colour.lip;
      c.globalAlpha = 0.1 + 0.2 * lift;
      c.beginPath();
      c.ellipse(x, y, 0.16, 0.105, 0, 0, 7);
      c.fill();
      c.globalAlpha = 1;
      stroke([[side * 0.26, 0.12], [side * 0.4, 0.165 - 0.02 * au[6]], [side * 0.52, 0.1]], 0.02, 0.65 * au[6]);
      const fold = Math.max(au[10] * 0.9, au[12] * 0.75, au[9] * 0.6, au[6] * 0.25);
      const corner = mouthCorner(au);
      stroke([[side * 0.16, 0.24 - 0.03 * au[9]], [side * (0.25 + 0.02 * au[12]), 0.36 - 0.03 * au[10]],
        [side * (corner.x + 0.085), corner.y - 0.02]], 0.022, 0.75 * fold);
    }
  }

  function drawEye({ c, au, face, project, stroke, ink, thin }, side) {
    const closing = smooth(clamp(au[45] * 1.25, 0, 1));
    const upper = 0.098 * (1 + 0.62 * au[5] - 0.34 * au[7] - 0.16 * au[6] - 0.12 * au[4]) * (1 - closing);
    const lower = mix(0.062 * (1 - 0.62 * au[7] - 0.55 * au[6]), 0.05, closing);
    const [cx, cy, half] = [side * 0.3, -0.1, 0.155];
    const lid = (rise) => [[cx - half, cy + 0.012], [cx - half * 0.5, cy - rise * 0.8], [cx, cy - rise], [cx + half * 0.55, cy - rise * 0.78], [cx + half, cy]];
    const mirror = (points) => (side < 0 ? points.map(([x, y]) => [2 * cx - x, y]) : points);
    const top = mirror(lid(mix(upper, -lower, closing))).map((p) => project(...p));
    const bottom = mirror(lid(-lower)).map((p) => project(...p)).reverse();
    if (closing < 0.96) {
      spline(c, [...top, ...bottom.slice(1, -1)], true);
      c.save();
      c.clip();
      c.fillStyle = "#fdfcfa";
      c.fill();
      const [ix, iy] = project(cx + clamp(face.gaze[0] * 0.16, -0.085, 0.085), cy - 0.012 + clamp(face.gaze[1] * 0.13, -0.05, 0.05));
      disc(c, ix, iy, 0.082, "#5b7f94");
      disc(c, ix, iy, 0.043, "#1d2226");
      disc(c, ix - 0.026, iy - 0.028, 0.018, "#ffffff");
      c.restore();
    }
    spline(c, bottom);
    ink(0.016, 0.75);
    c.stroke();
    spline(c, top);
    ink(0.046);
    c.stroke();
    const crease = mirror(lid(mix(upper + 0.055, 0.065, closing))).map(([x, y]) => project(x, y));
    spline(c, crease.slice(0, -1));
    ink(0.017, 0.55 * (1 - 0.7 * au[5]));
    c.stroke();
    c.globalAlpha = 1;
    for (const [dy, reach] of [[-0.045, -0.06], [0, 0], [0.045, 0.06]]) {
      stroke([[side * 0.49, -0.085 + dy * 0.7], [side * (0.55 + 0.05 * au[6]), -0.085 + dy + reach * 0.6]], 0.018, 0.85 * au[6]);
    }
    stroke([[cx - half * 0.7, cy + lower + 0.045], [cx, cy + lower + 0.06], [cx + half * 0.7, cy + lower + 0.045]], 0.016, 0.5 * au[7]);
  }

  function disc(c, x, y, r, tint) {
    c.fillStyle = tint;
    c.beginPath();
    c.arc(x, y, r, 0, 7);
    c.fill();
  }

  function drawBrow({ c, au, project, thin }, side) {
    const down = au[4];
    const lift = Math.max(au[1] * 0.55, au[2]);
    const at = (x, y) => project(side * x, y);
    const inner = [0.145 - 0.045 * down, -0.335 - 0.12 * au[1] + 0.085 * down];
    const peak = [0.33 - 0.02 * down, -0.47 - 0.1 * lift + 0.07 * down];
    const outer = [0.49, -0.325 - 0.13 * au[2] + 0.02 * down];
    c.fillStyle = c.strokeStyle = colour.hair;
    c.lineWidth = thin(0.014);
    c.beginPath();
    c.moveTo(...at(inner[0], inner[1] - 0.03));
    c.quadraticCurveTo(...at(peak[0], peak[1]), ...at(...outer));
    c.quadraticCurveTo(...at(peak[0] - 0.01, peak[1] + 0.085), ...at(inner[0] + 0.005, inner[1] + 0.03));
    c.closePath();
    c.fill();
    c.stroke();
  }

  function drawForehead({ au, stroke }) {
    const raised = Math.max(au[1], au[2]);
    for (const [y, reach] of [[-0.56, 0.26], [-0.64, 0.2]]) {
      stroke([[-reach, y - 0.05 * au[2]], [0, y - 0.02 - 0.05 * au[1]], [reach, y - 0.05 * au[2]]], 0.018, 0.55 * raised);
    }
    for (const side of [-1, 1]) stroke([[side * 0.045, -0.38], [side * 0.05, -0.3], [side * 0.035, -0.24]], 0.022, 0.85 * au[4]);
  }

  function drawNose({ au, stroke }) {
    const up = 0.035 * au[9];
    const wide = 0.125 + 0.025 * au[9] + 0.012 * au[12];
    stroke([[0.045, -0.13, 0.03], [0.055, 0.02, 0.1], [0.075, 0.14, 0.16]], 0.018, 0.5);
    stroke([[-wide, 0.19 - up, 0.06], [-wide * 0.82, 0.255 - up, 0.08], [-0.045, 0.262, 0.14], [0, 0.285, 0.16], [0.045, 0.262, 0.14],
      [wide * 0.82, 0.255 - up, 0.08], [wide, 0.19 - up, 0.06]], 0.028, 0.95);
    for (const dy of [0, 0.055]) {
      stroke([[-0.075, -0.1 + dy, 0.05], [0, -0.12 + dy, 0.07], [0.075, -0.1 + dy, 0.05]], 0.018, 0.85 * au[9]);
    }
    for (const side of [-1, 1]) stroke([[side * 0.1, -0.02, 0.05], [side * 0.13, 0.06, 0.04]], 0.018, 0.7 * au[9]);
  }

  /** Where the right corner of the mouth is. */
  function mouthCorner(au) {
    return {
      x: 0.225 + 0.085 * au[12] + 0.085 * au[20] + 0.02 * au[14] - 0.055 * au[23] - 0.03 * au[17] - 0.025 * au[26],
      y: 0.545 - 0.125 * au[12] + 0.1 * au[15] - 0.015 * au[14] + 0.03 * au[26],
    };
  }

  function drawMouth({ c, au, project, stroke, fill }) {
    const corner = mouthCorner(au);
    const raise = 0.055 * au[10] + 0.02 * au[9];
    const push = 0.05 * au[17];
    const gap = 0.1 * au[25] + 0.2 * au[26] * (0.35 + 0.65 * Math.max(au[25], 0.5));
    const tight = (1 - 0.6 * au[23]) * (1 - 0.2 * au[12]) * (1 - 0.25 * au[20]);
    const middle = 0.55 - 0.4 * push + 0.02 * au[12] - 0.01 * au[15];
    const upper = middle - raise - gap * 0.18;
    const lower = middle - push * 0.5 + gap * 0.82;
    const [lip, under] = [0.062 * tight, 0.078 * tight * (1 + 0.25 * au[17])];
    const sides = (points) => [...[...points].reverse().map(([x, y]) => [-x, y, 0.05]), ...points.slice(1).map(([x, y]) => [x, y, 0.05])];
    const bend = (part, y) => [corner.x * part, mix(y, corner.y, part ** 2.2)];
    const end = [corner.x, corner.y];
    const upperInner = sides([[0, upper], bend(0.5, upper), end]);
    const lowerInner = sides([[0, lower], bend(0.5, lower), end]);
    const upperOuter = sides([[0, upper - lip * 0.72], [corner.x * 0.24, upper - lip], bend(0.62, upper - lip * 0.75), end]);
    const lowerOuter = sides([[0, lower + under], bend(0.55, lower + under * 0.9), end]);
    if (gap > 0.012) {
      fill([...upperInner, ...[...lowerInner].reverse().slice(1, -1)], "#4a2226");
      drawTeeth(c, project, upperInner, lowerInner, gap, upper, corner);
    }
    fill([...upperOuter, ...[...upperInner].reverse().slice(1, -1)], colour.lip);
    fill([...lowerInner, ...[...lowerOuter].reverse().slice(1, -1)], colour.lip);
    stroke(upperInner, 0.027);
    if (gap > 0.012) stroke(lowerInner, 0.02);
    stroke([[-corner.x * 0.4, lower + under + 0.035, 0.05], [0, lower + under + 0.045, 0.05], [corner.x * 0.4, lower + under + 0.035, 0.05]], 0.018, 0.35 + 0.4 * au[17]);
    for (const side of [-1, 1]) {
      stroke([[side * (corner.x + 0.035), corner.y - 0.05], [side * (corner.x + 0.06 + 0.01 * au[14]), corner.y], [side * (corner.x + 0.035), corner.y + 0.05]], 0.022, 0.9 * au[14]);
      stroke([[side * (corner.x + 0.01), corner.y + 0.015], [side * (corner.x + 0.035), corner.y + 0.07]], 0.02, 0.8 * au[15]);
      stroke([[side * (corner.x + 0.03), corner.y - 0.03], [side * (corner.x + 0.045), corner.y + 0.04]], 0.018, 0.7 * au[20]);
    }
    drawChin({ au, stroke, lower, under });
  }

  function drawTeeth(c, project, upperInner, lowerInner, gap, upper, corner) {
    c.save();
    spline(c, [...upperInner, ...[...lowerInner].reverse().slice(1, -1)].map((p) => project(...p)), true);
    c.clip();
    const band = Math.min(0.065, gap * 0.55);
    const [x, y] = project(0, upper, 0.05);
    c.fillStyle = "#fbf8f2";
    c.beginPath();
    c.roundRect(x - corner.x * 0.78, y - 0.06, corner.x * 1.56, band + 0.06, 0.025);
    c.fill();
    if (gap > 0.12) {
      c.fillStyle = "#b5605f";
      c.beginPath();
      c.ellipse(x, y + gap + 0.02, corner.x * 0.55, gap * 0.36, 0, 0, 7);
      c.fill();
    }
    c.restore();
  }

  function drawChin({ au, stroke, lower, under }) {
    const y = lower + under + 0.1;
    for (const [x, dy] of [[-0.075, 0.02], [0, 0], [0.075, 0.02]]) {
      stroke([[x - 0.022, y + dy, 0.05], [x, y + dy + 0.02, 0.05], [x + 0.022, y + dy, 0.05]], 0.018, 0.8 * au[17]);
    }
    stroke([[-0.13, y + 0.1, 0.05], [0, y + 0.145, 0.05], [0.13, y + 0.1, 0.05]], 0.018, 0.6 * au[17]);
  }

  function paintFace(surface, table, marks) {
    const c = surface.begin();
    if (!c || !table) return null;
    const face = expression(rowAt(table, clip.fraction));
    const size = Math.min(surface.width, surface.height);
    drawFace(c, size, face);
    if (marks) {
      face.clamped.forEach((_, i) => line(c, [[size - 12, 14 + i * 7], [size - 5, 14 + i * 7]], { stroke: colour.zero, width: 3 }));
    }
    return face;
  }

  // --- the sample ----------------------------------------------------------------------------------------------------------

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
    return Array.from(values, (v, i) => [mix(left, right, values.length < 2 ? 0.5 : i / (values.length - 1)), mix(bottom, top, clamp((v - low) / (high - low), -0.05, 1.05))]);
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
      write(b, "pitch " + Math.round(hertz(Math.min(...pitch))) + "–" + Math.round(hertz(Math.max(...pitch))) + " Hz", 0, 8, { fill: colour.soft });
      write(b, "energy", width, height - 9, { align: "right" });
    });
    const x = clip.fraction * width;
    if (clip.fraction > 0) line(c, [[x, 16], [x, height]], { width: 1.5, alpha: 0.8 });
  }

  // --- the readable view -----------------------------------------------------------------------------------------------------

  const faceNow = new Surface(ref.faceNow);
  const faceTrue = new Surface(ref.faceTrue);
  const voiceSurface = new Surface(ref.voiceCanvas);
  let faceNote = "";

  ref.voiceKey.replaceChildren(...[["estimate", "recovered"], ["ink", "true"], ["cloud", "other draws"]].map(([tint, name]) => {
    const entry = make("span");
    const mark = make("i");
    mark.style.borderColor = "var(--" + tint + ")";
    entry.append(mark, name);
    return entry;
  }));

  function paintReadable() {
    const now = run?.saved[step.shown];
    if (!now) return;
    if (!ref.faces.hidden) {
      const face = paintFace(faceNow, now.readable.face, true);
      paintFace(faceTrue, slice(run.readable.face, 0), false);
      const note = face?.clamped.length ? "Drawn at their limit (ticks): " + face.clamped.slice(0, 6).join(", ")
        + (face.clamped.length > 6 ? " and " + (face.clamped.length - 6) + " more" : "") : "All values within the range of a face.";
      if (note !== faceNote) ref.faceNote.textContent = faceNote = note;
    }
    if (!ref.voice.hidden) paintVoice(now);
  }

  /** Two plots, pitch above energy, with ranges from the truth, the draws and the last step. */
  function voiceFrame() {
    const { width, height } = voiceSurface;
    const truth = slice(run.readable.voice, 0);
    const fan = run.result?.fan.voice;
    const draws = fan ? Array.from({ length: fan.shape[0] }, (_, i) => slice(fan, i)) : [];
    const across = [40, width - 2];
    const middle = height * 0.58;
    return [
      { name: "pitch, Hz", top: 22, floor: middle, ticks: pitchTicks },
      { name: "energy (first cepstral coefficient)", top: middle + 30, floor: height - 4, ticks: (low, high) => linearTicks(low, high).map((v) => [v, say(v, 0)]) },
    ].map((plot, i) => {
      const lists = [truth, run.saved[run.last].readable.voice, ...draws].map((table) => column(table, i));
      const range = bounds(lists, 0.12);
      const place = (table) => ribbon(column(table, i), across, [plot.top, plot.floor], range);
      return { ...plot, across, range, place, truth: place(truth), draws: draws.map(place) };
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
      line(c, truth, { stroke: colour.ink, width: 1.5 });
      const x = mix(left, right, clip.fraction);
      if (clip.fraction > 0) line(c, [[x, top - 4], [x, floor + 4]], { alpha: 0.6 });
      c.restore();
    });
  }

  /** Pitches that are round in hertz, at their place on the scale of the feature. */
  function pitchTicks(low, high) {
    const place = low > 9 ? (v) => v : Math.log;
    const round = [50, 75, 100, 150, 200, 250, 300, 400, 500, 600].filter((v) => place(v) >= low && place(v) <= high);
    return round.map((v) => [place(v), String(v)]);
  }

  function voiceGround(b, { name, across: [left, right], top, floor, range: [low, high], ticks, draws }) {
    write(b, name, left, top - 12);
    for (const [v, text] of ticks(low, high)) {
      const y = mix(floor, top, (v - low) / (high - low));
      line(b, [[left, y], [right, y]], { alpha: 0.12 });
      write(b, text, left - 6, y, { align: "right" });
    }
    for (const points of draws) line(b, points, { stroke: colour.cloud, alpha: 0.5 });
  }

  function showWords() {
    if (ref.words.hidden) return;
    const nearest = run.result?.words;
    const draws = run.result?.draws.length ?? 0;
    ref.wordsNote.textContent = !run.result ? "come with the last step"
      : nearest ? "share over " + draws + (draws === 1 ? " draw" : " draws") + "; the word that was said is bold"
        : "this feature set has no vocabulary, so its features cannot be turned back into words";
    ref.wordList.replaceChildren(...run.words.map(([word], i) => {
      const item = make("li");
      item.append(make("b", word));
      for (const [guess, share] of nearest?.[i] ?? []) item.append(guessLine(word, guess, share));
      return item;
    }));
  }

  const plain = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}']/gu, "");

  function guessLine(word, guess, share) {
    const row = make("div");
    const match = plain(word) === plain(guess);
    row.style.setProperty("--share", Math.round(share * 100) + "%");
    row.append(make("span", guess, match ? { class: "match" } : {}), make("span", Math.round(share * 100) + " %"));
    return row;
  }

  // --- heat maps -----------------------------------------------------------------------------------------------------------

  const CELLS = [
    ["state", "Noisy state", "diverging"],
    ["denoised", "Estimate", "diverging"],
    ["reconstructed", "After Dₖ", "diverging"],
    ["truth", "Truth", "diverging"],
    ["difference", "|After Dₖ − truth|", "cividis"],
  ];
  const LIMIT = 3;
  const DIFFERENCE_LIMIT = 2;
  let blocks = [];
  let planeScale = "compressed";

  function buildBlocks() {
    for (const block of blocks) for (const surface of [...Object.values(block.surfaces), block.plane]) surface.release();
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
    for (const [name, title, table] of CELLS) {
      const figure = make("figure", null, { class: "map cell-" + name });
      const caption = make("figcaption");
      const legend = make("span", null, { class: "legend" });
      const bar = make("i");
      bar.style.background = "var(--" + table + ")";
      block.limits[name] = [make("span"), make("span")];
      legend.append(block.limits[name][0], bar, block.limits[name][1]);
      caption.append(make("b", title), legend);
      const canvas = make("canvas", null, { role: "img", "data-map": k + "-" + name, "aria-label": NAMES[k] + ", " + title });
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

  /** The colour range: fixed for features, three times the spread for the noisy state, whose level falls step by step. */
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
      for (const [name, , table] of CELLS) {
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
    for (const [stroke, out] of [["#ffffff", 2.5], ["#000000", 1]]) {
      c.strokeStyle = stroke;
      c.lineWidth = 1.5;
      c.strokeRect(frame * w - out, channel * h - out, w + 2 * out, h + 2 * out);
    }
  }

  /** Points at the cell of a map, in all maps of the block; null points at none. */
  function pointAt(block, canvas, cell) {
    block.pointed = cell && {
      canvas, channel: clamp(Math.floor(cell.channel), 0, run.channels - 1), frame: clamp(Math.floor(cell.frame), 0, run.frames - 1),
    };
    block.tip.hidden = !cell;
    version.step++;
    paintSoon();
  }

  function point(block, canvas) {
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      pointAt(block, canvas, {
        channel: ((event.clientY - box.top) / box.height) * run.channels, frame: ((event.clientX - box.left) / box.width) * run.frames,
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
    const rows = [["Channel", String(channel + 1)], ["Time in the clip", momentOf((frame + 1.5) / (run.frames + 2), run.seconds)],
      ...CELLS.map(([name, title]) => [title, say(valuesOf(block, name, now)[i])])];
    block.tip.replaceChildren(...rows.map(([name, value]) => {
      const row = make("div");
      row.append(make("span", name), make("b", value));
      return row;
    }));
    const left = x + 16 + block.tip.offsetWidth > block.node.clientWidth ? x - 16 - block.tip.offsetWidth : x + 16;
    block.tip.style.transform = "translate(" + Math.max(0, left) + "px," + Math.max(0, y - block.tip.offsetHeight / 2) + "px)";
  }

  // --- the plane -------------------------------------------------------------------------------------------------------------

  function buildPlane(k) {
    const figure = make("figure", null, { class: "cell-plane" });
    const caption = make("figcaption");
    caption.append(make("b", "Path in the plane"));
    const canvas = make("canvas", null, { role: "img", "aria-label": NAMES[k] + ": the path of the state and of the estimate in the plane of the training set's two main directions" });
    figure.append(caption, canvas);
    figure.hidden = !run.cloud[k].length;
    return figure;
  }

  const bent = (v) => (planeScale === "compressed" ? Math.asinh(v) : v);

  /** Plane coordinates to pixels, the same scale in both directions. */
  function planeView(block) {
    const { k, plane } = block;
    const cloud = run.cloud[k];
    const points = [run.truth_path[k]];
    for (let i = 0; i < cloud.length; i += 2) points.push([cloud[i], cloud[i + 1]]);
    const path = run.saved.slice(0, run.last + 1);
    points.push(...path.map((s) => s.curves[k].estimate).slice(planeScale === "end" ? -Math.ceil(path.length / 3) : 0));
    if (planeScale !== "end") points.push(...path.map((s) => s.curves[k].state));
    const [x0, x1] = bounds([points.map((p) => bent(p[0]))], 0.06);
    const [y0, y1] = bounds([points.map((p) => bent(p[1]))], 0.06);
    const unit = Math.min((plane.width - 16) / (x1 - x0), (plane.height - 16) / (y1 - y0));
    return ([x, y]) => [plane.width / 2 + (bent(x) - (x0 + x1) / 2) * unit, plane.height / 2 - (bent(y) - (y0 + y1) / 2) * unit];
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
    line(c, path.map((p) => at(p.state)), { stroke: colour.state, width: 1.4, dash: [4, 3] });
    line(c, path.map((p) => at(p.estimate)), { stroke: colour.estimate, width: 2 });
    const truth = at(run.truth_path[k]);
    shape(c, "label", ...truth, colour.ink, 13);
    const now = path.at(-1);
    disc(c, ...at(now.state), 4, colour.state);
    shape(c, "recovered", ...at(now.estimate), colour.estimate, 15);
    planeKey(c, surface);
  }

  function planeKey(c, { height }) {
    let x = 8;
    for (const [text, tint] of [["state", "state"], ["estimate", "estimate"], ["truth", "ink"], ["training", "cloud"]]) {
      disc(c, x + 3, height - 10, 3.2, colour[tint]);
      write(c, text, x + 10, height - 10, { size: 11 });
      x += c.measureText(text).width + 22;
    }
  }

  // --- curves by step ----------------------------------------------------------------------------------------------------------

  let panels = [];

  function buildCurves() {
    for (const panel of panels) panel.surface.release();
    const several = run.missing.length > 1;
    const of = (pick) => () => run.saved.slice(0, run.last + 1).map(pick);
    const wanted = [
      ...run.missing.map((k) => ({
        title: "Feature error" + (several ? ", " + NAMES[k] : ""), log: true, wide: true,
        series: [
          { name: "estimate", tint: "estimate", values: of((s) => s.curves[k].error) },
          { name: "after Dₖ", tint: "refined", dash: [6, 4], values: of((s) => s.curves[k].refined) },
        ],
      })),
      { title: "Prediction", series: [{ name: "recovered", tint: "estimate", values: of((s) => s.prediction) }],
        lines: () => [["label", run.label, "ink"], ["complete", run.baseline.complete, "complete"], ["zero", run.baseline.zero, "zero"]] },
      { title: "Noise level σ(t)", log: true, series: [{ name: "σ(t)", tint: "state", values: of((s) => s.std) }] },
      { title: "Norm of the score", log: true, series: run.missing.map((k, i) => ({
        name: several ? NAMES[k] : "score", tint: i ? "refined" : "estimate", dash: i ? [6, 4] : [], values: of((s) => s.curves[k].norm) })) },
    ];
    panels = wanted.map((panel) => ({ ...panel, figure: make("figure", null, several && !panel.wide ? { class: "third" } : {}) }));
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
    const ticks = panel.log ? logTicks(10 ** low, 10 ** high) : linearTicks(low, high);
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
        line(b, [[box.left, y(v)], [box.right, y(v)]], { alpha: 0.12 });
        write(b, say(v, v !== 0 && Math.abs(v) < 0.1 ? 2 : 1).replace(/\.0$/, ""), box.left - 6, y(v), { align: "right" });
      }
      write(b, "step 0", box.left, box.bottom + 13);
      write(b, String(run.steps), box.right, box.bottom + 13, { align: "right" });
      for (const [, value, tint] of lines) line(b, [[box.left, y(value)], [box.right, y(value)]], { stroke: colour[tint], width: 1.3, dash: [2, 3] });
      panel.series.forEach((s, i) => line(b, values[i].map((v, j) => [x(steps[j]), y(v), v]).filter(([, , v]) => !panel.log || v > 0), { stroke: colour[s.tint], width: 2, dash: s.dash ?? [] }));
      const labels = [...panel.series.map((s, i) => [s.name, values[i].findLast((v) => !panel.log || v > 0), s.tint]), ...lines];
      spread(labels.map(([name, value, tint]) => ({ name, tint, y: y(value) })), box).forEach(({ name, tint, y: at }) =>
        write(b, name, box.right + 7, at, { fill: colour[tint], weight: 600 }));
    });
    const k = Math.min(step.shown, steps.length - 1);
    if (k < 0) return;
    line(c, [[x(steps[k]), box.top], [x(steps[k]), box.bottom]], { alpha: 0.55, width: 1.3 });
    panel.series.forEach((s, i) => disc(c, x(steps[k]), y(values[i][k]), 4, colour[s.tint]));
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

  // --- painting --------------------------------------------------------------------------------------------------------------

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

  // --- controls --------------------------------------------------------------------------------------------------------------

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
  ref.loop.addEventListener("click", () => setLoop(!clip.playing));
  ref.audio.addEventListener("ended", () => {
    setLoop(false);
    setClip(1);
  });

  ref.player.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !run) return;
    const own = event.target === ref.player || event.target === ref.stepSlider || event.target.closest(".keys");
    if (!own || (event.key === " " && event.target.closest("button"))) return;
    const actions = {
      " ": () => setPlaying(!step.playing), ArrowLeft: () => nudge(-1), ArrowRight: () => nudge(1),
      ArrowDown: () => nudge(-1), ArrowUp: () => nudge(1), Home: () => nudge(-step.shown), End: () => nudge(run.last - step.shown),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });

  // --- beginning -------------------------------------------------------------------------------------------------------------

  const themes = new MutationObserver(() => {
    readTheme();
    version.layout++;
    paintSoon();
  });
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributes: true, attributeFilter: ["class"] });

  root.stage = {
    receive, seek, play: () => setPlaying(true), pause: () => setPlaying(false), time: setClip, cost,
    drawFace: (canvas, row, size) => drawFace(canvas.getContext("2d"), size, expression(row)),
    state: () => ({
      sample: sample?.clip ?? null, missing: sample?.missing ?? [], run: run?.run ?? null, step: step.shown, last: run?.last ?? -1,
      done: Boolean(run?.result), playing: step.playing, clip: clip.fraction, clipPlaying: clip.playing, planeScale, dark,
      scale: { ...scaleValues }, saved: run?.saved[step.shown] ? { step: run.saved[step.shown].step, std: run.saved[step.shown].std } : null,
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
