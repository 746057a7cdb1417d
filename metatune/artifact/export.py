"""From a run to an artifact.

After the verdict the winner is trained once more, on the groups of all splits: nothing is left to
be measured then, so its scores are the strategy's, from before. Intervals come from ``confirm``,
by the strategy as the search trained it, which has learned nothing there.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import metatune
from metatune.analysis import verdict_table
from metatune.artifact import files
from metatune.artifact import members as m
from metatune.artifact.card import Scored, card
from metatune.artifact.learner import Artifact
from metatune.artifact.loading import opened
from metatune.artifact.measures import calibration_of, likeness_of
from metatune.errors import ArtifactError, Diverged
from metatune.history import History, Trial
from metatune.learners.interface import to_tensors
from metatune.own import load_own, look_in
from metatune.plan import Plan
from metatune.records.folder import RunFolder
from metatune.records.reading import read_info, read_rows, read_run
from metatune.seeds import derive_seed
from metatune.session import planned
from metatune.tasks.base import Encodes, NamesInputs, TaskBatch, TaskFamily
from metatune.tasks.registry import open_family
from metatune.tasks.whole import WholeFamily
from metatune.trial import Fitted, fit

LIBRARIES = ("torch", "numpy", "safetensors", "scikit-learn", "pydantic")


def export(
    run: str | Path,
    out: str | Path,
    *,
    trial: str | None = None,
    refit: bool | None = None,
    licence: str | None = None,
) -> Path:
    """Write a run's winner, or a trial of it, as an artifact.

    Args:
        run: the run's folder; its data must be at hand.
        out: the artifact's folder, new or empty.
        trial: whose strategy; by default the verdict's winner.
        refit: train it once more, on the groups of all splits; by default where the run has given
            its verdict. Otherwise it is taken as the search trained it.
        licence: of the data, for the card.

    Returns:
        The artifact's folder.

    Raises:
        RunError, DataError: the run or its data cannot be read.
        ArtifactError: there is no such trial, or it cannot be exported.
    """
    folder_out = files.new_folder(out)
    folder, plan = planned(run)
    history = History(plan.info.metric.sign, read_rows(folder))
    chosen = _chosen(history, trial, folder)
    anew = history.verdict is not None if refit is None else refit
    if plan.code is not None:
        look_in(plan.code)
    space = plan.space.space.family
    family = open_family(space.name, space.data_dir, plan.options)
    trials = _trials(history, chosen)
    before = [_as_trained(folder, plan, one, family) for one in trials]
    whole: TaskFamily = WholeFamily(family) if anew else family
    after = _anew(plan, trials, whole) if anew else before
    plain = _plain(folder, plan, family, trials, after, refitted=anew)
    tensors = {
        f"{number}/{name}": tensor
        for number, fitted in enumerate(after)
        for name, tensor in m.to_tensors(m.member_of(fitted)).items()
    }
    likeness = likeness_of(plan, whole)
    tensors |= {f"likeness/{name}": getattr(likeness, name) for name in ("mean", "spread", "limit")}
    calibration = calibration_of(plan, family, before)
    if calibration is not None:
        named = ("scores", "group", "floor")
        tensors |= {f"calibration/{name}": getattr(calibration, name) for name in named}
    text = card(plain, plan.info, _scored(folder, chosen), calibration, licence)
    stored = files.Stored(plain, tensors, text)
    _proved(stored, after, plan, family)
    return files.write(stored, folder_out)


# --- what is exported ----------------------------------------------------------------------------


def _chosen(history: History, name: str | None, folder: RunFolder) -> Trial:
    """The trial or ensemble that is asked for.

    Raises:
        ArtifactError: there is none.
    """
    if name is None:
        if history.verdict is None:
            raise ArtifactError(
                f"{folder.path} has given no verdict: name a trial by --trial, or go on with "
                f"metatune resume {folder.path}"
            )
        return history.find(history.verdict.winner)
    known = {**history.trials, **history.ensembles}
    if name not in known:
        done = [t.id for t in history.trials.values() if t.completed]
        raise ArtifactError(
            f"trial: found {name[:40]!r}, which {folder.path} does not have; allowed: "
            f"{', '.join(done[:8]) or 'none yet'}"
        )
    return known[name]


def _trials(history: History, chosen: Trial) -> list[Trial]:
    """The trial, or the members of an ensemble; each has come to its end."""
    members = [history.trials[name] for name in chosen.asked.members] or [chosen]
    for one in members:
        if not one.completed:
            state = "running" if one.ended is None else one.ended.state
            raise ArtifactError(
                f"trial: found {one.id}, which is {state}; allowed: a completed one"
            )
    return members


def _as_trained(folder: RunFolder, plan: Plan, trial: Trial, family: TaskFamily) -> Fitted:
    """The strategy as the search trained it: from its checkpoint, else trained again alike."""
    job = plan.job(
        trial.asked,
        "select",
        folder=folder.trial(trial.id),
        recorded=trial.rungs[-1],
        train=False,
    )
    return _fitted(partial(fit, job, family), trial)


def _anew(plan: Plan, trials: Sequence[Trial], family: TaskFamily) -> list[Fitted]:
    """Each strategy trained on all groups; one that stands there twice with a seed for each."""
    found = []
    for number, trial in enumerate(trials):
        before = sum(one.asked.digest == trial.asked.digest for one in trials[:number])
        job = plan.job(trial.asked, "select", folder=None, replica=before)  # not judged
        found.append(_fitted(partial(fit, job, family), trial))
    return found


def _fitted(make: Callable[[], Fitted], trial: Trial) -> Fitted:
    try:
        return make()
    except Diverged as error:
        raise ArtifactError(
            f"{trial.id} ({trial.asked.name}) diverged when it was trained once more: {error}; "
            "take it as the search trained it, by --as-trained"
        ) from error


# --- plain data ----------------------------------------------------------------------------------


def _plain(
    folder: RunFolder,
    plan: Plan,
    family: TaskFamily,
    trials: Sequence[Trial],
    fitted: Sequence[Fitted],
    *,
    refitted: bool,
) -> dict[str, Any]:
    info, episode = plan.info, plan.space.space.episode
    encoding = dict(family.encoding) if isinstance(family, Encodes) else {}
    names = list(family.inputs) if isinstance(family, NamesInputs) else []
    return {
        "format": files.FORMAT,
        "family": {
            "name": info.name,
            "kind": info.kind,
            "input_shape": list(info.input_shape),
            "outputs": info.outputs,
            "metric": vars(info.metric),
            "views": {name: list(ends) for name, ends in info.views.items()},
            "shared_classes": info.shared_classes,
            "forecasts": dict(info.forecasts),
        },
        "episode": vars(episode),
        "strategies": [m.named_in_full(one.strategy).model_dump(mode="json") for one in fitted],
        "inputs": names,
        "target": {
            "name": encoding.get("target", ""),
            "mean": encoding.get("mean", 0.0),
            "spread": encoding.get("spread", 1.0),
            "classes": list(encoding.get("classes", [])),
        },
        "columns": encoding.get("columns", []),
        "provenance": _provenance(folder, plan, family, trials, fitted, refitted=refitted),
    }


def _provenance(
    folder: RunFolder,
    plan: Plan,
    family: TaskFamily,
    trials: Sequence[Trial],
    fitted: Sequence[Fitted],
    *,
    refitted: bool,
) -> dict[str, Any]:
    about = read_info(folder)
    return {
        "run": about["run"],
        "trials": [trial.id for trial in trials],
        "names": [trial.asked.name for trial in trials],
        "digests": [trial.asked.digest for trial in trials],
        "seed": plan.seed,
        "rounds": [trial.asked.round for trial in trials],
        "refitted_on_all_groups": refitted,
        "resource": [one.resource for one in fitted],
        "data": family.fingerprint,
        "space_sha256": about["space_sha256"],
        "created": about["created"],
        "versions_of_the_run": about["versions"],
        "versions": {
            "metatune": metatune.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "commit_of_metatune": _commit(Path(metatune.__file__).parent),
        "commit_of_the_space_file": None if plan.code is None else _commit(Path(plan.code)),
    }


def _commit(folder: Path) -> str | None:
    """The git commit of a folder, with ``+`` where files were changed since; None without one."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


# --- what is told and proved ----------------------------------------------------------------------


def _scored(folder: RunFolder, chosen: Trial) -> Scored | None:
    """What the verdict measured of it; None where it did not."""
    run = read_run(folder.path)
    table = verdict_table(run)
    if chosen.id not in table.index:
        return None
    row = {str(key): value for key, value in table.loc[chosen.id].to_dict().items()}
    final = run.verdicts.iloc[-1]
    tested = run.scores.query("trial == @chosen.id and split == 'test' and replica > 0")
    by_group = tested.groupby("group", observed=True)["score"].mean()
    return Scored(
        score=float(row["score"]),
        low=float(row["low"]),
        high=float(row["high"]),
        trainings=int(row["trainings"]),
        tasks=int(row["tasks"]),
        groups={str(group): float(value) for group, value in by_group.items()},
        claim=str(final["claim"]),
        sentence=str(final["sentence"]),
        winner=str(final["winner"]) == chosen.id,
    )


def _proved(stored: files.Stored, fitted: Sequence[Fitted], plan: Plan, family: TaskFamily) -> None:
    """Raise ArtifactError unless what was made predicts as what it was made of."""
    episode = plan.space.space.episode
    seeds = [derive_seed(plan.seed, "proof", number) for number in range(4)]
    batch = family.sample("train", episode, seeds)
    plain = json.loads(json.dumps(stored.plain))  # as it will be read
    with _parts_of(fitted) as parts:
        artifact = opened(replace(stored, plain=plain), Path("the artifact"), parts)
        found = torch.stack([_learned(artifact, batch, task) for task in range(len(batch))])
    members, learners = [m.member_of(one) for one in fitted], [one.learner for one in fitted]
    expected = m.predict(members, learners, artifact.is_classifier, to_tensors(batch))
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
        most = float((found - expected).abs().max())
        raise ArtifactError(
            f"the artifact predicts otherwise than its strategy, by up to {most:.3g}"
        )


def _learned(artifact: Artifact, batch: TaskBatch, task: int) -> Tensor:
    x, y, queries = (
        torch.from_numpy(np.asarray(values[task]))
        for values in (batch.support_x, batch.support_y, batch.query_x)
    )
    way = artifact.episode.way if artifact.is_classifier else 1
    return artifact.learned(x, y, way)(queries)


@contextmanager
def _parts_of(fitted: Sequence[Fitted]) -> Iterator[ModuleType]:
    """A module that holds all parts of the user's own, for as long as it is needed."""
    module = ModuleType("metatune_parts_of_the_run")
    for one in fitted:
        for place, part in m.own_parts(m.named_in_full(one.strategy)):
            setattr(module, part.use.rpartition(":")[2], load_own(part, m.ROOMS[place]))
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]
