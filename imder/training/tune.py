"""`tune`: a text encoder fine-tuned in front of IMDer's network, and the data set with its features.

The encoder's last layers, E_k and T_k learn together from complete clips of the training split, the encoder at a rate
of its own; the validation split says when to stop. What is not tuned stays in eval mode, so that no dropout disturbs a
layer that cannot answer. The test split is encoded in the end, and its labels are never read.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from torch import Tensor, nn

from imder import fetch
from imder.data.clip import collate
from imder.data.dataset import FeatureSet
from imder.data.encode import encode
from imder.data.encoder import FOLDER, Encoder, open_encoder
from imder.data.frames import Pieces, read_texts
from imder.data.hidden import Told
from imder.model.task import figures, outcome, task_loss
from imder.samplers import noise_seed
from imder.training.checkpoint import locked
from imder.training.config import Recipe, check_device, number
from imder.training.loop import Interrupted, Job, Reporter
from imder.training.progress import Progress
from imder.training.run import difference, stop_on_signal
from imder.training.stages import Bench, fit_job, start_encoder

LOG = "tuning.json"
_ALPHAS = tuple(10.0**p for p in range(-1, 6))
_SECONDS = 0.03  # a clip on one core with a small BERT, for the progress bar's first guess


@dataclass(frozen=True)
class TuneConfig(Recipe):
    """The recipe of a tuning."""

    preset: str = field(default="corrected", metadata={"help": "the network's preset", "flag": False})
    workers: int = field(default=0, metadata={"help": "", "flag": False, "free": True})
    checkpoint_seconds: float = number(300.0, "seconds between checkpoints", 0, free=True)
    batch: int = number(32, "clips an update", 1)
    epochs: int = number(10, "epochs at most", 1)
    patience: int = number(3, "epochs without a better validation figure after which it stops; 0 for never", 0)
    layers: int = number(0, "tune only the encoder's last so many layers; 0 for all of it, embeddings too", 0)
    encoder_lr: float = number(5e-5, "learning rate of the encoder; 0 leaves it as it is", 0, 1)
    encoder_decay: float = number(0.01, "weight decay of the encoder", 0, 10)
    lr: float = number(1e-3, "learning rate of E_k and T_k", 1e-9, 1)
    decay: float = number(0.01, "weight decay of E_k and T_k", 0, 10)
    clip: float = number(1.0, "largest norm of the gradient", 1e-6)
    warmup: float = number(0.1, "share of the updates in which the rates rise", 0, 0.9)


def tune(
    data: FeatureSet,
    encoder: Encoder,
    out: str | Path,
    config: TuneConfig,
    *,
    cache: str | Path | None = None,
    command: str = "",
    told: Told = lambda done, of: None,
) -> tuple[FeatureSet, dict[str, Any]]:
    """Writes the folder `out`: `data` with text by the tuned encoder, which is in `out`/encoder; and returns the log.

    A tuning that was stopped goes on where it was when it is called again. Raises Interrupted after SIGINT or SIGTERM
    with the state saved, ValueError of one sentence for anything that a person can mend.
    """
    check_device(config.device)
    out = Path(out).resolve()
    fetch.free_place(out)
    if config.layers > (most := encoder.model.config.num_hidden_layers):
        raise ValueError(f"layers: {config.layers} is not allowed; {encoder.name} has {most}")
    for split in ("train", "valid"):
        data.split(split)  # ValueError where the set has none
    work = out.with_name(f".{out.name}.tuning")
    try:
        with locked(work / "lock"), stop_on_signal() as stopping:
            _check_plan(work, {"data": data.fingerprint, "encoder": encoder.fingerprint} | config.essential)
            base = _base(data, encoder, work, cache, told)
            model, log = _fitted(base, encoder, config, work, stopping)
            about = {"data": data.name, "fingerprint": data.fingerprint, "encoder": encoder.record}
            log = {"command": command, "tuned": about, "config": config.essential} | log
            saved = work / FOLDER
            shutil.rmtree(saved, ignore_errors=True)
            replace(encoder, model=model).save(saved)
            tuned = replace(open_encoder(saved), name=f"{encoder.name}, tuned on {data.name}")

            def beside(stage: Path) -> None:
                log["probe"] = {"before": probe(base), "after": probe(FeatureSet(stage))}
                (saved / LOG).write_text(json.dumps(log, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                shutil.copytree(saved, stage / FOLDER)

            made, _ = encode(data, tuned, out, cache=cache, told=told, tuned=about, beside=beside)
    except ValueError:
        if not (work / "jobs").exists():  # nothing that another try could go on from
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work)
    return made, log


def _check_plan(work: Path, plan: dict[str, Any]) -> None:
    """Raises ValueError unless `work` is new, or holds this very tuning, unfinished."""
    path = work / "plan.json"
    if not path.exists():
        path.write_text(json.dumps(plan))
        return
    try:
        differs = difference(json.loads(path.read_text()), plan)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); remove its folder or choose another") from None
    if differs:
        raise ValueError(f"{work}: holds an unfinished tuning with {differs}; remove it or choose another folder")


def _base(data: FeatureSet, encoder: Encoder, work: Path, cache: str | Path | None, told: Told) -> FeatureSet:
    """The set with features by the encoder as it is: what the network is standardised and started on."""
    folder = work / "base"
    if (folder / "data.json").exists():  # whole, since it is put in place as one
        return FeatureSet(folder)
    return encode(data, encoder, folder, cache=cache, told=told)[0]


# -- learning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """The texts of a split on a device: ids (N, 3, T), and what each piece counts in each frame (N, L, T)."""

    ids: Tensor
    weights: Tensor

    @classmethod
    def of(cls, bench: Bench, split: str, pieces: Pieces) -> Texts:
        """Those of the bench's clips, in their order and on their frames."""
        places = {record["id"]: i for i, record in enumerate(bench.data.split(split).records)}
        rows = [places[clip.id] for clip in bench.clips[split]]
        longest = pieces.ids.shape[2]
        laid = []
        for clip, i in zip(bench.clips[split], rows, strict=True):  # frames as `collate` resamples features to them
            weights = pieces.weights(i)
            padded = np.pad(weights, ((0, 0), (0, longest - weights.shape[1])))
            others = {k: np.zeros((clip.lengths[k], 1), np.float32) for k in ("audio", "vision")}
            laid.append(replace(clip, features={"text": padded} | others))
        ids = torch.from_numpy(pieces.ids[rows].astype(np.int64))
        return cls(ids.to(bench.config.device), collate(laid).features["text"].to(bench.config.device))

    def features(self, model: nn.Module, rows: Tensor, frames: int) -> Tensor:
        """(B, frames, F) raw text features of some clips, by the encoder's network as it is now."""
        ids = self.ids[rows]
        longest = int(ids[:, 1].sum(1).max())
        ids = ids[..., :longest]
        out = model(input_ids=ids[:, 0], attention_mask=ids[:, 1], token_type_ids=ids[:, 2])
        return self.weights[rows, :frames, :longest] @ out.last_hidden_state


def _fitted(
    base: FeatureSet, encoder: Encoder, config: TuneConfig, work: Path, stopping: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """The encoder's network after tuning, and how it went."""
    bench = Bench(base, config, {}, work)
    pieces = read_texts(base, encoder).pieces
    texts = {split: Texts.of(bench, split, pieces[split]) for split in bench.clips}
    bert = copy.deepcopy(encoder.model).to(config.device)
    network = bench.model()
    train = bench.features["train"]
    generator = torch.Generator().manual_seed(noise_seed(config.seed, "tune", "rotation"))
    for k, conv in network.encoders.items():
        start_encoder(conv, train.values[k][train.valid], generator)

    def output(split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """T_k's outputs and the labels of some clips, their text encoded now."""
        features, valid, label = bench.features[split].rows(rows)
        text = bench.standardiser.forward("text", texts[split].features(bert, rows, valid.shape[1]))
        features = features | {"text": text * valid[..., None]}
        return network.output(network.encode(features), network.latent_valid(valid)), label

    def validate() -> dict[str, float]:
        found = [output("valid", rows) for rows in bench.features["valid"].chunks()]
        value, label = torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])
        return figures(outcome(value), label)

    modules = nn.ModuleDict({"encoders": network.encoders, "fusion": network.fusion})
    groups = [{"params": list(modules.parameters()), "lr": config.lr, "weight_decay": config.decay}]
    if config.encoder_lr:
        own = bert.encoder.layer[-config.layers :] if config.layers else bert
        groups.append({"params": list(own.parameters()), "lr": config.encoder_lr, "weight_decay": config.encoder_decay})
        modules["bert"] = own
    size = min(config.batch, len(train))
    every = len(train) // size
    job = Job(
        name="tune",
        modules=modules,
        groups=groups,
        losses=lambda rows, _: task_loss(*output("train", rows)),
        validate=validate,
        ids=train.ids,
        batch=size,
        updates=every * config.epochs,
        every=every,
        warmup=int(config.warmup * every * config.epochs),
        clip=config.clip,
        patience=config.patience,
    )
    progress = Progress({"tune": _SECONDS * len(train) * config.epochs}, work / "log.jsonl", {})
    try:
        tensors, meta = fit_job(bench, job, Reporter(lambda message: progress.hear("tune", message), stopping))
    except Interrupted:
        raise Interrupted(progress.where()) from None
    finally:
        progress.close()
    modules.load_state_dict(tensors)
    told = {"seconds": round(meta["seconds"], 1), "epoch": meta["best_step"] // every, "valid": meta["figures"]}
    return bert.requires_grad_(False).eval().cpu(), told | {"updates": meta["step"], "rows": meta["rows"]}


def probe(data: FeatureSet) -> dict[str, float]:
    """What a linear reader of the text's mean over frames, fitted on the training clips, reaches on validation ones."""
    x, y = {}, {}
    for split in ("train", "valid"):
        clips = data.complete(split)
        x[split] = np.stack([clip.features["text"].mean(axis=0, dtype=np.float64) for clip in clips])
        y[split] = np.array([clip.label for clip in clips])
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {split: (values - mean) / np.where(std > 0, std, 1) for split, values in x.items()}
    if data.label_classes:
        reader = RidgeClassifierCV(_ALPHAS).fit(x["train"], y["train"])
        return {"accuracy": float((reader.predict(x["valid"]) == y["valid"]).mean())}
    read = RidgeCV(_ALPHAS).fit(x["train"], y["train"]).predict(x["valid"])
    return {"mae": float(np.abs(read - y["valid"]).mean()), "correlation": float(np.corrcoef(read, y["valid"])[0, 1])}
