"""A pipeline of the real one's shape that needs no trained network; run as a script it serves the page with it.

Its clips are named clip_0$_$0 and so on; the seed steers what it does: see `MOODS`.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import anyio.from_thread
import numpy as np

from imder.data.checks import Expected
from imder.data.clip import Clip, Word
from imder.data.dataset import BUNDLED
from imder.data.standardise import Standardiser
from imder.field import (
    Arrows,
    FieldEnd,
    FieldPaths,
    FieldProgress,
    FieldRequest,
    FieldStart,
    Picture,
    grid,
    relative_density,
)
from imder.modality import MODALITIES, missing
from imder.pipeline import Recovery, RecoveryChunk, RecoveryRequest, RecoveryStart

CHANNELS, FRAMES = 32, 48
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
FEATURE_NAMES = {
    "text": [f"text_{i}" for i in range(64)],
    "audio": ["log_f0", *(f"mfcc_{i}" for i in range(20)), *(f"chroma_{i}" for i in range(12))],
    "vision": [*(f"AU{n:02d}" for n in ACTION_UNITS), "pose_pitch", "pose_yaw", "pose_roll", "gaze_x", "gaze_y"],
}
SENTENCES = (
    "I really loved how the story came together in the end",
    "the acting was flat and the jokes did not land at all",
    "it is <b>fine</b> & nothing more",
    "she said the music was worth the ticket alone",
    "two hours of my life that I will not get back",
    "go and see it with somebody you like",
)
TOLD = {1: "Flat words, lively face.", 3: "A voice from a face: listen to the pitch."}
#: Seeds that make the fake misbehave.
MOODS = {
    666: SystemExit(3),
    667: KeyboardInterrupt(),
    668: MemoryError("a path such as /root/secret"),
    669: RuntimeError("token=hunter2 in /root/secret"),
    670: ValueError("broken at /root/secret"),
}
SLOW_SEED = 900  # half a second a step
FREEZE_SEED = 901  # stops the server's event loop


def _clip(i: int) -> Clip:
    rng = np.random.default_rng(i)
    words = SENTENCES[i % len(SENTENCES)].split()
    wave = np.sin(np.linspace(0, 6 + i % 5, FRAMES + 2))[:, None]
    features = {
        k: (wave * rng.normal(size=len(FEATURE_NAMES[k])) + rng.normal(size=(FRAMES + 2, len(FEATURE_NAMES[k]))) * 0.1)
        for k in MODALITIES
    }
    features["vision"][:, :17] = np.clip(np.abs(features["vision"][:, :17]) * 2, 0, 5)
    features["vision"][:, 17:] *= 0.15
    features["audio"][:, 0] = 5 + 0.2 * wave[:, 0]
    edges = np.linspace(0, 1, len(words) + 1).round(4)
    return Clip(
        id=f"clip_{i}$_$0",
        video=f"clip_{i}",
        index=0,
        text=" ".join(words),
        features={k: x.astype(np.float32) for k, x in features.items()},
        label=float(np.round(3 * np.sin(i + 1), 1)),
        words=tuple(Word(w, float(edges[j]), float(edges[j + 1])) for j, w in enumerate(words)),
        seconds=2.5,
        extra={"example": TOLD[i]} if i in TOLD else {},
    )


class FakeSplit(list[Clip]):
    """Clips with their records."""

    @property
    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "id": clip.id,
                "text": clip.text,
                "label": clip.label,
                "extra": clip.extra,
                "video": clip.video,
                "words": [[word.text, word.start, word.end] for word in clip.words],
                "seconds": clip.seconds,
                "lengths": clip.lengths,
            }
            for clip in self
        ]


class FakeData:
    """Twelve clips, all in the test split."""

    name, title, note, synthetic = "fake", "A stand-in corpus", "Twelve sentences for tests.", True
    label_name, label_range, label_classes = "sentiment", (-3.0, 3.0), ()
    feature_names = FEATURE_NAMES
    splits = ("test",)
    fingerprint, encoder = "0123456789abcdef", None
    feature_dims: ClassVar = {k: len(names) for k, names in FEATURE_NAMES.items()}
    folder = BUNDLED  # whose projection of the language encoder serves typed sentences

    def __init__(self) -> None:
        self.clips = {clip.id: clip for clip in map(_clip, range(12))}

    def split(self, name: str) -> FakeSplit:
        return FakeSplit(self.clips.values())

    def clip(self, clip_id: str) -> Clip:
        if clip_id not in self.clips:
            raise ValueError(f"clip {clip_id!r} is not there")
        return self.clips[clip_id]


class FakePipeline:
    """Draws that walk from noise to the truth, or to a clip's if that is blank, the same for the same request."""

    lacks = classes = ()

    def __init__(self, source: str = "fake", data: str = "bundled") -> None:
        if source == "owner/absent":
            self.notice = "The Hub did not answer for owner/absent; the bundled model serves."
        elif source == "broken":
            raise ValueError("broken: config.json is not JSON; a run folder has one")
        else:
            self.notice = None
        self.data = FakeData()
        self.model = SimpleNamespace(config=SimpleNamespace(sampler="dpmpp-2m", steps=10, preset="corrected"))
        standardiser = Standardiser.fit(self.data.clips.values())
        self.run = SimpleNamespace(folder=Path(__file__).parent, source="bundled", standardiser=standardiser)
        self.expected = Expected(FakeData.feature_dims, standardiser, FEATURE_NAMES, FakeData.label_range)

    def seen(self, clip: Clip) -> Clip:
        return clip

    def stream(self, request: RecoveryRequest, interval: float = 0.25) -> Iterator[Any]:
        began = time.monotonic()
        clip, gone = request.clip, missing(request.available)
        if not all(clip.features[k].any() for k in gone):
            clip = replace(clip, features=clip.features | {k: self.data.clips["clip_1$_$0"].features[k] for k in gone})
        rng = np.random.default_rng([request.seed, request.steps, len(gone)])
        truth = {
            k: np.resize(clip.features[k].T, (CHANNELS, FRAMES)).astype(np.float32)
            / (np.abs(clip.features[k]).max() + 1e-6)
            for k in gone
        }
        label = 0.0 if math.isnan(clip.label) else clip.label
        evaluations = 2 * request.steps - 1 if request.sampler == "heun" else request.steps
        run_id = f"{clip.id}-{'-'.join(gone)}-{request.sampler}-{request.steps}-{request.seed}-{time.monotonic_ns()}"
        there = [k for k in gone if k not in clip.absent]
        predictions = {"complete": math.nan if clip.absent else clip.label * 0.9, "zero": 0.2}
        yield RecoveryStart(
            run_id=run_id,
            clip=clip,
            available=request.available,
            missing=gone,
            sampler=request.sampler,
            steps=request.steps,
            nfe_total=evaluations,
            truth={k: truth[k] for k in there},
            label=clip.label,
            predictions=predictions,
            cloud={k: rng.normal(size=(200, 2)).astype(np.float32) for k in gone},
            truth_path={k: np.array([0.4, -0.3], np.float32) for k in there},
            readable_truth={k: clip.features[k] for k in there},
            latent=(CHANNELS, FRAMES),
        )
        if request.seed == FREEZE_SEED:
            anyio.from_thread.run_sync(time.sleep, 120)
        if request.seed in MOODS:
            raise MOODS[request.seed]
        count = min(request.steps + 1, request.displayed)
        steps = np.unique(np.linspace(0, request.steps, count).astype(int))
        std = np.geomspace(9.8, 0.003, request.steps + 1)[steps]
        start = {k: rng.normal(size=(CHANNELS, FRAMES)) for k in gone}
        size = 1 if request.seed == SLOW_SEED else max(1, len(steps) // 5)
        for first in range(0, len(steps), size):
            rows = slice(first, first + size)
            part = (np.log(std[rows] / 0.003) / np.log(9.8 / 0.003))[:, None, None]
            denoised = {k: ((1 - part) * truth[k] + part * 0.2 * start[k]).astype(np.float32) for k in gone}
            c = len(std[rows])
            yield RecoveryChunk(
                run_id=run_id,
                first=first,
                step=steps[rows],
                t=(steps[rows][::-1] / request.steps).astype(np.float32),
                std=std[rows].astype(np.float32),
                nfe=np.minimum(steps[rows] + 1, evaluations),
                state={k: (denoised[k] + std[rows][:, None, None] / 0.15 * start[k]).astype(np.float32) for k in gone},
                denoised=denoised,
                reconstructed={k: denoised[k] * 0.98 for k in gone},
                path_state={k: (np.array([[0.4, -0.3]]) + std[rows][:, None] * np.array([[3, 2]])) for k in gone},
                path_denoised={k: (np.array([[0.4, -0.3]]) + part[:, :, 0] * np.array([[1, 1]])) for k in gone},
                error=dict.fromkeys(gone, part[:, 0, 0] + 0.2),
                error_reconstructed=dict.fromkeys(gone, part[:, 0, 0] + 0.15),
                score_norm=dict.fromkeys(gone, 30 / std[rows]),
                prediction=(label * (1 - part[:, 0, 0])).astype(np.float32),
                readable={
                    k: clip.features[k][None] * (1 - part) + part * rng.normal(size=(c, *clip.features[k].shape))
                    for k in gone
                },
            )
            time.sleep(0.5 if request.seed == SLOW_SEED else 0.02)
        draws = label * 0.8 + rng.normal(size=request.draws) * 0.3
        latents = {k: np.repeat(truth[k][None], request.draws, axis=0) for k in gone}
        yield Recovery(
            run_id=run_id,
            request=request,
            sampler=request.sampler,
            steps=request.steps,
            latents=latents,
            reconstructed=latents,
            predictions=predictions | {"recovered": float(draws.mean()), "label": clip.label},
            draws=draws.astype(np.float32),
            interval=(float(np.quantile(draws, 0.05)), float(np.quantile(draws, 0.95))),
            feature_error={k: {"draw": 1.2, "draw_refined": 1.0, "mean": 0.8, "mean_refined": 0.7} for k in there},
            nfe=evaluations * len(gone),
            seconds=time.monotonic() - began,
            words=[[(w.text, 0.75), ("other", 0.25)] for w in clip.words] if "text" in gone else [],
            readable_draws={k: np.stack([clip.features[k]] * min(4, request.draws)) for k in gone},
        )

    def __call__(self, request: RecoveryRequest) -> Recovery:
        *_, last = self.stream(request)
        return last


def fake_field(pipeline: FakePipeline, request: FieldRequest) -> Iterator[Any]:
    """A field that points to the clip's place in the plane, with the messages of the real one; SLOW_SEED is slow."""
    rng = np.random.default_rng(request.seed)
    std, cloud = np.append(np.geomspace(60, 0.1, request.steps), 0), rng.normal(size=(80, 2)) * 10
    reach, aim = 2.8 * np.hypot(10, std), np.array([len(request.target), request.guidance * 5.0])
    density = relative_density(cloud, [s * s * np.eye(2) for s in std], np.zeros(2), reach)
    t = np.linspace(1, 0, request.steps + 1)
    yield FieldStart(request, Picture(t, std, np.zeros(2), reach, density, cloud, request.fields), aim, 0.27)
    start = rng.normal(size=(request.paths, 2))
    shaken = [start, *rng.normal(size=(request.steps, request.paths, 2))]
    yield FieldPaths(aim + std[:, None, None] * start, aim + std[:, None, None] * np.stack(shaken))
    for n, index in enumerate(request.fields):
        time.sleep(0.4 if request.seed == SLOW_SEED else 0.01)
        if request.seed in MOODS:
            raise MOODS[request.seed]
        yield Arrows(index, aim - grid(np.zeros(2), reach[index], request.side))
        yield FieldProgress(n * request.side**2)
    yield FieldEnd(0.1, request.evaluations)


def main() -> None:
    """Serves the fake as app.py serves the real pipeline."""
    import imder.ui.field
    from imder.ui.jobs import Jobs
    from imder.ui.page import build
    from imder.ui.serve import serve
    from imder.ui.shelf import Shelf

    temporary = tempfile.mkdtemp(prefix="imder-", dir=os.environ["GRADIO_TEMP_DIR"])
    os.environ["GRADIO_TEMP_DIR"] = temporary
    jobs = Jobs(deadline=float(os.environ.get("FAKE_DEADLINE", "30")))
    models = {"fake": "fake", "broken": "broken"}
    rows = Path(os.environ.get("FAKE_BENCHMARK", "/nowhere/assets/benchmark.jsonl"))
    shelf = Shelf(models, {"bundled": "bundled"}, opener=FakePipeline)
    imder.ui.field.stream_field = fake_field
    serve(build(shelf, jobs, benchmark=rows), jobs, temporary, mcp=bool(os.environ.get("FAKE_MCP")))


if __name__ == "__main__":
    main()
