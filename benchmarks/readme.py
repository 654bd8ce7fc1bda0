"""Puts the tables of the stored rows into the README: no figure in a table is typed. `python benchmarks/readme.py`

A table of `assets/measured.jsonl` replaces the README's with the same title and head; that of a file in `assets/bench`
fills the block under the comment that names it; that of the presets is read from `checkpoints/`; those of
`assets/benchmark.jsonl` (all methods on the same masks) are made by `imder.report`.
`--check` writes nothing and exits with 1 where they differ. What the text about them says stays a person's work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run from anywhere, not installed

from imder.bench import cli as bench  # noqa: E402
from imder.evaluation.rows import read_rows  # noqa: E402
from imder.evaluation.table import markdown, text  # noqa: E402
from imder.report.compare import gap, gap_text  # noqa: E402
from imder.report.results import place_name, read_results  # noqa: E402
from imder.report.tables import percent  # noqa: E402

TABLE = re.compile(r"(\*\*[^|\n]+)\n\n(\|.+\n)((?:\|.*(?:\n|$))+)")  # title, head, rest
PRESETS = re.compile(r"(<!-- presets -->\n)(.*?)(\n<!-- end of presets -->)", re.DOTALL)
BENCHMARK = re.compile(r"(<!-- assets/benchmark.jsonl -->\n)(.*?)(\n<!-- end of assets/benchmark.jsonl -->)", re.DOTALL)
BLOCK = "(<!-- assets/bench/{name}.jsonl -->\n<details><summary>[^\n]*</summary>\n)(.*?)(\n</details>)"


def presets(folder: Path) -> str:
    """The trained presets beside each other, on the validation split, as their training measured them."""
    lines = []
    for name in ("official", "paper", "corrected"):
        metrics = json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
        config = json.loads((folder / name / "config.json").read_text(encoding="utf-8"))
        steps = config["training"]["config"].get("draw_steps") or config["model"]["steps"]
        by = metrics["mae_by_pattern"]
        if not lines:
            patterns = " | ".join(by)
            lines = [f"| preset | evaluations a draw | draws | error of a draw | after D_k | {patterns} | LAV |"]
            lines.append("|---" * (6 + len(by)) + "|")
        error = metrics["feature_error"]
        cells = [name, steps, metrics["draws"], f"{error['draw']:.2f}", f"{error['draw_refined']:.2f}"]
        cells += [f"{x['recovered']:.2f}" for x in by.values()] + [f"{metrics['mae']['complete']:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def benchmark(path: Path) -> str:
    """All methods beside IMDer: a line a method, averaged over missing rates; then the error by rate and by pattern."""
    panels = read_results([path], lambda text: print(text, file=sys.stderr))
    parts = []
    for panel in panels:
        imder = next(column for column in panel.columns if column.method == "imder")
        if panel.by_rate:
            head = "| method | MAE | against IMDer | ACC2 | against IMDer | F1 | ACC7 |"
            lines = [head, "|---" * 7 + "|"]
            for column in panel.columns:
                cells = [column.title]
                for metric in ("mae", "acc2"):
                    value = panel.value(column, panel.missing, metric)
                    shown = text(value, 3) if metric == "mae" else percent(value)
                    deviation = panel.deviation(column, panel.missing, metric)
                    if deviation is not None:
                        shown += f" ± {text(deviation, 3) if metric == 'mae' else percent(deviation)}"
                    own = column == imder
                    cells += [shown, "" if own else gap_text(gap(panel, column, imder, panel.missing, metric), metric)]
                cells += [percent(panel.value(column, panel.missing, metric)) for metric in ("f1", "acc7")]
                lines.append("| " + " | ".join(cells) + " |")
            parts.append("\n".join(lines))
        title = "missing rate" if panel.by_rate else "what is available"
        places = [place for place in panel.places if place]
        lines = [f"| MAE by {title} | " + " | ".join(map(place_name, places)) + " |", "|---" * (len(places) + 1) + "|"]
        for column in panel.columns:
            cells = [text(panel.value(column, (place,), "mae")) for place in places]
            for i, place in enumerate(places):
                found = None if column == imder else gap(panel, column, imder, (place,), "mae")
                cells[i] += {True: " ↑", False: " ↓"}[found.value > 0] if found and found.resolved else ""
            lines.append(f"| {column.title} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def filled(readme: str, root: Path) -> str:
    """`readme` with every table made again from the rows in `root`/assets and the runs in `root`/checkpoints."""
    assets = root / "assets"
    rows = read_rows(assets / "measured.jsonl", lambda text: print(text, file=sys.stderr))
    made = {(title, head): rest.rstrip("\n") for title, head, rest in TABLE.findall(markdown(rows))}

    def renewed(found: re.Match) -> str:
        title, head, _ = found.groups()
        own = made.get((title, head))
        return found[0] if own is None else f"{title}\n\n{head}{own}\n"

    readme = TABLE.sub(renewed, readme)
    readme = PRESETS.sub(lambda found: f"{found[1]}\n{presets(root / 'checkpoints')}\n{found[3]}", readme)
    own = benchmark(assets / "benchmark.jsonl")
    readme = BENCHMARK.sub(lambda found: f"{found[1]}\n{own}\n{found[3]}", readme)
    for path in sorted((assets / "bench").glob("*.jsonl")):
        module = importlib.import_module(f"imder.bench.{path.stem.partition('-')[0]}")
        table = module.table(bench.read_rows(path)).strip()
        block = re.compile(BLOCK.format(name=path.stem), re.DOTALL)
        readme, count = block.subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[3]}", readme)
        if count != 1:
            raise ValueError(f"README.md: {count} blocks are for assets/bench/{path.name}; one is needed")
    return readme


def main() -> int:
    """Exit status 1 where `--check` finds a table that is not that of the rows."""
    parser = argparse.ArgumentParser(description="Puts the tables of the stored rows into README.md.")
    parser.add_argument("--check", action="store_true", help="only say whether they are there")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    there = path.read_text(encoding="utf-8")
    wanted = filled(there, ROOT)
    if not check:
        path.write_text(wanted, encoding="utf-8")
    return int(check and wanted != there)


if __name__ == "__main__":
    sys.exit(main())
