"""`bench truth`: draws of trained score networks against exact draws, on corpora whose conditionals are known.

For a few test clips (conditions) each pattern's missing modalities are drawn many times. The distances compare draws
and exact draws of the SAME conditions, so that a draw from the right marginal which ignores what is observed is wrong:

    sliced_wasserstein  root mean W2^2 over 256 fixed slices cos(a) <theta, m> + sin(a) <theta, x>: x the draw, m its
                        exact conditional mean, theta a random unit vector of all D L dimensions, a a random angle
    energy_distance     of the draws of one condition, averaged over the conditions (without bias: 0 for exact draws)
    mean_error          squared error of the draws' mean against the exact conditional mean, a dimension
    variance_leading    variance of the draws of one condition along the 16 leading directions of the exact covariance,
    variance_smallest   and along the smallest sixth of them, each as a share of the exact variance, averaged
    mode_shares         total variation between the draws' mode shares and the exact posterior's, averaged (mixture)
    coverage90          share of exact values between the 5 % and 95 % quantiles of the draws

The floor is the same of exact draws against other exact draws, as many, repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imder.bench.analytic import CORPORA, Conditional, Corpus, Latents
from imder.evaluation.distribution import covered, energy_distance
from imder.modality import MODALITIES, PATTERNS, SYMBOLS, missing, symbols, to_mask
from imder.model import IMDer, ModelConfig
from imder.samplers import Estimator, Noise, get_sampler, noise_seed
from imder.sde import VESDE
from imder.training.config import TrainingConfig, check_device
from imder.training.loop import Reporter
from imder.training.stages import Bench, Part
from imder.training.stages import run as run_job
from imder.trajectory import Estimate, final

Row = dict[str, Any]
Tell = Callable[[str], None]

SLICES, LEADING, SMALLEST = 256, 16, 1 / 6
FLOORS = 6  # exact samples that are compared with another one
BATCH = 512  # rows drawn at a time
METHODS = ("floor", "conditional", "unconditional", "official")
TABLE = "mixture"  # the sampler table's corpus


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. `targets`: what is drawn; `grids`: sampler and steps of the part `samplers`."""

    corpora: tuple[str, ...] = CORPORA
    targets: tuple[str, ...] = MODALITIES
    presets: tuple[str, ...] = ("corrected", "official")
    parts: tuple[str, ...] = ("patterns", "samplers")
    channels: int = 32
    frames: int = 48
    train: int = 20000
    valid: int = 300
    updates: int = 5000
    conditions: int = 16
    draws: int = 32
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    grids: tuple[tuple[str, int], ...] = (
        *(("dpmpp-2m", n) for n in (5, 8, 10, 20)),
        *(("dpmpp-2m-sde", n) for n in (10, 15, 50)),
        *(("heun", n) for n in (8, 10, 18)),
        *(("euler-maruyama", n) for n in (100, 250, 500)),
        *(("euler-maruyama-log", n) for n in (20, 50, 100)),
    )

    @property
    def batch(self) -> int:
        """Clips an update."""
        return self.training.get("batch", TrainingConfig().batch)


#: Narrow networks, few updates and short clips: the exact score says the same as in the full form, the trained less.
QUICK = Plan(
    corpora=("mixture",),
    channels=8,
    frames=16,
    train=2000,
    valid=60,
    updates=60,
    conditions=3,
    model={"latent_channels": 8, "channels": (8, 16, 32, 64), "heads": 4, "embedding_dim": 32, "fusion_layers": 1},
    training={"score_warmup": 20, "score_valid": 30, "ema": 0.97},
    grids=(("dpmpp-2m", 5), ("dpmpp-2m", 10), ("heun", 10), ("euler-maruyama", 100)),
)


class AnalyticBench(Bench):
    """What `training.stages` trains score networks on, with latents of an analytic corpus in a feature set's place."""

    def __init__(self, corpus: Corpus, preset: str, plan: Plan, folder: Path, seed: int, device: str = "cpu") -> None:
        config = TrainingConfig(preset=preset, seed=seed, score_updates=plan.updates, device=device, **plan.training)
        super().__init__(None, config, plan.model, folder / f"{corpus.name}-{preset}")
        self.corpus, self.plan = corpus, plan

    @property
    def lacks(self) -> tuple[str, ...]:
        """None: a corpus has all three."""
        return ()

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Fresh clips of each split."""
        found = {}
        for split, n in (("train", self.plan.train), ("valid", self.plan.valid)):
            z = self.corpus.sample(n, noise_seed(self.config.seed, self.corpus.name, split))
            valid = torch.ones(n, self.corpus.frames, dtype=torch.bool)
            part = Part(z, valid, torch.zeros(n), tuple(f"{split}-{i}" for i in range(n)), 2)
            found[split] = part.to(self.config.device)
        return found

    @cached_property
    def linear(self) -> dict[str, Tensor]:
        """The linear-Gaussian denoiser fitted to the training clips, by its names in the model."""
        model = IMDer(self.model_config()).to(self.config.device)
        model.fit_linear(self.parts["train"].values, self.parts["train"].valid)
        return {name: x for name, x in model.state_dict().items() if name.startswith("linear.")}

    def model_config(self, **changes: Any) -> ModelConfig:
        """The preset at this corpus's length; the features' widths play no part."""
        values = {"frames": self.corpus.frames} | self.overrides | changes
        return ModelConfig.from_preset(self.config.preset, dict.fromkeys(MODALITIES, 1), **values)

    def model(self, *results: str, **changes: Any) -> IMDer:
        """The model with its first weights, the linear denoiser, and what the named jobs other than `encode` learnt."""
        torch.manual_seed(noise_seed(self.config.seed, "weights"))
        model = IMDer(self.model_config(**changes))
        state = model.state_dict() | self.linear
        for name in results:
            if name != "encode":
                state |= self.result(name)[0]
        model.load_state_dict(state)
        return model.requires_grad_(False).eval().to(self.config.device)

    def latents(self, model: IMDer, split: str) -> Part:
        """The clips themselves: they are latents."""
        return self.parts[split]

    def trained(self, tell: Tell) -> IMDer:
        """The model with the targets' score networks, trained by `training.stages` unless a result is there."""
        names = [f"score-{k}" for k in self.plan.targets]
        for name in names:
            self.train(name, tell)
        return self.model(*names)

    def train(self, name: str, tell: Tell) -> None:
        """Trains one network, `score-text` or another; its result is kept in the folder."""
        run_job(self, name, Reporter(lambda event: self._hear(tell, name, event), lambda: False))

    def _hear(self, tell: Tell, name: str, event: dict[str, Any]) -> None:
        if "warning" in event:
            tell(event["warning"])
        if row := event.get("row"):
            figures = ", ".join(f"{key} {value:.4f}" for key, value in row["valid"].items())
            tell(f"{self.folder.name} {name}: update {row['update']}, {figures}, {row['seconds']:.0f} s")


# Draws ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A pattern and a target: the conditionals of each row, `draws` rows after one another for each condition."""

    target: str
    available: tuple[str, ...]
    exact: Conditional  # of every row
    truth: Tensor  # (rows, D, L) exact draws that everything is compared with
    draws: int

    @classmethod
    def make(
        cls, corpus: Corpus, target: str, available: tuple[str, ...], clips: Latents, draws: int, seed: int
    ) -> Trial:
        """`clips` {k: (R, D, L)}, one a condition."""
        rows = torch.arange(len(clips[target])).repeat_interleave(draws)
        exact = corpus.given(target, available, clips).rows(rows)
        return cls(target, available, exact, cls._draw(exact, target, available, seed, "truth"), draws)

    @staticmethod
    def _draw(exact: Conditional, target: str, available: tuple[str, ...], *parts: Any) -> Tensor:
        return exact.draw(torch.Generator().manual_seed(noise_seed(*parts, target, symbols(available))))

    def again(self, seed: int, index: int) -> Tensor:
        """Other exact draws (rows, D, L)."""
        return self._draw(self.exact, self.target, self.available, seed, "floor", index)

    @cached_property
    def mean(self) -> Tensor:
        """(rows, D, L) exact conditional means."""
        return self.exact.mean()

    def measure(self, x: Tensor) -> dict[str, float]:
        """Every figure of draws x (rows, D, L)."""
        found = {
            "sliced_wasserstein": sliced_wasserstein(self.mean, x, self.truth),
            "energy_distance": float(np.mean([energy_distance(*pair) for pair in self._pairs(x)])),
            "mean_error": float((self._by_condition(x.double() - self.mean).mean(1) ** 2).mean()),
            **self._spectrum(x),
            "coverage90": self._coverage(x),
        }
        if self.exact.weights.shape[1] > 1:
            drawn = self._by_condition(self.exact.shares(x)).mean(1)
            found["mode_shares"] = float((drawn - self._by_condition(self.exact.weights)[:, 0]).abs().sum(1).mean() / 2)
        return found

    def _by_condition(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, self.draws))

    def _pairs(self, x: Tensor) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return zip(*(self._by_condition(y.flatten(1)).numpy() for y in (x, self.truth)), strict=True)

    def _spectrum(self, x: Tensor) -> dict[str, float]:
        drawn = self._by_condition(self.exact.coordinates(x)).var(1).mean(0).flatten()
        exact = self._by_condition(self.exact.variance())[:, 0].mean(0).flatten()
        order = exact.argsort(descending=True)
        ratio = (drawn / exact)[order]
        least = max(1, round(SMALLEST * len(ratio)))
        return {"variance_leading": float(ratio[:LEADING].mean()), "variance_smallest": float(ratio[-least:].mean())}

    def _coverage(self, x: Tensor) -> float:
        drawn, truth = (self._by_condition(y).transpose(0, 1).numpy() for y in (x, self.truth))
        return float(covered(drawn, truth).mean())


def sliced_wasserstein(mean: Tensor, x: Tensor, y: Tensor) -> float:
    """Root mean W2^2 of the pairs (mean, x) and (mean, y), all (rows, D, L), over the module's fixed slices."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(mean[0].numel(), SLICES, generator=generator, dtype=torch.float64)
    theta = theta / theta.norm(dim=0)
    angle = 2 * torch.pi * torch.rand(SLICES, generator=generator, dtype=torch.float64)
    known = (mean.flatten(1) @ theta) * angle.cos()
    a, b = ((known + (z.flatten(1).double() @ theta) * angle.sin()).sort(dim=0).values for z in (x, y))
    return float((a - b).square().mean().sqrt())


def recovered(
    model: IMDer, clips: Latents, available: tuple[str, ...], seeds: Sequence[int], guidance: float = 1.0
) -> Latents:
    """The missing modalities of clips {k: (rows, D, L)}, a seed a row, as the model's configuration recovers them."""
    mask = torch.from_numpy(to_mask(available)).expand(len(seeds), -1)
    valid = torch.ones(len(seeds), clips[available[0]].shape[2], dtype=torch.bool)
    pieces = []
    for at in torch.arange(len(seeds)).split(BATCH):
        own, given = [seeds[i] for i in at.tolist()], {k: z[at].to(model.device) for k, z in clips.items()}
        pieces.append(model.recover(given, mask[at], valid=valid[at].to(model.device), seeds=own, guidance=guidance))
    return {k: torch.cat([piece[k].cpu() for piece in pieces]) for k in missing(available)}


def exact_estimator(
    exact: Conditional, scale: float, device: torch.device | str = "cpu"
) -> Callable[[Tensor], Estimator]:
    """The exact score in the place of a network's, for latents diffused at `scale`; see `sampled`."""
    sde = VESDE()

    def of(rows: Tensor) -> Estimator:
        own = exact.rows(rows).to(device)

        def estimate(x: Tensor, t: float) -> Estimate:
            denoised = own.denoised(x, sde.std(t), scale)
            return Estimate((denoised - x) / sde.std(t) ** 2, denoised)

        return estimate

    return of


def trained_estimator(
    model: IMDer, trial: Trial, clips: Latents, seeds: Sequence[int]
) -> Callable[[Tensor], Estimator]:
    """The model's score of the trial's target; see `sampled`."""

    def of(rows: Tensor) -> Estimator:
        valid = torch.ones(len(rows), trial.truth.shape[2], dtype=torch.bool, device=model.device)
        own, given = [seeds[i] for i in rows.tolist()], {k: z[rows].to(model.device) for k, z in clips.items()}
        return model.estimator(trial.target, given, trial.available, valid, seeds=own)

    return of


@torch.no_grad()
def sampled(
    estimator: Callable[[Tensor], Estimator],
    trial: Trial,
    seeds: Sequence[int],
    scale: float,
    grid: tuple[str, int],
    tweedie: bool = True,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws (rows, D, L) of the target by `grid` = (sampler, steps).

    `estimator` makes the score of some rows, on `device`.
    """
    sde, chosen = VESDE(), get_sampler(grid[0])
    pieces = []
    for rows in torch.arange(len(seeds)).split(BATCH):
        own = [noise_seed(seeds[i], trial.target) for i in rows.tolist()]
        noise = Noise(own, *trial.truth.shape[1:], device)
        path = chosen.run(estimator(rows), sde, sde.prior(noise()), chosen.grid(sde, grid[1]), noise, tweedie)
        pieces.append(final(path).x.cpu() / scale)
    return torch.cat(pieces)


# The benchmark --------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which corpora, where trained networks are kept, the length of training, and by what it is done."""
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, help="default: both; quick: the mixture")
    parser.add_argument(
        "--targets",
        nargs="+",
        choices=MODALITIES,
        help="what is drawn: text, text audio, or all (default), as the chain's order is",
    )
    parser.add_argument("--presets", nargs="+", choices=Plan().presets, help="which models (default: both)")
    parser.add_argument("--parts", nargs="+", choices=Plan().parts, help="which tables (default: both)")
    parser.add_argument("--cache", type=Path, help="keep trained networks in this folder and use those that are there")
    parser.add_argument("--updates", type=int, help=f"updates of each score network (default {Plan().updates})")
    parser.add_argument("--batch", type=int, help=f"clips an update (default {TrainingConfig().batch})")
    parser.add_argument("--workers", type=int, default=2, help="networks trained at a time (default 2; quick 1)")
    parser.add_argument("--device", default="cpu", help="where networks compute: cpu (default) or cuda")


def run(args: argparse.Namespace, tell: Tell) -> list[Row]:
    """Both corpora and presets by pattern, then the sampler table."""
    plan = QUICK if args.quick else Plan()
    check_device(args.device)
    for name in ("updates", "batch", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}: {value} is not allowed; a whole number of at least 1 is")
    for name in ("corpora", "presets", "parts"):
        if getattr(args, name) is not None:
            plan = replace(plan, **{name: tuple(dict.fromkeys(getattr(args, name)))})
    if args.targets is not None:
        plan = replace(plan, targets=checked_targets(args.targets))
    if args.updates is not None:
        plan = replace(plan, updates=args.updates)
    if args.batch is not None:
        plan = replace(plan, training=plan.training | {"batch": args.batch})
    with TemporaryDirectory() as scratch:
        folder = Path(args.cache or scratch)
        if not args.quick:
            train_all(plan, args.seed, folder, args.device, args.workers)
        return list(measured(plan, args.seed, folder, tell, args.device))


def checked_targets(names: Sequence[str]) -> tuple[str, ...]:
    """`names` in order; raises ValueError where one is drawn after a modality that they leave out.

    Of two missing modalities the second is drawn given the first (`ModelConfig.order`, language before voice before
    face), so the first needs its network.
    """
    found = tuple(k for k in MODALITIES if k in names)
    if found != MODALITIES[: len(found)]:
        raise ValueError(f"targets: {' '.join(names)} is not allowed; {' '.join(MODALITIES)} from the first on is")
    return found


def benches(plan: Plan, seed: int, folder: Path, device: str = "cpu") -> dict[tuple[str, str], AnalyticBench]:
    """{(preset, corpus): what trains its networks}, each with a place in `folder`."""
    folder = folder / f"{plan.channels}x{plan.frames}-{plan.train}-{plan.updates}x{plan.batch}-{seed}"
    return {
        (preset, name): AnalyticBench(Corpus.make(name, plan.channels, plan.frames), preset, plan, folder, seed, device)
        for preset in plan.presets
        for name in plan.corpora
    }


def train_all(plan: Plan, seed: int, folder: Path, device: str, workers: int) -> None:
    """Trains every network that is not in `folder`, `workers` at a time, each in a process with one thread."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = [
            pool.submit(_train, plan, seed, folder, device, key, f"score-{k}")
            for k in plan.targets
            for key in benches(plan, seed, folder)
        ]
        for job in jobs:
            job.result()


def _train(plan: Plan, seed: int, folder: Path, device: str, key: tuple[str, str], name: str) -> None:
    benches(plan, seed, folder, device)[key].train(name, lambda text: print(text, file=sys.stderr, flush=True))


def measured(plan: Plan, seed: int, folder: Path, tell: Tell, device: str = "cpu") -> Iterator[Row]:
    """The rows of a plan; networks are trained in `folder`, or read where they are there."""
    subjects = {name: Subject(Corpus.make(name, plan.channels, plan.frames), plan, seed, tell) for name in plan.corpora}
    for subject in subjects.values():
        yield from subject.floor()
    for (preset, name), bench in benches(plan, seed, folder, device).items():
        subject, model = subjects[name], bench.trained(tell)
        if "patterns" in plan.parts:
            yield from subject.patterns(model)
        if "samplers" in plan.parts and (preset, name) == ("corrected", TABLE):
            yield from subject.samplers(model)


class Subject:
    """A corpus, its test clips and the trials of every pattern and target."""

    def __init__(self, corpus: Corpus, plan: Plan, seed: int, tell: Tell) -> None:
        self.corpus, self.plan, self.seed, self.tell = corpus, plan, seed, tell
        clips = corpus.sample(plan.conditions, noise_seed(seed, corpus.name, "test"))
        self.trials = {
            (p, k): Trial.make(corpus, k, p, clips, plan.draws, seed)
            for p in PATTERNS[:-1]
            for k in missing(p)
            if k in plan.targets
        }
        rows = torch.arange(plan.conditions).repeat_interleave(plan.draws)
        self.clips = {k: z[rows] for k, z in clips.items()}  # a row a draw
        self.seeds = [noise_seed(seed, "draw", i) for i in range(len(rows))]

    def floor(self) -> Iterator[Row]:
        """The mean over `FLOORS` exact samples and, as `noise`, their standard deviation."""
        for trial in self.trials.values():
            self.tell(f"{self.corpus.name}, {symbols(trial.available)} to {trial.target}: floor")
            found = [trial.measure(trial.again(self.seed, i)) for i in range(FLOORS)]
            for row in self._rows(trial, found[0], part="patterns", method="floor"):
                values = [one[row["name"]] for one in found]
                yield row | {"value": float(np.mean(values)), "noise": float(np.std(values, ddof=1))}

    def patterns(self, model: IMDer) -> Iterator[Row]:
        """Every pattern's draws by the configured sampler, and for `corrected` the unconditional ones."""
        config = model.config
        how = {"part": "patterns", "sampler": config.sampler, "steps": config.steps}
        how["nfe"] = get_sampler(config.sampler).evaluations(config.steps)
        ours = config.preset == "corrected"
        methods = {"conditional" if ours else config.preset: lambda p: recovered(model, self.clips, p, self.seeds)}
        if ours:
            pairs = [tuple(o for o in MODALITIES if o != k) for k in self.plan.targets]
            free = [recovered(model, self.clips, pair, self.seeds, guidance=0.0) for pair in pairs]
            free = {k: x for one in free for k, x in one.items()}
            methods["unconditional"] = lambda p: free  # they do not depend on what is observed
        for method, draws in methods.items():
            for pattern in dict.fromkeys(p for p, _ in self.trials):
                self.tell(f"{self.corpus.name}, {symbols(pattern)}: {method}")
                drawn = draws(pattern)
                for trial in (t for (p, _), t in self.trials.items() if p == pattern):
                    yield from self._rows(trial, trial.measure(drawn[trial.target]), method=method, **how)

    def samplers(self, model: IMDer) -> Iterator[Row]:
        """Every sampler of the plan with the exact and the trained score; the published last step beside Tweedie's."""
        trial = next(t for (p, k), t in self.trials.items() if k == self.plan.targets[-1])
        scale = model.config.latent_scale
        scores = {
            "exact": exact_estimator(trial.exact, scale, model.device),
            "trained": trained_estimator(model, trial, self.clips, self.seeds),
        }
        for grid in self.plan.grids:
            sampler, steps = grid
            nfe = get_sampler(sampler).evaluations(steps)
            for last in ("tweedie", "plain") if sampler == "euler-maruyama" else ("tweedie",):
                how = {"part": "samplers", "sampler": sampler, "steps": steps, "nfe": nfe, "last": last}
                for score, estimator in scores.items():
                    self.tell(f"{self.corpus.name}, {sampler}, {nfe} evaluations, {score} score, last step {last}")
                    x = sampled(estimator, trial, self.seeds, scale, grid, last == "tweedie", model.device)
                    yield from self._rows(trial, trial.measure(x), score=score, **how)

    def _rows(self, trial: Trial, figures: dict[str, float], **place: Any) -> Iterator[Row]:
        cell = {"corpus": self.corpus.name, "target": trial.target, "available": symbols(trial.available)}
        plan = self.plan
        sizes = {"conditions": plan.conditions, "draws": plan.draws, "updates": plan.updates, "seed": self.seed}
        sizes["batch"] = plan.batch
        for name, value in figures.items():
            yield {"bench": "truth", "name": name, "value": value, **cell, **place, **sizes}


def table(rows: list[Row]) -> str:
    """For each corpus the sliced Wasserstein distance by cell and the mean of every figure; then the sampler table."""
    patterns = [row for row in rows if row["part"] == "patterns"]
    lines = []
    for corpus in dict.fromkeys(row["corpus"] for row in patterns):
        methods = [m for m in METHODS if any((row["corpus"], row["method"]) == (corpus, m) for row in patterns)]
        own = {_key(row): row["value"] for row in patterns if row["corpus"] == corpus}
        names, cells = (list(dict.fromkeys(key[i] for key in own)) for i in (0, 1))
        lines += [
            f"{corpus}: sliced Wasserstein distance, in brackets as a multiple of the floor\n",
            _line("given → drawn", *methods),
            "|---|" + "---|" * len(methods),
        ]
        for cell in cells:
            values = [own["sliced_wasserstein", cell, method] for method in methods]
            lines.append(_line(cell, f"{values[0]:.4f}", *(f"{v:.4f} ({v / values[0]:.2f})" for v in values[1:])))
        lines += [
            f"\n{corpus}: mean over the {len(cells)} cells\n",
            _line("figure", *methods),
            "|---|" + "---|" * len(methods),
        ]
        for name in names:
            values = [np.mean([own[name, cell, method] for cell in cells]) for method in methods]
            lines.append(_line(name, *(f"{v:.4g}" for v in values)))
        lines.append("")
    return "\n".join([*lines, *_sampler_lines(rows)]).rstrip()


def _sampler_lines(rows: list[Row]) -> list[str]:
    own = [row for row in rows if row["part"] == "samplers"]
    if not own:
        return []
    names, scores = (list(dict.fromkeys(row[key] for row in own)) for key in ("name", "score"))
    where = {key: own[0][key] for key in ("corpus", "target", "available")}
    floor = {row["name"]: row["value"] for row in rows if row.get("method") == "floor" and where.items() <= row.items()}
    found = {(row["sampler"], row["nfe"], row["last"], row["score"], row["name"]): row["value"] for row in own}
    cell = f"{where['available']} → {SYMBOLS[where['target']]}"
    return [
        f"{where['corpus']}, {cell}: samplers with the exact score / with the trained one\n",
        _line("sampler", "evaluations", "last step", *names),
        "|---|" + "---|" * (2 + len(names)),
        _line("floor", "", "", *(f"{floor[name]:.4g}" for name in names)),
        *(
            _line(*run, *(" / ".join(f"{found[*run, score, name]:.4g}" for score in scores) for name in names))
            for run in dict.fromkeys(key[:3] for key in found)
        ),
    ]


def _key(row: Row) -> tuple[str, str, str]:
    return row["name"], f"{row['available']} → {SYMBOLS[row['target']]}", row["method"]


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
