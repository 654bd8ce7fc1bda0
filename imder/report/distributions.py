"""Stored distributions for a reader who chooses: pictures, histograms, distances with their floors, performances."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imder.data.label import label_text
from imder.evaluation.distributions import Stored
from imder.evaluation.evaluate import RecoveryStudy
from imder.evaluation.live import LiveDraws
from imder.evaluation.recovered import VIEWS, Plane, View, pictured
from imder.modality import NAMES
from imder.plots.distributions import (
    CONDITIONAL,
    LIVE,
    ORIGINAL,
    REAL,
    UNCONDITIONAL,
    Cloud,
    clouds,
    histogram,
    per_channel,
)
from imder.report.blocks import DASH, Figure, Part, Table, plain

METRICS = {"sliced_wasserstein": "sliced Wasserstein", "energy_distance": "energy distance"}
PROJECTIONS = {"t-SNE": "tsne", "PCA": "pca"}
COLOURS = ("real or recovered", "sentiment")
AXES = {"pca": ("first principal direction", "second"), "tsne": ("t-SNE, first axis", "second")}
ONE_CHANNEL = "Values of every valid frame of every clip; the outer bins hold what lies beyond them."


class Distributions:
    """One file of distributions, read when first asked for and again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"{path.parent.name}/{path.name}"
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._stored: Stored | None = None

    @property
    def command(self) -> str:
        """What makes the file of the bundled run on the bundled corpus."""
        return f"python -m imder distributions --run checkpoints/corrected --out {self.name}"

    @property
    def stored(self) -> Stored:
        """The file. ValueError where there is none or it cannot be read."""
        if not self.path.is_file():
            raise ValueError(f"No distributions are stored yet; {self.command} makes them.")
        stat = self.path.stat()
        with self._lock:
            if (stat.st_mtime_ns, stat.st_size) != self._stamp:
                try:
                    self._stored = Stored.read(self.path)
                except ValueError:
                    raise ValueError(f"{self.name} cannot be read; {self.command} makes it again.") from None
                self._stamp = stat.st_mtime_ns, stat.st_size
            return self._stored

    def of(self, digest: str, fingerprint: str) -> Stored:
        """The file, if it is of that run and that data. ValueError with what to do otherwise."""
        stored = self.stored
        try:
            stored.check(digest, fingerprint)
        except ValueError:
            raise ValueError(
                f"The stored distributions are of the run {stored.about['run']} on {stored.about['data']}, not of the "
                "model and data chosen on the first page. A live run below works with any; python -m imder "
                "distributions --run RUN --data DIR --out FILE.safetensors stores them all."
            ) from None
        return stored


def patterns_for(modality: str) -> dict[str, tuple[str, ...]]:
    """What a modality can be recovered from, by name."""
    return {" and ".join(NAMES[k] for k in v.observed): v.observed for v in VIEWS if v.modality == modality}


def kind_names(view: View) -> tuple[str, str, str]:
    """The three sets of a view in words."""
    given = " and ".join(NAMES[k] for k in view.observed)
    return "real", f"recovered from {given}", "drawn from nothing"


def joint_figures(
    stored: Stored, view: View, refined: bool, projection: str, colour: str, live: Cloud | None = None
) -> list[Figure]:
    """Real and conditional, real and unconditional: the same axes, from one joint projection of all three."""
    points, label = stored.points(view, refined, projection), stored.label
    classes = stored.about.get("label_classes", ())
    said = [f"{clip}, label {label_text(y, classes)}" for clip, y in zip(stored.about["ids"], label, strict=True)]
    names, value = kind_names(view), label if colour == "sentiment" and not classes else None
    looks = [REAL, CONDITIONAL, UNCONDITIONAL]
    if value is not None:  # a value needs a filled mark
        looks[0] = ("#7a8594", "circle", "solid")
    sets = [
        Cloud(name, look, one, said, value, 8 if value is not None else 7)
        for name, look, one in zip(names, looks, points, strict=True)
    ]
    about = points.reshape(-1, 2)
    about = np.concatenate([about, live.points]) if live is not None and projection == "pca" else about
    found = []
    for i, title in ((1, "With the condition"), (2, "Without any condition")):
        shown = [sets[0], sets[i], *([live] if live is not None and projection == "pca" and i == 1 else [])]
        figure = clouds(
            shown, axes=AXES[projection], about=about, limits=tuple(stored.about["label_range"]),
            alike=projection == "pca",
        )  # fmt: skip
        found.append(Figure(title, f"{len(label)} clips, each as {names[0]} and as {names[i]}.", figure))
    return found


def live_cloud(points: np.ndarray, said: Sequence[str], name: str = "live") -> Cloud:
    """Points that a live run adds to a stored picture."""
    return Cloud(name, LIVE, points, said, None, 11)


def live_figures(
    stored: Stored | None, study: RecoveryStudy, made: LiveDraws, refined: bool, colour: str
) -> list[Figure]:
    """A live run in the PCA picture of its view; without a stored one, among the real clips alone.

    A third figure, for draws of a clip that has other performances, shows both in a plane of their own.
    """
    view, said = made.view, [f"{study.ids[row]}, drawn now" for row in made.rows]
    if stored is not None:
        cloud = live_cloud(stored.plane(view, refined)(made.points), said)
        found = joint_figures(stored, view, refined, "pca", colour, cloud)
    else:
        rows = pictured(len(study.ids))
        real = study.real[view.modality][rows]
        plane = Plane.fit(np.concatenate([real, made.points]))
        ground = Cloud("real", REAL, plane(real), [study.ids[row] for row in rows])
        sets = [ground, live_cloud(plane(made.points), said)]
        about = np.concatenate([one.points for one in sets])
        found = [Figure("With the condition", "", clouds(sets, axes=AXES["pca"], about=about))]
    if made.sentence is not None:
        one = made.sentence
        own = performance_figure(one.performed, one.drawn, one.original[None])
        found.append(Figure("Live draws and performances", "", own))
    return found


def live_table(study: RecoveryStudy, made: LiveDraws) -> Table | None:
    """What a live run's distances are, beside what real clips give; None where nothing true compares."""
    if made.sentence is not None:
        body = [
            (plain(METRICS[name]), (_figure(value),), (_figure(floor),))
            for name, (value, floor) in made.sentence.distances.items()
        ]
        caption = (
            f"{len(made.sentence.drawn)} live draws of one sentence against its true other performances; the floor is "
            "one half of the performances against the other."
        )
        return Table("Live draws against performances", caption, ("Distance", "live draws", "floor"), tuple(body))
    if not made.distances:
        return None
    body = []
    for name, (value, floor) in made.distances.items():
        body.append((plain(METRICS[name]), (_figure(value),), (_figure(floor.value, floor.noise),)))
    caption = (
        f"{len(made.points)} live draws against the real clips that they are not of. The floor is as many real clips "
        "against the others, ± over 20 samples: so few clips are noisy, only what stands far above it says something."
    )
    return Table("Live draws against real clips", caption, ("Distance", "live draws", "real clips"), tuple(body))


def channel_figure(stored: Stored, view: View, refined: bool, channel: int) -> Figure:
    """A channel's histogram: real, with condition, without."""
    names = kind_names(view)
    shares, gaps = stored.shares(view, refined, channel), stored.gaps(view, refined)[:, channel]
    name = stored.about["channels"][view.modality][channel]
    figure = histogram(
        stored.edges(view.modality, channel),
        list(zip(names, (REAL, CONDITIONAL, UNCONDITIONAL), shares, strict=True)),
        x=f"{name}, {'unit latents' if name.startswith('latent ') else 'raw scale, read out of the latents'}",
    )
    caption = (
        f"{ONE_CHANNEL} Distance to the real ones: {gaps[1]:.3f} standard deviations recovered, {gaps[2]:.3f} drawn "
        f"from nothing; two random halves of the real clips are {gaps[0]:.3f} apart."
    )
    return Figure(f"{name} of {NAMES[view.modality]}", caption, figure)


def channels_figure(stored: Stored, view: View, refined: bool) -> Figure:
    """Every channel's distance to the real ones, with its floor."""
    names = ("two halves of the real clips", *kind_names(view)[1:])
    figure = per_channel(
        stored.about["channels"][view.modality],
        list(zip(names, (REAL, CONDITIONAL, UNCONDITIONAL), stored.gaps(view, refined), strict=True)),
    )
    caption = (
        "Wasserstein-1 distance of each channel's values to the real ones. Channels are latents, then the features "
        "that a linear map reads out of them, for real and recovered clips alike."
    )
    return Figure("Channel by channel", caption, figure)


def _figure(value: float | None, noise: float | None = None) -> Part:
    told = DASH if value is None else f"{value:.3f}"
    return Part(told if noise is None else f"{told} ± {noise:.3f}")


def distance_table(stored: Stored, view: View) -> Table:
    """Both distances of a view before and after D_k, with their floors."""
    body = []
    for metric, name in METRICS.items():
        for refined, state in ((False, "drawn"), (True, "after D_k")):
            halves, noise, train, own, free = stored.distances(view, refined)[metric]
            cells = (_figure(own),), (_figure(free),), (_figure(train),), (_figure(halves, noise),)
            body.append((plain(f"{name}, {state}"), *cells))
    head = ("Distance", kind_names(view)[1], "drawn from nothing", "other real clips", "halves of the real clips")
    caption = (
        "Distance to the real clips of the split, 0 for equal distributions. The floors say what real against real "
        "gives: as many training clips of other speakers, and random halves of the split (half as many clips on a "
        "side, so its sliced Wasserstein is the larger; ± over 20 halvings). Recovered clips can be nearer than those "
        "of other speakers, since they were drawn from this split's other modalities. D_k serves the prediction: what "
        "it gives may lie farther from the real clips than what was drawn."
    )
    return Table("Distances with their floors", caption, head, tuple(body))


def overview_table(stored: Stored, refined: bool) -> Table:
    """Sliced Wasserstein distance of every view."""
    body = []
    for view in VIEWS:
        _, _, train, own, free = stored.distances(view, refined)["sliced_wasserstein"]
        given = " and ".join(NAMES[k] for k in view.observed)
        cells = tuple((_figure(value),) for value in (own, free, train))
        body.append((plain(f"{NAMES[view.modality]} from {given}"), *cells))
    caption = (
        f"Sliced Wasserstein distance to the real clips, {'after D_k' if refined else 'as drawn'}. A perfect draw from "
        "nothing would be at its floor too: a distance over the whole split does not say whether a clip got its own "
        "voice or face. The feature error of the benchmark and the performances below do."
    )
    return Table(
        "All ways to recover", caption, ("Way", "recovered", "drawn from nothing", "other real clips"), tuple(body)
    )


def sentence_names(stored: Stored, modality: str) -> dict[str, int]:
    """The sentences with other performances that are stored for a modality, by text."""
    return {
        f"{one['text']} ({label_text(one['label'], stored.about.get('label_classes', ()))})": i
        for i, one in enumerate(stored.about["sentences"])
        if one["modality"] == modality
    }


def sentence_figure(stored: Stored, index: int) -> Figure:
    """Performances and draws of a sentence in the plane of both."""
    one, own = stored.about["sentences"][index], f"sentence-{index}"
    performed, drawn = (stored.tensors[f"{own}/{name}"].astype(np.float32) for name in ("performed", "drawn"))
    original = stored.tensors[f"{own}/original"].astype(np.float32)[None]
    figure = performance_figure(performed, drawn, original)
    told = "; ".join(
        f"{METRICS[name]} {_figure(value).text}, floor {_figure(floor).text}"
        for name, (value, floor) in one["distances"].items()
    )
    caption = f"{len(performed)} true performances and {len(drawn)} draws of one sentence. {told}."
    return Figure(f"{NAMES[one['modality']]} given the sentence", caption, figure)


def performance_figure(performed: np.ndarray, drawn: np.ndarray, original: np.ndarray):
    """Points (N, 2) of a sentence: its performances, its draws and the clip of the split."""
    sets = [
        Cloud("other performances", REAL, performed, [f"performance {i + 1}" for i in range(len(performed))]),
        Cloud("draws", CONDITIONAL, drawn, [f"draw {i + 1}" for i in range(len(drawn))]),
        Cloud("the clip itself", ORIGINAL, original, ["the true clip"] * len(original), None, 12),
    ]
    return clouds(
        [one for one in sets if len(one.points)],
        axes=AXES["pca"],
        about=np.concatenate([one.points for one in sets if len(one.points)]),
    )


def sentence_table(stored: Stored, modality: str) -> Table:
    """The distances of every stored sentence and their mean."""
    own = [one for one in stored.about["sentences"] if one["modality"] == modality]
    body = []
    for one in own:
        cells = tuple((_figure(value),) for name in METRICS for value in one["distances"][name])
        body.append((plain(_short(one["text"])), *cells))
    columns = [[one["distances"][name][i] for one in own] for name in METRICS for i in (0, 1)]
    if own and not any(None in column for column in columns):
        body.append((plain("mean"), *((_figure(float(np.mean(column))),) for column in columns)))
    head = ("sentence", *(text for name in METRICS.values() for text in (name, "its floor")))
    caption = (
        "Draws given the sentence alone, against as many of its other true performances; the floor is one half of the "
        "performances against the other."
    )
    return Table("Draws against other performances", caption, head, tuple(body), averages=int(len(body) > len(own)))


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def statement(stored: Stored) -> str:
    """What the page shows, in words."""
    about = stored.about
    return (
        f"{about['clips']} clips of the split {about['split']} of {about['title']}, run {about['run']}, one draw a "
        f"clip ({about['sampler']}, {about['steps']} steps), stored by `{about['command']}`."
    )
