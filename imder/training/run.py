"""`train`: the whole training in a run folder, which the same call continues after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from imder import hub
from imder.data.dataset import FeatureSet
from imder.model import IMDer
from imder.model.task import TITLES
from imder.training import baseline
from imder.training.baseline import bench_of, figures_by_pattern, summary
from imder.training.checkpoint import DamagedError, locked
from imder.training.config import Recipe, TrainingConfig, check_device, recipe_from_json
from imder.training.inherit import inherit
from imder.training.loop import Interrupted, Reporter
from imder.training.pool import run_jobs
from imder.training.progress import Progress
from imder.training.stages import Bench, run, zero_fill

#: The working folder inside a run; it is removed when the run is complete.
WORK = ".training"


class Complete(Exception):
    """The run is there already; nothing was done."""


def train(
    data: str | Path,
    out: str | Path,
    config: Recipe,
    *,
    model: dict[str, Any] | None = None,
    half: bool = False,
    command: str = "",
    start: str | None = None,
) -> dict[str, Any]:
    """Trains into the folder `out` and returns the metrics.

    `model`: fields of the model's configuration that differ from its defaults; `start`: a run of IMDer whose stage 1,
    and whose score networks where the recipe is the same, are taken over. Raises Complete when `out` holds a complete
    run, Interrupted after SIGINT or SIGTERM with the state saved, ValueError for anything else that a person can mend.
    """
    check_device(config.device)
    out, overrides = Path(out), model or {}
    base = None if start is None else hub.load(start, fallback=False)
    feature_set = FeatureSet.open(data)
    plan = {
        "data": feature_set.repository or (str(data) if str(data) == "bundled" else str(Path(data).resolve())),
        "fingerprint": feature_set.fingerprint,
        "config": dataclasses.asdict(config),
        "model": overrides,
        "from": None if base is None else origin(base, Path(start).name),
    }
    work = out / WORK
    _check_folder(out, plan)
    with locked(work / "lock") as lock, stop_on_signal() as stopping:
        _write_plan(out, plan)
        bench = bench_of(feature_set, config, overrides, work)
        _refuse_early(bench, base)
        sizes = {split: len(part) for split, part in bench.features.items()}
        if base is not None:
            inherit(bench, base) if config.model == "imder" else baseline.inherit(bench, base)
        progress = _progress(bench, out, sizes)
        try:
            for phase in bench.phases():
                jobs = [name for name in phase if progress.parts[name] < 1]
                if config.workers:
                    run_jobs(work, jobs, config.workers, lock, progress.hear, stopping)
                else:
                    _run_here(bench, jobs, progress, stopping)
            metrics = _finish(bench, out, progress, half, command, plan["from"])
        except Interrupted:
            raise Interrupted(progress.where()) from None
        finally:
            progress.close()
        shutil.rmtree(work)
    return metrics


def _run_here(bench: Bench, jobs: list[str], progress: Progress, stopping: Callable[[], bool]) -> None:
    for name in jobs:
        if stopping():
            raise Interrupted
        run(bench, name, Reporter(lambda message, name=name: progress.hear(name, message), stopping))


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM only set what the yielded function returns (in the main thread; elsewhere it is False)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {s: signal.signal(s, lambda *_: asked.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The run folder.


def origin(run: hub.Run, name: str) -> dict[str, str]:
    """Which run a training starts from: its name, the seal of its weights and the command that trained it."""
    weights = hashlib.sha256((run.folder / hub.WEIGHTS).read_bytes()).hexdigest()[:16]
    return {"run": name, "weights": weights, "command": run.info["training"]["command"]}


def _essence(plan: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two trainings to be the same one, flat."""
    config = recipe_from_json(plan["config"]).essential
    start = {"from": plan["from"]} if plan["from"] else {}
    return config | {"data": plan["fingerprint"]} | start | {f"model {name}": x for name, x in plan["model"].items()}


def difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first setting in which two trainings differ, in words."""
    there, here = json.loads(json.dumps(there)), json.loads(json.dumps(here))
    for name in here | there:
        if there.get(name) != here.get(name):
            was, now = (side.get(name, "as the preset has it") for side in (there, here))
            return f"{name.replace('_', '-')} {was}, not {now}"
    return None


def _check_folder(out: Path, plan: dict[str, Any]) -> None:
    """Raises Complete or ValueError unless `out` is new, or holds this very training, unfinished."""
    saved = out / WORK / "plan.json"
    if saved.exists():
        try:
            there = _essence(json.loads(saved.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{saved}: cannot be read ({error}); choose another folder") from None
        if differs := difference(there, _essence(plan)):
            raise ValueError(f"{out}: holds an unfinished training with {differs}; choose another folder")
        return
    if (out / hub.CONFIG).exists():
        run = hub.load_run(out)
        there = run.info["training"].get("essence", {})
        if "model" not in there:
            there = TrainingConfig().essential | there  # a run may be older than a field
        differs = difference(there, _essence(plan))
        raise Complete(f"{out}: the run is complete" + (f", trained with {differs}" if differs else ""))
    if out.exists() and (not out.is_dir() or any(path.name != WORK for path in out.iterdir())):
        raise ValueError(f"{out}: is no run and not empty; choose an empty or a new folder")


def _write_plan(out: Path, plan: dict[str, Any]) -> None:
    _check_folder(out, plan)  # once more: another process may have been here before the lock
    try:
        staged = out / WORK / "plan.tmp"
        staged.write_text(json.dumps(plan))
        staged.replace(out / WORK / "plan.json")
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror})") from None


def _refuse_early(bench: Bench, base: hub.Run | None) -> None:
    """Bad fields of the model are refused before anything is computed."""
    if bench.config.model == "imder":
        bench.model_config()
    else:
        bench.network()
        baseline.check_start(bench.config, base)


def _progress(bench: Bench, out: Path, sizes: dict[str, int]) -> Progress:
    finished, costs = {}, {}
    for phase in bench.phases():
        for name in phase:
            share = max(1, min(bench.config.workers, len(phase)))
            costs[name] = bench.cost(name, sizes) / share
            with contextlib.suppress(DamagedError):
                finished[name] = bench.result(name)[1]["rows"]
    rows = {name: [Progress.row(name, row) for row in rows] for name, rows in finished.items()}
    return Progress(costs, out / hub.LOG, rows)


# The end.


def _finish(
    bench: Bench, out: Path, progress: Progress, half: bool, command: str, start: dict[str, str] | None
) -> dict[str, Any]:
    device = bench.config.device
    if device != "cpu":
        bench = dataclasses.replace(bench, config=dataclasses.replace(bench.config, device="cpu"))
    torch.set_num_threads(1)
    metas = {name: bench.result(name)[1] for name in progress.costs}
    imder = bench.config.model == "imder"
    model, metrics = _measured(bench, metas) if imder else baseline.measured(bench, metas)
    data = bench.data
    data_info = {
        "name": data.name,
        "title": data.title,
        "fingerprint": data.fingerprint,
        "synthetic": data.synthetic,
        "label_name": data.label_name,
        "label_range": list(data.label_range),
        **({"label_classes": list(data.label_classes)} if data.label_classes else {}),
        **({"lacks": list(data.lacks)} if data.lacks else {}),
        "feature_names": {k: list(names) for k, names in data.feature_names.items()},
        "n_train": len(bench.features["train"]),
        "n_valid": len(bench.features["valid"]),
    } | ({"repository": data.repository} if data.repository else {})
    essence = _essence(
        {
            "config": dataclasses.asdict(bench.config),
            "fingerprint": data.fingerprint,
            "model": bench.overrides,
            "from": start,
        }
    )
    training = {
        "config": bench.config.essential,
        "essence": essence,
        "seed": bench.config.seed,
        "command": command,
        "seconds": round(sum(metrics["seconds"].values()), 1),
    }
    if device != "cpu":
        training["device"] = device
    if start:
        training["from"] = start
    hub.save_run(
        out,
        model,
        bench.standardiser,
        data_info,
        training,
        metrics=metrics,
        card=(card if imder else baseline.card)(metrics, training, data.note),
        log=progress.all_rows(),
        half=half,
    )
    return metrics


def _measured(bench: Bench, metas: dict[str, dict[str, Any]]) -> tuple[IMDer, dict[str, Any]]:
    """The trained model, and its metrics on the validation split."""
    model = bench.model("encode", *(f"score-{k}" for k in bench.there), "recover")
    recovered = metas["recover"]["figures"]
    by, zero = figures_by_pattern(recovered, bench.patterns), zero_fill(model, bench)
    beside = {
        f"{name}_by_pattern": {p: {"recovered": x, "zero": zero[p][name]} for p, x in own.items()}
        for name, own in by.items()
    }
    return model, {
        "split": "valid",
        "clips": len(bench.features["valid"]),
        "draws": bench.config.valid_draws,
        **summary(recovered, bench.patterns),
        **beside,
        "feature_error": {"draw": recovered["draw_error"], "draw_refined": recovered["refined_error"]},
        "readout_r2": {k: metas["encode"]["figures"][f"readout_r2.{k}"] for k in bench.there},
        "score": {
            k: metas[f"score-{k}"]["figures"] | {"update": metas[f"score-{k}"]["best_step"]} for k in bench.there
        },
        "seconds": {name: round(meta["seconds"], 1) for name, meta in metas.items()},
    }


def _origin_lines(start: dict[str, str] | None) -> list[str]:
    if not start:
        return []
    return ["", f"Stage 1, and score networks of the same recipe, come from `{start['run']}` (weights "
            f"{start['weights']}), trained by `{start['command']}`."]  # fmt: skip


def _pattern_lines(metrics: dict[str, Any]) -> list[str]:
    """The table of predictions by what is available: each figure recovered and with zero fill."""
    told = [name for name in TITLES if name in metrics]
    head = " | ".join(f"{TITLES[name]}, {kind}" for name in told for kind in ("recovered", "zero fill"))
    rows = {
        pattern: [metrics[f"{name}_by_pattern"][pattern][kind] for name in told for kind in ("recovered", "zero")]
        for pattern in metrics[f"{told[0]}_by_pattern"]
    } | {"all": [metrics[name]["complete"] for name in told for _ in range(2)]}
    lines = [f"| {pattern} | " + " | ".join(f"{x:.3f}" for x in own) + " |" for pattern, own in rows.items()]
    return [f"| available | {head} |", "|---" * (1 + 2 * len(told)) + "|", *lines]


def card(metrics: dict[str, Any], training: dict[str, Any], note: str) -> str:
    """What the training measured, as the body of the model card."""
    command = f"`{training['command']}`" if training["command"] else "`imder.training.train`"
    lines = [note.strip(), ""] if note.strip() else []
    count = {6: "six", 2: "two"}[len(metrics[f"{next(name for name in TITLES if name in metrics)}_by_pattern"])]
    lines += [
        f"## Measured on the {metrics['clips']} validation clips",
        "",
        f"By {command}, which chose weights on these same clips; {baseline.spent(training)} in "
        "all. Figures on the test split come from `python -m imder evaluate`.",
        *_origin_lines(training.get("from")),
        "",
        *_pattern_lines(metrics),
        "",
        f"Recovered: the prediction averaged over {metrics['draws']} draw(s) after D_k. Error of one draw in latent "
        f"units {metrics['feature_error']['draw']:.2f}, after D_k {metrics['feature_error']['draw_refined']:.2f} "
        f"(mean fill 1), over all missing modalities of the {count} patterns.",
        "",
        "| modality | R^2 of the readout | score loss | of the linear-Gaussian denoiser | best update |",
        "|---|---|---|---|---|",
    ]
    for k, own in metrics["score"].items():
        linear = f"{own['linear_loss']:.3f}" if "linear_loss" in own else "-"
        lines.append(f"| {k} | {metrics['readout_r2'][k]:.2f} | {own['score_loss']:.3f} | {linear} | {own['update']} |")
    return "\n".join(lines)
