"""IMDer: recovery of missing modalities by score-based diffusion (Wang, Li and Cui, NeurIPS 2023).

The public names are imported when they are first used, so that a command pays only for what it needs.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Clip": "imder.data",
    "FeatureSet": "imder.data",
    "IMDer": "imder.model",
    "ModelConfig": "imder.model",
    "Recovery": "imder.pipeline",
    "RecoveryPipeline": "imder.pipeline",
    "RecoveryRequest": "imder.pipeline",
    "SAMPLERS": "imder.samplers",
    "VESDE": "imder.sde",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'imder' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
