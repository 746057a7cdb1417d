"""The loop that every peer ends with: see ``environment.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter


def serve(work: Callable[[], object]) -> None:
    """Measure as often as asked."""
    work()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, start, count = float(line), perf_counter(), 0
        while (took := perf_counter() - start) < seconds:
            work()
            count += 1
        print(count / took, flush=True)
