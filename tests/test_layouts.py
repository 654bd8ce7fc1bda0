"""Every layout of the field from its file to a recovery: convert, `train --quick`, evaluate, `RecoveryPipeline`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_files import SMALL, Sizes, Truth, iemocap, misa, mmsa, mult, pad, truth
from test_training import TINY

from imder.__main__ import main
from imder.data.layouts import EMOTIONS
from imder.modality import MODALITIES, missing, patterns, symbols
from imder.pipeline import RecoveryPipeline, RecoveryRequest

#: The layouts' own shapes with few clips, and the smallest budget that goes through every job.
CLIPS = (12, 4, 4)
QUICK = ["--quick", "--workers", "0", "--least", "2", "--score-updates", "3", "--score-valid", "3", "--batch", "6"]


def npz(sizes: Sizes, made: Truth) -> dict[str, np.ndarray]:
    """The house's arrays without any of language, aligned on the frames of the two others."""
    arrays = {}
    for split, labels in made.labels.items():
        for k in ("audio", "vision"):
            arrays[f"{split}_{k}"] = pad(made.features[split][k], getattr(sizes, k)[0])
        arrays |= {f"{split}_label": labels, f"{split}_id": np.array(made.ids[split])}
    return arrays


@dataclass(frozen=True)
class Layout:
    """A layout: whose sizes, and what the file holds of them."""

    sizes: str
    tree: Callable[[Sizes, Truth], Any]
    lacks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


LAYOUTS = {
    "mosi-aligned": Layout("mosi-aligned", mmsa),
    "mosi-unaligned": Layout("mosi-unaligned", mmsa),
    "mosei-aligned": Layout("mosei-aligned", mmsa),
    "mosei-unaligned": Layout("mosei-unaligned", mmsa),
    "sims": Layout("sims", mmsa),
    "mult": Layout("mosei-unaligned", mult),
    "misa": Layout("mosi-aligned", lambda sizes, made: misa(made, words=False)),
    "iemocap": Layout("mosi-unaligned", lambda s, made: iemocap(s, made, several=[1], none=[2]), classes=EMOTIONS),
    "no-language": Layout("mosi-aligned", npz, lacks=("text",)),
    "no-face": Layout("mosi-unaligned", lambda s, made: faceless(mmsa(s, made)), lacks=("vision",)),
}


def faceless(tree: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """MMSA's columns without those of the face."""
    return {split: {k: x for k, x in columns.items() if "vision" not in k} for split, columns in tree.items()}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Done:
    """Where a layout's set, run and rows are, and what the commands said."""

    name: str
    folder: Path
    said: str

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.name]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text().splitlines()]

    def pipeline(self) -> RecoveryPipeline:
        return RecoveryPipeline.from_pretrained(str(self.folder / "run"), data=str(self.folder / "set"))


def carried_out(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Done:
    """All commands on a layout's file."""
    layout = LAYOUTS[name]
    sizes = replace(SMALL[layout.sizes], clips=CLIPS)
    tree = layout.tree(sizes, truth(sizes))
    if name == "no-language":
        np.savez(path := folder / f"{name}.npz", **tree)
    else:
        (path := folder / f"{name}.pkl").write_bytes(pickle.dumps(tree, 4))
    data, run, rows = (str(folder / part) for part in ("set", "run", "rows.jsonl"))
    assert main(["data", "convert", str(path), "--out", data]) == 0
    assert main(["data", "info", data]) == 0
    assert main(["train", "--data", data, "--out", run, *QUICK, "--set", json.dumps(TINY)]) == 0
    judged = ["--methods", "imder", "unconditional", "zero", "mean", "--draws", "2", "--workers", "1"]
    assert main(["evaluate", "--run", run, "--data", data, "--out", rows, *judged]) == 0
    assert main(["evaluate", "--table", rows]) == 0
    told = capsys.readouterr()
    return Done(name, folder, told.out + told.err)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_the_field_converts_trains_evaluates_and_opens(name, tmp_path, capsys):
    done = carried_out(name, tmp_path, capsys)
    layout, names = done.layout, patterns(done.layout.lacks)
    fixed = [row for row in done.rows if row["method"] == "imder" and row["draws"] == 2]
    metric = "accuracy" if layout.classes else "mae"
    assert {symbols(row["available"]) for row in fixed if row["metric"] == metric} == {symbols(p) for p in names}
    assert {row["n"] for row in fixed if row["metric"] == metric} == {CLIPS[2]}
    errors = {(*row["available"], row["modality"]) for row in fixed if row["metric"] == "feature_error"}
    assert {key[-1] for key in errors if key[-1]} == set(missing(layout.lacks))
    pipeline = done.pipeline()
    assert (pipeline.lacks, pipeline.classes) == (layout.lacks, layout.classes)
    pipeline.warm_up()
    for pattern in names[:-1]:
        found = pipeline(RecoveryRequest(pipeline.data.split("test")[0], pattern, steps=2, draws=2))
        wanted = {k for k in MODALITIES if k not in (*pattern, *layout.lacks)}
        assert set(found.readable_draws) == wanted
        for k in wanted:
            assert found.readable_draws[k].shape[2] == getattr(SMALL[layout.sizes], k)[1]
            assert np.isfinite(found.readable_draws[k]).all()
        assert np.isfinite(found.draws).all()
        assert np.isfinite(found.predictions["complete"]).all()
