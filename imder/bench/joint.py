"""Two missing modalities, drawn side by side from the observed one or one after the other: is their joint right?

Side by side each draw is right alone, but the two share only what the observed modality says. The pair is compared with
the true one in the directions that covary most over the training clips (singular vectors of the cross-covariance of
both modalities' principal coordinates):

  correlation         mean correlation of the leading pairs of directions over the clips; the truth's is the goal
  cross_covariance    squared error of the recovered pair's frame-by-frame cross-covariance (D x D, unit latents), in
                      units of the true one's squared size
  sliced_wasserstein, energy_distance     of the pair's coordinates in these directions, both modalities as one point

Floors: training clips (other speakers) in the place of recovered ones. Every figure is a mean over draws, `se` its
standard error over them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from imder.baselines.fill import Encoded
from imder.bench.cli import Row
from imder.bench.drawn import Source, add_source, draw
from imder.evaluation.distribution import Projection, energy_distance, sliced_wasserstein
from imder.modality import MODALITIES, PATTERNS, SYMBOLS, missing, symbols

#: Pairs of directions in which a joint is judged, and how many of them the correlation is over.
PAIRS, LEADING = 8, 3
METRICS = ("correlation", "cross_covariance", "sliced_wasserstein", "energy_distance")
SPLITS = ("valid", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench joint`."""
    add_source(parser)
    parser.add_argument("--draws", type=int, default=4, help="draws a clip (default 4)")
    parser.add_argument("--split", choices=SPLITS, help="only this split (default: both)")


@dataclass(frozen=True)
class Directions:
    """Pairs of directions of two modalities, by how much they covary over the training clips."""

    projections: dict[str, Projection]
    turns: dict[str, np.ndarray]  # (PCA directions, PAIRS)

    @classmethod
    def fit(cls, points: dict[str, np.ndarray]) -> Directions:
        """From the flattened training clips {k: (N, P)} of two modalities."""
        projections = {k: Projection.fit(x) for k, x in points.items()}
        a, b = (projections[k](x) for k, x in points.items())
        left, _, right = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)), full_matrices=False)
        return cls(projections, dict(zip(points, (left[:, :PAIRS], right[:PAIRS].T), strict=True)))

    def __call__(self, points: dict[str, np.ndarray]) -> np.ndarray:
        """(N, 2, PAIRS) coordinates of both modalities."""
        return np.stack([self.projections[k](points[k]) @ turn for k, turn in self.turns.items()], axis=1)


def correlation(pairs: np.ndarray) -> float:
    """The mean correlation of the leading pairs of coordinates (N, 2, PAIRS)."""
    return float(np.mean([np.corrcoef(pairs[:, 0, i], pairs[:, 1, i])[0, 1] for i in range(LEADING)]))


def cross_covariance(a: Tensor, b: Tensor, valid: Tensor) -> np.ndarray:
    """(D, D) over clips and valid frames of latents (N, D, L)."""
    a, b = (z.transpose(1, 2)[valid].double().numpy() for z in (a, b))  # (frames of all clips, D)
    return (a - a.mean(0)).T @ (b - b.mean(0)) / len(a)


@dataclass(frozen=True)
class Joint:
    """The true pairs of a split in one pattern, and how near another set of pairs is to them."""

    source: Source
    clips: Encoded
    names: tuple[str, str]
    directions: Directions

    def _units(self, latents: dict[str, Tensor]) -> list[Tensor]:
        return [self.source.model.unit(k, latents[k]) for k in self.names]

    def _points(self, latents: dict[str, Tensor], valid: Tensor) -> np.ndarray:
        return self.directions({k: self.source.flat(k, latents[k], valid) for k in self.names})

    def truth(self) -> float:
        """The correlation of the true pairs."""
        return correlation(self._points(self.clips.latents, self.clips.valid))

    def judge(self, latents: dict[str, Tensor], valid: Tensor) -> dict[str, float]:
        """Every metric for pairs of latents {k: (N, D, L)}."""
        points, real = self._points(latents, valid), self._points(self.clips.latents, self.clips.valid)
        wanted = cross_covariance(*self._units(self.clips.latents), self.clips.valid)
        found = cross_covariance(*self._units(latents), valid)
        x, y = (p.reshape(len(p), -1) for p in (points, real))
        return {
            "correlation": correlation(points),
            "cross_covariance": float(((found - wanted) ** 2).sum() / (wanted**2).sum()),
            "sliced_wasserstein": sliced_wasserstein(x, y),
            "energy_distance": energy_distance(x, y),
        }


def orders(names: tuple[str, str]) -> dict[str, str]:
    """The ways to draw two modalities: what a row calls it, and the `order` it is for `IMDer.stream`."""
    ways = {"side by side": ""}
    for first in names:
        rest = sorted(set(SYMBOLS.values()) - {SYMBOLS[first]})
        ways[f"{SYMBOLS[first]} first"] = "".join([SYMBOLS[first], *rest])
    return ways


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Measures each pattern with two missing, on the validation split (to choose by) and the test split (to report)."""
    if args.draws < 1:
        raise ValueError(f"--draws: {args.draws} is not allowed; a whole number from 1 is")
    source = Source.open(args)
    limit, draws = (40, 1) if args.quick else (0, args.draws)
    train = source.clips("train", 200 if args.quick else 0)
    flat = {k: source.flat(k, train.latents[k], train.valid) for k in MODALITIES}
    rows: list[Row] = []
    for split in [args.split] if args.split else SPLITS[:1] if args.quick else SPLITS:
        clips = source.clips(split, limit)
        for available in PATTERNS[:1] if args.quick else PATTERNS[:3]:
            names = missing(available)
            joint = Joint(source, clips, names, Directions.fit({k: flat[k] for k in names}))
            common = source.common | {"split": split, "available": symbols(available), "n": len(clips)}

            def row(name: str, value: float, common: dict[str, Any] = common, **more: Any) -> Row:
                return {"bench": "joint", "name": name, "value": round(value, 6), **common, **more}

            rows.append(row("correlation", joint.truth(), method="truth"))
            count = min(len(train), len(clips))
            at = np.arange(count) * len(train) // count
            floor = joint.judge({k: train.latents[k][at] for k in names}, train.valid[at])
            rows += [row(name, floor[name], method="floor") for name in METRICS[1:]]
            for method, order in orders(names).items():
                tell(f"{split}, {symbols(available)}, {method}")
                made = draw(source.model, clips, available, range(draws), seed=args.seed, order=order)
                found = [joint.judge({k: z[i] for k, z in made.items()}, clips.valid) for i in range(draws)]
                how = {"method": method, "draws": draws, "seed": args.seed}
                for name in METRICS:
                    values = np.array([one[name] for one in found])
                    se = round(float(values.std(ddof=1) / draws**0.5), 6) if draws > 1 else None
                    rows.append(row(name, float(values.mean()), se=se, **how))
    return rows


def table(rows: list[Row]) -> str:
    """A table a split: a line for each pattern and way to draw."""
    titles = {
        "correlation": "correlation of the pair",
        "cross_covariance": "error of the cross-covariance",
        "sliced_wasserstein": "sliced Wasserstein of the pair",
        "energy_distance": "energy distance of the pair",
    }
    lines = []
    for split in dict.fromkeys(row["split"] for row in rows):
        own = [row for row in rows if row["split"] == split]
        lines += [
            f"Split {split}, {own[0]['n']} clips. `floor`: training clips in the place of recovered ones.\n",
            "| observed | drawn | " + " | ".join(titles.values()) + " |",
            "|---|---|" + "---|" * len(titles),
        ]
        for pattern, method in dict.fromkeys((row["available"], row["method"]) for row in own):
            mine = {row["name"]: row for row in own if (row["available"], row["method"]) == (pattern, method)}
            cells = [_cell(mine.get(name)) for name in titles]
            lines.append(f"| {pattern} | {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.3f}" + (f" ± {row['se']:.3f}" if row.get("se") is not None else "")
