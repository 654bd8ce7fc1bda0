// One routine draws every face of the stage from 22 numbers (17 action units, head pose, gaze), so that differences
// between faces are differences of features. `FACE.read` makes numbers an expression, `FACE.draw` draws it.
const FACE = (() => {
  "use strict";

  const UNITS = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45];
  const POSE = ["pitch", "yaw", "roll", "gaze x", "gaze y"];
  const POSE_LIMIT = [0.6, 0.7, 0.5, 0.7, 0.5]; // radians
  const MOST = 5; // OpenFace's intensities run from 0 to 5; a tenth beyond is not worth a mark

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
  const mix = (a, b, part) => a + (b - a) * part;

  /** Action units 0 to 1, pose and gaze within their limits, and the names of those that had to be clamped. */
  function read(row) {
    const au = {};
    const clamped = [];
    UNITS.forEach((n, i) => {
      if (row[i] < -0.1 * MOST || row[i] > 1.1 * MOST) clamped.push("AU" + n);
      au[n] = clamp(row[i] / MOST, 0, 1);
    });
    const [pitch, yaw, roll, ...gaze] = POSE_LIMIT.map((limit, i) => {
      const v = row[UNITS.length + i];
      if (Math.abs(v) > limit) clamped.push(POSE[i]);
      return clamp(v, -limit, limit);
    });
    return { au, pitch, yaw, roll, gaze, clamped };
  }

  /** A smooth path through points (Catmull-Rom as Bezier curves). */
  function spline(c, points, closed = false) {
    const n = points.length;
    const at = (i) => points[closed ? (i + n) % n : clamp(i, 0, n - 1)];
    c.beginPath();
    c.moveTo(...points[0]);
    for (let i = 0; i < (closed ? n : n - 1); i++) {
      const [[px, py], [ax, ay], [bx, by], [qx, qy]] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
      c.bezierCurveTo(ax + (bx - px) / 6, ay + (by - py) / 6, bx - (qx - ax) / 6, by - (qy - ay) / 6, bx, by);
    }
    if (closed) c.closePath();
  }

  /** Points of the face lie on an ellipsoid that yaw and pitch turn, so inner features move against the outline. */
  function projection({ yaw, pitch }) {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    return ([x, y, bump = 0]) => {
      const z = 0.48 * Math.sqrt(Math.max(0.05, 1 - (x / 0.86) ** 2 - (y / 1.3) ** 2)) + bump;
      return [x * cy + z * sy, y * cp + (z * cy - x * sy) * sp];
    };
  }

  const mirrored = (points) => [...points, ...points.slice(1, -1).reverse().map(([x, y]) => [-x, y])];
  const flipped = (points) => points.map(([x, ...rest]) => [-x, ...rest]);

  /** A context in units of the head (it spans about -1 to 1, y downwards), with what the parts of a face share. */
  class Pen {
    constructor(c, unit, face, colour) {
      Object.assign(this, { c, unit, face, colour, au: face.au, project: projection(face) });
      this.shift = [Math.sin(face.yaw) * 0.06, Math.sin(face.pitch) * 0.05]; // of the outline
    }

    /** Line width in units, never thinner than a pixel, so that a face of 96 pixels can be read. */
    ink(width, alpha = 1) {
      this.c.strokeStyle = this.colour["skin-line"];
      this.c.lineWidth = Math.max(width, 1.1 / this.unit);
      this.c.globalAlpha = alpha;
    }

    stroke(width, alpha, ...points) {
      if (alpha < 0.04) return;
      this.ink(width, alpha);
      spline(this.c, points.map(this.project));
      this.c.stroke();
      this.c.globalAlpha = 1;
    }

    both(width, alpha, ...points) {
      this.stroke(width, alpha, ...points);
      this.stroke(width, alpha, ...flipped(points));
    }

    fill(tint, points) {
      this.c.fillStyle = tint;
      spline(this.c, points.map(this.project), true);
      this.c.fill();
    }

    shape(tint, width, paint) {
      this.c.fillStyle = tint;
      this.c.beginPath();
      paint(this.c);
      this.c.fill();
      if (!width) return;
      this.ink(width);
      this.c.stroke();
    }

    disc(tint, x, y, r) {
      this.shape(tint, 0, (c) => c.arc(x, y, r, 0, 7));
    }
  }

  /** Draws one face into a square of `size` pixels, with the colours of the theme. */
  function draw(c, size, face, colour) {
    const unit = size * 0.385;
    const pen = new Pen(c, unit, face, colour);
    c.save();
    c.translate(size / 2, size * 0.515);
    c.scale(unit, unit);
    c.lineCap = c.lineJoin = "round";
    body(pen);
    c.translate(0, 1);
    c.rotate(face.roll);
    c.translate(0, -1);
    head(pen);
    cheeks(pen);
    for (const side of [-1, 1]) {
      eye(pen, side);
      brow(pen, side);
    }
    forehead(pen);
    nose(pen);
    mouth(pen);
    hair(pen);
    c.restore();
  }

  function body(pen) {
    pen.shape(pen.colour["skin-shade"], 0.03, (c) => {
      c.moveTo(-0.29, 0.6);
      c.quadraticCurveTo(-0.25, 1.0, -0.36, 1.22);
      c.lineTo(-0.36, 1.8);
      c.lineTo(0.36, 1.8);
      c.lineTo(0.36, 1.22);
      c.quadraticCurveTo(0.25, 1.0, 0.29, 0.6);
    });
    const half = [[1.6, 1.8], [1.15, 1.33], [0.62, 1.21], [0.32, 1.12]];
    pen.shape(pen.colour.shirt, 0.03, (c) => spline(c, [...flipped(half), [0, 1.3], ...half.toReversed()]));
  }

  function head(pen) {
    const { c, au, face, colour } = pen;
    const jaw = 0.13 * au[26] + 0.02 * au[25];
    const cheek = 0.025 * Math.max(au[6], au[12]);
    const back = [[0, -1.13], [0.46, -1.03], [0.79, -0.66], [0.84, -0.15], [0.74, 0.2], [0, 0.3]];
    const front = [
      [0, -1.02], [0.42, -0.94], [0.67, -0.6], [0.73, -0.15], [0.71 + cheek, 0.2],
      [0.615 + cheek, 0.55 + jaw * 0.4], [0.38, 0.88 + jaw * 0.9], [0, 1.02 + jaw],
    ];
    c.save();
    c.translate(...pen.shift);
    pen.shape(colour.hair, 0, () => spline(c, mirrored(back), true));
    for (const side of [-1, 1]) {
      const x = side * 0.745 - Math.sin(face.yaw) * 0.1;
      pen.shape(colour["skin-shade"], 0.028, () => c.ellipse(x, 0.05, 0.1, 0.18, side * 0.12, 0, 7));
      c.beginPath();
      c.arc(x + side * 0.03, 0.05, 0.07, side < 0 ? 1.9 : -1.2, side < 0 ? 4.4 : 1.3);
      pen.ink(0.016, 0.5);
      c.stroke();
      c.globalAlpha = 1;
    }
    pen.shape(colour.skin, 0.034, () => spline(c, mirrored(front), true));
    c.restore();
  }

  function hair(pen) {
    const { c, face, colour } = pen;
    const part = Math.sin(face.yaw) * 0.1;
    c.save();
    c.translate(...pen.shift);
    pen.shape(colour.hair, 0.026, () => {
      c.moveTo(-0.755, -0.02);
      c.bezierCurveTo(-0.9, -0.62, -0.64, -1.17, 0.02, -1.16);
      c.bezierCurveTo(0.66, -1.16, 0.9, -0.62, 0.755, -0.02);
      c.bezierCurveTo(0.7, -0.16, 0.69, -0.36, 0.6, -0.5);
      c.bezierCurveTo(0.34 + part, -0.55, part, -0.62, -0.2 + part, -0.82);
      c.bezierCurveTo(-0.3 + part, -0.62, -0.5, -0.55, -0.6, -0.44);
      c.bezierCurveTo(-0.69, -0.33, -0.71, -0.16, -0.755, -0.02);
      c.closePath();
    });
    c.strokeStyle = "#ffffff";
    c.globalAlpha = 0.16;
    for (const [x0, y0, x1, y1, x2, y2] of [
      [-0.14, -0.92, 0.22, -0.78, 0.56, -0.62],
      [-0.02, -1.02, 0.36, -0.94, 0.64, -0.72],
      [-0.3, -0.9, -0.5, -0.76, -0.62, -0.56],
    ]) {
      c.beginPath();
      c.moveTo(x0 + part, y0);
      c.quadraticCurveTo(x1 + part, y1, x2, y2);
      c.stroke();
    }
    c.restore();
  }

  /** AU6 and AU12 lift the cheeks; AU9, AU10 and AU12 deepen the folds from the nose to the mouth. */
  function cheeks(pen) {
    const { c, au, colour } = pen;
    const lift = Math.max(au[6], au[12] * 0.7);
    const fold = Math.max(au[10] * 0.9, au[12] * 0.75, au[9] * 0.6, au[6] * 0.25);
    const corner = mouthCorner(au);
    for (const side of [-1, 1]) {
      const [x, y] = pen.project([side * 0.43, 0.3 - 0.05 * lift]);
      c.globalAlpha = 0.1 + 0.2 * lift;
      pen.shape(colour.lip, 0, () => c.ellipse(x, y, 0.16, 0.105, 0, 0, 7));
      c.globalAlpha = 1;
    }
    pen.both(0.02, 0.65 * au[6], [0.26, 0.12], [0.4, 0.165 - 0.02 * au[6]], [0.52, 0.1]);
    pen.both(0.022, 0.75 * fold, [0.16, 0.24 - 0.03 * au[9]], [0.25 + 0.02 * au[12], 0.36 - 0.03 * au[10]],
      [corner.x + 0.085, corner.y - 0.02]);
  }

  /** AU5 opens the upper lid, AU6 and AU7 narrow the eye, AU45 closes it; gaze moves the iris. */
  function eye(pen, side) {
    const { c, au } = pen;
    const closed = clamp(au[45] * 1.25, 0, 1);
    const closing = closed * closed * (3 - 2 * closed);
    const upper = 0.098 * (1 + 0.62 * au[5] - 0.34 * au[7] - 0.16 * au[6] - 0.12 * au[4]) * (1 - closing);
    const lower = mix(0.062 * (1 - 0.62 * au[7] - 0.55 * au[6]), 0.05, closing);
    const [x, y, half] = [0.3, -0.1, 0.155];
    const lid = (rise) => {
      const points = [
        [x - half, y + 0.012], [x - half * 0.5, y - rise * 0.8], [x, y - rise], [x + half * 0.55, y - rise * 0.78],
        [x + half, y],
      ];
      return (side < 0 ? flipped(points) : points).map(pen.project);
    };
    const [top, bottom] = [lid(mix(upper, -lower, closing)), lid(-lower)];
    if (closing < 0.96) {
      spline(c, [...top, ...bottom.slice(1, -1).reverse()], true);
      c.save();
      c.clip();
      c.fillStyle = "#fdfcfa";
      c.fill();
      iris(pen, side * x, y - 0.012);
      c.restore();
    }
    const edge = (points, width, alpha) => {
      spline(c, points);
      pen.ink(width, alpha);
      c.stroke();
    };
    edge(bottom, 0.016, 0.75);
    edge(top, 0.046, 1);
    edge(lid(mix(upper + 0.055, 0.065, closing)).slice(0, -1), 0.017, 0.55 * (1 - 0.7 * au[5]));
    c.globalAlpha = 1;
    for (const slope of [-1, 0, 1]) {
      pen.stroke(0.018, 0.85 * au[6], [side * 0.49, y + 0.015 + slope * 0.032],
        [side * (0.55 + 0.05 * au[6]), y + 0.015 + slope * 0.08]);
    }
    pen.stroke(0.016, 0.5 * au[7], [side * (x - 0.11), y + lower + 0.045], [side * x, y + lower + 0.06],
      [side * (x + 0.11), y + lower + 0.045]);
  }

  function iris(pen, x, y) {
    const [gx, gy] = pen.face.gaze;
    const [px, py] = pen.project([x + clamp(gx * 0.16, -0.085, 0.085), y + clamp(gy * 0.13, -0.05, 0.05)]);
    pen.disc("#5b7f94", px, py, 0.082);
    pen.disc("#1d2226", px, py, 0.043);
    pen.disc("#ffffff", px - 0.026, py - 0.028, 0.018);
  }

  /** AU1 raises the inner end, AU2 the outer, AU4 lowers both and draws them together. */
  function brow(pen, side) {
    const { c, au, colour } = pen;
    const down = au[4];
    const at = (x, y) => pen.project([side * x, y]);
    const inner = [0.145 - 0.045 * down, -0.335 - 0.12 * au[1] + 0.085 * down];
    const peak = [0.33 - 0.02 * down, -0.47 - 0.1 * Math.max(au[1] * 0.55, au[2]) + 0.07 * down];
    const outer = [0.49, -0.325 - 0.13 * au[2] + 0.02 * down];
    pen.shape(colour.hair, 0, () => {
      c.moveTo(...at(inner[0], inner[1] - 0.034));
      c.quadraticCurveTo(...at(...peak), ...at(...outer));
      c.quadraticCurveTo(...at(peak[0] - 0.01, peak[1] + 0.085), ...at(inner[0] + 0.004, inner[1] + 0.034));
      c.closePath();
    });
  }

  function forehead(pen) {
    const { au } = pen;
    for (const [y, reach] of [[-0.56, 0.26], [-0.64, 0.2]]) {
      const side = y - 0.05 * au[2];
      pen.stroke(0.018, 0.55 * Math.max(au[1], au[2]), [-reach, side], [0, y - 0.02 - 0.05 * au[1]], [reach, side]);
    }
    pen.both(0.022, 0.85 * au[4], [0.045, -0.38], [0.05, -0.3], [0.035, -0.24]);
  }

  /** AU9 wrinkles the bridge and lifts the wings. */
  function nose(pen) {
    const { au } = pen;
    const up = 0.035 * au[9];
    const wing = 0.125 + 0.025 * au[9] + 0.012 * au[12];
    const right = [[0.045, 0.262, 0.14], [wing * 0.82, 0.255 - up, 0.08], [wing, 0.19 - up, 0.06]];
    pen.stroke(0.018, 0.5, [0.045, -0.13, 0.03], [0.055, 0.02, 0.1], [0.075, 0.14, 0.16]);
    pen.stroke(0.028, 0.95, ...flipped(right).reverse(), [0, 0.285, 0.16], ...right);
    for (const y of [-0.1, -0.045]) {
      pen.stroke(0.018, 0.85 * au[9], [-0.075, y, 0.05], [0, y - 0.02, 0.07], [0.075, y, 0.05]);
    }
    pen.both(0.018, 0.7 * au[9], [0.1, -0.02, 0.05], [0.13, 0.06, 0.04]);
  }

  /** The right corner: AU12 up and out, AU15 down, AU20 out, AU14, AU23 and AU17 in. */
  function mouthCorner(au) {
    return {
      x: 0.225 + 0.085 * au[12] + 0.085 * au[20] + 0.02 * au[14] - 0.055 * au[23] - 0.03 * au[17] - 0.025 * au[26],
      y: 0.545 - 0.125 * au[12] + 0.1 * au[15] - 0.015 * au[14] + 0.03 * au[26],
    };
  }

  /** The four lines of the lips from corner to corner: AU25 and AU26 part them, AU10 and AU17 push, AU23 tightens. */
  function lips(au) {
    const corner = mouthCorner(au);
    const push = 0.05 * au[17];
    const gap = 0.1 * au[25] + 0.2 * au[26] * (0.35 + 0.65 * Math.max(au[25], 0.5));
    const tight = (1 - 0.6 * au[23]) * (1 - 0.2 * au[12]) * (1 - 0.25 * au[20]);
    const middle = 0.55 - 0.4 * push + 0.02 * au[12] - 0.01 * au[15];
    const upper = middle - 0.055 * au[10] - 0.02 * au[9] - gap * 0.18;
    const lower = middle - push * 0.5 + gap * 0.82;
    const [lip, under] = [0.062 * tight, 0.078 * tight * (1 + 0.25 * au[17])];
    const bend = (part, y) => [corner.x * part, mix(y, corner.y, part ** 2.2), 0.05];
    const across = (...points) => {
      const right = [...points, [corner.x, corner.y, 0.05]];
      return [...flipped(right).reverse(), ...right.slice(1)];
    };
    return {
      corner, gap, upper,
      edge: lower + under,
      top: across([0, upper - lip * 0.72, 0.05], [corner.x * 0.24, upper - lip, 0.05], bend(0.62, upper - lip * 0.75)),
      roof: across([0, upper, 0.05], bend(0.5, upper)),
      floor: across([0, lower, 0.05], bend(0.5, lower)),
      bottom: across([0, lower + under, 0.05], bend(0.55, lower + under * 0.9)),
    };
  }

  const between = (above, below) => [...above, ...below.slice(1, -1).reverse()];

  function mouth(pen) {
    const { au, colour } = pen;
    const m = lips(au);
    const { x, y } = m.corner;
    const open = m.gap > 0.012;
    if (open) teeth(pen, m);
    pen.fill(colour.lip, between(m.top, m.roof));
    pen.fill(colour.lip, between(m.floor, m.bottom));
    pen.stroke(0.027, 1, ...m.roof);
    if (open) pen.stroke(0.02, 1, ...m.floor);
    pen.both(0.022, 0.9 * au[14], [x + 0.035, y - 0.05], [x + 0.06 + 0.01 * au[14], y], [x + 0.035, y + 0.05]);
    pen.both(0.02, 0.8 * au[15], [x + 0.01, y + 0.015], [x + 0.035, y + 0.07]);
    pen.both(0.018, 0.7 * au[20], [x + 0.03, y - 0.03], [x + 0.045, y + 0.04]);
    chin(pen, x, m.edge);
  }

  function teeth(pen, { roof, floor, gap, upper, corner }) {
    const { c } = pen;
    c.save();
    pen.fill("#4a2226", between(roof, floor));
    c.clip();
    const [x, y] = pen.project([0, upper, 0.05]);
    const band = Math.min(0.065, gap * 0.55) + 0.06;
    pen.shape("#fbf8f2", 0, () => c.roundRect(x - corner.x * 0.78, y - 0.06, corner.x * 1.56, band, 0.025));
    if (gap > 0.12) {
      pen.shape("#b5605f", 0, () => c.ellipse(x, y + gap + 0.02, corner.x * 0.55, gap * 0.36, 0, 0, 7));
    }
    c.restore();
  }

  function chin(pen, x, edge) {
    const { au } = pen;
    const line = edge + 0.035;
    pen.stroke(0.018, 0.35 + 0.4 * au[17], [-x * 0.4, line, 0.05], [0, line + 0.01, 0.05], [x * 0.4, line, 0.05]);
    for (const [dx, dy] of [[-0.075, 0.12], [0, 0.1], [0.075, 0.12]]) {
      pen.stroke(0.018, 0.8 * au[17], [dx - 0.022, edge + dy, 0.05], [dx, edge + dy + 0.02, 0.05],
        [dx + 0.022, edge + dy, 0.05]);
    }
    pen.stroke(0.018, 0.6 * au[17], [-0.13, edge + 0.2, 0.05], [0, edge + 0.245, 0.05], [0.13, edge + 0.2, 0.05]);
  }

  return { read, draw };
})();
