"""The method as a reader meets it: each equation beside the code that runs it, what sees the truth, the presets."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imder
from imder import samplers
from imder.model import IMDer
from imder.model.config import ModelConfig
from imder.pipeline import feature_error, label_interval
from imder.report.blocks import Table, plain
from imder.sde import VESDE

PACKAGE = Path(imder.__file__).parent


@dataclass(frozen=True)
class Formula:
    """An equation in LaTeX, what it says, where it is from, and the functions that compute it."""

    title: str
    text: str
    latex: str
    source: str
    code: tuple[Callable[..., Any], ...]


@dataclass(frozen=True)
class Code:
    """A function as it stands in the tree: `place` is its file from the package's parent and its line."""

    name: str
    place: str
    text: str


FORMULAS = (
    Formula(
        "Add noise, more and more",
        "A modality is encoded as 32 channels over time, x₀. The forward process only adds noise to it, until at t = 1 "
        "nothing but noise is left. Nothing is learnt here.",
        r"dx = \sigma^t\,dw, \qquad x_t = x_0 + \mathrm{std}(t)\,z, \qquad "
        r"\mathrm{std}(t)^2 = \frac{\sigma^{2t}-1}{2\ln\sigma}",
        "Song et al. 2021, Eq. 9, with σ = 25 (supplement, Table 1)",
        (VESDE.marginal_std, VESDE.perturb),
    ),
    Formula(
        "What is observed becomes the condition",
        "One observed modality is used as it is, two are fused by a convolution of width one. Which are there is told "
        "by the clip's mask, never read from the values.",
        r"c = \begin{cases} E_j(x_j) & j \text{ observed} \\ W\,[E_i(x_i);\,E_j(x_j)] & \text{both} \end{cases}",
        "supplement, section on the condition",
        (IMDer.condition,),
    ),
    Formula(
        "Learn where the noise came from",
        "A network sees a noisy x, the noise level and the condition, and learns what the clean x is on average. As "
        " written in the paper it predicts the noise; corrected, it predicts what the best linear denoiser misses, "
        "weighted so that every noise level counts alike.",
        r"\mathcal L = \mathbb E\,\big\| s_\theta(x_t, t, c)\,\mathrm{std}(t) + z \big\|^2",
        "Song et al. 2021, Eq. 7; corrected: Karras et al. 2022, Eq. 7 and 8",
        (IMDer._losses,),
    ),
    Formula(
        "Score and clean estimate are one thing",
        "The score points from x_t to the average of all clean x that could have led to it. That average is what the "
        "player shows as the estimate E[x₀ | x_t].",
        r"\mathbb E[x_0 \mid x_t, c] = x_t + \mathrm{std}(t)^2\, s_\theta(x_t, t, c)",
        "Tweedie's formula",
        (IMDer._network, IMDer.estimator),
    ),
    Formula(
        "Run it backwards",
        "From pure noise, the score leads back to data. The SDE adds fresh noise on the way and forgets early errors; "
        "the ODE takes half the pull and no noise, and gives the same distribution.",
        r"dx = \big[f - g^2 s_\theta\big]dt + g\,d\bar w \qquad\text{or}\qquad "
        r"dx = \big[f - \tfrac12 g^2 s_\theta\big]dt",
        "Song et al. 2021, Eq. 6 and 13",
        (VESDE.reverse_drift, samplers.euler_maruyama),
    ),
    Formula(
        "In ten evaluations instead of five hundred",
        "The same ODE in the logarithm of the noise level, with the last two estimates: one network evaluation a step. "
        "Noise levels are spaced evenly in the logarithm, and the result is the last clean estimate.",
        r"x_{i+1} = e^{-h_i}x_i + (1 - e^{-h_i})\Big[\big(1 + \tfrac{1}{2r_i}\big)D_i - \tfrac{1}{2r_i}D_{i-1}\Big]",
        "Lu et al. 2022, DPM-Solver++(2M), Algorithm 2",
        (samplers._dpmpp_2m, samplers.log_grid),
    ),
    Formula(
        "Look harder, or not at all",
        "Guidance weighs the conditional estimate against the unconditional one: 0 ignores what is observed, 1 is the "
        "model as trained, above 1 exaggerates what the condition says.",
        r"D = D_\varnothing + w\,(D_c - D_\varnothing)",
        "Ho and Salimans 2022, Eq. 6",
        (IMDer.estimator,),
    ),
    Formula(
        "Two missing: one after the other",
        "Drawn side by side, a recovered voice and a recovered face would know nothing of each other. One is drawn "
        "first and becomes a condition of the other, so that the two go together.",
        r"p(a, v \mid l) = p(a \mid l)\; p(v \mid l, a)",
        "the chain rule; side by side as published",
        (IMDer.stream,),
    ),
    Formula(
        "Refine, predict",
        "D_k, a small convolutional network, refines what was drawn; T_k, a multimodal transformer, predicts the "
        "label from observed and recovered together.",
        r"\hat y = T\big(\{E_k(x_k)\}_{k\ \text{observed}},\ \{D_k(\hat x_k)\}_{k\ \text{missing}}\big)",
        "supplement, Table 1 for the sizes",
        (IMDer.reconstruct, IMDer.predict),
    ),
    Formula(
        "How wrong, how sure",
        "The error is the mean squared difference a dimension, in units in which filling in the mean has 1 and a "
        "perfect but independent draw 2. The interval is the spread of the draws, widened by what the validation "
        "clips needed.",
        r"\mathrm{err} = \frac{1}{DL}\|\hat x - x\|^2, \qquad "
        r"[\,q_{5\%}(\hat y) - m,\ q_{95\%}(\hat y) + m\,]",
        'README, "Is a draw right?"; the margin m by `python -m imder bench calibration`',
        (feature_error, label_interval),
    ),
)

TRUTH = (
    ("Training of E_k and T_k", "yes", "complete clips of the training split, with their labels"),
    ("Training of the score networks", "yes", "the missing modality is the target; noise is added to it"),
    ("Training of D_k", "yes", "its target; its input is what was drawn"),
    ("Calibration", "yes", "validation labels set the interval's margin and the temperature of the noise"),
    ("Recovery: noise, score, sampler", "no", "zeros stand in its place, and the mask keeps even those out"),
    ("D_k and T_k during a recovery", "no", "they read what is observed and what was drawn"),
    ('"Zero-filled"', "no", "zeros in place of what is missing"),
    ('"Complete"', "yes", "the prediction with nothing missing, to compare with"),
    ("Error curves, difference maps, the true face", "yes", "drawn for you, after the fact"),
    ("Test split", "never in training", "and no speaker of it is in the training split"),
)

#: What the fields of a preset do, for those in which two presets differ.
FIELDS = {
    "preconditioned": "the score is a linear-Gaussian denoiser plus a network's correction, not output / std(t)",
    "standardise_latents": "latents are centred and scaled before they are diffused",
    "latent_scale": "their standard deviation then, beside std(1) = 9.85 of the noise",
    "condition_scale": "scale of the condition",
    "condition_noise": "noise on the condition in training: shared is the target's own noise, a leak",
    "condition_added": "the condition is also added frame by frame, beside attention",
    "condition_dropout": "share of updates without a condition: gives the unconditional score",
    "causal": "frame i sees the condition up to frame i only",
    "norm_groups": "groups of the normalisations; 32 of 32 channels removes a clip's offset",
    "time_scale": "frequency of the random features of time",
    "masks": "padding is masked, and the last valid frame is read, not the last",
    "sampler": "how the way back is stepped",
    "steps": "on its grid",
    "tweedie": "the last step gives the clean estimate instead of adding a last noise",
    "order": "of two missing, which is drawn first; none is side by side",
}


def code_of(function: Callable[..., Any]) -> Code:
    """The source of a function without its docstring, which the page's text says already."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    text = textwrap.dedent("".join(lines)).splitlines()
    body = tree.body
    if ast.get_docstring(tree) is not None and len(body) > 1:
        text[body[0].lineno - 1 : body[1].lineno - 1] = []
    place = Path(inspect.getsourcefile(function)).relative_to(PACKAGE.parent).as_posix()
    return Code(function.__qualname__, f"{place}, line {first}", "\n".join(text))


def truth_table() -> Table:
    """When the missing modality is read, and by what."""
    return Table(
        "What sees the truth, and when",
        "The truth is the missing modality of the clip that is recovered. Nothing that leads to a recovery reads it.",
        ("Step", "Reads it", "How"),
        tuple(tuple(map(plain, row)) for row in TRUTH),
    )


def preset_table() -> Table:
    """Every field in which the presets differ, as the code has it."""
    dims = {"text": 1, "audio": 1, "vision": 1}
    presets = {name: ModelConfig.from_preset(name, dims) for name in ("official", "paper", "corrected")}
    names = [f.name for f in dataclasses.fields(ModelConfig) if f.name not in ("preset", "feature_dims")]
    differing = [name for name in names if len({repr(getattr(p, name)) for p in presets.values()}) > 1]
    body = [
        (plain(name), *(plain(_shown(getattr(p, name))) for p in presets.values()), plain(FIELDS[name]))
        for name in differing
    ]
    return Table(
        "As published, as written, corrected",
        "official is the published code, paper what the paper writes, corrected what this project trains by default. "
        "Everything else is the same: sizes, encoders, losses of D_k and T_k.",
        ("Setting", *presets, "What it does"),
        tuple(body),
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value) if value != "" else "none"
