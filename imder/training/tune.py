"""`tune`: a text encoder fine-tuned in front of IMDer's network, and the data set with its features.

First E_k and T_k learn on the encoder as it is (job "head"), so that a network which knows nothing does not pull at a
trained encoder (Kumar et al. 2022); then the encoder's last layers learn with them, at a rate of their own (job
"tune"). The validation split chooses the weights, those before the first update among them: an encoder that gets no
better stays as it was. What is not tuned stays in eval mode, so that no dropout disturbs a layer that cannot answer.
The test split is encoded in the end, and its labels are never read.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from torch import Tensor, nn

from imder import fetch
from imder.data.clip import Clip, collate
from imder.data.dataset import FeatureSet
from imder.data.encode import encode
from imder.data.encoder import FOLDER, Encoder, open_encoder
from imder.data.frames import Pieces, read_texts
from imder.data.hidden import Told
from imder.data.standardise import Standardiser
from imder.model import IMDer
from imder.model.task import figures, outcome, task_loss
from imder.samplers import noise_seed
from imder.training.checkpoint import DamagedError, locked
from imder.training.config import Recipe, check_device, number
from imder.training.loop import Interrupted, Job, Reporter
from imder.training.progress import Progress
from imder.training.run import difference, stop_on_signal
from imder.training.stages import Bench, JobFunction, Phase, fit_job, run, start_encoder

LOG = "tuning.json"
_STILL = 1e-3  # a channel whose deviation is below this share of the median's is constant
_ALPHAS = tuple(10.0**p for p in range(-1, 6))

#: (split, rows) to T_k's outputs and the labels.
Output = Callable[[str, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TuneConfig(Recipe):
    """The recipe of a tuning."""

    preset: str = field(default="corrected", metadata={"help": "the network's preset", "flag": False})
    workers: int = field(default=0, metadata={"help": "", "flag": False, "free": True})
    checkpoint_seconds: float = number(300.0, "seconds between checkpoints", 0, free=True)
    batch: int = number(32, "clips an update", 1)
    head_epochs: int = number(6, "epochs of E_k and T_k alone, on the encoder as it is", 1)
    head_lr: float = number(1e-3, "learning rate of E_k and T_k meanwhile", 1e-9, 1)
    epochs: int = number(10, "epochs of all together, at most", 1)
    patience: int = number(3, "epochs without a better validation figure after which it stops; 0 for never", 0)
    layers: int = number(0, "tune only the encoder's last so many layers; 0 for all of it, embeddings too", 0)
    encoder_lr: float = number(5e-5, "learning rate of the encoder; 0 leaves it as it is", 0, 1)
    encoder_decay: float = number(0.01, "weight decay of the encoder", 0, 10)
    lr: float = number(2e-4, "learning rate of E_k and T_k beside it", 1e-9, 1)
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
            model, log = _fitted(TuneBench(base, config, {}, work, encoder), stopping)
            about = {"data": data.name, "fingerprint": data.fingerprint, "encoder": encoder.record}
            log = {"command": command, "tuned": about, "config": config.essential} | log
            saved = work / FOLDER
            shutil.rmtree(saved, ignore_errors=True)
            replace(encoder, model=model).save(saved)
            learnt = bool(log["epoch"].get("tune"))  # else the encoder is what it was
            tuned = replace(open_encoder(saved), name=encoder.name + f", tuned on {data.name}" * learnt)

            def beside(stage: Path) -> None:
                log["probe"] = {"before": probe(base), "after": probe(FeatureSet(stage))}
                (saved / LOG).write_text(json.dumps(log, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                shutil.copytree(saved, stage / FOLDER)

            seen = about if learnt else None
            made, _ = encode(data, tuned, out, cache=cache, told=told, tuned=seen, beside=beside)
    except ValueError:
        if not ((work / "jobs").exists() or (work / "results").exists()):  # nothing that another try could go on from
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
        records = {record["id"]: i for i, record in enumerate(bench.data.split(split).records)}
        rows = [records[clip_id] for clip_id in bench.features[split].ids]
        longest, laid = pieces.ids.shape[2], []
        for i in rows:  # weights on frames are resampled to a batch's frames as features are: by `collate`
            record, weights = bench.data.split(split).records[i], pieces.weights(i)
            features = {"text": np.pad(weights, ((0, 0), (0, longest - weights.shape[1])))}
            for k in ("audio", "vision"):
                features[k] = np.zeros((record["lengths"][k], 1), np.float32)
            laid.append(Clip(record["id"], record["video"], record["index"], "", features, 0.0))
        ids = torch.from_numpy(pieces.ids[rows].astype(np.int64))
        return cls(ids.to(bench.config.device), collate(laid).features["text"].to(bench.config.device))

    def features(self, model: nn.Module, rows: Tensor, frames: int) -> Tensor:
        """(B, frames, F) raw text features of some clips, by the encoder's network as it is now."""
        ids = self.ids[rows]
        longest = int(ids[:, 1].sum(1).max())
        ids = ids[..., :longest]
        out = model(input_ids=ids[:, 0], attention_mask=ids[:, 1], token_type_ids=ids[:, 2])
        return self.weights[rows, :frames, :longest] @ out.last_hidden_state


@dataclass
class TuneBench(Bench):
    """What the two jobs work on."""

    config: TuneConfig
    encoder: Encoder

    @property
    def jobs(self) -> dict[str, JobFunction]:
        """The functions by a job's name."""
        return {"head": head, "tune": together}

    def phases(self) -> tuple[Phase, ...]:
        """The jobs in their order; an encoder whose rate is 0 is not tuned."""
        return (("head",), ("tune",)) if self.config.encoder_lr else (("head",),)

    def cost(self, name: str, sizes: dict[str, int]) -> float:
        """A job's expected seconds on one core with a small BERT."""
        epochs, seconds = (self.config.head_epochs, 8e-3) if name == "head" else (self.config.epochs, 3e-2)
        return seconds * epochs * sizes["train"]

    @cached_property
    def standardiser(self) -> Standardiser:
        """Fitted on the training clips; a channel of text that hardly moves is not blown up.

        Divided by its deviation it would take nearly all of the gradient, and one update would ruin the encoder.
        """
        made = Standardiser.fit(self.clips["train"])
        std = made.std["text"]
        return replace(made, std=made.std | {"text": np.where(std < _STILL * np.median(std), np.float32(1), std)})

    @cached_property
    def texts(self) -> dict[str, Texts]:
        """The texts of the training and validation clips."""
        pieces = read_texts(self.data, self.encoder).pieces
        return {split: Texts.of(self, split, pieces[split]) for split in self.clips}

    def job(self, name: str, output: Output, epochs: int, modules: nn.ModuleDict, **more: Any) -> Job:
        """A job that learns the task from `output`, which gives T_k's outputs and the labels of rows of a split."""
        train = self.features["train"]
        size = min(self.config.batch, len(train))
        every = len(train) // size

        def validate() -> dict[str, float]:
            found = [output("valid", rows) for rows in self.features["valid"].chunks()]
            return figures(outcome(torch.cat([x for x, _ in found])), torch.cat([y for _, y in found]))

        return Job(
            name=name,
            modules=modules,
            losses=lambda rows, _: task_loss(*output("train", rows)),
            validate=validate,
            ids=train.ids,
            batch=size,
            updates=every * epochs,
            every=every,
            warmup=int(self.config.warmup * every * epochs),
            clip=self.config.clip,
            patience=self.config.patience,
            **more,
        )

    def bert(self, *results: str) -> nn.Module:
        """The encoder's network, a copy of its own, with what the named jobs have learnt."""
        model = copy.deepcopy(self.encoder.model)
        for name in results:
            tensors, _ = self.result(name)
            _parts(self.config, model, None).load_state_dict(
                {key: x for key, x in tensors.items() if key.startswith("bert.")}
            )
        return model.requires_grad_(False).eval().to(self.config.device)


def _parts(config: TuneConfig, bert: nn.Module, network: IMDer | None) -> nn.ModuleDict:
    """What learns: the layers asked for, and E_k and T_k of a network."""
    own = {} if network is None else {"encoders": network.encoders, "fusion": network.fusion}
    return nn.ModuleDict(own | {"bert": bert.encoder.layer[-config.layers :] if config.layers else bert})


def head(bench: TuneBench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """E_k and T_k on the features of the encoder as it is."""
    config, train, network = bench.config, bench.features["train"], bench.model()
    generator = torch.Generator().manual_seed(noise_seed(config.seed, "tune", "rotation"))
    for k in bench.there:
        start_encoder(network.encoders[k], train.values[k], train.valid, generator)

    def output(split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        features, valid, label = bench.features[split].rows(rows)
        return network.output(network.encode(features), network.latent_valid(valid)), label

    modules = nn.ModuleDict({"encoders": network.encoders, "fusion": network.fusion})
    groups = [{"params": list(modules.parameters()), "lr": config.head_lr, "weight_decay": config.decay}]
    return fit_job(bench, bench.job("head", output, config.head_epochs, modules, groups=groups), report)


def together(bench: TuneBench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The encoder's layers with E_k and T_k, from where the head's job left these."""
    config, network, bert = bench.config, bench.model("head"), bench.bert()

    def output(split: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        features, valid, label = bench.features[split].rows(rows)
        text = bench.standardiser.forward("text", bench.texts[split].features(bert, rows, valid.shape[1]))
        features = features | {"text": text * valid[..., None]}
        return network.output(network.encode(features), network.latent_valid(valid)), label

    modules = _parts(config, bert, network)
    rest = [*network.encoders.parameters(), *network.fusion.parameters()]
    own = list(modules["bert"].parameters())
    groups = [
        {"params": rest, "lr": config.lr, "weight_decay": config.decay},
        {"params": own, "lr": config.encoder_lr, "weight_decay": config.encoder_decay},
    ]
    job = bench.job("tune", output, config.epochs, modules, groups=groups, start=True)
    return fit_job(bench, job, report)


def _fitted(bench: TuneBench, stopping: Callable[[], bool]) -> tuple[nn.Module, dict[str, Any]]:
    """The encoder's network after both jobs, and how they went."""
    names = [name for phase in bench.phases() for name in phase]
    sizes, finished = {split: len(part) for split, part in bench.features.items()}, {}
    for name in names:
        with contextlib.suppress(DamagedError):
            finished[name] = [Progress.row(name, row) for row in bench.result(name)[1]["rows"]]
    progress = Progress({name: bench.cost(name, sizes) for name in names}, bench.folder / "log.jsonl", finished)
    try:
        for name in names:
            run(bench, name, Reporter(lambda message, name=name: progress.hear(name, message), stopping))
    except Interrupted:
        raise Interrupted(progress.where()) from None
    finally:
        progress.close()
    metas = {name: bench.result(name)[1] for name in names}
    every = len(bench.features["train"]) // min(bench.config.batch, len(bench.features["train"]))
    log = {
        "seconds": {name: round(meta["seconds"], 1) for name, meta in metas.items()},
        "updates": {name: meta["step"] for name, meta in metas.items()},
        "epoch": {name: meta["best_step"] // every for name, meta in metas.items()},
        "valid": {name: meta["figures"] for name, meta in metas.items()},
        "rows": progress.all_rows(),
    }
    return bench.bert(*names[1:]).cpu(), log


def probe(data: FeatureSet) -> dict[str, float]:
    """What a linear reader of the text's mean over frames, fitted on the training clips, reaches on validation ones."""
    x, y = {}, {}
    for split in ("train", "valid"):
        clips = data.complete(split, data.lacks)
        x[split] = np.stack([clip.features["text"].mean(axis=0, dtype=np.float64) for clip in clips])
        y[split] = np.array([clip.label for clip in clips])
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {split: (values - mean) / np.where(std > 0, std, 1) for split, values in x.items()}
    if data.label_classes:
        reader = RidgeClassifierCV(_ALPHAS).fit(x["train"], y["train"])
        return {"accuracy": float((reader.predict(x["valid"]) == y["valid"]).mean())}
    read = RidgeCV(_ALPHAS).fit(x["train"], y["train"]).predict(x["valid"])
    return {"mae": float(np.abs(read - y["valid"]).mean()), "correlation": float(np.corrcoef(read, y["valid"])[0, 1])}
