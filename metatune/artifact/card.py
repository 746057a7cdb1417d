"""``card.md``: what an artifact is, what it was learned on, how good it is, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from metatune.artifact.fallback import MOST_FOLDS
from metatune.artifact.intervals import Calibration
from metatune.artifact.likeness import QUANTILE
from metatune.artifact.measures import Weighed
from metatune.errors import first_of
from metatune.tasks.base import SPLITS, FamilyInfo

NAMED = 12  # groups of a split that are listed by name


@dataclass(frozen=True)
class Scored:
    """What a verdict measured of a strategy.

    Attributes:
        score, low, high: mean over trainings on ``test``, with its 95 % interval.
        trainings: how often it was trained.
        tasks: how many it was judged on.
        groups: its mean score on each group of them.
        claim: ``new groups`` or ``new tasks``.
        sentence: the verdict.
        winner: the verdict names it first.
    """

    score: float
    low: float
    high: float
    trainings: int
    tasks: int
    groups: Mapping[str, float]
    claim: str
    sentence: str
    winner: bool


def card(
    plain: Mapping[str, Any],
    info: FamilyInfo,
    scored: Scored | None,
    weighed: Weighed | None,
    calibration: Calibration | None,
    licence: str | None,
) -> str:
    """The card, in Markdown.

    Args:
        plain: of ``strategy.json``.
        info: the run's family, with its groups.
        scored: what the verdict measured of it; None where it did not.
        weighed: what falling back to the best baseline did; None where it was not measured.
        calibration: of its intervals.
        licence: of the data; None where nobody said.
    """
    parts = [
        _what(plain),
        _learned_on(plain, info),
        _measured(plain, info, scored),
        *([] if weighed is None else [_fallback(weighed)]),
        _limits(plain, calibration, info.grouped),
        _origin(plain, licence),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _what(plain: Mapping[str, Any]) -> Iterator[str]:
    family, origin = plain["family"], plain["provenance"]
    members = origin["names"]
    yield f"# {' and '.join(dict.fromkeys(members))}"
    yield ""
    what = "classes" if family["kind"] == "classification" else "numbers"
    many = f"{len(members)} strategies that predict together" if len(members) > 1 else "a strategy"
    yield (
        f"{many.capitalize()} for learning tasks of the family `{family['name']}` from a few "
        f"examples; it predicts {what}. Found by metatune {origin['versions']['metatune']} in the "
        f"run `{origin['run']}`."
    )
    yield ""
    yield "```python"
    yield "learner = metatune.load(DIR).adapt(x, y)"
    yield "learner.predict(x_new)"
    yield "```"
    shape = " x ".join(str(size) for size in family["input_shape"])
    yield ""
    yield f"Inputs: {shape} numbers an example{_named(plain['inputs'])}."
    target = plain["target"]
    if target["name"]:
        yield f"Predicted: `{target['name']}`{_named(target['classes'])}."


def _named(names: list[str]) -> str:
    return f" ({first_of(names, NAMED, None)})" if names else ""


def _learned_on(plain: Mapping[str, Any], info: FamilyInfo) -> Iterator[str]:
    yield "## What it was learned on"
    yield ""
    yield f"{info.about} Data: sha256 `{plain['provenance']['data']}`."
    yield ""
    for split in SPLITS:
        groups = list(info.groups[split])
        yield f"- {split}: {len(groups)} groups{_named(groups)}"
    yield ""
    if not any(plain["provenance"]["resource"]):
        yield "Nothing in it was learned from other tasks: it learns each one by itself."
    elif plain["provenance"]["refitted_on_all_groups"]:
        yield (
            "After the verdict it was trained once more, on the groups of all four splits. **The "
            "scores below are the strategy's, from before**: they were measured on groups that it "
            "had not seen, by trainings on `train` alone. Of these weights nothing can be measured "
            "on the same data."
        )
    else:
        yield "It is as the search trained it: on `train` alone."


def _measured(plain: Mapping[str, Any], info: FamilyInfo, scored: Scored | None) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    episode, metric = plain["episode"], info.metric
    shape = f"{episode['shot']} support and {episode['query']} query examples{_each(plain)}"
    better = "higher" if metric.sign > 0 else "lower"
    if scored is None:
        yield f"Not measured on `test`: the verdict did not judge it. Tasks: {shape}."
        return
    yield (
        f"{metric.name} ({better} is better) on {scored.tasks} tasks of `test` ({shape}), over "
        f"{scored.trainings} trainings: **{scored.score:.4g}**, 95 % interval {scored.low:.4g} to "
        f"{scored.high:.4g}; the claim is about {scored.claim}."
    )
    yield ""
    yield f"The verdict: {scored.sentence}."
    if not scored.winner:
        yield ""
        yield "The verdict's winner was another strategy."
    yield ""
    yield f"| group of `test` | {metric.name} |"
    yield "| --- | --- |"
    for group, value in list(scored.groups.items())[: 4 * NAMED]:
        yield f"| {group.replace('|', ' ')} | {value:.4g} |"


def _each(plain: Mapping[str, Any]) -> str:
    """Whether examples are counted by class."""
    episode, classes = plain["episode"], plain["family"]["kind"] == "classification"
    return f" for each of {episode['way']} classes" if classes and episode["per_class"] else ""


def _fallback(told: Weighed) -> Iterator[str]:
    yield "## Fallback"
    yield ""
    worse = (
        f"the share of tasks on which it is worse than `{told.name}` went from {told.alone:.1%} to "
        f"{told.together:.1%} (lower by {told.lowered.mean:.1%}, 95 % interval "
        f"{told.lowered.low:.1%} to {told.lowered.high:.1%}; the claim is about {told.claim}), and "
        f"the mean score changed by {told.gain:+.3g} (positive is better)"
    )
    rule = (
        f"`{told.name}`, the best preset or baseline as chosen on `select`, where that has the "
        f"lower error on the task's own support rows (leave-one-out, of more than {MOST_FOLDS} "
        f"rows in {MOST_FOLDS} folds)"
    )
    if told.pays:
        yield (
            f"`adapt` falls back to {rule}; `learner.used` and `learner.choice` tell who learned a "
            f"task. On {told.tasks} tasks of `confirm` it did so for {told.taken:.1%}: {worse}. "
            "Measured of both as the search trained them, before any refit."
        )
    else:
        yield (
            f"None. It was tried to fall back to {rule}. On {told.tasks} tasks of `confirm` it did "
            f"so for {told.taken:.1%}: {worse}. It is taken up only where the share falls beyond "
            "chance and the mean score does not."
        )


def _limits(
    plain: Mapping[str, Any], calibration: Calibration | None, grouped: bool
) -> Iterator[str]:
    episode = plain["episode"]
    yield "## Limits"
    yield ""
    yield (
        f"- It was judged on tasks of {episode['shot']} support examples"
        f"{_each(plain)}; of tasks with fewer or more nothing was "
        "measured."
    )
    yield (
        f"- `adapt` warns where a support set is farther from those of training tasks than "
        f"{QUANTILE:.0%} of these are. No warning does not mean that the task is like them."
    )
    if calibration is not None:
        most = calibration.groups / (calibration.groups + 1)
        unit = "group" if grouped else "task"
        yield (
            f"- `predict_interval` rests on {len(calibration.scores)} predictions for "
            f"{calibration.groups} {unit}s of `confirm`, up to the level {most:.3g}, by the "
            f"strategy before any refit. It holds for tasks of new {unit}s like these, on average "
            f"over {unit}s, not for each {unit}; the strategy was also ranked on `confirm`, so it "
            "may be slightly too narrow."
        )


def _origin(plain: Mapping[str, Any], licence: str | None) -> Iterator[str]:
    origin = plain["provenance"]
    yield "## Licence of the data"
    yield ""
    yield (
        licence or "Not stated. Weights that were learned from data may be bound by their licence."
    )
    yield ""
    yield "## Where it comes from"
    yield ""
    trials = zip(origin["trials"], origin["digests"], origin["rounds"], strict=True)
    for trial, digest, round_ in trials:
        yield f"- trial {trial} of round {round_}, strategy {digest}"
    yield f"- seed {origin['seed']}, space file sha256 `{origin['space_sha256']}`"
    yield f"- resource: {', '.join(f'{used:,}' for used in origin['resource'])} forward-equivalents"
    versions = ", ".join(f"{name} {text}" for name, text in origin["versions"].items())
    yield f"- exported with {versions}"
    yield f"- git commit of metatune: {origin['commit_of_metatune'] or 'unknown'}; of the space "
    yield f"  file: {origin['commit_of_the_space_file'] or 'unknown'}"
    yield ""
    yield "The strategies as plain data stand in `strategy.json`. Nothing here is a pickle."
