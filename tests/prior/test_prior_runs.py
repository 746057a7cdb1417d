"""Runs that start from what earlier ones learned: tried first, told, resumed, chained, judged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import Story, kind_of
from inline_runner import SPACE, inline_resume, inline_run, lasting, rows_of
from priors import negated
from test_meta_loop import cut_copy, on_test

import metatune
from metatune import search, session
from metatune.confirm import confirmation
from metatune.errors import RunError, SpaceError
from metatune.prior import Fitted, learn_prior, prior_of, read_prior, write_prior
from metatune.records.folder import RunFolder
from metatune.records.reading import read_info
from metatune.records.rows import Asked, Concluded, Looked, Row
from metatune.search import portfolio_of
from metatune.space import Method, load_space
from metatune.tasks.formulas.quadratic import NOISE, SPREAD, START
from metatune.verdict import of_prior

SMALL = SPACE.replace("seeds: 2", "seeds: 1").replace("trials: 9", "trials: 14")
WITH = "prior: prior.parquet\n" + SMALL


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prior of two small runs."""
    folder = tmp_path_factory.mktemp("earlier")
    runs = [inline_run(SMALL, folder / f"run-{seed}", seed=seed) for seed in (10, 11)]
    path = folder / "prior.parquet"
    write_prior(prior_of(learn_prior([metatune.read_run(run) for run in runs])), path)
    return path


def run_with(prior: Path, folder: Path, text: str = WITH, **options: object) -> Path:
    """A run of a space file that has the prior beside it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(prior, folder.parent / "prior.parquet")
    return inline_run(text, folder, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def second(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that starts from it."""
    return run_with(earlier, tmp_path_factory.mktemp("second") / "run")


def asked(rows: list[Row]) -> list[Asked]:
    return [row for row in rows if isinstance(row, Asked)]


# --- what is tried --------------------------------------------------------------------------------


def test_the_portfolio_is_tried_right_after_what_the_file_names_and_the_baseline(
    second: Path,
) -> None:
    first = asked(rows_of(second))
    plan = session.reopen(second)[1]
    named, listed = plan.space.initial, portfolio_of(plan, Method())
    assert len(listed) >= 2
    assert [(row.name, row.origin) for row in first[: len(named) + len(listed)]] == [
        (entry.name, entry.origin) for entry in (*named, *listed)
    ]
    assert [entry.name for entry in named[:-1]] == ["fomaml", "wild", "singular", "maml", "scratch"]
    assert named[-1].origin == "baseline"
    assert {entry.origin for entry in listed} == {"portfolio"}
    assert {row.origin for row in first[len(named) + len(listed) :]} == {"proposed"}
    digests = [row.digest for row in first]
    assert len(digests) == len(set(digests))


def test_the_portfolio_takes_at_most_half_of_what_the_named_ones_leave(earlier: Path) -> None:
    space = load_space(write(earlier.parent / "s.yaml", WITH))
    sizes = {
        trials: len(portfolio_of(session.plan_of(space, trials=trials)[0], Method()))
        for trials in (1, 6, 7, 8, 10, 1000)
    }
    named = 6  # those of the file and the baseline
    assert {trials: sizes[trials] for trials in (1, 6, 7)} == {1: 0, 6: 0, 7: 0}
    assert sizes[8] == 1
    assert sizes[10] == (10 - named) // 2
    assert 2 <= sizes[1000] <= 5
    assert session.plan_of(space, trials=1)[0].trials == named


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_in_later_rounds_the_portfolio_is_not_tried_again_for_its_own_sake(earlier: Path) -> None:
    plan, _ = session.plan_of(load_space(write(earlier.parent / "s.yaml", WITH)))
    assert portfolio_of(plan, Method(round=1)) == ()


def test_with_no_time_left_the_portfolio_is_not_tried(earlier: Path, tmp_path: Path) -> None:
    text = WITH.replace("{trials: 14}", "{trials: 50, minutes: 1.0e-6}")
    run = metatune.read_run(run_with(earlier, tmp_path / "run", text))
    assert set(run.trials["origin"]) == {"default", "initial", "preset", "baseline"}


def test_the_baseline_of_the_prior_meets_at_the_verdict(second: Path) -> None:
    run = metatune.read_run(second)
    (baseline,) = run.trials[run.trials["name"].str.startswith("prior-")].index
    assert baseline in run.looks.query("split == 'test'").iloc[0]["trials"]


# --- what is told ---------------------------------------------------------------------------------


def test_every_other_proposal_hears_of_the_prior_and_the_others_as_if_there_were_none(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[float]] = []
    propose = search.propose

    def listening(tree, observations, seed, **options):  # type: ignore[no-untyped-def]
        told.append([v for o in observations for v in o.values.values() if v == 123.0])
        return propose(tree, observations, seed, **options)

    monkeypatch.setattr(search, "discounted", lambda lessons, own: [(lessons[0][0], 123.0)])
    monkeypatch.setattr(search, "propose", listening)
    monkeypatch.setattr(search, "TRIES", 1)
    rows = asked(rows_of(run_with(earlier, tmp_path / "run")))
    numbers = [row.number for row in rows if row.origin == "proposed"]
    assert [len(heard) for heard in told] == [1 - number % 2 for number in numbers]
    assert 0 < sum(map(len, told)) < len(told)


def test_the_proposer_hears_first_of_the_prior_as_of_completed_trials(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    propose = search.propose

    def listening(tree, observations, seed, **options):  # type: ignore[no-untyped-def]
        seen.append(observations)
        return propose(tree, observations, seed, **options)

    own_counts = []

    def heard(lessons, own):  # type: ignore[no-untyped-def]
        own_counts.append(len(own))
        return lessons[:2]

    monkeypatch.setattr(search, "discounted", heard)
    monkeypatch.setattr(search, "propose", listening)
    run_with(earlier, tmp_path / "run")
    plan = session.reopen(tmp_path / "run")[1]
    first = next(o for o in seen if o[0].params == plan.prior.lessons[0][0])
    assert [o.state for o in first[:2]] == ["completed", "completed"]
    assert [dict(o.values) for o in first[:2]] == [{3: g} for _, g in plan.prior.lessons[:2]]
    assert own_counts == sorted(own_counts)


# --- the same again -------------------------------------------------------------------------------


def test_a_seed_gives_the_same_again(second: Path, earlier: Path, tmp_path: Path) -> None:
    again = run_with(earlier, tmp_path / "again")
    assert lasting(rows_of(again)) == lasting(rows_of(second))


def test_another_prior_gives_other_trials_and_no_prior_too(second: Path, tmp_path: Path) -> None:
    without = inline_run(SMALL, tmp_path / "without")
    assert not {row.digest for row in asked(rows_of(without))} >= {
        row.digest for row in asked(rows_of(second))
    }


@pytest.fixture
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, which is not what fails in these tests."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.long
def test_a_run_killed_anywhere_ends_with_the_same_records_and_needs_no_original(
    second: Path, tmp_path: Path
) -> None:
    rows = rows_of(second)
    for kept in range(0, len(rows), 9):
        copy = cut_copy(second, tmp_path / str(kept) / "run", rows, kept)
        assert not (copy.parent / "prior.parquet").exists()
        inline_resume(copy)
        assert lasting(rows_of(copy)) == lasting(rows), f"cut after {kept} rows"
        assert (copy / "method.yaml").read_text() == (second / "method.yaml").read_text()
        shutil.rmtree(copy)


TWO_ROUNDS = WITH.replace("count: 1", "count: 2, growth: 2").replace("trials: 14", "trials: 26")


@pytest.mark.long
def test_two_rounds_in_one_run_are_two_chained_runs_with_a_prior_too(
    earlier: Path, tmp_path: Path
) -> None:
    whole = rows_of(run_with(earlier, tmp_path / "whole" / "run", TWO_ROUNDS))
    one = TWO_ROUNDS.replace("count: 2", "count: 1").replace("trials: 26", "trials: 13")
    first = run_with(earlier, tmp_path / "chain" / "first", one)
    (tmp_path / "chain" / "prior.parquet").unlink()
    method = first / "method.yaml"
    assert load_space(method).prior == "prior.parquet"  # the copy, which lies beside it
    folder, plan = session.create(method, out=tmp_path / "chain" / "second")
    assert plan.first_round == 2
    inline_resume(folder.path)
    found, expected = (
        lasting([r for r in rows if getattr(r, "round", 0) == 2 and not on_test(r)])
        for rows in (rows_of(folder.path), whole)
    )
    assert [{**row, "method": None} for row in found] == [
        {**row, "method": None} for row in expected
    ]
    names = {row.name for row in asked(rows_of(folder.path))}
    assert any(name.startswith("prior-") for name in names)  # the baseline is tried again
    assert found


# --- the run's own copy ---------------------------------------------------------------------------


def test_the_run_keeps_the_file_to_the_byte_and_its_hash(second: Path, earlier: Path) -> None:
    assert (second / "prior.parquet").read_bytes() == earlier.read_bytes()
    about = read_info(RunFolder(second))
    assert about["prior_sha256"] == read_prior(earlier).sha256


def test_a_run_without_a_prior_says_so(finished: Path) -> None:
    assert json.loads((finished / "run.json").read_text())["prior_sha256"] is None
    assert not (finished / "prior.parquet").exists()


def test_a_copy_that_was_changed_or_lost_is_refused(
    second: Path, earlier: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(second, tmp_path / "run")
    write_prior(prior_of(negated(read_prior(earlier).table)), copy / "prior.parquet")
    with pytest.raises(RunError, match=r"prior\.parquet was changed since the run started"):
        inline_resume(copy)
    (copy / "prior.parquet").unlink()
    with pytest.raises(SpaceError, match=r"space\.yaml:1: prior: found .* which is missing"):
        inline_resume(copy)


def test_nothing_is_made_where_the_prior_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", WITH)
    for content in (None, b"no Parquet"):
        if content is not None:
            (tmp_path / "prior.parquet").write_bytes(content)
        with pytest.raises(SpaceError, match=r"s\.yaml:1: prior: found .*; allowed: a file that"):
            session.create(file, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SpaceError, match=r"s\.yaml:1: prior: found 3; allowed: a valid string"):
        load_space(write(file, WITH.replace("prior.parquet", "3")))


# --- what the verdict says ------------------------------------------------------------------------


def judged(brought: set[str], **confirm: float) -> str:
    """What is said of a prior that brought these, by name, after this ranking on confirm."""
    story = Story()
    made = {name: story.trial(name, 0.1, 0.2, score) for name, score in confirm.items()}
    digests = {row.trial: row.digest for row in kind_of(story.rows, Asked)}
    brings = Fitted(brought=frozenset(digests[made[name]] for name in brought))
    story.plan = replace(story.plan, prior=brings)
    driver = story.driver()
    confirmation(driver, Method())
    for trial in kind_of(story.rows, Looked)[0].trials:
        story.score(trial, "confirm", confirm[driver.history.trials[trial].asked.name])
    driver = story.driver()
    best = max(confirm, key=lambda name: confirm[name])
    return of_prior(driver, driver.history.trials[made[best]])


def test_it_says_whether_the_winner_came_from_the_prior_or_how_far_its_best_came() -> None:
    scores = {"protonet": 0.5, "new": 0.7, "steady": 0.6}
    assert judged({"new"}, **scores) == "The winner came from the prior"
    assert judged({"steady"}, **scores) == (
        "The prior's best, steady, came in place 2 of 3 on confirm"
    )
    assert judged({"steady", "new"}, **scores) == "The winner came from the prior"


def test_a_winner_that_was_made_from_one_of_the_prior_names_it() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    steady = story.trial("steady", 0.6, 0.6, 0.6)
    child = story.trial("steady~child", 0.7, 0.7, 0.7)
    rows = {row.trial: row for row in kind_of(story.rows, Asked)}
    story.rows[story.rows.index(rows[child])] = replace(rows[child], parent=steady)
    brings = Fitted(brought=frozenset({rows[steady].digest}))
    story.plan = replace(story.plan, prior=brings)
    driver = story.driver()
    assert of_prior(driver, driver.history.trials[child]) == (
        "The winner was made from steady, which came from the prior"
    )


def test_of_an_ensemble_it_says_how_many_members_came_from_the_prior() -> None:
    story = Story()
    for name, score in (("protonet", 0.5), ("steady", 0.6), ("new", 0.7)):
        story.trial(name, score, score, score)
    own = story.ensemble("ensemble", "new", "steady")
    rows = {row.name: row for row in kind_of(story.rows, Asked)}
    story.plan = replace(story.plan, prior=Fitted(brought=frozenset({rows["steady"].digest})))
    driver = story.driver()
    said = of_prior(driver, driver.history.ensembles[own])
    assert said == "1 of the winner's 2 members came from the prior"


def test_it_says_where_the_prior_brought_nothing_new() -> None:
    said = judged(set(), protonet=0.5, new=0.7)
    assert said == "The prior brought no strategy that the space file does not name"


def test_it_says_where_nothing_of_the_prior_was_among_the_leaders() -> None:
    scores = {f"new-{n}": 0.6 + n / 100 for n in range(7)}
    said = judged({"bad"}, protonet=0.5, bad=0.1, **scores)
    assert said == "No strategy of the prior was among the leaders"


def test_the_sentence_of_a_whole_run_speaks_of_the_prior_and_without_one_it_does_not(
    second: Path, finished: Path
) -> None:
    with_prior, without = (rows_of(run)[-1] for run in (second, finished))
    assert isinstance(with_prior, Concluded)
    assert isinstance(without, Concluded)
    assert "prior" in with_prior.sentence
    assert "prior" not in without.sentence


# --- wrong on purpose -----------------------------------------------------------------------------

QUADRATIC = """\
family: {name: quadratic, shot: 4, query: 16}
resource: {full: 900, rungs: 1}
tasks: {select: 60, confirm: 60, test: 60}
budget: {trials: 20}
rounds: {count: 1}
common:
  head: {kind: linear, start: zero}
  meta: {rule: none}
default: slow
initial: [{name: slow, inner: {kind: sgd, scope: head, steps: 1, lr: 0.02}}]
strategy:
  inner:
    kind: sgd
    scope: head
    steps: {int: [1, 4]}
    lr: {float: [0.001, 0.9], log: true}
verdict: {seeds: 1, finalists: 1}
"""
"""Steps from zero on quadratics, whose best rate is algebra; the default's is far too small."""


def expected_error(run: Path) -> float:
    """The winner's squared error of a coordinate to be expected, by ``formulas/quadratic.py``.

    Steps shrink the distance to the support set's solution by 1 - 2 rate each. Where they go a
    part c of the way from 0, the error is (c - 1)^2 (tau^2 + mean theta_0^2) + c^2 sigma^2 / n.
    """
    found = metatune.read_run(run)
    winner = found.trials.loc[found.verdicts.iloc[0]["winner"]]
    way = 1 - (1 - 2 * float(winner["inner.lr"])) ** int(winner["inner.steps"])
    spread, noise = SPREAD**2 + float((START**2).mean()), NOISE**2 / 4
    return (way - 1) ** 2 * spread + way**2 * noise


BEST = 1 / (1 / (SPREAD**2 + float((START**2).mean())) + 4 / NOISE**2)


@pytest.mark.usefixtures("_no_sync")
@pytest.mark.long
def test_a_prior_that_is_wrong_on_purpose_is_recovered_from(tmp_path: Path) -> None:
    runs = [inline_run(QUADRATIC, tmp_path / f"old-{seed}", seed=50 + seed) for seed in (0, 1)]
    right = learn_prior([metatune.read_run(run) for run in runs])
    for name, table in (("right", right), ("wrong", negated(right))):
        (tmp_path / name).mkdir()
        write_prior(prior_of(table), tmp_path / name / "prior.parquet")
    errors: dict[str, list[float]] = {"none": [], "right": [], "wrong": []}
    for seed in range(4):
        for name, found in errors.items():
            text = QUADRATIC if name == "none" else "prior: prior.parquet\n" + QUADRATIC
            run = inline_run(text, tmp_path / name / f"run-{seed}", seed=seed)
            found.append(expected_error(run))
            tried = set(metatune.read_run(run).trials["origin"])
            assert ("portfolio" in tried) == (name != "none")
    none, wrong = np.array(errors["none"]), np.array(errors["wrong"])
    noise = 2 * (wrong - none).std(ddof=1) / np.sqrt(len(none))
    assert wrong.mean() <= none.mean() + max(noise, 0.05 * BEST)
    assert max(errors["wrong"]) < 1.2 * BEST < 1.2 * (0.04 - 1) ** 2 * 2.75  # the default's
    assert max(errors["right"]) < 1.2 * BEST
