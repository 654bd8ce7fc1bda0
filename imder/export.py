"""A recovery written down: every step in one npz, its curves as CSV, and the steps that a screen shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from imder.data.upload import npz_bytes
from imder.modality import NAMES
from imder.pipeline import MAX_SAVED, Recovery, RecoveryChunk, RecoveryRequest, RecoveryStart
from imder.trajectory import displayed

#: Beyond so many bytes of float32 the steps are stored in half precision.
HALF_BEYOND = 24 << 20
STEPS = ("state", "denoised", "reconstructed")
CURVES = ("error", "error_reconstructed", "score_norm")


@dataclass(frozen=True)
class Recording:
    """A finished recovery with all of its steps in one chunk."""

    start: RecoveryStart
    steps: RecoveryChunk
    recovery: Recovery

    @classmethod
    def of(cls, items: Sequence[RecoveryStart | RecoveryChunk | Recovery]) -> Recording:
        """From everything that `RecoveryPipeline.stream` yielded for a request made `whole`."""
        start, *chunks, recovery = items
        return cls(start, joined(chunks), recovery)

    def shown(self, most: int = 60) -> RecoveryChunk:
        """At most so many of the steps, as the page shows them."""
        return picked(self.steps, displayed(len(self.steps.step) - 1, most))


def whole(request: RecoveryRequest) -> RecoveryRequest:
    """The same request with every step kept."""
    return replace(request, displayed=MAX_SAVED)


def joined(chunks: Sequence[RecoveryChunk]) -> RecoveryChunk:
    """Chunks that follow each other as one."""
    values = {}
    for f in fields(RecoveryChunk):
        parts = [getattr(chunk, f.name) for chunk in chunks]
        if isinstance(parts[0], dict):
            values[f.name] = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        else:
            values[f.name] = np.concatenate(parts) if isinstance(parts[0], np.ndarray) else parts[0]
    return RecoveryChunk(**values)


def picked(chunk: RecoveryChunk, at: np.ndarray) -> RecoveryChunk:
    """The steps at these places."""
    values = {}
    for f in fields(RecoveryChunk):
        value = getattr(chunk, f.name)
        if isinstance(value, dict):
            values[f.name] = {k: x[at] for k, x in value.items()}
        else:
            values[f.name] = value[at] if isinstance(value, np.ndarray) else value
    return RecoveryChunk(**values)


def trajectory_npz(recording: Recording) -> bytes:
    """The whole run, (S, D, L) a modality for the S steps of draw 0 and (N, ...) for the N draws, in unit latents.

    Features are in raw scale. Of classes every prediction is the probabilities of the array `classes`, whose index the
    label is, and there is no interval. The state, the estimate and D_k of it are float16 where they would exceed 24 MB.
    """
    start, steps, recovery = recording.start, recording.steps, recording.recovery
    request = recovery.request
    size = sum(x.size for name in STEPS for x in getattr(steps, name).values()) * 4
    kind = np.float16 if size > HALF_BEYOND else np.float32
    arrays: dict[str, np.ndarray] = {
        "clip": np.array(request.clip.id), "available": np.array(request.available),
        "missing": np.array(request.missing),
        "sampler": np.array(recovery.sampler), "steps": np.array(recovery.steps), "seed": np.array(request.seed),
        "guidance": np.array(request.guidance),
        **({"classes": np.array(recovery.classes)} if recovery.classes else {"interval": np.array(recovery.interval)}),
        "draws": recovery.draws,
    }  # fmt: skip
    arrays |= {f"prediction_{name}": np.array(value) for name, value in recovery.predictions.items()}
    arrays |= {name: getattr(steps, name) for name in ("step", "t", "std", "nfe", "prediction")}
    for name in STEPS:
        limit = np.finfo(kind).max
        arrays |= {f"{name}_{k}": np.clip(x, -limit, limit).astype(kind) for k, x in getattr(steps, name).items()}
    for name in (*CURVES, "path_state", "path_denoised"):
        arrays |= {f"{name}_{k}": np.asarray(x, dtype=np.float32) for k, x in getattr(steps, name).items()}
    arrays |= {f"truth_{k}": x for k, x in start.truth.items()}
    arrays |= {f"draws_{k}": x for k, x in recovery.latents.items()}
    arrays |= {f"draws_reconstructed_{k}": x for k, x in recovery.reconstructed.items()}
    arrays |= {f"features_{k}": np.asarray(x, dtype=np.float32) for k, x in recovery.readable_draws.items()}
    return npz_bytes(arrays)


def curves_csv(recording: Recording) -> str:
    """A row a step: noise level, network evaluations, prediction, and a modality's errors and score norm.

    Of classes the prediction is one column a class, `probability_happy` and so on.
    """
    steps, keys = recording.steps, recording.recovery.request.missing
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    curves = [(f"{name}_{NAMES[k].lower()}", getattr(steps, name)[k]) for k in keys for name in CURVES]
    predicted = [("prediction", steps.prediction)]
    if classes := recording.recovery.classes:
        predicted = [(f"probability_{name}", steps.prediction[:, i]) for i, name in enumerate(classes)]
    columns = [*predicted, *curves]
    writer.writerow(["step", "t", "noise_level", "network_evaluations", *(name for name, _ in columns)])
    for i in range(len(steps.step)):
        row = [steps.t[i], steps.std[i], int(steps.nfe[i]), *(values[i] for _, values in columns)]
        shown = ["" if np.isnan(v) else v if isinstance(v, int) else f"{v:.7g}" for v in row]
        writer.writerow([int(steps.step[i]), *shown])
    return out.getvalue()
