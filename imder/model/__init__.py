"""The model: encoders, score networks, reconstruction, fusion, and the presets."""

from imder.model.config import PRESETS, ModelConfig
from imder.model.imder import IMDer

__all__ = ["PRESETS", "IMDer", "ModelConfig"]
