"""The recoveries in progress: each has a deadline, none outlives a closing server, and none ends in a trace."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from imder.ui.validate import BadInput

T = TypeVar("T")
log = logging.getLogger("imder")

DEADLINE = 30.0
FAILED = "This recovery failed (code {}); the last result stays. Try again, or another sample or model."
CLOSING = "The server is closing: reload the page in a minute."


class Refused(Exception):
    """A job that ended without a result; the text is one sentence for the visitor."""


class Jobs:
    """Runs generators of results one item at a time."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self.closing = threading.Event()
        self.running = 0
        self._lock = threading.Lock()

    def run(self, work: Callable[[], Iterator[T]], failed: str = FAILED) -> Iterator[T]:
        """The items of `work()`. Whatever goes wrong in it, SystemExit too, is raised as Refused, `failed` with a code.

        An exception that reaches Gradio from a handler can freeze the whole server, so only GeneratorExit
        (the visitor left or pressed Stop) passes through.
        """
        with self._lock:
            self.running += 1
        items = None
        try:
            if self.closing.is_set():
                raise Refused(CLOSING)
            until = time.monotonic() + self.deadline
            items = work()
            for item in items:
                if self.closing.is_set():
                    raise Refused(CLOSING)
                if time.monotonic() > until:
                    raise Refused(f"Ended after {self.deadline:g} seconds, the limit: ask for fewer steps or draws.")
                yield item
        except (GeneratorExit, Refused):
            raise
        except BadInput as error:
            raise Refused(str(error)) from None
        except BaseException as error:
            mark = secrets.token_hex(3)
            log.error("job %s failed", mark, exc_info=error)
            raise Refused(failed.format(mark)) from None
        finally:
            if items is not None:
                items.close()
            with self._lock:
                self.running -= 1

    def call(self, work: Callable[[], T], failed: str = FAILED) -> T:
        """`work()` under the same rules."""

        def once() -> Iterator[T]:
            yield work()

        [result] = self.run(once, failed)
        return result

    def drain(self, seconds: float, quiet: float = 1.5) -> None:
        """Ends what runs and waits until nothing has run for `quiet` seconds, `seconds` at most.

        What waits in the queue is let in one by one and ends at once: `quiet` leaves a busy machine time for that.
        """
        self.closing.set()
        until, idle_since = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < until:
            if self.running:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since >= quiet:
                return
            time.sleep(0.02)
