"""What T_k's outputs mean: one output is a sentiment, several are a score a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: The figures of `figures` as readers know them.
TITLES = {"mae": "MAE", "log_loss": "log loss", "accuracy": "accuracy"}


def outputs_for(classes: Sequence[str]) -> int:
    """How many outputs the label asks for: one for a sentiment, which has no classes, else one a class."""
    return len(classes) or 1


def check_outputs(outputs: int, classes: Sequence[str]) -> None:
    """Raises ValueError unless a model of so many outputs predicts a label of those classes."""
    if outputs != (wanted := outputs_for(classes)):
        what = f"{len(classes)} classes need" if classes else "a sentiment needs"
        raise ValueError(f"outputs: {outputs} is not allowed; {what} {wanted}")


def task_loss(value: Tensor, label: Tensor) -> Tensor:
    """(B,) loss of outputs (B, O): the absolute error of a sentiment, the field's loss for a regression; of class
    scores the cross-entropy, `label` (B,) then holds the classes' indices."""
    if value.shape[1] == 1:
        return (value - label[:, None]).abs().mean(dim=1)
    return F.cross_entropy(value, label.long(), reduction="none")


def outcome(value: Tensor) -> Tensor:
    """Outputs (B, O) as a prediction: a sentiment (B,), or the probabilities of the classes (B, O)."""
    return value[:, 0] if value.shape[1] == 1 else value.softmax(dim=1)


def figures(prediction: Tensor, label: Tensor) -> dict[str, float]:
    """`mae` of sentiments (N,); `log_loss` and `accuracy` of probabilities (N, C). Of the first, less is better."""
    if prediction.ndim == 1:
        return {"mae": float((prediction - label).abs().mean())}
    true = label.long()
    given = prediction[torch.arange(len(true), device=true.device), true]
    right = prediction.argmax(dim=1) == true
    return {"log_loss": float(-given.clamp_min(1e-12).log().mean()), "accuracy": float(right.float().mean())}
