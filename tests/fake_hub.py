"""A real HTTP server on loopback that speaks the part of the Hub's API that models need, in good and bad moods."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

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


class FakeHub:
    """Model repositories in memory, `repositories[id][revision]` is {file name: bytes}; `mood` may change any time."""

    def __init__(self, delay: float = 0.3) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}  # uploaded by sha256, not yet committed
        self.mood, self.delay = "ok", delay
        self.requests: list[tuple[str, str]] = []
        self.stopped = threading.Event()
        self._corrupted: set[str] = set()
        self._server: ThreadingHTTPServer | None = None
        self._start(0)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

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
        content = self._content()
        if hub.mood == "hang":
            hub.stopped.wait()
            self.close_connection = True
        elif hub.mood == "portal":
            self._send(200, PORTAL, {"Content-Type": "text/html"})
        elif hub.mood in STATUS:
            self._send(int(hub.mood), b"", STATUS[hub.mood])
        else:
            if hub.mood == "slow":
                hub.stopped.wait(hub.delay)
            for method, pattern, action in ROUTES:
                if self.command in method and (match := re.fullmatch(pattern, path)):
                    action(self, content, **match.groupdict())
                    return
            self._send(404, b"", {"X-Error-Message": "no such address"})

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
        if repository not in self.hub.repositories:
            self._send(404, b"", STATUS["404"])
            return None
        files = self.hub.find(repository, revision or "main")
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev {revision}"})
        return files

    def info(self, content: bytes, repository: str, revision: str | None = None) -> None:
        if (files := self._files(repository, revision)) is not None:
            branch = next(b for b, f in self.hub.repositories[repository].items() if f is files)
            names = [{"rfilename": name} for name in files]
            self._json({"id": repository, "sha": self.hub.commit(repository, branch), "siblings": names, "tags": []})

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
        headers = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": self.hub.commit(repository, branch)}
        if self.command == "HEAD":
            self._send(200, data, headers)
        elif self.hub.mood == "cut" and len(data) > 1000:
            self._send(200, data[: len(data) // 2], headers, length=len(data))
            self.close_connection = True
        else:
            self._send(200, self.hub.body(name, data), headers)

    def create(self, content: bytes) -> None:
        wanted = json.loads(content)
        repository = f"{wanted['organization']}/{wanted['name']}"
        known = repository in self.hub.repositories
        self.hub.repositories.setdefault(repository, {"main": {}})
        if wanted.get("visibility") == "private" and not known:
            self.hub.private.add(repository)
        self._json({"url": f"{self.hub.url}/{repository}"}, 409 if known else 200)

    def validate(self, content: bytes) -> None:
        front = json.loads(content)["content"]
        valid = front.startswith("---\n") and "\nlicense:" in front
        self._json({"errors": [] if valid else [{"message": "no front matter"}], "warnings": []}, 200 if valid else 400)

    def preupload(self, content: bytes, repository: str, revision: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(content)["files"]
        ]
        self._json({"files": files})

    def batch(self, content: bytes, repository: str) -> None:
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}}
            for wanted in json.loads(content)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, content: bytes, oid: str) -> None:
        self.hub.large[oid] = content
        self._send(200 if hashlib.sha256(content).hexdigest() == oid else 400, b"", {})

    def receive(self, content: bytes, repository: str, revision: str) -> None:
        if self._files(repository, revision) is None:
            return
        files = dict(self.hub.repositories[repository][revision])
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large.pop(value["oid"])
        self.hub.put(repository, files, revision)
        oid = self.hub.commit(repository, revision)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{repository}/commit/{oid}", "success": True})


def etag(data: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
ROUTES = (
    (("POST",), "/api/repos/create", Handler.create),
    (("POST",), "/api/validate-yaml", Handler.validate),
    (("GET",), f"/api/models/{_REPOSITORY}", Handler.info),
    (("GET",), f"/api/models/{_REPOSITORY}/revision/(?P<revision>.+)", Handler.info),
    (("GET",), f"/api/models/{_REPOSITORY}/tree/(?P<revision>.+)", Handler.tree),
    (("POST",), f"/api/models/{_REPOSITORY}/preupload/(?P<revision>.+)", Handler.preupload),
    (("POST",), f"/api/models/{_REPOSITORY}/commit/(?P<revision>.+)", Handler.receive),
    (("POST",), rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), "/upload/(?P<oid>[0-9a-f]{64})", Handler.upload),
    (("HEAD", "GET"), f"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", Handler.file),
)
