"""A run with random weights on the fake's clips, small enough to compute while a test waits; as a script, its page."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from fake_pipeline import FEATURE_NAMES, _clip

from imder import hub
from imder.__main__ import main as command
from imder.data.dataset import FeatureSet, write_feature_set
from imder.data.standardise import Standardiser
from imder.evaluation.evaluate import encode_clips
from imder.model import IMDer, ModelConfig
from imder.model.task import outputs_for

WIDTHS = {k: len(names) for k, names in FEATURE_NAMES.items()}
#: The first test clip has so many other performances.
PERFORMANCES = 8


def make(folder: Path, steps: int = 2, classes: Sequence[str] = ()) -> tuple[Path, Path]:
    """Run folder and data folder: 20 training and 24 test clips; with `classes` these are their labels, by turns."""
    splits = {"train": [_clip(i) for i in range(20)], "test": [_clip(i) for i in range(100, 124)]}
    label: dict[str, Any] = {"name": "sentiment", "range": [-3, 3]}
    if classes:
        label = {"name": "emotion", "range": [0, len(classes) - 1], "classes": list(classes)}
        splits = {
            split: [replace(clip, label=float(i % len(classes))) for i, clip in enumerate(clips)]
            for split, clips in splits.items()
        }
    rng = np.random.default_rng(0)
    first = splits["test"][0]
    again = {
        k: np.stack([first.features[k] + 0.3 * rng.normal(size=first.features[k].shape) for _ in range(PERFORMANCES)])
        for k in ("audio", "vision")
    }
    data: FeatureSet = write_feature_set(
        folder / "data", splits, name="tiny", title="Tiny", label=label,
        feature_names=FEATURE_NAMES, synthetic=True, redraws={first.id: {k: x.astype("f4") for k, x in again.items()}},
    )  # fmt: skip
    config = ModelConfig.from_preset(
        "corrected", WIDTHS, latent_channels=8, frames=48, channels=(8, 8, 8, 8), heads=2, embedding_dim=8,
        condition_layers=1, fusion_layers=1, reconstruction_channels=8, reconstruction_blocks=1, steps=steps,
        outputs=outputs_for(classes),
    )  # fmt: skip
    torch.manual_seed(0)
    model, standardiser = IMDer(config), Standardiser.fit(splits["train"])
    raw = encode_clips(model, standardiser, splits["train"])
    values = {k: z.transpose(1, 2)[raw.valid] for k, z in raw.latents.items()}
    model.set_latent_statistics({k: (x.mean(0), x.std(0)) for k, x in values.items()})
    unit = encode_clips(model, standardiser, splits["train"])
    model.fit_linear(unit.latents, unit.valid)
    info = {
        "name": data.name, "title": data.title, "synthetic": True, "label_range": list(data.label_range),
        "feature_names": {k: list(names) for k, names in data.feature_names.items()},
        "label_name": data.label_name, **({"label_classes": list(classes)} if classes else {}),
    }  # fmt: skip
    hub.save_run(folder / "run", model, standardiser, info, {"seed": 0})
    return folder / "run", folder / "data"


def distributions(run: Path, data: Path, out: Path) -> Path:
    """The file of distributions of that run."""
    assert command(["distributions", "--run", str(run), "--data", str(data), "--out", str(out)]) == 0
    return out


def main() -> None:
    """Serves the page of the run in TINY_HOME, with its distributions; a second model `other` has none."""
    from imder.ui.jobs import Jobs
    from imder.ui.page import build
    from imder.ui.serve import serve
    from imder.ui.shelf import Shelf

    temporary = tempfile.mkdtemp(prefix="imder-", dir=os.environ["GRADIO_TEMP_DIR"])
    os.environ["GRADIO_TEMP_DIR"] = temporary
    home, jobs = Path(os.environ["TINY_HOME"]), Jobs()
    models = {"tiny": str(home / "run"), "other": str(home / "other" / "run")}
    shelf = Shelf(models, {"tiny": str(home / "data")})
    serve(build(shelf, jobs, Path("/nowhere/assets/rows.jsonl"), home / "tiny.safetensors"), jobs, temporary)


if __name__ == "__main__":
    main()
