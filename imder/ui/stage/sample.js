// The sample, and what the recovered features say: faces, pitch, words.

// --- faces on canvases -----------------------------------------------------------------------------------------------

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

// --- the sample ------------------------------------------------------------------------------------------------------

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

// --- the readable view -----------------------------------------------------------------------------------------------

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
