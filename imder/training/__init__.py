"""Training: three stages, resumable, into a run folder."""

from imder.training.config import TrainingConfig
from imder.training.run import train

__all__ = ["TrainingConfig", "train"]
