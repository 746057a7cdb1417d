"""The method: what a turn of the loop takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from metatune.history import History
from metatune.records.folder import RunFolder, write_atomically
from metatune.records.rows import Turned


@dataclass(frozen=True)
class Method:
    """Where the loop stands.

    Attributes:
        round: rounds done.
        incumbents: trials that lead, best first, as ``confirm`` ranked them.
    """

    round: int
    incumbents: tuple[str, ...]

    @classmethod
    def after(cls, turned: Turned) -> Method:
        """The method that a recorded turn left."""
        return cls(turned.round, tuple(turned.incumbents))


def write_method(folder: RunFolder, method: Method, history: History) -> None:
    """Write ``method.yaml``: the round and the incumbents' strategies, to be read by people."""
    incumbents = [
        {"trial": name, "name": (asked := history.trials[name].asked).name} | asked.strategy
        for name in method.incumbents
    ]
    text = yaml.safe_dump({"round": method.round, "initial": incumbents}, sort_keys=False)
    write_atomically(folder.method, text)
