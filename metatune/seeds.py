"""Seeds: every random draw of a run follows from the run's seed and what the draw is for.

Nothing is drawn from a global generator, so the same draw gives the same numbers in any process,
in any order, before or after a restart.
"""

from __future__ import annotations

import hashlib


def derive_seed(run_seed: int, *purpose: int | str) -> int:
    """A seed in [0, 2**63) for one purpose of one run.

    Args:
        run_seed: the run's seed.
        purpose: what is drawn, from the general to the particular, such as
            ``("select", round, task)``. Different purposes give independent seeds.

    >>> derive_seed(0, "select", 1, 7) == derive_seed(0, "select", 1, 7)
    True
    >>> derive_seed(0, "select", 1, 7) == derive_seed(0, "confirm", 1, 7)
    False
    """
    # repr() separates 1 from "1" and fixes where each part ends.
    text = "\x1f".join(repr(part) for part in (run_seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
