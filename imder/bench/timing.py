"""What costs are measured with: CPU time on one thread, alternating, and the published algorithm from the checkout."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

PUBLISHED = Path(__file__).resolve().parents[2] / "benchmarks" / "published.py"


@functools.cache
def published(path: Path = PUBLISHED) -> ModuleType:
    """The module with the published algorithm; it is no part of the package."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file; this benchmark needs a checkout of the repository, with benchmarks/")
    spec = importlib.util.spec_from_file_location("imder_published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, as in the page's workers, so that CPU time is the time on an idle core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def alternate(rounds: int, *works: Callable[[], object], warm: bool = True) -> np.ndarray:
    """(rounds, works) CPU milliseconds of the process: a round runs each once in turn; `warm`: one is not counted."""
    for work in works if warm else ():
        work()
    found = np.empty((rounds, len(works)))
    for i in range(rounds):
        for j, work in enumerate(works):
            began = time.process_time()
            work()
            found[i, j] = 1000 * (time.process_time() - began)
    return found
