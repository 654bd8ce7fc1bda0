"""The ASGI middleware before Gradio: which routes exist, how large a request may be, how often a client may ask."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 64 * 1024
MAX_DEPTH = 32
BODY_SECONDS = 10.0
MAX_PATH = 1024
MAX_QUERY = 8 * 1024

#: An upload may take this long, and a form around its file this many bytes.
UPLOAD_SECONDS = 60.0
FORM = 64 * 1024

#: What the page and the API client read. Everything else of Gradio (proxy, deep links, ...) is not there.
READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)/?"
    r"|/(assets|static|svelte)/.*"
    r"|(/gradio_api)?/(info|openapi\.json|theme\.css|app_id|token|user|login_check|startup-events)/?"
    r"|/gradio_api/(heartbeat/[\w-]{1,64}|queue/data|call/(v2/)?\w{1,64}/[\w-]{1,64})"
)
WRITE = re.compile(
    r"/gradio_api/((?P<free>cancel|reset)|queue/join|run/predict|call/(?:v2/)?(?P<api>\w{1,64})"
    r"|(?P<upload>upload)|(?P<mcp>mcp(/http)?))/?"
)
PROGRESS = "/gradio_api/upload_progress"
MCP = re.compile(r"/gradio_api/mcp(/http)?/?")
#: A file that Gradio keeps, below its folder: a hash, then a plain name.
KEPT = r"/[0-9a-f]{64}/[\w][\w.-]{0,99}"
BOUNDARY = re.compile(rb'multipart/form-data; *boundary="?([\w\'()+,./:=?-]{1,70})"?', re.ASCII)
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


@dataclass
class Bucket:
    """A token bucket: `burst` requests at once, `rate` more a second."""

    burst: float
    rate: float
    tokens: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, self.at = self.burst, time.monotonic()

    def take(self) -> bool:
        """True if there was a token."""
        now = time.monotonic()
        self.tokens, self.at = min(self.burst, self.tokens + (now - self.at) * self.rate), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Clients:
    """One bucket a client, the least recently seen forgotten beyond `most` of them."""

    def __init__(self, burst: float, rate: float, most: int = 4096) -> None:
        self.burst, self.rate, self.most = burst, rate, most
        self.buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, client: str) -> bool:
        """True if `client` may ask once more now."""
        bucket = self.buckets.pop(client, None) or Bucket(self.burst, self.rate)
        self.buckets[client] = bucket
        while len(self.buckets) > self.most:
            self.buckets.popitem(last=False)
        return bucket.take()


class Guard:
    """Refuses a request with 400, 404, 405, 408, 413, 414 or 429 and one sentence, or passes it on.

    `functions` are the ids of the page's events, `heavy` those that run the model, `apis` the names of the API.
    `uploads` is the largest file that a visitor may bring in bytes (0: none), `files` the folder whose files may be
    read, `mcp` whether the tools are served. `behind_proxy` (a Space) takes the client from X-Forwarded-For, which
    anyone could forge elsewhere.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        functions: Collection[int],
        heavy: Collection[int],
        apis: Collection[str],
        uploads: int = 0,
        files: str | None = None,
        mcp: bool = False,
        behind_proxy: bool = False,
    ) -> None:
        self.app = app
        self.functions, self.heavy, self.apis = frozenset(functions), frozenset(heavy), frozenset(apis)
        self.uploads, self.mcp, self.behind_proxy = uploads, mcp, behind_proxy
        self.files = re.compile("/gradio_api/file=" + re.escape(files) + KEPT, re.ASCII) if files else None
        self.light_requests = Clients(burst=60, rate=5)
        self.model_requests = Clients(burst=12, rate=1)
        self.upload_requests = Clients(burst=6, rate=0.2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the page uses no websocket

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            receive = await self._check(scope, receive)
        except Refusal as refusal:
            await refusal.send(answer)
        else:
            await self.app(scope, receive, answer)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` for the application, or Refusal."""
        path = scope["path"]
        root = scope.get("root_path", "")
        path = path[len(root) :] if root and path.startswith(root) else path
        if len(path) > MAX_PATH or len(scope.get("query_string", b"")) > MAX_QUERY:
            raise Refusal(414, "The address is too long.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            if self.mcp and MCP.fullmatch(path):
                raise Refusal(405, "The tools are asked by POST.")
            kept = self.files and self.files.fullmatch(path)
            if not (READ.fullmatch(path) or kept or (self.uploads and path == PROGRESS)):
                raise Refusal(404, "There is no such page.")
            return receive
        match = WRITE.fullmatch(path) if scope["method"] == "POST" else None
        api = match and match["api"]
        absent = match and ((match["upload"] and not self.uploads) or (match["mcp"] and not self.mcp))
        if match is None or absent or (api and api not in self.apis):
            raise Refusal(404, "There is no such page.")
        client = self._client(scope)
        if not self.light_requests.take(client):
            raise Refusal(429, "Too many requests: wait a few seconds.")
        if match["upload"]:
            return await self._uploaded(scope, receive, client)
        body = await _read(scope, receive)
        content = _parse(body)
        if match["mcp"]:
            if content.get("method") == "tools/call" and not self.model_requests.take(client):
                raise Refusal(429, "Too many calls at once: wait a few seconds, then try again.")
            return _replay(body, receive)
        index, session = content.get("fn_index"), content.get("session_hash", "none")
        if type(session) is not str or not SESSION.fullmatch(session):
            raise Refusal(400, "The session is not a short word.")
        if match["free"]:
            return _replay(body, receive)
        if api is None and not (type(index) is int and index in self.functions):
            raise Refusal(404, "There is no such function.")
        if (api or index in self.heavy) and not self.model_requests.take(client):
            raise Refusal(429, "Too many recoveries at once: wait a few seconds, then try again.")
        return _replay(body, receive)

    async def _uploaded(self, scope: Scope, receive: Receive, client: str) -> Receive:
        """`receive` for a form with exactly one file that has a name."""
        if not self.upload_requests.take(client):
            raise Refusal(429, "Too many files: wait half a minute.")
        found = BOUNDARY.fullmatch(dict(scope["headers"]).get(b"content-type", b""))
        if found is None:
            raise Refusal(400, "A file comes as a form.")
        body = await _read(scope, receive, self.uploads + FORM, UPLOAD_SECONDS)
        parts = body.split(b"--" + found[1])
        if len(parts) != 3 or not parts[2].startswith(b"--") or not re.search(rb'filename="[^"\r\n]', parts[1][:2048]):
            raise Refusal(400, "The form holds something else than one file.")
        return _replay(body, receive)

    def _client(self, scope: Scope) -> str:
        if self.behind_proxy:
            for name, value in scope["headers"]:
                if name == b"x-forwarded-for":
                    return value.decode("latin-1").split(",")[0].strip()[:64]
        return (scope.get("client") or ("unknown",))[0]


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text

    async def send(self, send: Send) -> None:
        """Sends the sentence as Gradio's clients read it."""
        body = json.dumps({"detail": self.text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if self.status == 413:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _read(scope: Scope, receive: Receive, most: int = MAX_BODY, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body, at most so many bytes within so many seconds."""
    too_large = Refusal(413, f"The request is too large: {most} bytes are allowed.")
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length[:12]) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "The request was cut off.")
                body += message.get("body", b"")
                if len(body) > most:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, f"The request was not complete within {seconds:g} seconds.") from None


def _parse(body: bytes) -> dict[str, Any]:
    """The body as a JSON object without NaN, not nested too deeply."""
    refusal = Refusal(400, "The request is not a JSON object of finite numbers.")

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise refusal
        return value

    try:
        content = json.loads(body.decode("utf-8"), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        raise refusal from None
    if not isinstance(content, dict) or _depth(content) > MAX_DEPTH:
        raise refusal
    return content


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted up to one more than MAX_DEPTH."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        level = [v for x in level if isinstance(x, dict | list) for v in (x.values() if isinstance(x, dict) else x)]
        depth += 1
    return depth


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out `body` first."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
