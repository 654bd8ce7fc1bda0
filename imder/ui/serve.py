"""Launches the page: Gradio's settings, the guard before it, the watchdog beside it, a janitor, and a clean end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import gradio as gr
from gradio.utils import get_space
from starlette.middleware import Middleware

from imder.data.recording import MAX_SOUND
from imder.data.upload import MAX_FILE
from imder.ui.controls import MODEL
from imder.ui.guard import Guard
from imder.ui.jobs import Jobs
from imder.ui.theme import CSS, theme
from imder.ui.watchdog import Watchdog, answers

QUEUE = 16
ROOT = Path(__file__).parents[2]
MAX_TEMP_BYTES = 100_000_000
MAX_TEMP_AGE = 3600.0
DRAIN_SECONDS = 6.0


def launch(demo: gr.Blocks, temporary: str, mcp: bool = False) -> None:
    """Starts the server; host and port come from GRADIO_SERVER_NAME and GRADIO_SERVER_PORT.

    `mcp`: the public functions are tools too, at /gradio_api/mcp; ValueError if Gradio cannot serve them.
    """
    demo.queue(api_open=False, max_size=QUEUE, default_concurrency_limit=2)
    functions = {i: fn for i, fn in demo.fns.items() if fn.fn is not None}
    guard = Middleware(
        Guard,
        functions=set(functions),
        heavy={i for i, fn in functions.items() if fn.concurrency_id == MODEL["concurrency_id"]},
        apis={fn.api_name for fn in functions.values() if fn.api_visibility == "public"},
        uploads=max(MAX_FILE, MAX_SOUND),
        files=str(Path(temporary).resolve()),
        mcp=mcp,
        behind_proxy=get_space() is not None,
    )
    demo.launch(
        prevent_thread_lock=True,
        theme=theme(),
        css=CSS,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        max_file_size=max(MAX_FILE, MAX_SOUND),
        allowed_paths=[],
        blocked_paths=[str(ROOT), str(Path.home())],
        strict_cors=True,
        enable_monitoring=False,
        state_session_capacity=200,
        max_threads=16,
        ssr_mode=False,
        pwa=False,
        mcp_server=mcp,
        app_kwargs={"middleware": [guard]},
    )
    if mcp and not demo.mcp_server:
        raise ValueError(f"MCP: {str(demo.mcp_error).splitlines()[0]}")


def serve(demo: gr.Blocks, jobs: Jobs, temporary: str, mcp: bool = False) -> None:
    """Launches and stays until SIGTERM or SIGINT; then every running recovery is told and the process exits with 0.

    `temporary` is Gradio's folder for files. It must be this process's own: it is swept, and removed at the end.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    launch(demo, temporary, mcp)
    host = "127.0.0.1" if demo.server_name in ("0.0.0.0", "localhost") else demo.server_name.strip("[]")
    watchdog = Watchdog(lambda: answers(host, demo.server_port, timeout=2.0)).start()
    while not stop.wait(60.0):
        sweep(Path(temporary))
    watchdog.disarm()
    jobs.drain(DRAIN_SECONDS)
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)  # Gradio's own close can wait for streams that never end


def sweep(folder: Path, most: int = MAX_TEMP_BYTES, age: float = MAX_TEMP_AGE) -> int:
    """Removes files older than `age` seconds, then the oldest beyond `most` bytes; returns how many."""
    files = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        except OSError:
            continue
    kept, removed, now = 0, 0, time.time()
    for modified, size, path in sorted(files, reverse=True):
        if now - modified > age or kept + size > most:
            path.unlink(missing_ok=True)
            removed += 1
        else:
            kept += size
    return removed
