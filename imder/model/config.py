"""`ModelConfig`: the sizes of the supplement's Table 1 and the three presets of how score and condition are used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imder.modality import MODALITIES, PATTERNS, SYMBOLS, missing, symbols
from imder.samplers import check_steps, get_sampler

_SIZES = (
    "latent_channels",
    "heads",
    "condition_layers",
    "embedding_dim",
    "fusion_layers",
    "reconstruction_channels",
    "reconstruction_blocks",
    "outputs",
)

#: The numbers of draws for which `ModelConfig.interval_margin` holds a value each.
MARGIN_DRAWS = (1, 2, 4, 8, 16, 32)


def cell_name(available: Iterable[str], k: str) -> str:
    """What is observed and what is drawn, as `LA>V`."""
    return f"{symbols(available)}>{SYMBOLS[k]}"


#: The nine pairs of observed modalities and a missing one.
CELLS = tuple(cell_name(pattern, k) for pattern in PATTERNS for k in missing(pattern))


def check_order(order: object) -> str:
    """`order` if it is "" (side by side) or each of L, A and V once; raises ValueError otherwise."""
    if not isinstance(order, str) or (order and sorted(order) != sorted(SYMBOLS.values())):
        raise ValueError(f'order: {order!r} is not allowed; "" (side by side) or each of L, A, V once is')
    return order


@dataclass(frozen=True)
class ModelConfig:
    """Everything that rebuilds an IMDer: `official` as published, `paper` as written, `corrected` ours."""

    feature_dims: dict[str, int]
    preset: str = "corrected"
    latent_channels: int = 32
    frames: int = 48  # latent frames of the training clips; shorter sequences are padded to it inside the score network
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    heads: int = 8
    condition_layers: int = 2
    embedding_dim: int = 256
    fusion_layers: int = 4
    reconstruction_channels: int = 64
    reconstruction_blocks: int = 20
    outputs: int = 1  # 1 for a sentiment, else a score for each of so many classes
    dropout: float = field(default=0.1, metadata={"max": 0.9})  # attention layers of T_k
    output_dropout: float = field(default=0.1, metadata={"max": 0.9})
    # How the score is parametrised and conditioned (method.md's table of presets).
    preconditioned: bool = True
    standardise_latents: bool = True
    latent_scale: float = 0.15
    condition_scale: float = 0.25
    condition_noise: str = "none"  # none | independent | shared (training); sampling noises the condition unless none
    condition_added: bool = True
    condition_dropout: float = field(default=0.1, metadata={"max": 0.9})
    causal: bool = False
    norm_groups: tuple[int, int] = (4, 4)  # first level, other levels
    time_scale: float = 1.0  # of the Gaussian random features
    masks: bool = True  # padding masks and the last VALID frame as the readout of T_k
    sampler: str = "dpmpp-2m"
    steps: int = 10
    tweedie: bool = True
    # Two missing modalities: "" draws them side by side from what is observed alone (as published); "LAV" draws the one
    # that comes first in it, then the other given it too (the best order in `bench joint`, on the validation split).
    order: str = "LAV"
    # Calibration, by `python -m imder bench calibration`; empty is none. `temperature` multiplies the prior noise of
    # deterministic samplers, a value a cell ("LA>V"; what the user gave > what is drawn), 1 where there is none.
    # `interval_margin` widens both ends of the 5 to 95 % range of the draws' predictions to a 90 % interval for the
    # label, a value for each of MARGIN_DRAWS and pattern ("LA").
    temperature: dict[str, float] = field(default_factory=dict)
    interval_margin: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset: {self.preset!r} is unknown; allowed: {', '.join(PRESETS)}")
        if set(self.feature_dims) != set(MODALITIES):
            raise ValueError(f"feature_dims names {sorted(self.feature_dims)}; it must name {', '.join(MODALITIES)}")
        sizes = {f"feature_dims[{k}]": (v, 65536) for k, v in self.feature_dims.items()}
        sizes |= {f"channels[{i}]": (c, 4096) for i, c in enumerate(self.channels)}
        for name in (*_SIZES, "frames"):
            sizes[name] = (getattr(self, name), 65536 if name == "frames" else 4096)
        for name, (value, most) in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name}: {value!r} is not allowed; a whole number from 1 to {most} is")
        if len(self.channels) != 4 or any(c % self.heads for c in (*self.channels, self.latent_channels)):
            raise ValueError(f"channels: {self.channels} must be four multiples of heads ({self.heads})")
        if self.channels[0] != self.latent_channels:
            raise ValueError(f"channels[0]: {self.channels[0]} must equal latent_channels ({self.latent_channels})")
        for name in ("latent_scale", "condition_scale", "time_scale"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value!r} is not allowed; a finite number above 0 is")
        for name in ("dropout", "output_dropout", "condition_dropout"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 0.9):
                raise ValueError(f"{name}: {value!r} is not allowed; a number from 0 to 0.9 is")
        if self.condition_noise not in ("none", "independent", "shared"):
            raise ValueError(f"condition_noise: {self.condition_noise!r}; allowed: none, independent, shared")
        for flag in (
            "preconditioned",
            "standardise_latents",
            "condition_added",
            "causal",
            "masks",
            "tweedie",
        ):
            if not isinstance(getattr(self, flag), bool):
                raise ValueError(f"{flag}: {getattr(self, flag)!r} is not allowed; true or false is")
        get_sampler(self.sampler)
        check_steps(self.steps)
        check_order(self.order)
        self._check_calibration()

    def _check_calibration(self) -> None:
        for name, keys in (("temperature", CELLS), ("interval_margin", tuple(map(symbols, PATTERNS[:-1])))):
            table = getattr(self, name)
            if not isinstance(table, dict):
                raise ValueError(f"{name}: {table!r} is not allowed; an object is")
            for key, values in table.items():
                if key not in keys:
                    raise ValueError(f"{name}: {key!r} is unknown; allowed: {', '.join(keys)}")
                several = name == "interval_margin"
                if several and (not isinstance(values, tuple) or len(values) != len(MARGIN_DRAWS)):
                    raise ValueError(f"{name}[{key}]: {values!r} is not allowed; {len(MARGIN_DRAWS)} numbers are")
                low, high = (-100, 100) if several else (0.1, 10)
                for value in values if several else (values,):
                    number = isinstance(value, int | float) and not isinstance(value, bool)
                    if not (number and low <= value <= high):
                        raise ValueError(f"{name}[{key}]: {value!r} is not allowed; a number from {low} to {high} is")
        if self.temperature and self.preset != "corrected":
            raise ValueError(f"temperature: the preset {self.preset!r} has none; only 'corrected' does")

    def margin(self, available: Iterable[str], draws: int) -> float:
        """`interval_margin` of a pattern and number of draws, linear in its logarithm; 0 where it is not calibrated."""
        margins = self.interval_margin.get(symbols(available))
        if margins is None:
            return 0.0
        return float(np.interp(math.log(draws), np.log(MARGIN_DRAWS), margins))

    @classmethod
    def from_preset(cls, name: str, feature_dims: dict[str, int], **overrides: Any) -> ModelConfig:
        """The named preset at the supplement's sizes; `overrides` replace single fields."""
        if name not in PRESETS:
            raise ValueError(f"preset: {name!r} is unknown; allowed: {', '.join(PRESETS)}")
        return cls(**({"feature_dims": dict(feature_dims), "preset": name} | PRESETS[name] | overrides))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` gives an equal configuration back."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelConfig:
        """Raises ValueError for an unknown, absent or ill-typed field."""
        if not isinstance(data, dict):
            raise ValueError(f"the model configuration is a {type(data).__name__}; an object is needed")
        names = {f.name for f in dataclasses.fields(cls)}
        if extra := sorted(set(data) - names):
            raise ValueError(f"the model configuration holds unknown fields: {', '.join(extra)}")
        if absent := sorted(names - set(data)):
            raise ValueError(f"the model configuration lacks: {', '.join(absent)}")
        values = dict(data)
        for name, size in (("channels", 4), ("norm_groups", 2)):
            if not isinstance(values[name], list | tuple) or len(values[name]) != size:
                raise ValueError(f"{name}: {values[name]!r} is not allowed; a list of {size} whole numbers is")
            values[name] = tuple(values[name])
        if isinstance(values["interval_margin"], dict):
            values["interval_margin"] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values["interval_margin"].items()
            }
        if not isinstance(values["feature_dims"], dict):
            raise ValueError(f"feature_dims: {values['feature_dims']!r} is not allowed; an object is")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the model configuration is ill-typed: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


_AS_WRITTEN = {
    "preconditioned": False,
    "standardise_latents": False,
    "latent_scale": 1.0,
    "condition_scale": 1.0,
    "condition_noise": "independent",
    "condition_added": False,
    "norm_groups": (4, 32),
    "time_scale": 30.0,
    "sampler": "euler-maruyama",
    "steps": 500,
    "tweedie": False,
    "order": "",
}

PRESETS: dict[str, dict[str, Any]] = {
    "corrected": {},
    "paper": _AS_WRITTEN,
    "official": _AS_WRITTEN
    | {
        "condition_noise": "shared",
        "condition_dropout": 0.0,
        "causal": True,
        "masks": False,
        "steps": 100,
    },
}
