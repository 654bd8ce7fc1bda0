"""What the toy's solvers made of it, as a table beside what is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from imder.field import PAIRS, TOYS, ToyField
from imder.field.toy import DRAWN, ROWS
from imder.report.blocks import Cell, Table, plain
from imder.samplers import SAMPLERS


def toy_table(field: ToyField) -> Table:
    """Moments of the true distribution and of the ends of ODE and SDE; of one Gaussian the exact flow's, too."""
    toy, pair = TOYS[field.request.toy], PAIRS[field.request.pair]
    columns = {"true": "true", "exact": "exact ODE", "ode": "ODE, solved", "sde": "SDE, solved"}
    shown = [name for name in columns if name in field.mean]
    rows = [
        _line("Mean, first axis", shown, field.mean, 0),
        _line("Mean, second axis", shown, field.mean, 1),
        _line("Standard deviation, first axis", shown, field.spread, 0),
        _line("Standard deviation, second axis", shown, field.spread, 1),
    ]
    if len(toy.weights) > 1:
        rows += [_line(f"Share of cluster {i + 1}", shown, field.shares, i) for i in range(len(toy.weights))]
    rows.append(
        _row("Score evaluations a point", ["", *["" for _ in shown[1:-2]], *(str(n) for n in field.nfe.values())])
    )
    return Table(
        "What the solvers made of it",
        f"{ROWS} points from the same start, {field.request.steps} times: {SAMPLERS[pair.ode].title}, and "
        f"{SAMPLERS[pair.sde].title}. Chance alone moves a mean by about "
        f"{float(field.spread['true'][0]) / math.sqrt(ROWS):.3f}.",
        ("quantity", *(columns[name] for name in shown)),
        tuple(rows),
    )


def toy_findings(field: ToyField) -> str:
    """One paragraph: the solver's error and the prior's bias, in this draw's numbers."""
    toy = TOYS[field.request.toy]
    solver = (
        f"The ODE's points end {field.solver_error:.2g} from where the exact flow carries them (mean over the "
        f"{DRAWN} drawn ones): that is the solver's error, and more steps make it smaller."
    )
    if len(toy.weights) > 1:
        return solver + (
            " A mixture's flow has no closed form; the reference is Heun with 400 steps. Both solvers should find the "
            "clusters in their true shares."
        )
    kept = 1 - float(field.mean["exact"][0] / field.mean["true"][0])
    return solver + (
        f" But the exact ODE itself has its mean at {field.mean['exact'][0]:.3f}, not {field.mean['true'][0]:.3f}: the "
        f"start N(0, σ(1)²) ignores the data's mean, and the ODE, which adds no noise, keeps {100 * kept:.1f} % of "
        f"that error to the end. No number of steps mends it. The SDE forgets its start: {field.mean['sde'][0]:.3f}."
    )


def _line(name: str, shown: Sequence[str], values: dict[str, np.ndarray], axis: int) -> tuple[Cell, ...]:
    return _row(name, [f"{values[kind][axis]:.3f}" if kind in values else "–" for kind in shown])


def _row(name: str, cells: Sequence[str]) -> tuple[Cell, ...]:
    return tuple(plain(cell) for cell in (name, *cells))
