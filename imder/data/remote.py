"""A data set of the Hub: what its repository holds, its checksums, and how it comes here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from imder import fetch

#: The sums of the other files in the form of `sha256sum`, which checks them: `sha256sum -c SHA256SUMS`.
SUMS = "SHA256SUMS"
CARD = "README.md"  # for readers: it may be edited, and has no sum
#: A data set's files as patterns; what else lies in a folder is not published, and not pulled.
DATA_FILES = (
    *("data.json", "vocabulary.json", "*.safetensors", CARD, "sound/*.ogg"),
    *("encoder/*.json", "encoder/*.safetensors", "encoder/vocab.txt"),
)
_LINE = re.compile(r"(?P<sum>[0-9a-f]{64})  (?P<name>[^\s/\\][^\n\\]*)")
_SILENCE = 30.0


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a data set folder by their names in the repository."""
    found = [path for pattern in DATA_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in found}


def sums(files: Mapping[str, Path]) -> bytes:
    """The text of SHA256SUMS."""
    return "".join(f"{_sha256(file)}  {name}\n" for name, file in sorted(files.items()) if name != CARD).encode()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check(folder: Path) -> None:
    """Raises ValueError unless the folder's files are those of its SHA256SUMS."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; `python -m imder data push` publishes a data set with it") from None
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path}: cannot be read") from None
    wanted = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or ".." in match["name"]:
            raise ValueError(f"{path}: line {number} is not a sum and a file's name")
        wanted[match["name"]] = match["sum"]
    if "data.json" not in wanted:
        raise ValueError(f"{path}: names no data.json, which a data set has")
    there = files_of(folder)
    if unknown := sorted(set(there) - set(wanted) - {CARD}):
        raise ValueError(f"{folder / unknown[0]}: is not in {SUMS}")
    for name, known in wanted.items():
        if name not in there:
            raise ValueError(f"{folder / name}: is in {SUMS} and absent")
        if (found := _sha256(there[name])) != known:
            raise ValueError(f"{folder / name}: sha256 is {found[:12]}, {SUMS} says {known[:12]}; the file is damaged")


def pull(source: str, *, deadline: float = _SILENCE, cache_dir: str | Path | None = None) -> tuple[Path, str | None]:
    """The folder in the cache of `owner/name[@revision]`, its sums compared, and a notice if the cache served.

    `deadline` seconds may pass without news from the Hub. Raises ValueError of one sentence.
    """
    repository(source)
    try:
        how = {"kind": "dataset", "deadline": deadline, "patient": True, "cache_dir": cache_dir}
        return fetch.pull(source, (*DATA_FILES, SUMS), check, **how)
    except fetch.FetchError as error:
        raise ValueError(f"{source}: no such folder here, and as a data set of the Hub: {error}") from None


def keep(source: str, out: str | Path, *, deadline: float = _SILENCE, cache_dir: str | Path | None = None) -> Path:
    """Pulls a data set into a new folder, whole or not at all. Raises ValueError of one sentence."""
    fetch.free_place(out)
    repository(source)
    folder, notice = pull(source, deadline=deadline, cache_dir=cache_dir)
    if notice:
        raise ValueError(notice.replace("; the copy in the cache serves instead.", "; nothing was written"))
    return fetch.keep(files_of(folder), out, lambda staged: _compare(staged, folder))


def repository(source: str) -> tuple[str, str | None]:
    """`owner/name` and the revision; ValueError for what is no repository's name."""
    found = fetch.repository(source)
    if found is None:
        raise ValueError(f"{source[:100]!r} is no repository of the Hub; allowed: owner/name[@revision]")
    return found


def _compare(copy: Path, folder: Path) -> None:
    if sums(files_of(copy)) != (folder / SUMS).read_bytes():
        raise ValueError(f"{copy}: what was copied differs from what the Hub delivered; try again")


def name_of(source: str, folder: Path) -> str:
    """`owner/name@commit` of what was pulled: the cache names a folder by its commit."""
    repo_id, _ = fetch.repository(source) or (source, None)
    return f"{repo_id}@{folder.name}"
