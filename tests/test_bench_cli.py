"""The command line of the benchmarks: every one explains itself, rows are written whole, mistakes are one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from imder.__main__ import main
from imder.bench import cli


@pytest.mark.parametrize("name", cli.BENCHES)
def test_every_benchmark_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, "--help"])
    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_rows_are_printed_or_tabled_and_written(monkeypatch, tmp_path, capsys):
    rows = [{"bench": "truth", "name": "sliced_wasserstein", "value": 0.5}, {"bench": "truth", "name": "n", "value": 2}]
    stand_in = SimpleNamespace(run=lambda args, tell: rows, table=lambda rows: f"{len(rows)} rows")
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: stand_in)
    args = SimpleNamespace(bench="truth", out=tmp_path / "new" / "rows.jsonl", json=True)
    assert cli.main(args) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert cli.read_rows(args.out) == rows
    args.json = False
    cli.main(args)
    assert capsys.readouterr().out == "2 rows\n"


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        cli.write_rows(tmp_path / "rows.jsonl", [{"value": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    (tmp_path / "file").write_text("{")
    with pytest.raises(ValueError, match="not a file of benchmark rows"):
        cli.read_rows(tmp_path / "file")
    with pytest.raises(ValueError, match="were not written"):
        cli.write_rows(tmp_path / "file" / "rows.jsonl", [])
