"""An app in its own process with its own temporary folder and port, for tests over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
FAKE = ROOT / "tests" / "fake_pipeline.py"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`with Server() as server`: the fake pipeline's page, or `script` with `arguments`."""

    def __init__(self, script: Path = FAKE, *arguments: str, seconds: float = 180.0, **environment: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="imder-test-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = Path(self.folder.name) / "log.txt"
        self.temporary = Path(self.folder.name) / "gradio"
        self.temporary.mkdir()
        settings = {
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_NUM_PORTS": "1",
            "GRADIO_TEMP_DIR": str(self.temporary),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(Path(self.folder.name) / "hub"),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                cwd=self.folder.name,
                env=os.environ | settings | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None or time.monotonic() > until:
                text = self.log.read_text()
                self.close()
                raise RuntimeError(f"the app did not start (exit status {self.process.returncode}):\n{text}")
            if "To create a public link" in self.log.read_text():  # the last that Gradio says when it starts
                return
            time.sleep(0.1)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def config(self) -> dict:
        """Gradio's description of the page."""
        return httpx.get(self.url + "/config", timeout=10).json()

    def function(self, name: str) -> int:
        """The id of the event handler of that name."""
        return next(d["id"] for d in self.config()["dependencies"] if d["api_name"] == name)

    def close(self) -> None:
        """Ends the process, whatever state it is in, and removes the folder."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.folder.cleanup()
