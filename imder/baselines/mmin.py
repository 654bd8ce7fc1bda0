"""MMIN: imagine the missing modalities' embeddings from the observed ones, and read the sentiment from the way there.

Zhao et al. 2021, "Missing Modality Imagination Network"; two models in one module, a teacher that sees everything and
the student that predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imder.baselines.recognizer import BaselineConfig, Prediction, Recognizer, observed
from imder.data.clip import Batch
from imder.modality import MODALITIES
from imder.model.task import task_loss

#: Of the student's losses.
WEIGHTS = {"task": 1.0, "imagination": 4.0, "cycle": 2.0}

#: Frames that a filter of the text's convolutions spans.
KERNELS = (3, 4, 5)


@dataclass(frozen=True)
class MMINConfig(BaselineConfig):
    """Sizes of the encoders, the two cascades and the readouts."""

    hidden: int = 128  # an encoder's embedding, filters of each text kernel, hidden layers of the readouts
    blocks: int = 5  # autoencoders in a cascade
    wide: int = 256  # an autoencoder's layers, from the outside in
    middle: int = 128
    code: int = 64
    dropout: float = 0.5  # text encoder and readouts

    limits: ClassVar[dict[str, tuple[float, float]]] = BaselineConfig.limits | {
        "hidden": (1, 4096),
        "blocks": (1, 64),
        "wide": (1, 4096),
        "middle": (1, 4096),
        "code": (1, 4096),
        "dropout": (0, 0.9),
    }


def _greatest(x: Tensor, valid: Tensor) -> Tensor:
    """Max pooling over the valid of L places: (B, L, H) to (B, H)."""
    return x.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=1)


class FrameLSTM(nn.Module):
    """(B, L, F) to (B, H): a one-layer LSTM, max pooling over the valid frames."""

    def __init__(self, width: int, config: MMINConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, config.hidden, batch_first=True)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        # It reads from left to right and padding is on the right, so no valid frame's output knows of the padding.
        return _greatest(self.lstm(x)[0], valid)


class TextCNN(nn.Module):
    """(B, L, F) to (B, H): convolutions over 3, 4 and 5 frames, max pooling in time, a linear layer (Kim 2014)."""

    def __init__(self, width: int, config: MMINConfig) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, config.hidden, kernel) for kernel in KERNELS)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(len(KERNELS) * config.hidden, config.hidden)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (B, F, L)
        parts = []
        for kernel, convolution in zip(KERNELS, self.convolutions, strict=True):
            # One window for each frame that can begin it: those that begin in padding hold nothing else and are left
            # out, those that reach into it read zeros. So clips shorter than the kernel work, and a clip has the same
            # windows alone and beside longer ones.
            windows = convolution(F.pad(x, (0, kernel - 1)))  # (B, H, L)
            parts.append(_greatest(windows.transpose(1, 2), valid).relu())
        return self.out(self.dropout(torch.cat(parts, dim=1)))


class Encoders(nn.ModuleDict):
    """One a modality; zeros in, as for a missing modality, are embedded like anything else."""

    def __init__(self, config: MMINConfig) -> None:
        kinds = {"text": TextCNN, "audio": FrameLSTM, "vision": FrameLSTM}
        super().__init__({k: kinds[k](config.feature_dims[k], config) for k in MODALITIES})

    def embed(self, k: str, x: Tensor, valid: Tensor) -> Tensor:
        """(B, L, F_k) to (B, H); what stands in the padding is not read."""
        return self[k](x.masked_fill(~valid[:, :, None], 0.0), valid)

    def forward(self, features: dict[str, Tensor], valid: Tensor) -> Tensor:
        """All three side by side, (B, 3 H)."""
        return torch.cat([self.embed(k, features[k], valid) for k in MODALITIES], dim=1)


class Cascade(nn.Module):
    """Residual autoencoders in a row, each of which reads the input plus all that those before it put out.

    Tran et al. 2017: z_i = autoencoder_i(x + z_1 + ... + z_{i-1}); the result is x + z_1 + ... + z_n.
    """

    def __init__(self, config: MMINConfig) -> None:
        super().__init__()
        widths = (len(MODALITIES) * config.hidden, config.wide, config.middle, config.code)
        self.encoders = nn.ModuleList(_layers(widths, nn.LeakyReLU) for _ in range(config.blocks))
        self.decoders = nn.ModuleList(_layers(widths[::-1], nn.ReLU) for _ in range(config.blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3 H) to the result (B, 3 H) and the autoencoders' codes side by side, (B, blocks * code)."""
        codes = []
        for encoder, decoder in zip(self.encoders, self.decoders, strict=True):
            code = encoder(x)
            x = x + decoder(code)
            codes.append(code)
        return x, torch.cat(codes, dim=1)


def _layers(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with an activation between them, none after the last."""
    stack: list[nn.Module] = []
    for before, after in pairwise(widths):
        stack += [nn.Linear(before, after), activation()]
    return nn.Sequential(*stack[:-1])


class Readout(nn.Sequential):
    """(B, width) to (B, outputs) over two hidden layers."""

    def __init__(self, width: int, config: MMINConfig) -> None:
        h = config.hidden
        super().__init__(
            nn.Linear(width, h),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(h, h),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(h, config.outputs),
        )


class Teacher(nn.Module):
    """Encoders and a readout, for complete clips; its embeddings are what the student learns to imagine."""

    def __init__(self, config: MMINConfig) -> None:
        super().__init__()
        self.encoders = Encoders(config)
        self.readout = Readout(len(MODALITIES) * config.hidden, config)

    def forward(self, features: dict[str, Tensor], valid: Tensor) -> Tensor:
        """(B, outputs)."""
        return self.readout(self.encoders(features, valid))


class Student(nn.Module):
    """Encoders, a cascade from the observed to the imagined embedding, one back, and a readout of the first's codes."""

    def __init__(self, config: MMINConfig) -> None:
        super().__init__()
        self.encoders = Encoders(config)
        self.imagine = Cascade(config)
        self.back = Cascade(config)
        self.readout = Readout(config.blocks * config.code, config)

    def forward(self, features: dict[str, Tensor], valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The prediction (B, outputs), the imagined and the observed embedding (B, 3 H) each."""
        seen = self.encoders(features, valid)
        imagined, codes = self.imagine(seen)
        return self.readout(codes), imagined, seen


class MMIN(Recognizer):
    """The student predicts; `imagined` is in the embedding space of the teacher's encoders, (B, H) a modality.

    First the teacher learns by `teacher_losses`, then `start_student`, then the student learns by `losses`. Only what
    is missing is learnt as imagined: the embedding of an observed modality is not compared with the teacher's.
    """

    kind = "mmin"
    title = "MMIN"
    about = "Imagines the missing modalities' embeddings from the observed ones (after Zhao et al. 2021)."

    def __init__(self, config: MMINConfig) -> None:
        super().__init__()
        self.config = config
        self.teacher = Teacher(config)
        self.student = Student(config)

    def start_student(self) -> None:
        """Gives the student the teacher's encoders to begin with."""
        self.student.encoders.load_state_dict(self.teacher.encoders.state_dict())

    def forward(self, batch: Batch, available: Tensor) -> Prediction:
        value, imagined, _ = self.student(observed(batch, available), batch.valid)
        return Prediction(value, dict(zip(MODALITIES, imagined.chunk(len(MODALITIES), dim=1), strict=True)))

    def teacher_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss (B,) of the teacher, which sees everything."""
        return {"task": task_loss(self.teacher(batch.features, batch.valid), batch.label)}

    def losses(self, batch: Batch, available: Tensor) -> dict[str, Tensor]:
        """Absolute error; mean squared error of the imagined against the teacher's embedding, over what is missing; and
        of the way back against all that the cascade began with.

        The teacher only sets targets and gets no gradient. With nothing missing there is nothing to imagine: 0.
        """
        value, imagined, seen = self.student(observed(batch, available), batch.valid)
        target, absent = self._targets(batch, available)
        off = torch.where(absent, imagined - target, 0.0)
        back, _ = self.student.back(imagined)
        return {
            "task": task_loss(value, batch.label),
            "imagination": off.square().sum(dim=1) / absent.sum(dim=1).clamp(min=1),
            "cycle": (back - seen.detach()).square().mean(dim=1),
        }

    @torch.no_grad()
    def _targets(self, batch: Batch, available: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's embedding of what is missing, 0 elsewhere, and where that is: (B, 3 H) and (B, 3 H) bool."""
        encoders, training, width = self.teacher.encoders, self.teacher.training, self.config.hidden
        absent = ~available.to(batch.valid.device)
        target = batch.features[MODALITIES[0]].new_zeros(len(batch), len(MODALITIES), width)
        self.teacher.eval()  # a target does not depend on dropout
        for i, k in enumerate(MODALITIES):
            rows = absent[:, i]
            if rows.any():
                target[rows, i] = encoders.embed(k, batch.features[k][rows], batch.valid[rows])
        self.teacher.train(training)
        return target.flatten(1), absent.repeat_interleave(width, dim=1)
