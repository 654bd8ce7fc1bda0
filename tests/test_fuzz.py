"""The fuzzing of the readers: mutants are the same for a seed, what fails is seen and kept, and nothing here fails."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from server import ROOT

from imder.data.npz import read_npz
from imder.data.upload import npz_bytes, open_upload

spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks" / "fuzz.py")
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)


@pytest.mark.parametrize(("name", "count"), [("pickles", 3000), ("uploads", 1000)])
def test_some_thousand_mutants_are_opened_or_refused(tmp_path, name, count):
    words = [sys.executable, "-W", "ignore", "benchmarks/fuzz.py", name, "--count", str(count), "--seed", "5"]
    done = subprocess.run([*words, "--keep", tmp_path / "kept"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.search(rf"seed 5, {count} mutants: (\d+) opened, (\d+) refused; ", done.stdout)
    assert found, done.stdout
    opened, refused = map(int, found.groups())
    assert opened + refused == count
    assert opened > count // 40  # damage that is mended or does not matter: it reaches the last line of the reader
    assert not (tmp_path / "kept").exists()


def test_the_valid_files_are_valid_and_a_number_is_always_the_same_mutant(tmp_path):
    for kind in fuzz.TARGETS.values():
        target, again = kind(), kind()
        for number, content in enumerate(target.files):
            path = tmp_path / f"x{target.suffix}"
            path.write_bytes(content)
            outcome, said = fuzz.fault(target, path, tmp_path / "out", number)
            whole = target.suffix == ".npz" or number < len(target.files) - 1  # the last is one array
            assert (outcome == "opened") is whole, said
        assert [fuzz.content_of(target, 1, n) for n in range(50)] == [fuzz.content_of(again, 1, n) for n in range(50)]


class Faulty(fuzz.Target):
    """A reader with every kind of fault, by number."""

    suffix = ".txt"
    files = (b"x",)

    def mutant(self, draw: random.Random) -> bytes:
        return draw.randbytes(4)

    def open(self, path: Path, out: Path, number: int) -> None:
        if number == 1:
            raise ValueError("refused")
        if number == 2:
            raise KeyError("another exception")
        if number == 3:
            raise ValueError("two\nlines")
        if number == 4:
            raise SystemExit


def test_other_exceptions_are_failures(tmp_path, capsys):
    path = tmp_path / "x.txt"
    outcomes = [fuzz.fault(Faulty(), path, path, number)[0] for number in range(5)]
    assert outcomes == ["opened", "refused", "failed", "failed", "failed"]


def test_a_crash_and_a_hang_are_seen_kept_and_the_rest_goes_on(tmp_path, monkeypatch):
    """The child is stood in for by one that dies at mutant 3 and hangs at mutant 6."""
    child = tmp_path / "child.py"
    child.write_text(
        "import json, os, struct, sys, time\n"
        "first = int(sys.argv[sys.argv.index('--first') + 1]); count = int(sys.argv[sys.argv.index('--count') + 1])\n"
        "folder = sys.argv[sys.argv.index('--child') + 1]\n"
        "for number in range(first, first + count):\n"
        "    open(f'{folder}/at', 'r+b').write(struct.pack('<q', number))\n"
        "    if number == 3: os.abort()\n"
        "    while number == 6: time.sleep(1)\n"
        "print(json.dumps({'counts': {'refused': count}}))\n"
    )
    monkeypatch.setattr(fuzz, "__file__", str(child))
    monkeypatch.setattr(fuzz, "LIMIT", 1.0)
    campaign = fuzz.Campaign("pickles", 0, tmp_path / "kept")
    began = time.monotonic()
    campaign.run(10, lambda line: None)
    assert time.monotonic() - began < 20
    assert [number for number, _ in campaign.failures] == [3, 6]
    assert "status -6" in campaign.failures[0][1]
    assert "longer than" in campaign.failures[1][1]
    assert sum(campaign.counts.values()) == 10
    for number in (3, 6):
        kept = (tmp_path / "kept" / f"pickles-0-{number}.pkl").read_bytes()
        assert kept == fuzz.content_of(campaign.target, 0, number)


# What the campaigns found in uploads (for pickles see test_pickles.py and test_field_files.py) ------------------------


def test_a_member_without_a_name_and_a_long_complaint_are_one_sentence(tmp_path):
    expected = fuzz.Uploads().expected
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr(zipfile.ZipInfo("text.npy"), npz_bytes({"text": np.ones((3, 4))}))
    content = (tmp_path / "x.npz").read_bytes()
    nameless = bytearray(content)
    at = nameless.index(b"PK\x01\x02")
    nameless[at + 28 : at + 30] = b"\x00\x00"  # the length of the name in the directory
    del nameless[at + 46 : at + 46 + len("text.npy")]
    end = nameless.index(b"PK\x05\x06")
    nameless[end + 12 : end + 16] = (end - at).to_bytes(4, "little")
    other = content[:26] + b"\xff\x7f" + content[28:]  # the length of the name before the content
    for damaged in (bytes(nameless), other + bytes(40_000)):
        (tmp_path / "x.npz").write_bytes(damaged)
        for read in (lambda path: open_upload(path, "x.npz", expected), read_npz):
            with pytest.raises(ValueError) as error:
                read(tmp_path / "x.npz")
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 400
