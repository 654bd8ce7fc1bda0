"""Ends a process whose server no longer answers, so that whatever supervises it starts a new one."""

from __future__ import annotations

import http.client
import os
import sys
import threading
from collections.abc import Callable

EXIT_STATUS = 70


def answers(host: str, port: int, timeout: float) -> bool:
    """Whether the server answers a small request at all, with whatever status, within `timeout` seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/robots.txt")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


class Watchdog:
    """Asks every `every` seconds; after `patience` silent answers in a row the process exits with status 70."""

    def __init__(
        self,
        probe: Callable[[], bool],
        *,
        every: float = 1.0,
        patience: int = 5,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.probe, self.every, self.patience, self.leave = probe, every, patience, leave
        self.disarmed = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> Watchdog:
        """Begins to watch."""
        self.thread.start()
        return self

    def disarm(self) -> None:
        """Stops watching; the server is about to be closed on purpose."""
        self.disarmed.set()

    def _watch(self) -> None:
        silent = 0
        while not self.disarmed.wait(self.every):
            silent = 0 if self.probe() else silent + 1
            if silent >= self.patience and not self.disarmed.is_set():
                print(f"The server has not answered {silent} times in a row: leaving.", file=sys.stderr, flush=True)
                self.leave(EXIT_STATUS)
                return
