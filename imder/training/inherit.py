"""What a training takes from another run instead of learning it: stage 1, and stage 2 where the recipe is equal."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from imder.hub import LOG, Run
from imder.training.checkpoint import write_folder
from imder.training.stages import Bench, complete_figures, readout_r2

#: Parts of the model that stage 1a leaves alone.
LATER = ("scores", "pairs", "reconstructors")
#: Fields of the recipe on which a score network depends, beside the model's own and those of stage 2.
SCORE_FIELDS = ("seed", "batch", "ema")
#: Fields of the model that have no part in the training of a score network.
FREE = ("sampler", "steps", "tweedie", "dropout", "output_dropout", "order", "temperature", "interval_margin")
#: What a row of a job's curve holds.
CURVE = ("update", "loss", "valid", "lr", "seconds")


def inherit(bench: Bench, run: Run) -> None:
    """Writes the results of the jobs that `run` has already done, that of `encode` last.

    Raises ValueError when the run was trained on other data or has other sizes. Nothing is done where they are there.
    """
    if (bench.folder / "results" / "encode").exists():
        return
    if run.kind != "imder":
        raise ValueError(f"from: {run.source} is a model of the kind {run.kind!r}; one of IMDer is needed")
    if run.info["data"]["fingerprint"] != bench.data.fingerprint:
        raise ValueError(f"from: {run.source} was trained on {run.info['data']['name']}, not on {bench.data.name}")
    if run.info["training"]["config"].get("limit", 0) != bench.config.limit:
        raise ValueError(f"from: {run.source} was trained with another limit of clips than {bench.config.limit}")
    model, theirs = bench.model(), run.model.state_dict()
    wanted = model.state_dict()
    first = {name: theirs.get(name) for name in wanted if not name.startswith(tuple(f"{part}." for part in LATER))}
    if odd := [name for name, x in first.items() if x is None or x.shape != wanted[name].shape]:
        raise ValueError(f"from: {run.source} cannot start a {bench.config.preset} run: {odd[0]} is absent or differs")
    if _same_scores(bench, run):
        for k in bench.there:
            score = dict(run.metrics["score"][k])
            tensors = {name: theirs[name] for name in model.score_modules(k).state_dict()}
            _write(bench, run, f"score-{k}", tensors, score, int(score.pop("update")))
    model.load_state_dict(wanted | first)
    figures = complete_figures(model, bench.latents(model, "valid"))
    _write(bench, run, "fuse", {name: x for name, x in first.items() if name.startswith("fusion.")}, figures)
    _write(bench, run, "encode", first, figures | readout_r2(bench, model))


def _same_scores(bench: Bench, run: Run) -> bool:
    """Whether the run's score networks are those that this recipe trains, on what stage 1 left."""
    ours, theirs = bench.config.essential, run.info["training"]["config"]
    fields = [name for name in ours if name.startswith("score_")] + list(SCORE_FIELDS)
    models = [{k: v for k, v in m.to_json().items() if k not in FREE} for m in (bench.model_config(), run.model.config)]
    return models[0] == models[1] and all(theirs.get(name) == ours[name] for name in fields)


def _write(
    bench: Bench, run: Run, job: str, tensors: dict[str, Tensor], figures: dict[str, Any], step: int = 0
) -> None:
    """The result of a job with what the other run recorded of it: its curve and its seconds."""
    log = run.folder / LOG
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    rows = [{name: row[name] for name in CURVE} for row in map(json.loads, lines) if row["job"] == job]
    seconds = run.metrics.get("seconds", {}).get(job, 0.0)
    meta = {"step": step, "best_step": step, "best": next(iter(figures.values())), "seconds": seconds, "rows": rows}
    tensors = {name: x.detach().to(torch.float32) if x.is_floating_point() else x for name, x in tensors.items()}
    write_folder(bench.folder / "results" / job, tensors, meta | {"figures": figures})
