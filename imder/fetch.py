"""Downloads a repository's files from the Hub, as a process of its own: a Hub that hangs can be given up by ending it.

Run by path, so that neither torch nor the package is imported: `python -P imder/fetch.py REQUEST`, where REQUEST is the
keyword arguments of `snapshot_download` as JSON. Prints {"folder": ...} or {"reason": ...} as its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class FetchError(Exception):
    """Why there are no files, in words that follow the source's name."""


def fetch(seconds: float, request: dict[str, Any]) -> Path:
    """The folder of the downloaded (or cached) files, or FetchError after at most `seconds`."""
    environment = {
        "HF_HUB_ETAG_TIMEOUT": str(max(1, int(seconds / 3))),
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-P", __file__, json.dumps(request)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(seconds, 0.1),
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise FetchError(f"the Hub did not deliver within {seconds:g} seconds") from None
    except (OSError, ValueError, IndexError):
        raise FetchError("the download ended without an answer") from None
    if "reason" in answer:
        raise FetchError(answer["reason"])
    return Path(answer["folder"])


def reason(error: BaseException) -> str:
    """An exception of huggingface_hub in plain words."""
    import httpx2
    from huggingface_hub import errors

    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.RevisionNotFoundError):
            return "the repository has no such revision"
        if isinstance(error, errors.RepositoryNotFoundError) and not isinstance(error, errors.GatedRepoError):
            return f"the Hub has no such repository, or it is private (HTTP {status})"
        if status in (401, 403):
            return f"the Hub refuses access (HTTP {status})"
        if status == 429:
            return "the Hub has too many requests (HTTP 429)"
        if status is not None and status >= 500:
            return f"the Hub is out of order (HTTP {status})"
        if status is not None and status >= 400:
            return f"the Hub refuses the request (HTTP {status})"
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "offline mode is on (HF_HUB_OFFLINE) and the cache has no copy"
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

    try:
        answer = {"folder": snapshot_download(**json.loads(sys.argv[1]))}
    except Exception as error:  # whatever a library or a strange server brings about becomes one line
        answer = {"reason": reason(error)}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # without waiting for download threads that hang


if __name__ == "__main__":
    main()
