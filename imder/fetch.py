"""Downloads a repository's files from the Hub, as a process of its own: a Hub that hangs can be given up by ending it.

Run by path, so that neither torch nor the package is imported: `python -P imder/fetch.py REQUEST`, where REQUEST is the
keyword arguments of `snapshot_download` as JSON, and `anonymous`. Prints {"folder": ...} or {"reason": ...} as its last
line. The token is HF_TOKEN's and nothing else's: it is in no argument, and what the child writes to stderr is dropped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: owner/name[@revision] as the Hub allows it.
_SOURCE = re.compile(r"(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(@(?P<revision>[\w][\w./-]{0,199}))?", re.ASCII)
_CACHE_SECONDS = 5.0  # to look for a copy in the cache after the Hub used up its time
_LOOK = 0.5  # seconds between two looks at how much has arrived


class FetchError(Exception):
    """Why there are no files, in words that follow the source's name."""


def repository(source: str) -> tuple[str, str | None] | None:
    """`owner/name` and the revision (None: the main branch) of a Hub repository's name; None for any other text."""
    match = _SOURCE.fullmatch(source)
    if match is None or ".." in source or "--" in match["repo"] or match["repo"].endswith((".git", ".ipynb", "-", ".")):
        return None
    return match["repo"], match["revision"]


def pull(
    source: str,
    files: Sequence[str],
    check: Callable[[Path], object],
    *,
    kind: str = "model",
    deadline: float = 10.0,
    patient: bool = False,
    cache_dir: str | Path | None = None,
    anonymous: bool = False,
) -> tuple[Path, str | None]:
    """The folder of the `files` (patterns) of `owner/name[@revision]`, and a one-line notice if the cache served.

    `check` raises ValueError for files that are not as they were published: those are downloaded a second time. With
    `patient`, `deadline` is the longest time in which nothing arrives, else that of the whole. `anonymous`: without the
    token, so that nothing private is opened. Raises FetchError.
    """
    repo_id, revision = repository(source) or (source, None)
    if anonymous:  # in a cache of its own: what the token opened is not there
        cache_dir = Path(cache_dir or _cache()) / "public"
    end, notice = time.monotonic() + deadline, None
    request = {
        "repo_id": repo_id,
        "repo_type": kind,
        "revision": revision,
        "cache_dir": None if cache_dir is None else str(cache_dir),
        "allow_patterns": list(files),
        "anonymous": anonymous,
    }
    try:
        folder = fetch(deadline, request, patient=patient)
    except FetchError as error:
        try:
            folder = fetch(_CACHE_SECONDS, request | {"local_files_only": True})
        except FetchError:
            raise error from None
        notice = f"{source}: {error}; the copy in the cache serves instead."
    try:
        check(folder)
    except ValueError as damage:
        left = deadline if patient else end - time.monotonic()
        try:
            folder = fetch(left, request | {"force_download": True}, patient=patient)
            check(folder)
        except (ValueError, FetchError):
            raise FetchError(f"what the Hub delivers is faulty ({without(folder, damage)})") from None
        notice = None
    return folder, notice


def keep(files: Mapping[str, Path], target: str | os.PathLike[str], check: Callable[[Path], object]) -> Path:
    """Copies files (their names below `target`) into a new folder, all of them or none, and returns the folder.

    Raises ValueError for a target that holds something, for files that `check` refuses, and for a disk that is full.
    """
    target = Path(target).expanduser().resolve()
    free_place(target)
    staged = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.pulling-", dir=target.parent))
        staged.chmod(0o755)
        for name, file in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            with open(file, "rb") as source, open(staged / name, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
        check(staged)
        os.rename(staged, target)
    except ValueError as error:
        raise ValueError(str(error).replace(str(staged), str(target))) from None
    except OSError as error:
        raise ValueError(f"{target}: nothing was written: {error.strerror or error}") from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return target


def free_place(target: str | os.PathLike[str]) -> None:
    """Raises ValueError unless `target` is absent or an empty folder."""
    target = Path(target).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"{target}: is there already; choose a new folder or an empty one")


def without(folder: Path, error: Exception) -> str:
    """The error's text for visitors: file names without the machine's folders."""
    return str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the repository")


def fetch(seconds: float, request: dict[str, Any], *, patient: bool = False) -> Path:
    """The folder of the downloaded (or cached) files, or FetchError after at most `seconds`.

    With `patient` they are counted from when the last bytes arrived: a large file on a slow line may take its time.
    """
    environment = {
        "HF_HUB_ETAG_TIMEOUT": str(max(1, int(seconds / 3))),
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-P", __file__, json.dumps(request)]
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        raise FetchError("the download ended without an answer") from None
    with child:
        try:
            answer = json.loads(_wait(child, seconds, _cached(request) if patient else None).splitlines()[-1])
        except (OSError, ValueError, IndexError):
            raise FetchError("the download ended without an answer") from None
        finally:
            child.kill()
    if "reason" in answer:
        raise FetchError(answer["reason"])
    return Path(answer["folder"])


def _wait(child: subprocess.Popen[str], seconds: float, growing: Path | None) -> str:
    """What the child printed; FetchError when its time is over."""
    end, most = time.monotonic() + max(seconds, 0.1), -1
    while True:
        try:
            return child.communicate(timeout=max(0.01, min(_LOOK, end - time.monotonic())))[0]
        except subprocess.TimeoutExpired:
            if growing is not None and (size := _bytes(growing)) > most:
                most, end = size, time.monotonic() + seconds
            if time.monotonic() >= end:
                waited = f"nothing arrived from the Hub for {seconds:g} seconds"
                raise FetchError(waited if growing else f"the Hub did not deliver within {seconds:g} seconds") from None


def _cached(request: dict[str, Any]) -> Path:
    """Where the cache keeps a repository."""
    name = f"{request['repo_type']}s--{request['repo_id'].replace('/', '--')}"
    return Path(request["cache_dir"] or _cache()) / name


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:  # renamed since it was listed
            continue
    return total


def reason(error: BaseException, hint: str = "") -> str:
    """An exception of huggingface_hub in plain words, none of them the library's own; `hint` follows a refusal."""
    import httpx2
    from huggingface_hub import errors

    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.RevisionNotFoundError):
            return "the repository has no such revision"
        if isinstance(error, errors.RepositoryNotFoundError) and not isinstance(error, errors.GatedRepoError):
            return f"the Hub has no such repository, or it is private (HTTP {status})" + hint
        if status in (401, 403):
            return f"the Hub refuses access (HTTP {status})" + hint
        if status == 429:
            return "the Hub has too many requests (HTTP 429)"
        if status is not None and status >= 500:
            return f"the Hub is out of order (HTTP {status})"
        if status is not None and status >= 400:
            return f"the Hub refuses the request (HTTP {status})"
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "offline mode is on (HF_HUB_OFFLINE)"
        if isinstance(error, httpx2.TimeoutException):
            return "the Hub does not answer"
        if isinstance(error, httpx2.TransportError):
            return "the Hub cannot be reached"
        error = error.__cause__ or error.__context__
    if isinstance(first, errors.LocalEntryNotFoundError | errors.IncompleteSnapshotError):
        return "the cache has no whole copy"
    if isinstance(first, OSError) and first.strerror:
        return f"the cache cannot be written ({first.strerror})"
    return f"the answer is not one of a Hub ({type(first).__name__})"


def main() -> None:
    """The child's side."""
    from huggingface_hub import snapshot_download

    request = json.loads(sys.argv[1])
    token, hint = os.environ.get("HF_TOKEN", "").strip() or False, "; HF_TOKEN, which opens private ones, is not set"
    if request.pop("anonymous", False):
        token, hint = False, ""
    try:
        answer = {"folder": snapshot_download(**request, token=token)}
    except Exception as error:  # whatever a library or a strange server brings about becomes one line
        answer = {"reason": reason(error, "" if token else hint)}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # without waiting for download threads that hang


if __name__ == "__main__":
    main()
