// Curves by denoising step.

// --- curves by step --------------------------------------------------------------------------------------------------

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
