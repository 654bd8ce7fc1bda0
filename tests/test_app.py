"""The app as a server: validation, guard, jobs, and a real process asked over raw HTTP with hostile values."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fake_pipeline import FREEZE_SEED, MOODS, SLOW_SEED, FakePipeline
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given, settings
from hypothesis import strategies as st
from server import FAKE, Server

from imder.ui import opening
from imder.ui.guard import MAX_BODY, Clients, Guard
from imder.ui.jobs import CLOSING, Jobs, Refused
from imder.ui.page import Page
from imder.ui.serve import sweep
from imder.ui.shelf import MOST_OPEN, Shelf, named
from imder.ui.validate import BadInput, check_drop, from_link, validate
from imder.ui.watchdog import EXIT_STATUS, Watchdog

# --- validation -------------------------------------------------------------------------------------------------------

PIPELINE = FakePipeline()
TEXTS = ["", "\0", "../../etc/passwd", "%2e%2e%2f", "<img onerror=x>", "{{7*7}}", "${jndi:x}", "' OR 1=1", "__proto__"]
JUNK = [math.nan, math.inf, -math.inf, 10.5, True, False, "10", "abc", [], {}, [[]], 10**400, -(10**400), b"x", *TEXTS]
HOSTILE = {
    "sample": [*JUNK, 0, 7, ["clip_0$_$0"], "clip_0", "clip_0$_$0 ", "x" * 1_000_000, "😀", "\u202e"],
    "drop": [*JUNK, 1, ["text", "audio", "vision"], ["smell"], "tav", "text", [["text"]], [None], [1], ["text", ""]],
    "sampler": [*JUNK, 3, "Heun", "euler", ["heun"]],
    "steps": [*JUNK, 0, -1, 1001, 10**9],
    "seed": [*JUNK, None, -1, 2**31, 2**63, 2**64, 1.5, "0x10"],
    "draws": [*JUNK, None, 0, -1, 65],
    "guidance": [*[v for v in JUNK if v != 10.5], None, -0.1, 8.01, "1", 10**400],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_value_is_refused_by_one_sentence_that_names_it(name: str) -> None:
    for value in HOSTILE[name]:
        with pytest.raises(BadInput) as refused:
            validate(PIPELINE, **{name: value})
        text = str(refused.value)
        assert text.startswith(name)
        assert text.endswith(".")
        assert len(text) < 400
        assert "\n" not in text


def test_defaults_and_bounds_are_accepted() -> None:
    request = validate(PIPELINE)
    assert (request.available, request.sampler, request.steps, request.seed) == (("text", "audio"), "dpmpp-2m", 10, 0)
    assert validate(PIPELINE, sampler="heun").steps == 18
    assert validate(PIPELINE, steps=1000, draws=1, seed=2**31 - 1, guidance=8).guidance == 8.0
    with pytest.raises(BadInput, match="draws: 64 is too much for this page with 1000 steps and 1 dropped; at most 12"):
        validate(PIPELINE, steps=1000, draws=64)
    assert validate(PIPELINE, sampler="euler-maruyama", drop=["text", "audio"]).steps == 500


def test_drop_is_a_set_whatever_its_order_names_and_duplicates() -> None:
    assert check_drop(["vision", "text"]) == check_drop(["Language", "FACE"] * 1000) == ("text", "vision")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(HOSTILE, junk)))
def test_nothing_but_badinput_comes_out_of_validate(values: dict[str, object]) -> None:
    try:
        request = validate(PIPELINE, **values)
    except BadInput:
        return
    assert type(request.steps) is int
    assert 1 <= len(request.missing) <= 2


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*HOSTILE, "__theme", "x"]), st.text(max_size=40), max_size=8))
def test_a_link_always_gives_a_choice_that_validates(query: dict[str, str]) -> None:
    choice, _ = from_link(PIPELINE, query)
    validate(PIPELINE, sample=choice.sample, drop=list(choice.drop), sampler=choice.sampler, steps=choice.steps)


def test_a_link_keeps_what_is_right_and_tells_what_is_not() -> None:
    query = {"sample": "clip_4$_$0", "drop": "audio,text", "steps": "0", "seed": "12", "guidance": "1.5", "draws": "٣"}
    choice, refused = from_link(PIPELINE, query)
    assert (choice.sample, choice.drop, choice.steps, choice.seed, choice.guidance, choice.draws) == (
        "clip_4$_$0", ("text", "audio"), 10, 12, 1.5, 8,
    )  # fmt: skip
    assert [text.split(":")[0] for text in refused] == ["steps", "draws"]


#: How many values each handler of the page takes; the last of what it gives back is a status text.
HANDLERS = {"show": 4, "draw": 4, "choose": 3, "steps": 3, "play": 9}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(HANDLERS)), st.lists(junk | st.sampled_from(["fake", "bundled", "heun"]), max_size=9))
def test_no_handler_of_the_page_raises_whatever_it_gets(name: str, values: list[object]) -> None:
    page = Page(Shelf({"fake": "fake"}, {"bundled": "bundled"}, FakePipeline), Jobs())
    values = (values + [None] * 9)[: HANDLERS[name]]
    if name == "play":
        assert all(isinstance(status, str) for _, status in page.play(*values))
    else:
        options = {"keep": "model"} if name == "choose" else {}
        answer = getattr(page, name)(*values, **options)
        assert "<p" in str(answer[-1]) or name == "steps"


# --- jobs, shelf, opening, watchdog, janitor --------------------------------------------------------------------------

TROUBLES = [
    SystemExit(1), KeyboardInterrupt(), MemoryError("/root/secret"), RuntimeError("token"), ValueError("/root/secret"),
    asyncio.CancelledError(), RecursionError(), OSError(28, "full"), StopAsyncIteration(), ArithmeticError("x"),
]  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda error: type(error).__name__)
def test_whatever_a_job_raises_ends_as_one_sentence_without_detail(trouble: BaseException) -> None:
    def work():
        yield 1
        raise trouble

    jobs, got = Jobs(), []
    with pytest.raises(Refused) as reason:
        got.extend(jobs.run(work))
    assert "failed (code" in str(reason.value)
    assert "secret" not in str(reason.value)
    assert jobs.running == 0


def test_a_job_that_is_closed_closes_its_work_and_frees_its_place() -> None:
    ended = []

    def work():
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    jobs = Jobs()
    run = jobs.run(work)
    assert next(run) == 1
    assert jobs.running == 1
    run.close()
    assert (ended, jobs.running) == ([True], 0)


def test_a_job_ends_at_its_deadline_and_when_the_server_closes() -> None:
    def work():
        while True:
            time.sleep(0.02)
            yield 1

    with pytest.raises(Refused, match=r"Ended after 0\.1 seconds"):
        list(Jobs(deadline=0.1).run(work))
    jobs = Jobs()
    run = jobs.run(work)
    next(run)
    jobs.closing.set()
    with pytest.raises(Refused, match="closing"):
        next(run)
    with pytest.raises(Refused, match="closing"):
        jobs.call(lambda: 1)


def test_shelf_opens_once_keeps_few_and_refuses_what_is_not_there() -> None:
    opened = []

    def opener(source: str, data: str) -> FakePipeline:
        opened.append(source)
        return FakePipeline(source, data)

    shelf = Shelf({"first": "/root/secret/run"}, {"bundled": "bundled"}, opener)
    first = shelf.get()
    assert shelf.get("first", "bundled") is first
    for i in range(10):
        shelf.get(f"owner/model{i}")
    assert shelf.get() is first
    assert len(shelf._open) == MOST_OPEN
    for model in ("owner", "../up/down", "https://x/y", "a/b/c", 3, ["first"], "owner/" + "x" * 200, "/etc/passwd"):
        with pytest.raises(BadInput, match=r"model: .*first, or a Hub repository"):
            shelf.get(model)
    with pytest.raises(BadInput, match=r"data set: '/etc' is unknown; allowed: bundled\."):
        shelf.get("first", "/etc")
    with pytest.raises(BadInput, match="the bundled model serves"):
        shelf.get("owner/absent")
    hidden = Shelf({"mine": "broken"}, {"bundled": "bundled"}, opener)
    with pytest.raises(BadInput, match="mine: config"):
        hidden.get()


def test_a_run_that_is_named_comes_first_and_keeps_its_name(tmp_path: Path) -> None:
    run = tmp_path / "corrected"
    run.mkdir()
    assert named(str(run), {"corrected": "ours", "paper": "b"}) == {"corrected": str(run), "paper": "b"}
    assert list(named("owner/name", {"corrected": "ours"})) == ["owner/name", "corrected"]
    assert named(None, {"corrected": "ours"}) == {"corrected": "ours"}
    with pytest.raises(ValueError, match=r"no model: .* name one with --run"):
        Shelf({}, {"bundled": "bundled"})


def test_a_chosen_model_takes_the_data_set_that_fits_it() -> None:
    def opener(source: str, data: str) -> FakePipeline:
        if source != data:
            raise ValueError(f"the run {source} was trained on other widths than {data}")
        return FakePipeline()

    page = Page(Shelf({"a": "1", "b": "2", "c": "3"}, {"x": "1", "y": "2"}, opener), Jobs())
    assert page.choose("b", "x", ["text"], keep="model")[:2] == ("b", "y")
    assert page.choose("b", "x", ["text"], keep="data")[:2] == ("a", "x")
    assert "the run c was trained on other widths than x" in page.choose("c", "x", ["text"], keep="model")[-1]


def test_opening_run_is_shown_only_with_its_own_weights(tmp_path: Path) -> None:
    pipeline = FakePipeline()
    pipeline.run = SimpleNamespace(folder=tmp_path)
    weights, path = tmp_path / "model.safetensors", tmp_path / "opening.json.gz"
    weights.write_bytes(b"1")
    request = validate(pipeline, drop=["audio"], seed=5)
    assert opening.read_opening(pipeline, path) is None
    opening.write_opening(pipeline, request, path)
    stored, messages = opening.read_opening(pipeline, path)
    assert (stored.clip.id, stored.available, stored.seed) == (request.clip.id, ("text", "vision"), 5)
    assert [m["kind"] for m in messages[:2]] == ["sample", "start"]
    assert messages[-1]["kind"] == "done"
    path.write_bytes(path.read_bytes()[:100])
    assert opening.read_opening(pipeline, path) is None
    opening.write_opening(pipeline, request, path)
    weights.write_bytes(b"2")
    assert opening.read_opening(pipeline, path) is None


def test_watchdog_leaves_after_silent_answers_in_a_row_only() -> None:
    for answers, left in (([True, False, False, True, False], []), ([False] * 3, [EXIT_STATUS])):
        given_answers, got, done = iter(answers), [], threading.Event()

        def probe(given_answers=given_answers, done=done) -> bool:
            answer = next(given_answers, None)
            if answer is None:
                done.set()
            return answer is not False

        def leave(status: int, got=got, done=done) -> None:
            got.append(status)
            done.set()

        watchdog = Watchdog(probe, every=0.001, patience=3, leave=leave).start()
        assert done.wait(5)
        watchdog.disarm()
        assert got == left


def test_sweep_removes_old_files_and_the_oldest_beyond_the_cap(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (("old", 7200), ("b", 30), ("c", 20), ("d", 10)):
        path = tmp_path / "deep" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - age, now - age))
    assert sweep(tmp_path, most=250) == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["c", "d"]


# --- guard ------------------------------------------------------------------------------------------------------------


def ask(guard: Guard, path: str, body: bytes | list[bytes] = b"{}", method: str = "POST", **headers: str) -> int:
    """The status that one request gets from the guard, 200 if it passed."""
    parts = [body] if isinstance(body, bytes) else list(body)
    length = {"content-length": str(len(body))} if isinstance(body, bytes) else {}
    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in (length | headers).items()]
    statuses = []

    async def receive() -> dict:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            assert (b"x-content-type-options", b"nosniff") in message["headers"]

    scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": ("127.0.0.1", 1)}
    asyncio.run(guard(scope, receive, send))
    return statuses[0]


def guard(**options: object) -> Guard:
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Guard(app, functions={0, 1}, heavy={1}, apis={"recover"}, **options)


def test_guard_knows_only_the_routes_of_the_page() -> None:
    for path in ("/", "/config", "/assets/x.js", "/gradio_api/info", "/gradio_api/call/recover/0af", "/theme.css"):
        assert ask(guard(), path, method="GET") == 200
    for path in (
        "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/deep_link", "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/file=/etc/passwd", "/gradio_api/upload_progress", "/monitoring", "/gradio_api/dev/reload",
        "/gradio_api/vibe-code", "/docs", "/runs", "/x" * 600,
    ):  # fmt: skip
        assert ask(guard(), path, method="GET") in (404, 414)
    for path in ("/gradio_api/upload", "/gradio_api/component_server", "/gradio_api/process_recording", "/login", "/"):
        assert ask(guard(), path) == 404
    assert ask(guard(), "/gradio_api/queue/join", method="PUT") == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"fn_index": 0}', 200),
        (b'{"fn_index": 0, "session_hash": "a-1"}', 200),
        (b'{"fn_index": 0, "session_hash": "' + b"x" * 65 + b'"}', 400),
        (b'{"fn_index": 0, "session_hash": ["x"]}', 400),
        (b'{"fn_index": 2}', 404),
        (b'{"fn_index": false}', 404),
        (b'{"fn_index": "0"}', 404),
        (b"{}", 404),
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"fn_index": 0, "data": [NaN]}', 400),
        (b'{"fn_index": 0, "data": [1e999]}', 400),
        (b'{"fn_index": 0, "data": ' + b"[" * 40 + b"]" * 40 + b"}", 400),
        (b'{"fn_index": 0, "data": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
        (b'{"fn_index": 0, "data": ' + b"9" * 5000 + b"}", 400),
        (b"x" * (MAX_BODY + 1), 413),
        ([b"x" * 1000] * 100, 413),
    ],
)
def test_guard_reads_bodies_strictly(body: bytes, status: int) -> None:
    assert ask(guard(), "/gradio_api/queue/join", body) == status


def test_guard_bounds_what_one_client_may_ask() -> None:
    shared = guard()
    model = [ask(shared, "/gradio_api/queue/join", b'{"fn_index": 1}') for _ in range(20)]
    assert model.count(200) == 12
    assert set(model[12:]) == {429}
    assert ask(shared, "/gradio_api/queue/join", b'{"fn_index": 0}') == 200
    light = [ask(shared, "/gradio_api/run/predict", b'{"fn_index": 0}') for _ in range(60)]
    assert light[-1] == 429
    forged = [ask(shared, "/gradio_api/run/predict", b'{"fn_index": 0}', x_forwarded_for=str(i)) for i in range(3)]
    assert set(forged) == {429}
    space = guard(behind_proxy=True)
    space_answers = [
        ask(space, "/gradio_api/queue/join", b'{"fn_index": 1}', x_forwarded_for=f"10.0.0.{i % 4}, 1.1.1.1")
        for i in range(40)
    ]
    assert space_answers.count(200) == 40


def test_buckets_are_forgotten_beyond_their_number() -> None:
    clients = Clients(burst=1, rate=0, most=3)
    assert [clients.take(name) for name in "aabcd"] == [True, False, True, True, True]
    assert len(clients.buckets) == 3


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


def post(server: Server, path: str, body: object) -> httpx.Response:
    """An answer that is not "wait a few seconds"."""
    while True:
        answer = httpx.post(f"{server.url}/gradio_api/{path}", json=body, timeout=30)
        if answer.status_code != 429:
            return answer
        time.sleep(0.5)


#: sample, drop, sampler, steps, seed, draws, guidance, model, data.
RECOVER_ARGUMENTS = 9


def call(server: Server, *data: object, name: str = "recover") -> tuple[int, str]:
    """Status and last event of the API by raw HTTP, as curl would ask; what is not given of recover is None."""
    padded = [*data, *[None] * (RECOVER_ARGUMENTS - len(data))] if name == "recover" else list(data)
    joined = post(server, f"call/{name}", {"data": padded})
    if joined.status_code != 200:
        return joined.status_code, joined.text
    event = joined.json()["event_id"]
    return 200, httpx.get(f"{server.url}/gradio_api/call/{name}/{event}", timeout=60).text


def canary(server: Server, sample: str = "clip_2$_$0") -> dict:
    """The same request every time."""
    status, text = call(server, sample, ["audio"], None, None, 3, 4, 1.0)
    assert status == 200
    assert "event: complete" in text
    return json.loads(text.split("data: ")[-1])[0]["predictions"]


def test_api_answers_with_all_defaults(server: Server) -> None:
    result = Client(server.url, verbose=False).predict(api_name="/recover")
    assert set(result["predictions"]) == {"complete", "zero", "recovered", "label"}
    assert set(result["feature_error"]) == {"vision"}
    assert result["nfe"] == 10
    assert result["seconds"] > 0
    assert post(server, "call/v2/recover", {}).status_code == 200


def test_api_takes_names_of_both_kinds_and_tells_what_is_wrong(server: Server) -> None:
    client = Client(server.url, verbose=False)
    assert client.predict(drop=["Voice", "text"], api_name="/recover")["dropped"] == ["text", "audio"]
    with pytest.raises(AppError, match="steps: 0 is not allowed; a whole number from 1 to 1000 is"):
        client.predict(steps=0, api_name="/recover")
    with pytest.raises(AppError, match="at least one stays"):
        client.predict(drop=["text", "audio", "vision"], api_name="/recover")
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == [
        "/recover",
        "/compare",
        "/list_clips",
        "/evaluate_clip",
    ]


def test_hostile_values_by_raw_http_are_answered_and_harm_nothing(server: Server) -> None:
    before = canary(server)
    order, defaults = list(HOSTILE), [None, None, None, None, 0, 8, 1.0]
    for name, values in HOSTILE.items():
        for value in values[::6]:
            data = list(defaults)
            data[order.index(name)] = value
            try:
                text = json.dumps(data, allow_nan=False)
            except (ValueError, TypeError):
                continue
            if len(text) > MAX_BODY or "e400" in text or len(text) > 4000:
                continue
            status, answer = call(server, *data)
            assert status == 200
            assert "event: error" in answer, (name, value, answer)
            assert "Traceback" not in answer
            assert "/root" not in answer
    assert canary(server) == before


def test_run_skips_no_queue_and_private_handlers_have_no_name(server: Server) -> None:
    body = {"data": [], "fn_index": server.function("watch")}
    for name in ("recover", "play", "show", "predict"):
        assert post(server, f"run/{name}", body).status_code == 404
    assert call(server, name="play")[0] == 404


def test_the_pages_own_handlers_do_not_trust_what_they_get(server: Server) -> None:
    show = server.function("show_sample")
    bad = [["fake", "bundled", "nobody", ["text"]], ["/etc", "bundled", "clip_0$_$0", ["text"]], [{}, [], None, "tav"]]
    for data in bad:
        body = {"data": data, "fn_index": show, "session_hash": "s"}
        answer = post(server, "run/predict", body)
        assert answer.status_code == 200
        assert "trouble" in answer.text
        assert "Traceback" not in answer.text
    body = {"data": ["fake"], "fn_index": show, "session_hash": "s"}
    answer = post(server, "run/predict", body)
    assert "Traceback" not in answer.text


def test_over_large_requests_are_refused_at_once(server: Server) -> None:
    began = time.monotonic()
    for path in ("queue/join", "call/recover", "run/predict"):
        for content in (b"x" * 2_000_000, (b"x" * 10_000 for _ in range(100))):
            try:
                status = httpx.post(f"{server.url}/gradio_api/{path}", content=content, timeout=20).status_code
            except httpx.TransportError:
                continue  # closed while we were still sending
            assert status == 413
    assert time.monotonic() - began < 20
    assert httpx.post(f"{server.url}/gradio_api/upload", files={"files": b"x"}).status_code == 200


def test_page_has_no_foreign_address_and_is_sniff_proof(server: Server) -> None:
    page = httpx.get(server.url)
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "fonts.googleapis" not in page.text + httpx.get(server.url + "/theme.css").text


@pytest.mark.parametrize("seed", sorted(MOODS))
def test_a_handler_that_raises_anything_leaves_the_server_alive(server: Server, seed: int) -> None:
    began = time.monotonic()
    status, answer = call(server, None, None, None, None, seed, 1, 1.0)
    assert status == 200
    assert "event: error" in answer
    assert "secret" not in answer
    assert "hunter2" not in answer
    assert canary(server)
    assert time.monotonic() - began < 60


def test_clients_that_leave_free_their_places(server: Server) -> None:
    for i in range(2):
        body = {
            "data": ["fake", "bundled", "clip_0$_$0", ["text"], "dpmpp-2m", 40, SLOW_SEED, 1, 1.0],
            "fn_index": server.function("watch"), "session_hash": f"leaver{i}",
        }  # fmt: skip
        assert post(server, "queue/join", body).status_code == 200
        with httpx.stream("GET", f"{server.url}/gradio_api/queue/data?session_hash=leaver{i}", timeout=20) as stream:
            for line in stream.iter_lines():
                if "process_generating" in line:
                    break
    began = time.monotonic()
    canary(server)
    assert time.monotonic() - began < 12  # each of the two would have taken twenty seconds


def test_same_request_from_many_at_once_gives_one_answer(server: Server) -> None:
    time.sleep(6)  # the buckets fill
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: json.dumps(canary(server)), range(6)))
    assert len(set(answers)) == 1


def test_a_flood_from_one_client_is_told_to_wait(server: Server) -> None:
    body = {"data": [], "fn_index": server.function("watch"), "session_hash": "flood"}

    def join(_: int) -> int:
        return httpx.post(f"{server.url}/gradio_api/queue/join", json=body, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(join, range(60)))
    assert statuses.count(429) >= 10
    assert httpx.get(server.url, timeout=10).status_code == 200


def test_no_trace_of_a_job_stays_on_disk(server: Server) -> None:
    assert sum(path.stat().st_size for path in server.temporary.rglob("*") if path.is_file()) < 1_000_000


def test_sigterm_ends_streams_with_a_sentence_and_exits_with_zero() -> None:
    with Server() as running:
        play, told, listening = running.function("watch"), [], threading.Semaphore(0)

        def watch(i: int) -> None:
            body = {
                "data": ["fake", "bundled", "clip_0$_$0", ["text"], "dpmpp-2m", 40, SLOW_SEED, 1, 1.0],
                "fn_index": play, "session_hash": f"w{i}",
            }  # fmt: skip
            assert httpx.post(f"{running.url}/gradio_api/queue/join", json=body).status_code == 200
            url = f"{running.url}/gradio_api/queue/data?session_hash=w{i}"
            try:
                with httpx.stream("GET", url, timeout=20) as stream:
                    lines = stream.iter_lines()
                    first = next(lines)
                    listening.release()
                    told.append(first + "".join(lines))
            except httpx.TransportError as error:
                told.append(repr(error))

        watchers = [threading.Thread(target=watch, args=(i,)) for i in range(6)]
        for thread in watchers:
            thread.start()
        assert all(listening.acquire(timeout=20) for _ in watchers)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert time.monotonic() - began < 15  # 7 s at most where nothing else runs
        for thread in watchers:
            thread.join(5)
        assert [CLOSING[:20] in text for text in told] == [True] * 6
        assert list(running.temporary.glob("imder-*")) == []


def test_a_frozen_server_ends_itself() -> None:
    with Server() as running:
        httpx.post(
            f"{running.url}/gradio_api/call/recover",
            json={"data": [None, None, None, None, FREEZE_SEED, 1, 1.0, None, None]},
        )
        began = time.monotonic()
        assert running.process.wait(40) == EXIT_STATUS
        assert time.monotonic() - began < 30  # 12 s where nothing else runs


def test_a_run_that_cannot_be_opened_is_one_line_and_status_2(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit status 2") as refused:
        Server(FAKE.parents[1] / "app.py", "--run", str(tmp_path / "nothing"))
    text = str(refused.value)
    assert text.count("error: ") == 1
    assert "Traceback" not in text


def test_the_bundled_model_answers_the_same_from_many_at_once() -> None:
    with Server(FAKE.parents[1] / "app.py") as running:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: canary(running, "test20$_$11"), range(6)))
        assert all(answer == answers[0] for answer in answers)
        assert all(math.isfinite(v) for v in answers[0].values())
        assert "Synthetic" in httpx.get(running.url).text
