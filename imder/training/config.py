"""Every number of a training, and the command-line flags made from them.

`TrainingConfig` is the recipe of IMDer's three stages, `BaselineTraining` that of what it is compared with.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from imder.samplers import MAX_STEPS

PRESETS = ("corrected", "paper", "official")


def number(default: float, help: str, low: float = 0.0, high: float = math.inf, **metadata: Any) -> Any:
    """A field that is a number from `low` to `high`, a whole one if its default is."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, **metadata})


def check_device(name: str) -> None:
    """Raises ValueError unless `name` is cpu, cuda or cuda:N and this torch finds it here."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"device: {name!r} is not allowed; cpu, cuda or cuda:N is")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise ValueError(f"device: {name!r} is not here; torch {torch.__version__} finds {there} CUDA devices")


@dataclass(frozen=True)
class Recipe:
    """What every training has.

    Fields marked `free` may differ when an interrupted run goes on: results do not depend on them. (On another device
    they differ by rounding and dropout's masks; weights, order and noise are drawn on the CPU.)
    """

    seed: int = number(0, "seed of weights, order of clips, noise and dropout", 0, 2**31 - 1)
    limit: int = number(0, "use at most this many clips of each split, spread evenly; 0 for all", 0)
    workers: int = number(2, "processes at a time; 0 works in this one", 0, 64, free=True)
    checkpoint_seconds: float = number(60.0, "seconds between checkpoints", 0, free=True)
    device: str = field(
        default="cpu", metadata={"help": "where torch computes: cpu, or cuda with a build that has it", "free": True}
    )

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if "low" not in f.metadata:
                continue
            value, low, high = getattr(self, f.name), f.metadata["low"], f.metadata["high"]
            kind = int if isinstance(f.default, int) else (int, float)
            name = "a whole number" if kind is int else "a number"
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                allowed = f"{name} of at least {low}" if high == math.inf else f"{name} from {low} to {high}"
                raise ValueError(f"{f.name.replace('_', '-')}: {value!r} is not allowed; {allowed} is")

    @property
    def essential(self) -> dict[str, Any]:
        """The fields that decide the result, as JSON types."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.metadata.get("free")}


@dataclass(frozen=True)
class TrainingConfig(Recipe):
    """The recipe of IMDer."""

    model: ClassVar[str] = "imder"

    preset: str = field(default="corrected", metadata={"help": f"model preset: {', '.join(PRESETS)}"})
    batch: int = number(32, "clips an update", 1)
    least: int = number(300, "updates of a job that is counted in epochs, at least (small data)", 1)
    # Stage 1: E_k, T_k and readouts on complete clips, then T_k again on frozen E_k.
    encode_epochs: int = number(6, "stage 1a: epochs of E_k, T_k and readouts", 1)
    encode_lr: float = number(1e-3, "stage 1a: learning rate", 1e-9, 1)
    readout_weight: float = number(0.3, "stage 1a: weight of the readouts' squared error in the loss")
    text_readout_weight: float = number(0.5, "stage 1a: the same for language")
    fuse_epochs: int = number(7, "stage 1b: epochs of T_k on frozen E_k", 1)
    fuse_lr: float = number(2e-4, "stage 1b: learning rate", 1e-9, 1)
    fuse_decay: float = number(0.05, "stage 1b: weight decay", 0, 10)
    fuse_dropout: float = number(0.3, "dropout in T_k from stage 1b on", 0, 0.9)
    # Stage 2: score networks, one job a modality.
    score_updates: int = number(5000, "stage 2: updates of each score network", 1)
    score_lr: float = number(1e-3, "stage 2: learning rate", 1e-9, 1)
    score_warmup: int = number(100, "stage 2: updates of linear warm-up", 0)
    score_floor: float = number(0.02, "stage 2: share of the learning rate left at the end", 0, 1)
    score_decay: float = number(0.01, "stage 2: weight decay", 0, 10)
    score_valid: int = number(250, "stage 2: updates between validations", 1)
    ema: float = number(0.999, "stage 2: decay of the averaged weights", 0, 0.999999)
    # Stage 3: D_k and T_k on recovered features.
    passes: int = number(4, "stage 3: draws of every training clip, each with a random pattern", 1)
    train_draws: int = number(4, "stage 3: recoveries a draw; D_k learns from one and from their mean", 1, 64)
    valid_draws: int = number(4, "stage 3: draws of every validation clip and pattern", 1)
    draw_steps: int = number(0, "stage 3: steps of those draws (published: 100); 0 for the preset's", 0, MAX_STEPS)
    recover_epochs: int = number(24, "stage 3: epochs of D_k and T_k", 1)
    reconstruct_lr: float = number(1e-3, "stage 3: learning rate of D_k", 1e-9, 1)
    fusion_lr: float = number(3e-4, "stage 3: learning rate of T_k", 1e-9, 1)
    recover_decay: float = number(0.01, "stage 3: weight decay", 0, 10)
    reconstruct_weight: float = number(0.3, "stage 3: weight of the squared error of the missing rows after D_k")
    complete: float = number(0.25, "stage 3: share of clips with nothing missing", 0, 1)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown; allowed: {', '.join(PRESETS)}")
        super().__post_init__()


@dataclass(frozen=True)
class BaselineTraining(Recipe):
    """The recipe of a baseline; `BASELINE_DEFAULTS` holds what differs between them."""

    model: str = field(default="dropout-fusion", metadata={"help": "which model", "flag": False})
    batch: int = number(32, "clips an update (gcnet: videos)", 1)
    least: int = number(300, "updates at least (small data)", 1)
    epochs: int = number(24, "epochs (mmin: of the teacher, and again of the student)", 1)
    lr: float = number(1e-3, "learning rate", 1e-9, 1)
    decay: float = number(0.01, "weight decay", 0, 10)
    complete: float = number(0.25, "share of clips with nothing missing", 0, 1)
    encoder_share: float = number(1.0, "learning rate of E_k as a share of --lr; 0 leaves E_k as --from has it", 0, 10)

    def __post_init__(self) -> None:
        if self.model not in BASELINE_DEFAULTS:
            raise ValueError(f"model: {self.model!r} is unknown; allowed: {', '.join(('imder', *BASELINE_DEFAULTS))}")
        super().__post_init__()


#: Per baseline what differs from the fields' defaults: its paper's, but for what was chosen on the validation split of
#: the bundled corpus (mmin: lr and epochs of 2e-4 and 30; the fusions: lr, epochs, dropout, share of complete clips).
BASELINE_DEFAULTS: dict[str, dict[str, Any]] = {
    "mmin": {"batch": 128, "epochs": 60, "lr": 5e-4, "decay": 0.0},
    "gcnet": {"epochs": 100, "decay": 1e-5},
    "dropout-fusion": {"epochs": 30, "complete": 0.15},
    "subset": {"epochs": 16},
}
BASELINE_QUICK: dict[str, Any] = {"least": 30, "epochs": 1}

#: What `--quick` changes: the whole line, really trained but short.
QUICK: dict[str, Any] = {
    "least": 60,
    "encode_epochs": 1,
    "fuse_epochs": 1,
    "score_updates": 150,
    "score_warmup": 20,
    "score_valid": 75,
    "ema": 0.97,
    "passes": 1,
    "train_draws": 2,
    "valid_draws": 1,
    "recover_epochs": 1,
}


RECIPES: tuple[type[Recipe], ...] = (TrainingConfig, BaselineTraining)


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The inverse of `dataclasses.asdict`."""
    return (BaselineTraining if "model" in values else TrainingConfig)(**values)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag a field; a flag that is not given leaves the default, or what `--quick` says."""
    models = ", ".join(("imder", *BASELINE_DEFAULTS))
    parser.add_argument("--model", default="imder", metavar="NAME", help=f"of {models} (default imder)")
    parser.add_argument("--quick", action="store_true", help="a short training that goes through all stages")
    made = set()
    for recipe in RECIPES:
        group = parser.add_argument_group("IMDer and all models" if recipe is TrainingConfig else "the other models")
        for f in dataclasses.fields(recipe):
            if f.name in made or f.metadata.get("flag") is False:
                continue
            made.add(f.name)
            text = f"{f.metadata['help']} (default {f.default}"
            text += f", quick {QUICK[f.name]})" if recipe is TrainingConfig and f.name in QUICK else ")"
            flag = "--" + f.name.replace("_", "-")
            group.add_argument(flag, type=type(f.default), default=argparse.SUPPRESS, metavar="X", help=text)


def from_flags(args: argparse.Namespace) -> Recipe:
    """The recipe that the parsed flags describe."""
    names = {f.name for recipe in RECIPES for f in dataclasses.fields(recipe)} - {"model"}
    given = {name: value for name, value in vars(args).items() if name in names}
    baseline = args.model != "imder"
    recipe = BaselineTraining if baseline else TrainingConfig
    own = {f.name for f in dataclasses.fields(recipe)}
    if foreign := sorted(given.keys() - own):
        raise ValueError(f"--{foreign[0].replace('_', '-')} is no setting of the model {args.model!r}")
    if not baseline:
        return TrainingConfig(**((QUICK if args.quick else {}) | given))
    values = {"model": args.model} | BASELINE_DEFAULTS.get(args.model, {}) | (BASELINE_QUICK if args.quick else {})
    return BaselineTraining(**(values | given))
