"""A prior fitted to a run's space: which of the strategies make sense there, and lie in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

from metatune.prior.lessons import Lesson, lessons
from metatune.prior.portfolio import average_ranks, short_list
from metatune.prior.table import Prior
from metatune.space import Named, Params, ResolvedSpace, deep_merge
from metatune.space.validation import check
from metatune.strategy import Strategy, problems
from metatune.strategy.prior import REGRESSORS
from metatune.tasks.base import FamilyInfo


@dataclass(frozen=True)
class Fitted:
    """What a prior brings to a run; nothing where there is none.

    Attributes:
        portfolio: strategies to try after those that the space file names, in picking order.
        baseline: name of the strategy with the best average rank; None where none makes sense.
        lessons: for the proposer, best first.
        brought: hashes of all strategies that the run has through the prior alone.
        strategies: how many the prior knows.
        left_out: how many of them neither portfolio nor lessons can have, by the reason why.
    """

    portfolio: tuple[Named, ...] = ()
    baseline: str | None = None
    lessons: tuple[Lesson, ...] = ()
    brought: frozenset[str] = frozenset()
    strategies: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


def fit(prior: Prior, space: ResolvedSpace, info: FamilyInfo) -> tuple[ResolvedSpace, Fitted]:
    """Fit a prior to a space.

    Strategies are built on the space's ``common``, as presets are. Those of the portfolio and of
    the lessons lie in the space; the baseline has to make sense for the family only, as every
    other baseline. What does not fit is compared with nothing.

    Returns:
        The space, whose rivals the baseline has joined; and what the prior brings.
    """
    frame = prior.frame
    firsts = frame.drop_duplicates("digest").set_index("digest")
    names = {str(digest): _plain_name(name) for digest, name in firsts["name"].items()}
    texts = {str(digest): str(text) for digest, text in firsts["strategy"].items()}
    sensible: dict[str, Strategy] = {}
    inside: dict[str, Params] = {}
    left_out: Counter[str] = Counter()
    for digest in texts:
        strategy = _on_common(texts[digest], space)
        if strategy is not None and problems(strategy, info, space.space.episode):
            left_out[f"without sense for {info.name}"] += 1
            continue
        if strategy is not None:
            sensible[digest] = strategy
        params = None if strategy is None else space.params_of(strategy)
        if params is None:
            left_out["outside the space"] += 1
        else:
            inside[digest] = params
    joined, baseline = space, None
    if sensible:
        best = next(iter(average_ranks(frame[frame["digest"].isin(list(sensible))])))
        joined, baseline = _with_rival(space, sensible[best], names[best])
    picked = short_list(frame[frame["digest"].isin(list(inside))])
    listed = _first_tried([(names[digest], sensible[digest]) for digest in picked], joined)
    of_file = {entry.strategy.digest() for entry in space.initial}
    in_run = {entry.strategy.digest() for entry in (*joined.initial, *listed)}
    return joined, Fitted(
        portfolio=listed,
        baseline=baseline,
        lessons=lessons(frame, inside),
        brought=frozenset(in_run - of_file),
        strategies=len(texts),
        left_out=dict(left_out),
    )


def _on_common(text: str, space: ResolvedSpace) -> Strategy | None:
    """The strategy with the space's ``common`` on top, as presets have it.

    None where it is none (any more), where ``common`` makes another method of it, or where it
    has a part of somebody's own that the space file does not name: no file of data may have code
    imported.
    """
    try:
        plain = json.loads(text)
    except ValueError:
        return None
    before = check(Strategy, plain)[0]
    if before is None or not _code(plain) <= _code(space.space.model_dump(mode="json")):
        return None
    common = space.space.common.plain()
    if before.backbone.kind == "none":
        common.pop("backbone", None)
    after = check(Strategy, deep_merge(plain, common))[0]
    return after if after is not None and _method(after) == _method(before) else None


def _code(data: Any, named: bool = False) -> set[str]:
    """The parts of the user's own that plain data name, those of choices included."""
    if isinstance(data, Mapping):
        pairs = data.items()
        return set().union(*(_code(x, named or key in ("use", "model")) for key, x in pairs))
    if isinstance(data, list):
        return set().union(*(_code(x, named) for x in data))
    return {data} - REGRESSORS.keys() if named and isinstance(data, str) else set()


def _method(strategy: Strategy) -> tuple[str, str, str]:
    return strategy.head.kind, strategy.inner.kind, strategy.meta.rule


def _with_rival(space: ResolvedSpace, strategy: Strategy, name: str) -> tuple[ResolvedSpace, str]:
    """The space with a baseline more, and its name: the file's where the file has the strategy."""
    initial = list(space.initial)
    for number, entry in enumerate(initial):
        if entry.strategy == strategy:
            if entry.origin == "initial":
                initial[number] = replace(entry, origin="baseline")
            name = entry.name
            break
    else:
        name = _free(f"prior-{name}", {entry.name for entry in initial})
        initial.append(Named(name, "baseline", strategy))
    return replace(space, initial=tuple(initial), rivals=space.rivals | {name}), name


def _first_tried(picked: list[tuple[str, Strategy]], space: ResolvedSpace) -> tuple[Named, ...]:
    """The portfolio under names that are free, without what the space names itself."""
    known = {entry.strategy.digest() for entry in space.initial}
    taken = {entry.name for entry in space.initial}
    listed: list[Named] = []
    for name, strategy in picked:
        if strategy.digest() in known:
            continue
        listed.append(Named(_free(name, taken), "portfolio", strategy))
        known.add(strategy.digest())
        taken.add(listed[-1].name)
    return tuple(listed)


def _plain_name(name: str) -> str:
    """A strategy's name without what an earlier prior added to it."""
    return name.removeprefix("prior-").partition("@")[0]


def _free(name: str, taken: set[str]) -> str:
    """The name; with a suffix where the run has it, or may give it to a proposal of its own."""
    numbered = (f"{name}@prior{number}" for number in count(2))
    for candidate in chain((name, f"{name}@prior"), numbered):
        if candidate not in taken and not (candidate == name and name.startswith("proposed-")):
            return candidate
    raise AssertionError("there is always one more number")
