"""A run written by hand that has everything a report tells of, some of it hostile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from handmade import SPACE, TASKS, Story, plan_of

from metatune.records.rows import Concluded, Ended, Looked, Turned

HOSTILE = "<script>alert('name')</script> $x^2$ & \"co\""
REASON = 'Traceback\n  "<img src=x onerror=alert(1)>"\nValueError: <script>alert(2)</script> \udcff'


def whole(text: str = SPACE, name: str = HOSTILE) -> Story:
    """A run from the default to its verdict, which ``name`` wins against r2d2."""
    story, draw = Story(plan_of(text)), np.random.default_rng(0)

    def scores(level: float) -> list[float]:
        return [float(v) for v in np.clip(level + 0.1 * draw.normal(size=TASKS), 0, 1)]

    levels = {"protonet": 0.5, "r2d2": 0.6, "nearest_neighbour": 0.3, name: 0.7}
    trials = {}
    for place, (own, level) in enumerate(levels.items()):
        rungs = 1 if own == "nearest_neighbour" else 3
        trials[own] = story.trial(
            own, *(scores(level + 0.01 * rung) for rung in range(rungs)), seconds=0.01 * (place + 1)
        )
    for number in range(12):
        done = number % 3 > 0
        more = [scores(0.4 + 0.02 * number) for _ in range(3 if done else 1)]
        story.trial(f"proposed-1-{number}", *more, state="completed" if done else "stopped")
    failed = story.trial("broken", state=None)
    story.rows.append(Ended(failed, "failed", REASON, 1.0))
    leaders = [trials[name], trials["r2d2"], trials["protonet"]]
    story.rows.append(Looked("confirm", 1, leaders))
    for trial in leaders:
        story.score(trial, "confirm", scores(0.55))
    moves = ["head.scale: [0.1, 10] -> [0.5, 4], around 3 leaders", "<b>bold</b>"]
    story.rows.append(Turned(1, leaders, moves, 61.0))
    story.rows.append(Looked("test", 1, list(trials.values()), 2))
    for replica in (1, 2):
        for own, level in levels.items():
            story.score(
                trials[own], "test", scores(level), replica=replica,
                transductive=own == "r2d2", seconds=0.01,
            )  # fmt: skip
    said = f"{name} beats the best preset or baseline, r2d2, by +10 points. Claim: new groups"
    story.rows.append(Concluded(trials[name], trials["r2d2"], "new groups", said))
    return story


def without_verdict(story: Story) -> Story:
    """The same before it was concluded."""
    story.rows = [row for row in story.rows if not isinstance(row, Concluded)]
    return story


def with_groups(story: Story, prefix: str) -> Story:
    """The same with other names of groups."""
    story.rows = [
        replace(row, groups=[prefix + group for group in row.groups])
        if hasattr(row, "groups")
        else row
        for row in story.rows
    ]
    return story
