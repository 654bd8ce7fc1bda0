// The probabilities of classes as bars: what the sentiment scale is for a sentiment. `CLASSES.rows` says which classes
// are shown, `paint` draws them on a canvas with the stage's pens, `words` says the same to who does not see it.
const CLASSES = (() => {
  "use strict";

  const MOST = 12; // rows: of more classes the likeliest are shown, the others as one row
  const [PITCH, HEAD, FLOOR] = [34, 4, 24]; // pixels: a row, above the first, below the last
  /** What is predicted from what: its key, its name, its colour, the height of its bar and where that begins. */
  const BARS = [
    ["complete", "complete", "complete", 6, 3],
    ["zero", "zero-filled", "zero", 6, 10],
    ["recovered", "recovered", "estimate", 12, 18],
  ];

  const is = (p) => typeof p === "number" && Number.isFinite(p);
  const percent = (p) => (is(p) ? Math.round(p * 100) + " %" : "–");

  /** The place of the highest probability, -1 where there is none. */
  function likeliest(p) {
    let first = -1;
    for (let i = 0; i < (p?.length ?? 0); i++) if (is(p[i]) && (first < 0 || p[i] > p[first])) first = i;
    return first;
  }

  /** The likeliest class with its probability. */
  function best(names, p) {
    const i = likeliest(p);
    return i < 0 ? "–" : names[i] + " " + percent(p[i]);
  }

  /** What a row holds of an array over the classes: of several classes the sum. */
  const share = (row, p) => (p ? row.of.reduce((sum, i) => sum + p[i], 0) : null);

  /** The classes that are shown, in their order: {name, of: places, own: whether it is the true one}. */
  function rows(names, label, ranking) {
    const every = names.map((name, i) => ({ name, of: [i], own: i === label }));
    if (every.length <= MOST) return every;
    const weight = (row) => (row.own ? 2 : Math.max(0, ...ranking.map((p) => share(row, p) ?? 0)));
    const kept = new Set([...every].sort((a, b) => weight(b) - weight(a)).slice(0, MOST - 1));
    const rest = every.filter((row) => !kept.has(row)).flatMap((row) => row.of);
    return [...every.filter((row) => kept.has(row)), { name: rest.length + " others", of: rest, own: false }];
  }

  /** In how many draws the row's class is the likeliest. */
  const counted = (row, { votes, draws }) => Math.round(share(row, votes) * draws.length) + " of " + draws.length;

  const height = (count) => HEAD + Math.min(count, MOST) * PITCH + FLOOR;

  /** The text, shortened to a width. */
  function fitted(c, text, width) {
    if (c.measureText(text).width <= width) return text;
    let end = text.length;
    while (end > 1 && c.measureText(text.slice(0, end) + "…").width > width) end--;
    return text.slice(0, end) + "…";
  }

  function block(c, x, y, width, tall, tint, alpha) {
    c.save();
    c.globalAlpha = alpha;
    c.fillStyle = tint;
    c.fillRect(x, y, Math.max(1.5, width), tall);
    c.restore();
  }

  /** Bars of the rows, a mark at the end of each, ticks of the draws, and in words the recovered probability. */
  function paint(c, { width }, { write, rule, shape, colour, family }, shown, values) {
    c.font = "600 13px " + family;
    const widest = Math.max(...shown.map((row) => c.measureText(row.name).width + 4));
    const left = Math.min(Math.max(widest, 58), width * 0.32);
    const right = width - 58; // beside the bars the numbers
    const at = (p) => left + 8 + (right - left - 16) * p;
    const end = HEAD + shown.length * PITCH;
    for (const p of [0, 0.5, 1]) {
      rule(c, at(p), HEAD, at(p), end + 2, { alpha: p ? 0.13 : 0.4 });
      write(c, percent(p), at(p), end + 12, { align: "center" });
    }
    shown.forEach((row, i) => {
      const y = HEAD + i * PITCH;
      if (row.own) {
        block(c, 0, y + 1, width, PITCH - 2, colour.ink, 0.07);
        shape(c, "label", 7, y + 24, colour.ink, 11);
        write(c, "true", 16, y + 24.5, { fill: colour.ink });
      }
      c.font = (row.own ? "600" : "400") + " 13px " + family;
      const name = fitted(c, row.name, left - 2);
      write(c, name, 1, y + (row.own ? 10 : 17), { size: 13, fill: colour.ink, weight: row.own ? 600 : 400 });
      for (const [key, , tint, tall, top] of BARS) {
        const p = share(row, values[key]);
        if (!is(p)) continue;
        block(c, at(0), y + top, at(p) - at(0), tall, colour[tint], 0.5);
        for (const draw of (key === "recovered" && values.draws) || []) {
          const x = at(share(row, draw));
          rule(c, x, y + top, x, y + top + tall, { stroke: colour[tint], width: 1.4, alpha: 0.8 });
        }
        shape(c, key, at(p), y + top + tall / 2, colour[tint], key === "recovered" ? 13 : 9);
      }
      const recovered = share(row, values.recovered);
      if (is(recovered))
        write(c, percent(recovered), width - 2, y + (values.votes ? 10 : 17), {
          size: 13,
          align: "right",
          fill: colour.ink,
          weight: 600,
        });
      if (values.votes) write(c, counted(row, values), width - 2, y + 25, { align: "right", size: 11.5 });
    });
  }

  /** The rows as one text. */
  function words(shown, values) {
    const told = shown.map((row) => {
      const bars = BARS.filter(([key]) => values[key]);
      const parts = bars.map(([key, name]) => name + " " + percent(share(row, values[key])));
      if (values.votes) parts.push("likeliest in " + counted(row, values) + " draws");
      return row.name + (row.own ? ", the true class" : "") + (parts.length ? ": " + parts.join(", ") : "");
    });
    return told.join("; ");
  }

  return { rows, height, paint, words, best, likeliest, percent };
})();
