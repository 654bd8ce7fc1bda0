"""Damaged files for the readers: `python benchmarks/fuzz.py pickles --count 1000000` (or `uploads`).

Valid files of every layout are damaged at random, a mutant a number: the same seed and number give the same bytes.
A child process opens them one after another; a reader may open a mutant or refuse it in a ValueError of one sentence.
All else is a failure and its file is kept: another exception, an unbounded allocation, a crash of the process, a mutant
that takes longer than `LIMIT` seconds. The last line tells seed, count, outcomes and seconds; exit status 1 on failure.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import mmap
import os
import pickle
import pickletools
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from field_files import Sizes, iemocap, misa, mmsa, mult, truth
from safetensors.numpy import save

from imder.data import pickles
from imder.data.checks import Expected
from imder.data.convert import convert, survey
from imder.data.export import Blocks, write_pickle
from imder.data.layouts import read_source
from imder.data.standardise import Standardiser
from imder.data.upload import npz_bytes, open_upload

LIMIT = 20.0  # seconds for one mutant
MEMORY = 2 << 30  # bytes of private memory that the child may have
ROUND = 25_000  # mutants that a child opens before the next one begins
WHOLE = 16  # of so many mutants that can be surveyed one is converted to the end
INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63), 2**64)
WORDS = ("ndarray", "dtype", "_reconstruct", "scalar", "O8", "U1", "S3", "f8", "M8", "V4", "<", "text", "train", "id")


def noised(content: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """Some bytes set, flipped, cut out, doubled, put in, the end cut off, or a piece of another file put in."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        if not data:
            break
        at = draw.randrange(len(data))
        size = min(len(data) - at, draw.choice((1, 1, 2, 4, 8, 40)))
        kind = draw.randrange(8)
        if kind == 0:
            data[at] = draw.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        elif kind == 4:
            data[at:at] = draw.randbytes(size)
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            data[at : at + 4] = struct.pack("<I", draw.choice(INTEGERS) & 0xFFFFFFFF)
        else:
            other = draw.choice(others)
            start = draw.randrange(len(other))
            data[at : at + size] = other[start : start + draw.choice((1, 8, 64, 400))]
    return bytes(data)


class Target(ABC):
    """A reader, valid files for it, and how they are damaged."""

    suffix: ClassVar[str]

    @cached_property
    @abstractmethod
    def files(self) -> list[bytes]:
        """The valid files."""

    @abstractmethod
    def mutant(self, draw: random.Random) -> bytes:
        """A damaged file."""

    @abstractmethod
    def open(self, path: Path, out: Path, number: int) -> None:
        """Opens it; ValueError if it is refused."""


class Pickles(Target):
    """`data convert` of pickles."""

    suffix = ".pkl"
    SIZES = Sizes((4, 1, 1), (3, 2), (3, 2), (3, 2))
    APART = Sizes((4, 1, 1), (3, 2), (5, 2), (4, 3), aligned=False, unimodal=True)

    @cached_property
    def trees(self) -> list[Any]:
        """What the files hold: every layout, and one with what else may stand in a file."""
        made, apart = truth(self.SIZES), truth(self.APART)
        silent = mmsa(self.SIZES, made)
        for columns in silent.values():
            columns["audio"] = np.asfortranarray(columns["audio"].astype(np.float64))
            columns["vision"] = [x.tolist() for x in columns["vision"]]
            columns["raw_text"] = columns["raw_text"].tolist()
            columns["more"] = (None, True, 2.5, b"bytes", bytearray(b"more"))
        return [
            mmsa(self.SIZES, made),
            mmsa(self.APART, apart),
            mult(self.SIZES, made),
            iemocap(self.SIZES, made, several=[1], none=[2]),
            misa(made, words=False),
            silent,
        ]

    @cached_property
    def files(self) -> list[bytes]:
        """The trees in every protocol, numpy 1's names, Python 2's texts, and what our own export writes."""
        found = [pickle.dumps(tree, protocol) for tree in self.trees for protocol in range(6)]
        found += [x.replace(b"numpy._core", b"numpy.core") for x in found[:3]]  # lengths are stated from protocol 4 on
        out = io.BytesIO()
        audio = Blocks((4, 3, 2), np.dtype("<f4"), iter([np.ones((4, 3, 2), np.float32)]))
        write_pickle({"train": self.trees[0]["train"] | {"audio": audio}}, out)
        dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x04\x85"
        return [*found, out.getvalue(), b"\x80\x02}U\x05train" + head + dtype + b"\x89U\x10" + bytes(16) + b"tbs."]

    @cached_property
    def opcodes(self) -> list[list[bytes]]:
        """Each file in pieces, an opcode with its argument each."""
        found = []
        for content in self.files:
            at = [place for _, _, place in pickletools.genops(content)]
            found.append([content[a:b] for a, b in zip(at, [*at[1:], len(content)], strict=True)])
        return found

    @cached_property
    def pool(self) -> list[bytes]:
        """Opcodes to put in: those that occur, all others, and numbers and texts that are near a limit."""
        kept = dict.fromkeys(piece for pieces in self.opcodes for piece in pieces if len(piece) < 100)
        odd = [code.code.encode("latin1") for code in pickletools.opcodes]
        odd += [b"I%d\n" % n for n in INTEGERS] + [b"J" + struct.pack("<i", n) for n in INTEGERS if abs(n) < 2**31]
        odd += [b"\x8a\x09" + n.to_bytes(9, "little", signed=True) for n in INTEGERS]
        odd += [b"U" + bytes([len(w)]) + w.encode() for w in WORDS] + [
            b"\x8c\x01\xff",
            b"G" + struct.pack(">d", np.nan),
        ]
        odd += [b"c__builtin__\neval\n", b"cos\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"p0\n", b"g0\n", b"h\x00"]
        odd += [b"\x8e" + struct.pack("<Q", 2**40), b"\x95" + struct.pack("<Q", 2**63), b"r\xff\xff\xff\x7f"]
        return [*kept, *(odd * (1 + len(kept) // len(odd)))]

    def grafted(self, draw: random.Random) -> bytes:
        """A whole pickle with values in the place of others, left out or put in, so that it fails later if at all."""
        tree = copy.deepcopy(draw.choice(self.trees))
        for _ in range(draw.choice((1, 1, 2, 4))):
            into, value = tree, draw.choice(self.trees)
            while isinstance(value, dict | list | tuple) and value and draw.random() < 0.8:
                value = draw.choice(list(value.values()) if isinstance(value, dict) else value)
            if isinstance(value, np.ndarray) and value.ndim and draw.random() < 0.5:
                zero = np.zeros_like(value) if value.dtype.kind in "fi" else value
                value = draw.choice((value[:1], value[..., :1], value.T, value.ravel(), value.tolist(), zero))
            while draw.random() < 0.8:
                inner = [x for x in (into.values() if isinstance(into, dict) else into) if isinstance(x, dict | list)]
                if not inner:
                    break
                into = draw.choice(inner)
            keys = list(into) if isinstance(into, dict) else range(len(into))
            if isinstance(into, dict) and (not keys or draw.random() < 0.1):
                into[draw.choice(WORDS)] = value
            elif not keys:
                into.append(value)
            elif draw.random() < 0.2:
                del into[draw.choice(keys)]
            else:
                into[draw.choice(keys)] = value
        return pickle.dumps(tree, draw.randrange(6))

    def mutant(self, draw: random.Random) -> bytes:
        """Opcodes left out, doubled, exchanged, moved, replaced or put in; then perhaps bytes too."""
        which, kind = draw.randrange(len(self.files)), draw.random()
        if kind < 0.25:
            return noised(self.files[which], draw, self.files)
        if kind < 0.45:
            return self.grafted(draw)
        pieces = list(self.opcodes[which])
        for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
            at, other = draw.randrange(len(pieces)), draw.randrange(len(pieces))
            kind = draw.randrange(7)
            if kind == 0 and len(pieces) > 1:
                del pieces[at]
            elif kind == 1:
                pieces.insert(at, pieces[at])
            elif kind == 2:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            elif kind == 3:
                pieces.insert(other, pieces.pop(at))
            elif kind == 4:
                pieces[at] = draw.choice(self.pool)
            elif kind == 5:
                pieces.insert(at, draw.choice(self.pool))
            else:
                pieces[at] = noised(pieces[at], draw, self.pool)
        content = b"".join(pieces)
        return noised(content, draw, self.files) if content and draw.random() < 0.15 else content

    def open(self, path: Path, out: Path, number: int) -> None:
        """Surveys it, and converts some; every other time bytes stay in the file as those of large arrays do."""
        pickles.LARGE = 64 if number % 2 else 1 << 16
        survey(read_source([path], spill=path.parent))
        if number % WHOLE == 0:
            convert(path, out)


class Uploads(Target):
    """A visitor's npz and safetensors files."""

    suffix = ".npz"

    @cached_property
    def expected(self) -> Expected:
        """A run of widths 4, 3 and 2."""
        widths = {"text": 4, "audio": 3, "vision": 2}
        ones = {k: np.ones(n, np.float32) for k, n in widths.items()}
        return Expected(widths, Standardiser({k: 0 * x for k, x in ones.items()}, ones))

    @cached_property
    def files(self) -> list[bytes]:
        """One clip and several, packed and not, with all that may stand beside the features."""
        draw = np.random.default_rng(0)
        one = {k: draw.normal(size=(5, n)).astype(np.float32) for k, n in self.expected.dims.items()}
        several = {f"test_{k}": np.stack([x, 2 * x]).astype(np.float16) for k, x in one.items()}
        several |= {"test_length_audio": np.array([3, 5]), "test_label": np.array([1.0, -0.5])}
        told = {"test_id": np.array(["a$_$1", "b"]), "test_raw_text": np.array(["naïve 好", ""])}
        bare = io.BytesIO()
        np.savez(bare, **one)
        packed = [npz_bytes(one), npz_bytes(several | told), bare.getvalue()]
        return [*packed, save(one), save(dict(several))]

    def mutant(self, draw: random.Random) -> bytes:
        """Noise in the file, or in one member of the archive, which is packed again."""
        content = draw.choice(self.files)
        if content[:2] != b"PK" or draw.random() < 0.3:
            return noised(content, draw, self.files)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        name = draw.choice(list(members))
        members[name] = noised(members[name], draw, list(members.values()))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for member, data in members.items():
                archive.writestr(draw.choice((member,) * 9 + ("vision.npy",)), data)
        return out.getvalue()

    def open(self, path: Path, out: Path, number: int) -> None:
        """Opens it under a name that fits half of the time."""
        upload = open_upload(path, "x.npz" if number % 2 else "x", self.expected)
        if not upload.clips:
            raise ValueError(upload.faults[0])


TARGETS: dict[str, type[Target]] = {"pickles": Pickles, "uploads": Uploads}


def content_of(target: Target, seed: int, number: int) -> bytes:
    """The mutant of that number."""
    return target.mutant(random.Random((seed << 64) + number))


# The child ------------------------------------------------------------------------------------------------------------


def fault(target: Target, path: Path, out: Path, number: int) -> tuple[str, str]:
    """(`opened` or `refused` or `failed`, what was said) of the mutant at `path`."""
    try:
        target.open(path, out, number)
    except ValueError as error:
        said = str(error)
        if "\n" in said or len(said) > 1000 or "MemoryError" in said or not said:
            return "failed", f"a refusal that is no sentence: {said[:200]!r}"
        return "refused", said
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {str(error)[:200]}"
    return "opened", ""


def child(target: Target, seed: int, numbers: range, folder: Path) -> None:
    """Opens the mutants; tells failures and, at its end, the outcomes, as JSON lines."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    counts: Counter[str] = Counter()
    path, out = folder / f"x{target.suffix}", folder / "out"
    with (folder / "at").open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in numbers:
            at[:] = struct.pack("<q", number)
            path.write_bytes(content_of(target, seed, number))
            outcome, said = fault(target, path, out, number)
            counts[outcome] += 1
            if outcome == "failed":
                print(json.dumps({"number": number, "said": said}), flush=True)
    print(json.dumps({"counts": counts}), flush=True)


# The parent -----------------------------------------------------------------------------------------------------------


class Campaign:
    """Children one after another until `count` mutants were opened; what they did, and which files failed."""

    def __init__(self, name: str, seed: int, keep: Path) -> None:
        self.name, self.seed, self.keep = name, seed, keep
        self.target = TARGETS[name]()
        self.counts: Counter[str] = Counter()
        self.failures: list[tuple[int, str]] = []

    def run(self, count: int, tell: Any = print) -> None:
        """Opens mutants 0 to count - 1."""
        began, first = time.monotonic(), 0
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
            while first < count:
                first = self._round(range(first, min(first + ROUND, count)), Path(scratch))
                tell(f"{first} of {count} {self.name}, {len(self.failures)} failures, {time.monotonic() - began:.0f} s")

    def _round(self, numbers: range, folder: Path) -> int:
        """One child; returns the number at which the next one begins."""
        (folder / "at").write_bytes(struct.pack("<q", numbers.start))
        words = [sys.executable, __file__, self.name, "--seed", str(self.seed), "--child", str(folder)]
        words += ["--first", str(numbers.start), "--count", str(len(numbers))]
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(words, stdout=told, env=os.environ | {"OMP_NUM_THREADS": "1"})
            stuck = self._wait(process, folder)
            told.seek(0)
            heard = [json.loads(line) for line in told if line.endswith("\n")]
        for one in heard:
            if "number" in one:
                self._keep(one["number"], one["said"])
        if process.returncode == 0:
            self.counts.update(heard[-1]["counts"])
            return numbers.stop
        at = self._at(folder)
        before = at - numbers.start
        failed = sum("number" in one for one in heard)
        self.counts.update({"failed": failed + 1, "opened or refused": before - failed})
        what = f"took longer than {LIMIT:g} s" if stuck else f"ended the process with status {process.returncode}"
        self._keep(at, what)
        shutil.rmtree(folder / "out", ignore_errors=True)
        return at + 1

    def _wait(self, process: subprocess.Popen, folder: Path) -> bool:
        """Whether the child had to be killed, for one mutant took too long."""
        last, since = -1, time.monotonic()
        while True:
            try:
                process.wait(0.5)
                return False
            except subprocess.TimeoutExpired:
                pass
            if (now := self._at(folder)) != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > LIMIT:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True

    @staticmethod
    def _at(folder: Path) -> int:
        return struct.unpack("<q", (folder / "at").read_bytes())[0]

    def _keep(self, number: int, what: str) -> None:
        self.keep.mkdir(parents=True, exist_ok=True)
        path = self.keep / f"{self.name}-{self.seed}-{number}{self.target.suffix}"
        path.write_bytes(content_of(self.target, self.seed, number))
        self.failures.append((number, what))
        print(f"failed: {path}: {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS, help="which reader")
    parser.add_argument("--count", type=int, default=10_000, help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for files that failed")
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(TARGETS[args.target](), args.seed, range(args.first, args.first + args.count), args.child)
        return 0
    began, campaign = time.monotonic(), Campaign(args.target, args.seed, args.keep)
    campaign.run(args.count, lambda line: print(line, flush=True))
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(campaign.counts.items()))
    print(
        f"fuzz {args.target}: seed {args.seed}, {sum(campaign.counts.values())} mutants: {told}; "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
