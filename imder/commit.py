"""Writes files to a repository of the Hub in one commit, as a process of its own, as `fetch` reads them.

Run by path: `python -P imder/commit.py` with the request as JSON on stdin; prints {"url": ..., "changed": ...} or
{"reason": ...} as its last line. The token is HF_TOKEN's and nothing else's: it is in no argument, in no request's file
and in nothing that is printed.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds in which the Hub has to begin an answer. Uploads of any length are allowed, silence is not.
PATIENCE = 60.0


class CommitError(ValueError):
    """Why nothing was published, in one line that begins with the repository's name."""


@dataclass(frozen=True)
class Commit:
    """Where the files are now; `changed` is False where the Hub had all of them already."""

    url: str
    changed: bool
    private: bool

    def told(self, repo_id: str) -> str:
        """One line for the command line."""
        if not self.changed:
            return f"{repo_id} holds just this already; nothing was committed: {self.url}"
        return self.url


def commit(
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    kind: str = "model",
    private: bool = False,
    message: str,
    ours: Sequence[str],
    patience: float = PATIENCE,
) -> Commit:
    """Puts `files` (name there: a file here, or its bytes) into a repository, which is made if it does not exist.

    All of it is one commit or none. Files there that match a pattern of `ours` and are not among `files` are removed in
    it; others stay. A repository that exists and is public is refused with `private`. Raises CommitError.
    """
    if not os.environ.get("HF_TOKEN", "").strip():
        raise CommitError(
            f"{repo_id}: HF_TOKEN is not set; publishing needs that variable to hold a token with write access "
            "(huggingface.co/settings/tokens)"
        )
    request = {
        "repo_id": repo_id,
        "kind": kind,
        "private": private,
        "message": message,
        "files": {n: {"text": f.decode()} if isinstance(f, bytes) else {"path": str(f)} for n, f in files.items()},
        "ours": list(ours),
        "patience": patience,
    }
    bars = sys.stderr.isatty()
    environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "0" if bars else "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            env=environment,
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=None if bars else subprocess.DEVNULL,
            text=True,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError):
        answer = {"reason": "the upload ended without an answer"}
    if "reason" in answer:
        raise CommitError(f"{repo_id}: nothing was published: {answer['reason']}")
    return Commit(answer["url"], answer["changed"], answer["private"])


# The child's side ----------------------------------------------------------------------------------------------------


class Refused(Exception):
    """What we refuse ourselves, in words."""


def _commit(request: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    repo_id, kind = request["repo_id"], request["kind"]
    api = HfApi(token=os.environ["HF_TOKEN"].strip())
    made = False
    try:
        info = api.repo_info(repo_id, repo_type=kind, timeout=request["patience"])
    except RepositoryNotFoundError:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        api.create_repo(repo_id, private=request["private"], repo_type=kind, **sdk)
        made = True
        info = api.repo_info(repo_id, repo_type=kind, timeout=request["patience"])
    if request["private"] and not info.private:
        raise Refused("the repository is public already; make it private on the Hub, or leave out --private")
    there = {sibling.rfilename for sibling in info.siblings or ()}
    operations: list[Any] = [
        CommitOperationAdd(name, file["text"].encode() if "text" in file else file["path"])
        for name, file in request["files"].items()
    ]
    operations += [
        CommitOperationDelete(name)
        for name in sorted(there - set(request["files"]))
        if any(fnmatch.fnmatch(name, pattern) for pattern in request["ours"])
    ]
    try:
        # The parent: what somebody else commits in between is not overwritten unseen.
        done = api.create_commit(
            repo_id, operations, commit_message=request["message"], repo_type=kind, parent_commit=info.sha
        )
    except Exception as error:
        if made:
            error.add_note("made")
        raise
    return {"url": str(done.commit_url), "changed": done.oid != info.sha, "private": bool(info.private)}


def _beside(name: str) -> Any:
    """A module of this folder, which is no package for a file that is run by path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """The child's side."""
    import httpx2
    import huggingface_hub
    from huggingface_hub.utils import logging
    from huggingface_hub.utils._http import default_client_factory

    request = json.loads(sys.stdin.read())
    logging.set_verbosity_error()

    def client() -> httpx2.Client:
        made = default_client_factory()  # it waits for ever
        made.timeout = httpx2.Timeout(request["patience"])
        return made

    huggingface_hub.set_client_factory(client)
    fetch = _beside("fetch")
    try:
        answer = _commit(request)
    except Refused as error:
        answer = {"reason": str(error)}
    except Exception as error:  # whatever a library or a strange server brings about becomes one line
        hint = "; HF_TOKEN may not be allowed to write there"
        rest = "; the repository was made and is empty" if "made" in getattr(error, "__notes__", ()) else ""
        answer = {"reason": fetch.reason(error, hint) + rest}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # without waiting for upload threads that hang


if __name__ == "__main__":
    main()
