"""A real HTTP server on loopback that speaks the part of the Hub's API that we need, in good and bad moods.

Reading: repository info, tree, resolve with ETags, and with a redirect to another host for large files. Writing:
create, validate-yaml, preupload, LFS batch and upload, commit. Models, data sets and Spaces; private ones by a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

PORTAL = b"<!doctype html><title>Welcome to the hotel</title><p>Please log in to use the network.</p>"
#: Answers of the moods that are a status: the headers by which the Hub says what is meant.
STATUS = {
    "401": {"X-Error-Message": "Invalid credentials in Authorization header"},
    "403": {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted"},
    "404": {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
    "429": {"Retry-After": "1"},
    "500": {},
    "503": {},
}
MOODS = ("ok", *STATUS, "refused", "hang", "slow", "portal", "corrupted", "corrupted once", "cut")
TOKEN = "hf_SecretOfTheTests"
LARGE = (".safetensors", ".ogg")  # kept apart from the repository, as by git LFS


class FakeHub:
    """Repositories in memory, `repositories[id][revision]` is {file name: bytes}; `mood` may change any time.

    The id of a data set is datasets/owner/name, that of a Space spaces/owner/name. The mood rules the requests whose
    address `moody` matches; `bearers` are the tokens that came with each request.
    """

    def __init__(self, delay: float = 0.3) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}  # uploaded by sha256, not yet committed
        self.stored: dict[str, tuple[str, bytes]] = {}  # large files that were asked for, by sha256
        self.mood, self.moody, self.delay = "ok", "", delay
        self.requests: list[tuple[str, str]] = []
        self.bearers: list[tuple[str, str | None]] = []
        self.created: list[dict[str, Any]] = []
        self.commits: list[tuple[str, str, list[str]]] = []  # repository, summary, the paths that it touched
        self.before_commit: Callable[[], object] = lambda: None  # what somebody else does meanwhile
        self.stopped = threading.Event()
        self._corrupted: set[str] = set()
        self._server: ThreadingHTTPServer | None = None
        self._start(0)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def reached(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> FakeHub:
        """Itself, as the Hub of this process: with a token, an empty cache, and nothing that keeps from asking."""
        for name, value in {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT"):
            monkeypatch.delenv(name, raising=False)
        return self

    def _start(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self.refuse()

    def refuse(self) -> None:
        """Closes the port: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def put(self, repository: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.repositories.setdefault(repository, {})[revision] = dict(files)

    def commit(self, repository: str, revision: str) -> str:
        """The 40 digits that name this content."""
        files = self.repositories[repository][revision]
        content = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in sorted(files.items())})
        return hashlib.sha1(content.encode()).hexdigest()

    def find(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """Files by branch name or commit."""
        for name in self.repositories[repository]:
            if revision in (name, self.commit(repository, name)):
                return self.repositories[repository][name]
        return None

    def body(self, name: str, data: bytes) -> bytes:
        """What is sent for a file in the present mood."""
        first = name not in self._corrupted
        self._corrupted.add(name)
        if name.endswith(".safetensors") and (self.mood == "corrupted" or (self.mood == "corrupted once" and first)):
            return data[:-1] + bytes([data[-1] ^ 1])
        return data


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        bearer = self.headers.get("Authorization")
        hub.bearers.append((path, bearer and bearer.removeprefix("Bearer ")))
        content = self._content()
        if not re.search(hub.moody, path):
            self._route(path, content)
        elif hub.mood == "hang":
            hub.stopped.wait()
            self.close_connection = True
        elif hub.mood == "portal":
            self._send(200, PORTAL, {"Content-Type": "text/html"})
        elif hub.mood in STATUS:
            self._send(int(hub.mood), b"", STATUS[hub.mood])
        else:
            if hub.mood == "slow":
                hub.stopped.wait(hub.delay)
            self._route(path, content)

    def _route(self, path: str, content: bytes) -> None:
        for method, pattern, action in ROUTES:
            if self.command in method and (match := re.fullmatch(pattern, path)):
                named = match.groupdict()
                if "kind" in named:
                    kind = (named.pop("kind") or "").replace("models/", "")
                    named["repository"] = kind + named["repository"]
                action(self, content, **named)
                return
        self._send(404, b"", {"X-Error-Message": "no such address"})

    def _owner(self) -> bool:
        """Whether the request has the right token."""
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse_strangers(self) -> bool:
        """Refuses to write for anybody else; True if it did."""
        if not self._owner():
            self._send(401, b"", STATUS["401"])
        return not self._owner()

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body) if length is None else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _files(self, repository: str, revision: str | None) -> dict[str, bytes] | None:
        """The files, or None after the refusal is sent."""
        hidden = repository in self.hub.private and not self._owner()
        if repository not in self.hub.repositories or hidden:
            self._send(401 if hidden else 404, b"", STATUS["404"])
            return None
        files = self.hub.find(repository, revision or "main")
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev {revision}"})
        return files

    def info(self, content: bytes, repository: str, revision: str | None = None) -> None:
        if (files := self._files(repository, revision)) is not None:
            branch = next(b for b, f in self.hub.repositories[repository].items() if f is files)
            names = [{"rfilename": name} for name in files]
            self._json(
                {
                    "id": "/".join(repository.split("/")[-2:]),
                    "sha": self.hub.commit(repository, branch),
                    "private": repository in self.hub.private,
                    "siblings": names,
                    "tags": [],
                }
            )

    def tree(self, content: bytes, repository: str, revision: str) -> None:
        if (files := self._files(repository, revision)) is not None:
            self._json([{"type": "file", "path": n, "size": len(d), "oid": etag(d)} for n, d in files.items()])

    def file(self, content: bytes, repository: str, revision: str, name: str) -> None:
        if (files := self._files(repository, revision)) is None:
            return
        if name not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        branch = next(b for b, f in self.hub.repositories[repository].items() if f is files)
        data = files[name]
        headers = {"X-Repo-Commit": self.hub.commit(repository, branch)}
        if name.endswith(LARGE):
            oid = hashlib.sha256(data).hexdigest()
            self.hub.stored[oid] = name, data
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{oid}"'}
            self._send(302, b"", headers | {"Location": f"http://localhost:{self.hub.port}/stored/{oid}"})
        else:
            self._body(name, data, headers | {"ETag": f'"{etag(data)}"'})

    def stored(self, content: bytes, oid: str) -> None:
        """A large file, at the address of another host."""
        self._body(*self.hub.stored[oid], {"ETag": f'"{oid}"'})

    def _body(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        if self.command == "HEAD":
            self._send(200, data, headers)
        elif self.hub.mood == "cut" and len(data) > 1000:
            self._send(200, data[: len(data) // 2], headers, length=len(data))
            self.close_connection = True
        else:
            self._send(200, self.hub.body(name, data), headers)

    def create(self, content: bytes) -> None:
        if self._refuse_strangers():
            return
        wanted = json.loads(content)
        kind = {"dataset": "datasets/", "space": "spaces/"}.get(wanted.get("type"), "")
        repository = f"{kind}{wanted['organization']}/{wanted['name']}"
        known = repository in self.hub.repositories
        if kind == "spaces/" and "sdk" not in wanted:
            self._send(400, b"", {"X-Error-Message": "a Space needs an sdk"})
            return
        self.hub.created.append(wanted)
        self.hub.repositories.setdefault(repository, {"main": {".gitattributes": b"*.safetensors filter=lfs\n"}})
        if wanted.get("visibility") == "private" and not known:
            self.hub.private.add(repository)
        self._json({"url": f"{self.hub.url}/{repository}"}, 409 if known else 200)

    def validate(self, content: bytes) -> None:
        front = json.loads(content)["content"]
        valid = front.startswith("---\n") and "\nlicense:" in front
        self._json({"errors": [] if valid else [{"message": "no front matter"}], "warnings": []}, 200 if valid else 400)

    def preupload(self, content: bytes, repository: str, revision: str) -> None:
        there = self._files(repository, revision)
        if there is None or self._refuse_strangers():
            return
        files = []
        for file in json.loads(content)["files"]:
            name, large = file["path"], file["path"].endswith(LARGE)
            oid = {}
            if name in there:
                oid = {"oid": hashlib.sha256(there[name]).hexdigest() if large else etag(there[name])}
            files.append({"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False} | oid)
        self._json({"files": files})

    def batch(self, content: bytes, repository: str) -> None:
        if self._refuse_strangers():
            return
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}}
            for wanted in json.loads(content)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, content: bytes, oid: str) -> None:
        self.hub.large[oid] = content
        self._send(200 if hashlib.sha256(content).hexdigest() == oid else 400, b"", {})

    def receive(self, content: bytes, repository: str, revision: str) -> None:
        if self._files(repository, revision) is None or self._refuse_strangers():
            return
        self.hub.before_commit()
        files, touched = dict(self.hub.repositories[repository][revision]), []
        summary = ""
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                summary = value["summary"]
                if value.get("parentCommit") not in (None, self.hub.commit(repository, revision)):
                    self._send(412, b"", {"X-Error-Message": "A commit has happened since"})
                    return
                continue
            touched.append(value["path"])
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.put(repository, files, revision)
        self.hub.commits.append((repository, summary, touched))
        oid = self.hub.commit(repository, revision)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{repository}/commit/{oid}", "success": True})


def etag(data: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
_API = f"/api/(?P<kind>models/|datasets/|spaces/){_REPOSITORY}"
_PAGE = f"/(?P<kind>datasets/|spaces/)?{_REPOSITORY}"
ROUTES = (
    (("POST",), "/api/repos/create", Handler.create),
    (("POST",), "/api/validate-yaml", Handler.validate),
    (("GET",), _API, Handler.info),
    (("GET",), f"{_API}/revision/(?P<revision>.+)", Handler.info),
    (("GET",), f"{_API}/tree/(?P<revision>.+)", Handler.tree),
    (("POST",), f"{_API}/preupload/(?P<revision>.+)", Handler.preupload),
    (("POST",), f"{_API}/commit/(?P<revision>.+)", Handler.receive),
    (("POST",), rf"{_PAGE}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), "/upload/(?P<oid>[0-9a-f]{64})", Handler.upload),
    (("HEAD", "GET"), "/stored/(?P<oid>[0-9a-f]{64})", Handler.stored),
    (("HEAD", "GET"), f"{_PAGE}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.file),
)
