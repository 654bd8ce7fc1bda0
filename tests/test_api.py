"""The public functions through the clients that people use: gradio_client, curl, and an MCP client over HTTP."""

from __future__ import annotations

import ast
import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import gradio as gr
import httpx
import pytest
from fake_pipeline import FakePipeline
from gradio_client import Client
from gradio_client.exceptions import AppError
from server import FAKE, Server
from test_app import ask, guard
from test_pages import JUNK
from test_upload import CLIPS

from imder.modality import MODALITIES, PATTERNS
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.ui.api import Api, check_mcp
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf
from imder.ui.validate import MAX_WORK

FUNCTIONS = ["recover", "compare", "list_clips", "evaluate_clip"]
ROWS = {k: CLIPS[2].features[k].astype(float).round(3).tolist() for k in MODALITIES}


@pytest.fixture(scope="module")
def api() -> Api:
    return Api(Shelf({"fake": "fake"}, {"bundled": "bundled"}, FakePipeline), Jobs())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(server.url, verbose=False)


# --- the functions ----------------------------------------------------------------------------------------------------


def test_clips_are_found_by_words_and_labels_and_listed_by_the_page(api: Api) -> None:
    every = api.list_clips()
    assert [clip["id"] for clip in every["clips"]] == [clip.id for clip in CLIPS]
    assert (every["total"], every["next_offset"]) == (len(CLIPS), None)
    pages, offset = [], 0
    while offset is not None:
        page = api.list_clips(offset=offset, limit=5)
        pages, offset = pages + page["clips"], page["next_offset"]
    assert pages == every["clips"]
    wanted = {clip.id for clip in CLIPS if "music" in clip.text and -1 <= clip.label <= 3}
    assert {clip["id"] for clip in api.list_clips("MUSIC", -1, 3)["clips"]} == wanted
    assert [clip["id"] for clip in api.list_clips("clip_7$")["clips"]] == ["clip_7$_$0"]
    assert api.list_clips("no such words") == {"total": 0, "offset": 0, "clips": [], "next_offset": None}
    assert api.list_clips(offset=10**6)["clips"] == []


def test_a_clip_is_judged_under_every_pattern_as_recover_judges_it() -> None:
    pipeline = RecoveryPipeline.from_pretrained(None)
    real = Api(Shelf({"real": "real"}, {"bundled": "bundled"}, lambda *_: pipeline), Jobs())
    clip = pipeline.data.split("test")[5]
    found = real.evaluate_clip(clip.id, steps=3, draws=2, seed=4)
    assert [tuple(row["available"]) for row in found["patterns"]] == list(PATTERNS[:6])
    for row in found["patterns"]:
        own = pipeline(RecoveryRequest(clip, tuple(row["available"]), steps=3, draws=2, seed=4))
        assert row["recovered"] == own.predictions["recovered"]
        assert row["recovered_error"] == pytest.approx(abs(own.predictions["recovered"] - clip.label))
        assert row["feature_error"] == own.feature_error
    assert found["complete_error"] == pytest.approx(abs(found["complete"] - clip.label))
    features = {k: clip.features[k].tolist() for k in MODALITIES}
    given = real.evaluate_clip(features=features, label=clip.label, steps=3, draws=2)
    assert (given["complete"], given["sample"]) == (pytest.approx(found["complete"], abs=1e-6), None)
    assert [row["zero"] for row in given["patterns"]] == pytest.approx([row["zero"] for row in found["patterns"]])


def test_features_without_a_modality_are_judged_where_they_can_be(api: Api) -> None:
    found = api.evaluate_clip(features={k: ROWS[k] for k in ("text", "vision")})
    assert [row["available"] for row in found["patterns"]] == [["text"], ["vision"], ["text", "vision"]]
    assert (found["complete"], found["label"], found["complete_error"]) == (None, None, None)
    assert found["patterns"][0]["recovered_error"] is None
    assert set(found["patterns"][0]["feature_error"]) == {"vision"}
    assert json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_no_function_takes_what_it_should_not(api: Api, junk: object) -> None:
    calls = {
        api.list_clips: ("search", "lowest", "highest", "offset", "limit", "model", "data"),
        api.evaluate_clip: ("sample", "features", "label", "sampler", "steps", "draws", "model", "data"),
        api.recover: ("sample", "drop", "sampler", "steps", "seed", "draws", "model", "data"),
    }
    fine = {"search": ("", "x", "../../etc/passwd", "/etc", "<img src=x>"), "lowest": (0, 1.5), "highest": (0, 1.5),
            "offset": (0,), "seed": (0,)}  # fmt: skip
    for function, names in calls.items():
        for name in names:
            if isinstance(junk, bool) or (junk is not None and junk not in fine.get(name, ())):
                with pytest.raises(gr.Error) as reason:
                    function(**{name: junk})
                assert len(str(reason.value)) < 400
                assert "code" not in str(reason.value)


def test_no_call_takes_more_than_its_share_of_work(api: Api) -> None:
    with pytest.raises(gr.Error, match="at most 2 is allowed"):
        api.evaluate_clip(sampler="euler-maruyama", draws=3)
    assert MAX_WORK >= 9 * 500 * 2
    for value in (math.nan, math.inf, 10**400):
        with pytest.raises(gr.Error, match="lowest: "):
            api.list_clips(lowest=value)
    with pytest.raises(gr.Error, match="either a sample or features"):
        api.evaluate_clip(sample=CLIPS[0].id, features=ROWS)
    with pytest.raises(gr.Error, match="only features take one"):
        api.evaluate_clip(label=1.0)


# --- gradio_client and curl -------------------------------------------------------------------------------------------


def test_every_function_by_the_client_and_described_in_words(server: Server, client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == [f"/{name}" for name in FUNCTIONS]
    for endpoint in named.values():
        assert endpoint["description"]
        assert all(parameter["parameter_has_default"] for parameter in endpoint["parameters"])
    assert client.predict(api_name="/recover")["nfe"] == 10
    assert client.predict(limit=3, api_name="/list_clips")["next_offset"] == 3
    by_name = client.predict(sample=CLIPS[2].id, seed=3, api_name="/evaluate_clip")
    assert len(by_name["patterns"]) == 6
    given = client.predict(features=ROWS, label=CLIPS[2].label, api_name="/evaluate_clip")
    assert given["label"] == CLIPS[2].label
    with pytest.raises(AppError, match="limit: 0 is not allowed; a whole number from 1 to 200 is"):
        client.predict(limit=0, api_name="/list_clips")
    with pytest.raises(AppError, match="Face has 1 columns; this run needs 22"):
        client.predict(features={"vision": [[1.0]]}, api_name="/evaluate_clip")
    assert httpx.post(f"{server.url}/gradio_api/run/list_clips", json={"data": []}).status_code == 404


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_by_curl(server: Server, name: str) -> None:
    url = f"{server.url}/gradio_api/call"
    post = ["curl", "-s", f"{url}/v2/{name}", "-H", "Content-Type: application/json", "-d", "{}"]
    event = json.loads(subprocess.run(post, capture_output=True, text=True, check=True, timeout=30).stdout)["event_id"]
    told = subprocess.run(["curl", "-sN", f"{url}/{name}/{event}"], capture_output=True, text=True, timeout=60).stdout
    assert "event: complete" in told
    [result] = json.loads(told.split("data: ")[-1])
    assert {"predictions", "rows", "clips", "patterns"} & set(result)


# --- MCP --------------------------------------------------------------------------------------------------------------


async def asked(url: str, *calls: tuple[str, dict]) -> tuple[list, list]:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = (await session.list_tools()).tools
        return tools, [await session.call_tool(name, arguments) for name, arguments in calls]


def test_every_function_is_a_tool_and_nothing_else_is() -> None:
    pytest.importorskip("mcp")
    calls = [
        ("recover", {"sample": CLIPS[2].id, "drop": ["audio"], "steps": 4}),
        ("list_clips", {"search": "music", "limit": 2}),
        ("evaluate_clip", {"features": {"text": ROWS["text"]}, "label": 0.5}),
        ("recover", {"steps": 0}),
        ("play", {}),
    ]
    with Server(FAKE_MCP="1") as running:
        tools, (run, listed, judged, wrong, private) = asyncio.run(asked(f"{running.url}/gradio_api/mcp/", *calls))
        assert [tool.name for tool in tools] == FUNCTIONS
        for tool in tools:
            described = tool.inputSchema["properties"]
            assert tool.description
            assert all(value.get("description") for value in described.values()), described
        told = Client(running.url, verbose=False).predict(
            sample=CLIPS[2].id, drop=["audio"], steps=4, api_name="/recover"
        )
        assert ast.literal_eval(run.content[0].text)["predictions"] == told["predictions"]
        assert len(ast.literal_eval(listed.content[0].text)["clips"]) == 2
        assert [row["available"] for row in ast.literal_eval(judged.content[0].text)["patterns"]] == [["text"]]
        assert wrong.isError
        assert "steps: 0 is not allowed" in wrong.content[0].text
        assert private.isError
        assert httpx.get(f"{running.url}/gradio_api/mcp/").status_code == 405
        assert httpx.post(f"{running.url}/gradio_api/mcp/sse", json={}).status_code == 404
        assert httpx.post(f"{running.url}/gradio_api/mcp/", content=b"x" * 70_000).status_code == 413


def test_without_being_asked_for_there_are_no_tools(server: Server) -> None:
    assert httpx.post(f"{server.url}/gradio_api/mcp/", json={}).status_code == 404
    assert httpx.get(f"{server.url}/gradio_api/mcp/").status_code == 404


def test_wrong_packages_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    for version, said in ((absent, "not installed"), (lambda _: "2.3.0", "below 2, 2.3.0 is installed")):
        monkeypatch.setattr(metadata, "version", version)
        with pytest.raises(ValueError, match=said) as reason:
            check_mcp()
        assert 'pip install "gradio[mcp]==6.31.0"' in str(reason.value)
    monkeypatch.setattr(metadata, "version", lambda _: "1.30.0")
    check_mcp()


def test_the_app_with_wrong_packages_is_one_line_and_status_2() -> None:
    code = (
        "import sys, importlib.metadata as m; real = m.version; "
        "m.version = lambda name: '2.3.0' if name == 'mcp' else real(name); "
        f"sys.argv = ['app.py', '--mcp']; sys.path.insert(0, {str(FAKE.parents[1])!r}); "
        "import app; sys.exit(app.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: MCP needs mcp below 2")


def test_the_guard_knows_uploads_files_and_tools_only_where_they_are() -> None:
    kept = "/gradio_api/file=/tmp/imder-x/" + "a" * 64 + "/run-1.npz"
    bare = guard()
    assert [ask(bare, path, method="GET") for path in (kept, "/gradio_api/upload_progress", "/gradio_api/mcp/")] == [
        404
    ] * 3
    assert ask(bare, "/gradio_api/mcp/") == 404
    full = guard(uploads=1000, files="/tmp/imder-x", mcp=True)
    assert ask(full, kept, method="GET") == 200
    wrong = [kept.replace("a", "/../", 1), kept.replace("imder-x", "imder-y"), kept.replace("run", ".run")]
    for path in (*wrong, kept + "/..", kept + "/x", "/gradio_api/file=/tmp/imder-x/" + "a" * 63 + "/x"):
        assert ask(full, path, method="GET") == 404
    assert ask(full, "/gradio_api/upload_progress", method="GET") == 200
    assert ask(full, "/gradio_api/mcp/", method="GET") == 405
    tool = b'{"method": "tools/call", "params": {}}'
    statuses = [ask(full, "/gradio_api/mcp", tool) for _ in range(15)]
    assert (statuses.count(200), statuses.count(429)) == (12, 3)
    assert ask(full, "/gradio_api/mcp", b'{"method": "tools/list"}') == 200
    assert ask(full, "/gradio_api/mcp", b"[]") == 400
