"""Draws of voice and face given the language, against other performances of the same sentence.

The bundled corpus ships true draws from p(voice, face | language): each of its sentences performed again with fresh
latents. Draws of a sentence are compared with its performances sentence by sentence, as many as there are draws, in the
32 principal directions of the training clips:

  sliced_wasserstein, energy_distance     mean over sentences; both are those of the voice, of the face and of the pair
                                          (each modality's coordinates at the scale of its training clips)
  variance_ratio     variance of the draws about their mean, over that of the performances
  coverage90         share of a performance's values between the 5 and 95 % quantile of the draws; `exact` is what as
                     many exact draws cover

The floor is one half of the performances against the other, with as many points on a side. `over_floor` is the distance
over the floor's. `se` is over sentences. Two more methods tell a wrong mean from a wrong spread: `draws, true mean` are
the draws `A first`, each sentence's moved to the mean of the floor's performances; `performances, drawn mean` those
performances moved to the mean of the draws, what a perfect spread about the model's mean would reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from imder.bench.cli import Row
from imder.bench.drawn import BATCH, Source, add_source, draw
from imder.evaluation.distribution import (
    Projection,
    covered,
    energy_distance,
    exact_coverage,
    sliced_wasserstein,
)
from imder.evaluation.evaluate import encode_clips
from imder.evaluation.recovered import performances
from imder.modality import missing

OBSERVED = ("text",)
NAMES = missing(OBSERVED)
PAIR = "pair"
#: Ways to draw: a row's method, and the `order` and guidance it is for `IMDer.recover`.
METHODS = {
    "side by side": ("", 1.0),
    "A first": ("ALV", 1.0),
    "V first": ("VLA", 1.0),
    "unconditional": ("", 0.0),
}
#: What the two methods with exchanged means are made from.
OWN, TRUE_MEAN, DRAWN_MEAN = "A first", "draws, true mean", "performances, drawn mean"
DISTANCES = {"sliced_wasserstein": sliced_wasserstein, "energy_distance": energy_distance}

Points = dict[str, np.ndarray]  # {audio, vision: (draws, P)} in unit latents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench reperformance`."""
    add_source(parser)


class Space:
    """The directions in which draws are compared."""

    def __init__(self, training: Points) -> None:
        self.projections = {k: Projection.fit(x) for k, x in training.items()}
        self.scales = {k: float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())) for k, x in training.items()}

    def __call__(self, points: Points) -> Points:
        """The coordinates {audio, vision: (N, 32), pair: (N, 64)}."""
        made = {k: self.projections[k](x) for k, x in points.items()}
        return made | {PAIR: np.concatenate([made[k] / self.scales[k] for k in made], axis=1)}


def recentred(points: Points, like: Points) -> Points:
    """A sentence's points moved to the mean of others."""
    return {k: x - x.mean(0) + like[k].mean(0) for k, x in points.items()}


def compare(space: Space, found: Points, real: Points) -> dict[tuple[str, str], float]:
    """{(metric, what): value} of one sentence: its draws against as many performances."""
    x, y = space(found), space(real)
    made = {(name, k): distance(x[k], y[k]) for name, distance in DISTANCES.items() for k in x}
    for k in found:
        made["variance_ratio", k] = float(found[k].var(0, ddof=1).sum() / real[k].var(0, ddof=1).sum())
        made["coverage90", k] = float(np.mean([covered(found[k], one).mean() for one in real[k]]))
    return made


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Measures every way to draw; needs a data set with performances."""
    source = Source.open(args)
    ids = source.data.redraw_ids
    if not ids:
        raise ValueError(f"{source.data.name!r} ships no other performances; the bundled data set does")
    ids = ids[:: max(1, len(ids) // 4)][:4] if args.quick else ids
    train = source.clips("train", 200 if args.quick else 0)
    space = Space({k: source.flat(k, train.latents[k], train.valid) for k in NAMES})
    clips = [source.data.clip(name) for name in ids]
    shown = encode_clips(source.model, source.run.standardiser, clips, BATCH)

    real: list[Points] = []
    for clip in clips:
        again = performances(source.model, source.run.standardiser, clip, source.data.redraws(clip.id))
        real.append({k: source.flat(k, again.latents[k], again.valid) for k in NAMES})
    half = min(8 if args.quick else 32, *(len(points[NAMES[0]]) // 2 for points in real))
    first, second = (
        [{k: x[part] for k, x in p.items()} for p in real] for part in (slice(half), slice(half, 2 * half))
    )

    found = {"floor": first}
    rows: list[Row] = []
    common = source.common | {"available": "L", "n": len(clips), "draws": half, "seed": args.seed}
    for method, (order, guidance) in METHODS.items():
        tell(f"{half} draws of {len(clips)} sentences, {method}")
        made = draw(source.model, shown, OBSERVED, range(half), seed=args.seed, order=order, guidance=guidance)
        found[method] = [
            {k: source.flat(k, made[k][:, i], shown.valid[i].expand(half, -1)) for k in NAMES}
            for i in range(len(clips))
        ]
    found[TRUE_MEAN] = [recentred(x, y) for x, y in zip(found[OWN], first, strict=True)]
    found[DRAWN_MEAN] = [recentred(x, y) for x, y in zip(first, found[OWN], strict=True)]
    floors: dict[tuple[str, str], float] = {}
    for method, points in found.items():
        by_clip = [compare(space, x, y) for x, y in zip(points, second, strict=True)]
        for name, what in by_clip[0]:
            values = np.array([one[name, what] for one in by_clip])
            more = {"method": method, "what": what}
            if name == "coverage90":
                more["exact"] = round(exact_coverage(half), 6)
            se = round(float(values.std(ddof=1) / len(values) ** 0.5), 6) if len(values) > 1 else None
            rows.append(_row(name, float(values.mean()), se=se, **more, **common))
            if method == "floor":
                floors[name, what] = float(values.mean())
            elif name == "sliced_wasserstein":
                rows.append(_row("over_floor", float(values.mean()) / floors[name, what], **more, **common))
    return rows


def _row(name: str, value: float, **more: object) -> Row:
    return {"bench": "reperformance", "name": name, "value": round(value, 6), **more}


def table(rows: list[Row]) -> str:
    """A line for each way to draw and modality."""
    titles = {
        "sliced_wasserstein": "sliced Wasserstein",
        "over_floor": "over the floor",
        "energy_distance": "energy distance",
        "variance_ratio": "variance ratio",
        "coverage90": "coverage",
    }
    told = next(row for row in rows if row["name"] == "coverage90")
    lines = [
        f"{told['n']} sentences, {told['draws']} draws against {told['draws']} performances of each; "
        f"exact draws cover {told['exact']:.3f}.\n",
        "| drawn | what | " + " | ".join(titles.values()) + " |",
        "|---|---|" + "---|" * len(titles),
    ]
    for method, what in dict.fromkeys((row["method"], row["what"]) for row in rows if "what" in row):
        mine = {row["name"]: row for row in rows if (row["method"], row.get("what")) == (method, what)}
        cells = [f"{mine[name]['value']:.3f}" if name in mine else "" for name in titles]
        lines.append(f"| {method} | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
