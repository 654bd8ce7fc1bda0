// The stage: a sample and its recovery on canvases. Runs inside gr.HTML's js_on_load, where `element`, `props` and
// `watch` are given. Messages come from imder/ui/messages.py; nothing is computed here but pictures.

// --- painting --------------------------------------------------------------------------------------------------------

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

// --- controls --------------------------------------------------------------------------------------------------------

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

// --- beginning -------------------------------------------------------------------------------------------------------

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
