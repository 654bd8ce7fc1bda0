"""Temperature, guidance and number of draws, chosen on the validation split and checked on the test split.

Parts (`--parts`, all by default):

  temperature   coverage of 90 % intervals of 32 draws over three temperatures of the prior noise, for each cell
                (`LA>V`), on `--clips` clips; then, where a quadratic through them meets what exact draws cover, on all
                clips, and from there one step along the quadratic's slope
  guidance      coverage, error of one draw and MAE of the prediction by guidance at temperature 1, and of the
                stochastic sampler (`dpmpp-2m-sde`) at as many evaluations
  interval      MAE of the mean prediction by number of draws, and the margin by which both ends of the 5 to 95 % range
                of the draws' predictions are moved out so that it holds 90 % of the labels (conformalised quantile
                regression, Romano et al. 2019, Eq. 8): the draws' spread lacks what the label has beyond the features.
                A split has few speakers, and a clip says little of another speaker's: the margin is the 90 % quantile
                of those that 1,000 resamplings of the speakers give
  test          coverage of the draws, MAE and coverage of the intervals on the test split with what was chosen

`--write RUN` stores what was chosen in a run folder, where it takes effect at once. A run with another D_k or T_k but
the same score networks needs `--parts interval test --write RUN` only: its temperatures stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.baselines.fill import Encoded
from imder.bench.cli import Row
from imder.bench.drawn import BATCH, Source, add_source, draw
from imder.evaluation.distribution import covered, exact_coverage
from imder.modality import PATTERNS, missing, symbols
from imder.model import IMDer
from imder.model.config import MARGIN_DRAWS, cell_name

PARTS = ("temperature", "guidance", "interval", "test")
TEMPERATURES = (0.8, 1.0, 1.25)
GUIDANCE = (0.8, 1.0, 1.2, 1.5)
LEVEL = 0.9
RESAMPLINGS = 1000
#: Heading of what `--write` adds to a model card.
HEADING = "## Calibration"

Pattern = tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench calibration`."""
    add_source(parser)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--write", type=Path, metavar="RUN", help="a run folder in which to store what was chosen")
    parser.add_argument(
        "--clips", type=int, default=50, help="validation clips for the temperature grid and guidance (default 50)"
    )
    parser.add_argument("--test-clips", type=int, default=200, help="clips of the test split, 0 for all (default 200)")


def coverage(model: IMDer, clips: Encoded, made: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """{k: (N,)} share of a clip's valid values between the 5 and 95 % quantile of its draws (draws, N, D, L)."""
    found = {}
    for k, z in made.items():
        shares = []
        for i, valid in enumerate(clips.valid):
            inside = covered(model.unit(k, z[:, i]).numpy(), model.unit(k, clips.latents[k][i]).numpy(), LEVEL)
            shares.append(inside[:, valid.numpy()].mean())
        found[k] = np.array(shares)
    return found


def draw_error(model: IMDer, clips: Encoded, made: dict[str, Tensor]) -> dict[str, float]:
    """{k: mean squared error a dimension of the first draw}, in unit latents."""
    found = {}
    for k, z in made.items():
        error = (model.unit(k, z[0]) - model.unit(k, clips.latents[k])).square().mean(1)  # (N, L)
        found[k] = float(((error * clips.valid).sum(1) / clips.valid.sum(1)).mean())
    return found


@torch.no_grad()
def predictions(model: IMDer, clips: Encoded, made: dict[str, Tensor]) -> np.ndarray:
    """(draws, N) sentiment predicted from each draw after D_k."""
    found = []
    for i in range(len(next(iter(made.values())))):
        parts = []
        for rows in torch.arange(len(clips)).split(BATCH):
            part = clips.take(rows)
            refined = {k: model.reconstruct(k, z[i][rows], part.valid) * part.valid[:, None] for k, z in made.items()}
            parts.append(model.predict(part.latents | refined, part.valid))
        found.append(torch.cat(parts).numpy())
    return np.stack(found)


def margin(predicted: np.ndarray, labels: np.ndarray, speakers: Sequence[str], seed: int = 0) -> float:
    """The margin for draws' predictions (draws, N): by how much their range misses nine in ten labels (N,) at most.

    Nine in ten of the bootstrap samples of the N clips' speakers ask for no more.
    """
    low, high = np.quantile(predicted, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    missed = np.maximum(low - labels, labels - high)
    names, of = np.unique(speakers, return_inverse=True)
    groups, rng, found = [missed[of == i] for i in range(len(names))], np.random.default_rng(seed), []
    for _ in range(RESAMPLINGS):
        some = np.sort(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]))
        found.append(some[min(len(some), math.ceil(LEVEL * (len(some) + 1))) - 1])
    return float(np.quantile(found, LEVEL))


class Curve:
    """Coverage by temperature: the quadratic through (ln temperature, share)."""

    def __init__(self, temperatures: Sequence[float], shares: Sequence[float]) -> None:
        self.at = np.log(temperatures)
        self.curve = np.polynomial.Polynomial.fit(self.at, shares, min(2, len(self.at) - 1))

    def meets(self, wanted: float) -> float:
        """The temperature at which it has that share; the nearest end if that lies outside."""
        grid = np.linspace(self.at[0], self.at[-1], 1001)
        return float(np.exp(grid[np.abs(self.curve(grid) - wanted).argmin()]))

    def step(self, temperature: float, short: float) -> float:
        """The temperature, from another, that covers `short` more; at most a third up or down."""
        slope = float(self.curve.deriv()(math.log(temperature)))
        return temperature * math.exp(min(max(short / max(slope, 0.05), -0.3), 0.3))


class Calibration:
    """The rows of one run, part by part; what is chosen goes into the model's configuration at once."""

    def __init__(self, source: Source, args: argparse.Namespace, tell: Callable[[str], None]) -> None:
        self.source, self.model, self.tell, self.seed = source, source.model, tell, args.seed
        if self.model.config.outputs != 1:
            raise ValueError(f"the run has {self.model.config.outputs} outputs; calibration needs one, the sentiment")
        quick = args.quick
        self.clips, self.test_clips = (6, 12) if quick else (args.clips, args.test_clips)
        self.counts = tuple(n for n in MARGIN_DRAWS if n <= 8) if quick else MARGIN_DRAWS
        self.patterns = PATTERNS[:1] + PATTERNS[3:4] if quick else PATTERNS[:6]
        self.guidances = GUIDANCE[1::2] if quick else GUIDANCE
        self.rows: list[Row] = []
        self.common = source.common | {"seed": args.seed}

    def _set(self, **fields: Any) -> None:
        self.model.config = dataclasses.replace(self.model.config, **fields)

    def _row(self, name: str, value: float, split: str, pattern: Pattern, k: str | None = None, **more: Any) -> None:
        where = {"split": split, "available": symbols(pattern)} | ({"cell": cell_name(pattern, k)} if k else {})
        self.rows.append(
            {"bench": "calibration", "name": name, "value": round(float(value), 6), **where, **more, **self.common}
        )

    def _coverage_rows(self, split: str, clips: Encoded, pattern: Pattern, made: dict[str, Tensor], **how: Any) -> None:
        count = len(next(iter(made.values())))
        more = {"draws": count, "n": len(clips), "exact": round(exact_coverage(count), 6), **how}
        for k, shares in coverage(self.model, clips, made).items():
            se = round(float(shares.std(ddof=1) / len(shares) ** 0.5), 6)
            at = {} if "temperature" in more else {"temperature": self._temperature(pattern, k)}
            self._row("coverage90", shares.mean(), split, pattern, k, se=se, **more, **at)

    def _temperature(self, pattern: Pattern, k: str) -> float:
        return self.model.config.temperature.get(cell_name(pattern, k), 1.0)

    def _draws(self, clips: Encoded, pattern: Pattern, count: int, **how: Any) -> dict[str, Tensor]:
        return draw(self.model, clips, pattern, range(count), seed=self.seed, **how)

    def temperature(self) -> None:
        """Chooses a temperature a cell."""
        clips, count = self.source.clips("valid", self.clips), self.counts[-1]
        curves: dict[str, Curve] = {}
        exact = exact_coverage(count)
        for pattern in self.patterns:
            for value in TEMPERATURES:
                self.tell(f"temperature {value:g}, {symbols(pattern)}")
                self._set(temperature={cell_name(pattern, k): value for k in missing(pattern)})
                self._coverage_rows("valid", clips, pattern, self._draws(clips, pattern, count), part="temperature")
            for k in missing(pattern):
                name = cell_name(pattern, k)
                curves[name] = Curve(TEMPERATURES, [r["value"] for r in self.rows if r.get("cell") == name])
        chosen = {name: curve.meets(exact) for name, curve in curves.items()}
        self._set(temperature=chosen)
        clips = self._valid()
        for pattern in self.patterns:
            self.tell(f"temperature, all clips, {symbols(pattern)}")
            self._coverage_rows("valid", clips, pattern, self._draws(clips, pattern, count), part="level")
            for k in missing(pattern):
                name = cell_name(pattern, k)
                share = next(r["value"] for r in self.rows if r.get("cell") == name and r["part"] == "level")
                chosen[name] = round(curves[name].step(chosen[name], exact - share), 3)
                self._row("temperature", chosen[name], "valid", pattern, k, draws=count, n=len(clips))
        self._set(temperature=chosen)

    def _valid(self) -> Encoded:
        """All validation clips; a few of them with --quick."""
        return self.source.clips("valid", 12 if len(self.counts) < len(MARGIN_DRAWS) else 0)

    def guidance(self) -> None:
        """Guidance, and a stochastic sampler, at temperature 1."""
        kept, config = self.model.config.temperature, self.model.config
        self._set(temperature={})
        clips, count = self.source.clips("valid", self.clips), 8
        ways = [(config.sampler, w) for w in self.guidances] + [("dpmpp-2m-sde", 1.0)]
        for pattern in self.patterns:
            for sampler, guidance in ways:
                self.tell(f"{sampler}, guidance {guidance:g}, {symbols(pattern)}")
                how = {"sampler": sampler, "steps": config.steps, "guidance": guidance}
                made = self._draws(clips, pattern, count, **how)
                how["part"] = "guidance"
                self._coverage_rows("valid", clips, pattern, made, **how)
                more = {"draws": count, "n": len(clips), **how}
                for k, error in draw_error(self.model, clips, made).items():
                    self._row("draw_error", error, "valid", pattern, k, **more)
                mean = predictions(self.model, clips, made).mean(0)
                self._row("mae", np.abs(mean - clips.label.numpy()).mean(), "valid", pattern, **more)
        self._set(temperature=kept)

    def interval(self) -> None:
        """Chooses the intervals' margins, a value for each number of draws and pattern."""
        clips, chosen, found = self._valid(), {}, {}
        labels = clips.label.numpy()
        speakers = [self.source.data.clip(name).video for name in clips.ids]
        for pattern in self.patterns:
            self.tell(f"interval, {symbols(pattern)}")
            made = self._draws(clips, pattern, self.counts[-1])
            self._coverage_rows("valid", clips, pattern, made, part="interval")
            predicted = predictions(self.model, clips, made)
            margins = [margin(predicted[:count], labels, speakers) for count in self.counts]
            for count, value in zip(self.counts, margins, strict=True):
                self._row("interval_margin", value, "valid", pattern, draws=count, n=len(clips))
            margins += margins[-1:] * (len(MARGIN_DRAWS) - len(margins))
            chosen[symbols(pattern)] = tuple(round(value, 4) for value in margins)
            found[pattern] = predicted
        self._set(interval_margin=chosen)
        self._predicted("valid", clips, found)

    def test(self) -> None:
        """The test split with what is chosen."""
        clips, found = self.source.clips("test", self.test_clips), {}
        for pattern in self.patterns:
            self.tell(f"test, {symbols(pattern)}")
            made = self._draws(clips, pattern, self.counts[-1])
            self._coverage_rows("test", clips, pattern, made, part="test")
            found[pattern] = predictions(self.model, clips, made)
        self._predicted("test", clips, found)

    def _predicted(self, split: str, clips: Encoded, found: dict[Pattern, np.ndarray]) -> None:
        labels = clips.label.numpy()
        for pattern, predicted in found.items():
            for count in self.counts:
                some, more = predicted[:count], {"draws": count, "n": len(clips)}
                self._row("mae", np.abs(some.mean(0) - labels).mean(), split, pattern, **more)
                low, high = np.quantile(some, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
                for widened, by in ((False, 0.0), (True, self.model.config.margin(pattern, count))):
                    inside = (labels >= low - by) & (labels <= high + by)
                    width = (high - low + 2 * by).mean()
                    self._row("interval_coverage", inside.mean(), split, pattern, calibrated=widened, **more)
                    self._row("interval_width", width, split, pattern, calibrated=widened, **more)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Measures the parts in order; each uses what those before it chose, or else the run's own calibration."""
    for name, low in (("clips", 2), ("test_clips", 0)):
        if getattr(args, name) < low:
            raise ValueError(f"--{name.replace('_', '-')}: {getattr(args, name)} is not allowed; at least {low} is")
    if args.quick and args.write:
        raise ValueError("--write: what --quick chooses is not worth keeping; leave one of them out")
    if args.write:
        hub.verify(args.write)  # now, not after an hour
    calibration = Calibration(Source.open(args), args, tell)
    for part in PARTS:
        if part in args.parts:
            getattr(calibration, part)()
    if args.write:
        config = calibration.model.config
        write(args.write, temperature=config.temperature, interval_margin=config.interval_margin)
        tell(f"{args.write}: temperature and interval_margin are stored")
    return calibration.rows


# Storing -------------------------------------------------------------------------------------------------------------


def write(folder: Path, **fields: Any) -> None:
    """Replaces fields of a run's model configuration; weights, log and the text of the card stay as they are."""
    run = hub.load_run(folder)
    run.model.config = dataclasses.replace(run.model.config, **fields)
    card = folder / hub.CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    hub.save_run(
        folder, run.model, run.standardiser, run.info["data"], run.info["training"], metrics=run.metrics,
        half=run.info["weights"] == "float16",
    )  # fmt: skip
    said = (text or card.read_text(encoding="utf-8")).partition(HEADING)[0].rstrip()
    card.write_text(f"{said}\n\n{describe(run.model.config)}", encoding="utf-8")


def describe(config: Any) -> str:
    """The calibration as a section of a model card."""
    cells = ", ".join(f"{name} {value:g}" for name, value in config.temperature.items()) or "none"
    lines = [
        HEADING, "",
        "Chosen on the validation split by `python -m imder bench calibration`. L language, A voice, V face; `LA>V`: "
        "the face drawn from language and voice.", "",
        f"Temperature of the prior noise of deterministic samplers: {cells}.", "",
        "Margin added to both ends of the 5 to 95 % range of the draws' predictions, for a 90 % interval of the label:",
        "", "| observed | " + " | ".join(f"{n} draws" if n > 1 else "1 draw" for n in MARGIN_DRAWS) + " |",
        "|---|" + "---|" * len(MARGIN_DRAWS),
    ]  # fmt: skip
    lines += [
        f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |"
        for name, values in config.interval_margin.items()
    ]
    return "\n".join(lines) + "\n"


# Tables --------------------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The parts that were measured, a table each."""
    parts = (_temperatures(rows), _guidance(rows), _coverage(rows), _intervals(rows))
    return "\n\n".join(part for part in parts if part)


def _pick(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def _grid(title: str, heads: Sequence[object], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    text = [title, "", "| | " + " | ".join(map(str, heads)) + " |", "|---|" + "---|" * len(heads)]
    return "\n".join(text + [f"| {name} | " + " | ".join(values) + " |" for name, values in lines])


def _temperatures(rows: list[Row]) -> str:
    chosen = _pick(rows, name="temperature")
    if not chosen:
        return ""
    found = _pick(rows, name="coverage90", part="temperature")
    title = f"Coverage on validation by temperature ({found[0]['n']} clips, exact {found[0]['exact']:.3f})"
    level = _pick(rows, part="level")
    heads = [*TEMPERATURES, f"on all {level[0]['n']} clips, at", "coverage", "chosen"]
    lines = [
        (row["cell"], [f"{one['value']:.3f}" for one in _pick(found, cell=row["cell"])]
         + [f"{one['temperature']:.2f}", f"{one['value']:.3f}", f"{row['value']:.2f}"])
        for row, one in zip(chosen, level, strict=True)
    ]  # fmt: skip
    return _grid(title, heads, lines)


def _guidance(rows: list[Row]) -> str:
    found = _pick(rows, part="guidance")
    if not found:
        return ""
    ways = list(dict.fromkeys((row["sampler"], row["guidance"]) for row in found))
    heads = [f"{sampler}, {guidance:g}" for sampler, guidance in ways]
    tables = []
    for name, key, title in (
        ("coverage90", "cell", "Coverage"), ("draw_error", "cell", "Error of one draw"), ("mae", "available", "MAE"),
    ):  # fmt: skip
        own = _pick(found, name=name)
        about = f"{title} on validation by sampler and guidance ({own[0]['n']} clips, {own[0]['draws']} draws"
        about += f", exact {own[0]['exact']:.3f})" if "exact" in own[0] else ")"
        places = dict.fromkeys(row[key] for row in own)
        tables.append(_grid(about, heads, [(p, [f"{r['value']:.3f}" for r in _pick(own, **{key: p})]) for p in places]))
    return "\n\n".join(tables)


def _coverage(rows: list[Row]) -> str:
    found = {part: _pick(rows, name="coverage90", part=part) for part in ("interval", "test")}
    tables = []
    for part, own in found.items():
        if own:
            title = f"Coverage on {own[0]['split']} as calibrated ({own[0]['n']} clips, exact {own[0]['exact']:.3f})"
            lines = [
                (row["cell"], [f"{row['temperature']:.2f}", f"{row['value']:.3f} ± {row['se']:.3f}",
                               f"{row['value'] - row['exact']:+.3f}"]) for row in own
            ]  # fmt: skip
            tables.append(_grid(title, ["temperature", "coverage", f"from exact ({part})"], lines))
    return "\n\n".join(tables)


def _intervals(rows: list[Row]) -> str:
    tables = []
    for name, title in (
        ("mae", "MAE of the mean prediction"),
        ("interval_coverage", "Coverage of the 90 % interval for the label, uncalibrated / calibrated"),
        ("interval_width", "Width of that interval, uncalibrated / calibrated"),
    ):
        own = [row for row in _pick(rows, name=name, split="test") if "part" not in row]
        if own:
            counts = list(dict.fromkeys(row["draws"] for row in own))
            lines = [
                (p, [" / ".join(f"{r['value']:.2f}" for r in _pick(own, available=p, draws=n)) for n in counts])
                for p in dict.fromkeys(row["available"] for row in own)
            ]
            tables.append(_grid(f"{title}, test, {own[0]['n']} clips, by number of draws", counts, lines))
    return "\n\n".join(tables)
