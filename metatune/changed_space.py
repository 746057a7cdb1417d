"""A run goes on in another space: what was measured stands, and the next round has the new space.

The family, its tasks and objectives stay, for scores would not compare otherwise. The round under
way ends as it is, its unfinished trials stopped; what leads and what was learned goes on into the
new space, as from a run's ``method.yaml`` into another run. Its trials have a study of their own,
since in Optuna's one a knob's choices must not change.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from metatune import session
from metatune.driver import Driver
from metatune.errors import RunError
from metatune.history import History
from metatune.ledger import open_ledger
from metatune.meta_loop import initialise
from metatune.plan import Plan
from metatune.records.compaction import Compactor
from metatune.records.folder import RunFolder, opening
from metatune.records.lease import acquire
from metatune.records.put_log import open_log
from metatune.records.reading import read_info, read_rows
from metatune.records.rows import Ended, Turned
from metatune.search import evidence_after, spent
from metatune.space import Method, load_space, load_yaml, method_file
from metatune.space.region import Region


def change_space(path: str | Path, space_file: str | Path, *, storage: str | None = None) -> None:
    """Have a run go on with a new round in another space; ``session.resume`` then does.

    Asked for again with the same file, as after a kill, it changes nothing twice.

    Args:
        path: the run's folder.
        space_file: the new space. Its ``budget.trials`` are those of the rounds to come; limits of
            time go on counting from the run's start.
        storage: as of ``session.resume``.

    Raises:
        SpaceError: the space cannot be run.
        RunError: not a run, driven by another process, already at its verdict, or the space has
            another family, other tasks, objectives or prior.
    """
    folder = RunFolder.open(path)
    given, _ = load_yaml(Path(space_file))
    asked = sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    with ExitStack() as stack:
        lease = stack.enter_context(acquire(folder))
        stack.callback(folder.leave)
        stack.enter_context(opening(folder))
        about = _mended(folder)
        if about.get("spaces", [{}])[-1].get("sha256") == asked:
            return
        session.import_from(about.get("py_modules", []))
        new, _ = session.plan_of(load_space(space_file), seed=about["seed"], code=about["code"])
        _, old, where = session.reopen(path, storage=storage)
        _refuse_others(old, new, given, folder)
        history = History(old.info.metric.sign, read_rows(folder))
        if history.verdict is not None or history.look_at("test") is not None:
            raise RunError(
                f"{folder.name} is at its verdict, for which test is opened once: start a new run "
                f"with the section method of its {folder.method.name}, and the changed space"
            )
        log = open_log(folder, lease.driver)
        stack.enter_context(log)
        ledger = open_ledger(
            folder.journal,
            where,
            session.study_name(about),
            history,
            old.space.tree,
            old.space.space.costs,
            since=old.first_round,
        )
        stack.callback(ledger.close)
        compactor = stack.enter_context(Compactor(folder))
        driver = Driver(folder, old, history, log, ledger, compactor, 1, lambda row, known: None)
        method = _ended(driver, asked)
        _write(folder, about, given, asked, method, where)


def _refuse_others(old: Plan, new: Plan, given: dict[str, Any], folder: RunFolder) -> None:
    before, after = old.space.space, new.space.space
    same = {
        "family": (before.family, after.family),
        "objectives": (before.objectives, after.objectives),
        "prior": (before.prior, after.prior),
    }
    for name, (was, found) in same.items():
        if was != found:
            raise RunError(
                f"--changed-space: {name}: found {given.get(name)}; allowed: as in "
                f"{folder.shown(folder.space)}, for scores of a run are compared. "
                "Start a new run with the file"
            )


def _ended(driver: Driver, asked: str) -> Method:
    """Where the loop stands once the round under way has ended; nothing of it is lost."""
    method = initialise(driver)
    under_way = driver.history.of_round(method.round + 1)
    if under_way:
        reason = f"the space was changed (sha256 {asked[:12]})"
        left = [trial for trial in under_way if trial.ended is None]
        driver.record(*(Ended(trial.id, "stopped", reason, spent(trial)) for trial in left))
        known = evidence_after(driver, method)
        method = method.model_copy(update={"round": method.round + 1, "evidence": known})
        driver.record(
            Turned(
                round=method.round,
                incumbents=[],
                moves=[reason],
                seconds=driver.elapsed() - under_way[0].asked.at,
                method=method.model_dump(mode="json"),
            )
        )
    # The new space is looked at whole.
    return method.model_copy(update={"region": Region()})


def _write(
    folder: RunFolder,
    about: dict[str, Any],
    given: dict[str, Any],
    asked: str,
    method: Method,
    storage: str | None,
) -> None:
    """The new ``space.yaml`` and ``run.json``; the space so far is kept beside them."""
    number = len(about.get("spaces", [])) + 1
    kept = folder.path / f"space-{number}.yaml"
    folder.write(kept, folder.space.read_bytes())
    text = method_file(given, about["seed"], method)
    folder.write(folder.space, text)
    plan, family = session.plan_of(load_space(folder.space), seed=about["seed"], code=about["code"])
    said = session.describe(folder, plan, family, text, about["prior_sha256"], storage)
    stays = {name: about[name] for name in ("run", "created", "py_modules", "storage")}
    changes = [*about.get("spaces", []), {"since_round": method.round + 1, "sha256": asked}]
    study = f"{about['run']}-{number + 1}"
    about = said | stays | {"spaces": changes, "study": study}
    folder.write(folder.info, json.dumps(about, indent=2))  # now it is changed


def _mended(folder: RunFolder) -> dict[str, Any]:
    """``run.json``, and the space that it is about: a change that was killed is taken back."""
    about = read_info(folder)
    kept = folder.path / f"space-{len(about.get('spaces', [])) + 1}.yaml"
    text = folder.place.find(kept.name)
    if text is not None and sha256(text).hexdigest() == about["space_sha256"]:
        folder.write(folder.space, text)
    return about
