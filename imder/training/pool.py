"""Runs jobs side by side, each in a process of its own, and ends them all when one fails or a stop is asked for."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from imder.training.loop import GRACE, Interrupted

ROOT = Path(__file__).parents[2]


def run_jobs(
    folder: Path,
    jobs: Sequence[str],
    workers: int,
    lock: BinaryIO,
    hear: Callable[[str, dict[str, Any]], None],
    stopping: Callable[[], bool],
) -> None:
    """Runs the jobs, `workers` at a time; `hear(job, message)` gets what they tell.

    Raises Interrupted after a stop, ValueError with the first job's error after a failure; no process is left behind.
    """
    heard: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
    waiting, running, done = list(jobs), {}, set()
    failure: str | None = None
    try:
        while waiting or running:
            ending = failure is not None or stopping()
            if ending:
                waiting.clear()
                for process in running.values():
                    process.stdin.close()
            while waiting and len(running) < workers:
                running[waiting[0]] = _start(folder, waiting[0], lock, heard)
                waiting.pop(0)
            if not running:
                break
            try:
                name, message = heard.get(timeout=0.2)
            except queue.Empty:
                continue
            if message is None:
                code = running.pop(name).wait()
                if name not in done and not ending and failure is None:
                    how = f"signal {-code}" if code < 0 else f"status {code}, see {folder / f'{name}.txt'}"
                    failure = f"{name} ended unexpectedly ({how}); the same command goes on from its last checkpoint"
            elif "error" in message:
                failure = failure or message["error"]
            elif "done" in message:
                done.add(name)
            else:
                hear(name, message)
    finally:
        for process in running.values():
            process.stdin.close()
        for process in running.values():
            try:
                process.wait(GRACE + 1)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if failure is not None:
        raise ValueError(failure)
    if stopping():
        raise Interrupted


def _start(folder: Path, name: str, lock: BinaryIO, heard: queue.Queue) -> subprocess.Popen:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with open(folder / f"{name}.txt", "wb") as trace:
        process = subprocess.Popen(
            [sys.executable, "-m", "imder.training.worker", str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=trace,
            env=os.environ | threads | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which lets its jobs save
            pass_fds=(lock.fileno(),),
        )
    threading.Thread(target=_listen, args=(name, process.stdout, heard), daemon=True).start()
    return process


def _listen(name: str, stream: BinaryIO, heard: queue.Queue) -> None:
    for line in stream:
        heard.put((name, json.loads(line)))
    heard.put((name, None))
