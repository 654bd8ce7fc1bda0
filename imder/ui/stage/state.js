// What has come, and the two clocks that say which of it is shown.

// --- state -----------------------------------------------------------------------------------------------------------

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
