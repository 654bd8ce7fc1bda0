"""`ModelConfig`: the sizes of the supplement's Table 1 and the three presets of how score and condition are used."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from imder.modality import MODALITIES
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
    outputs: int = 1
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

    @classmethod
    def from_preset(cls, name: str, feature_dims: dict[str, int], **overrides: Any) -> ModelConfig:
        """The named preset at the supplement's sizes; `overrides` replace single fields."""
        if name not in PRESETS:
            raise ValueError(f"preset: {name!r} is unknown; allowed: {', '.join(PRESETS)}")
        return cls(**({"feature_dims": dict(feature_dims), "preset": name} | PRESETS[name] | overrides))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` gives an equal configuration back."""
        return {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in dataclasses.fields(self)
        }

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
        if not isinstance(values["feature_dims"], dict):
            raise ValueError(f"feature_dims: {values['feature_dims']!r} is not allowed; an object is")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"the model configuration is ill-typed: {error}") from None


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
