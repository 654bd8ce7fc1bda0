"""One job of a run in a process of its own: `python -m imder.training.worker FOLDER JOB`.

Messages are JSON lines on standard output. The end of standard input, which is also what the parent's death looks
like, asks it to stop: the state is saved and the process ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from imder.training.baseline import open_bench
from imder.training.loop import GRACE, Interrupted, Reporter
from imder.training.stages import run

#: Least seconds between two messages of progress.
PACE = 0.25


def main(folder: str, name: str) -> int:
    """Runs the job; exit status 0 unless it failed."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()
    output, sys.stdout = os.dup(1), sys.stderr
    last = 0.0

    def tell(message: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if "loss" in message and message["at"] < message["of"] and now - last < PACE:
            return
        last = now
        try:
            os.write(output, (json.dumps(message) + "\n").encode())
        except BrokenPipeError:
            stop.set()

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        run(open_bench(Path(folder)), name, Reporter(tell, stop.is_set))
    except Interrupted:
        return 0
    except (ValueError, ArithmeticError) as error:
        tell({"error": str(error)})
        return 1
    except Exception as error:
        traceback.print_exc()
        tell({"error": f"{name}: {type(error).__name__}: {error}"})
        return 1
    tell({"done": True})
    return 0


def _watch(stop: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    stop.set()
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
