"""Priors: what is learned from runs, what covers their tasks, what fits a space, what is heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import Story, prototypes
from handmade import plan_of as by_hand
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inline_runner import SPACE
from priors import prior, table_of

from metatune.errors import RunError, SpaceError
from metatune.observations import Observation
from metatune.prior import (
    SCHEMA,
    agreement,
    average_ranks,
    discounted,
    fit,
    learn_prior,
    portfolio,
    prior_of,
    read_prior,
    short_list,
    write_prior,
)
from metatune.prior.fitting import _code
from metatune.prior.lessons import DISCOUNT, OBSERVATIONS, Lesson, lessons, spread
from metatune.prior.portfolio import group_weights, matrix
from metatune.proposer import propose
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import Asked, Ended, Row, Scored
from metatune.space import KnobTree, ResolvedSpace, load_yaml, parse_space, parse_tree, resolve
from metatune.space.source import Source
from metatune.strategy import (
    MLP,
    Linear,
    Meta,
    Outer,
    OwnBackbone,
    Pooled,
    Prototypes,
    Ridge,
    Steps,
    Strategy,
)
from metatune.tasks.base import FamilyInfo
from metatune.tasks.formulas.sinusoid import SinusoidFamily

NAN = float("nan")
WAVES = SinusoidFamily().info
BODY = MLP(width=8, depth=1)


def gradient(lr: float = 0.01, steps: int = 1, **changes: Any) -> Strategy:
    """A strategy of ``SPACE``."""
    return Strategy(
        backbone=BODY,
        head=Linear(start="learned"),
        inner=Steps(steps=steps, lr=lr),
        meta=Meta(rule="first_order"),
        outer=Outer(lr=0.005, schedule="constant", tasks_per_batch=4),
    ).model_copy(update=changes)


def ridge(penalty: float) -> Strategy:
    """Another of ``SPACE``."""
    return gradient().model_copy(update={"head": Ridge(penalty=penalty), "inner": Strategy().inner})


def even(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def rows_picked(gains: Sequence[Sequence[float]], weights: np.ndarray | None = None) -> list[int]:
    matrix = np.array(gains)
    return [p.row for p in portfolio(matrix, even(matrix.shape[1]) if weights is None else weights)]


# --- the portfolio --------------------------------------------------------------------------------


def test_the_portfolio_begins_with_the_best_on_average_and_adds_what_it_lacks() -> None:
    gains = np.array(
        [
            [1.0, 1.0, 0.0, 0.0],  # best on the first half
            [0.0, 0.0, 0.9, 0.9],  # best on the second
            [0.6, 0.6, 0.6, 0.6],  # never best, never bad
            [0.9, 0.9, 0.0, 0.0],  # as the first, but worse
        ]
    )
    picks = portfolio(gains, even(4))
    assert [pick.row for pick in picks] == [2, 0, 1]
    assert [pick.coverage for pick in picks] == pytest.approx([0.6, 0.8, 0.95])


def test_a_loss_somewhere_takes_nothing_away_and_not_tried_is_no_gain() -> None:
    assert rows_picked([[0.5, 0.5], [1.0, -9.0], [NAN, 0.9]]) == [0, 1, 2]
    assert rows_picked([[NAN, 0.9], [0.5, 0.5], [1.0, -9.0]]) == [1, 2, 0]


def test_nothing_that_gains_makes_an_empty_portfolio() -> None:
    assert portfolio(np.array([[0.0, -1.0], [NAN, NAN]]), even(2)) == []
    assert portfolio(np.zeros((3, 0)), np.zeros(0)) == []
    assert portfolio(np.zeros((0, 2)), even(2)) == []


def test_the_portfolio_ends_at_five_or_where_one_more_adds_less_than_a_hundredth() -> None:
    assert len(portfolio(np.eye(9), even(9))) == 5
    almost = np.array([[1.0, 0.0], [0.0, 0.019]])
    assert len(portfolio(almost, even(2))) == 1
    assert len(portfolio(almost + np.array([[0.0], [0.002]]), even(2))) == 2


def test_of_equals_the_first_is_picked() -> None:
    assert rows_picked([[0.3, 0.3], [0.3, 0.3], [0.6, 0.0]]) == [0, 2]


def test_what_a_task_weighs_counts() -> None:
    assert rows_picked([[1.0, 0.0], [0.0, 1.0]], np.array([0.3, 0.7])) == [1, 0]


cells = st.floats(-2, 2).map(lambda x: round(x, 2)) | st.just(NAN)
some_gains = st.tuples(st.integers(1, 6), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=cells)
)


def covered(gains: np.ndarray) -> float:
    """What a portfolio of all these strategies covers, by the definition."""
    return float(np.nan_to_num(np.maximum(gains, 0)).max(axis=0, initial=0.0).mean())


@given(some_gains)
def test_a_strategy_more_never_lowers_the_coverage(gains: np.ndarray) -> None:
    weights = even(gains.shape[1])
    coverages = [0.0, *(p.coverage for p in portfolio(gains, weights, least=0.0))]
    assert coverages == sorted(coverages)
    for known in range(1, len(gains)):
        assert covered(gains[: known + 1]) >= covered(gains[:known])


@given(some_gains)
def test_a_picks_coverage_is_that_of_all_picks_so_far(gains: np.ndarray) -> None:
    picks = portfolio(gains, even(gains.shape[1]))
    for number, pick in enumerate(picks, start=1):
        rows = [p.row for p in picks[:number]]
        assert len(set(rows)) == number
        assert pick.coverage == pytest.approx(covered(gains[rows]), abs=1e-9)


@given(some_gains)
def test_greed_costs_less_than_1_over_e_of_the_best_list_of_that_length(gains: np.ndarray) -> None:
    picks = portfolio(gains, even(gains.shape[1]), least=0.0)
    for number, pick in enumerate(picks, start=1):
        lists = combinations(range(len(gains)), number)
        best = max(covered(gains[list(rows)]) for rows in lists)
        assert pick.coverage >= (1 - 1 / np.e) * best - 1e-9


# --- what is comparable over runs -----------------------------------------------------------------

A, B, C, D = (gradient(lr) for lr in (0.01, 0.02, 0.03, 0.04))


def test_each_run_counts_alike_in_it_each_group_in_it_each_task() -> None:
    assert group_weights(["a", "a", "b"]).tolist() == [0.25, 0.25, 0.5]
    first = {A: [0.0] * 3, B: [1.0] * 3}
    second = {A: [0.0] * 30, B: [1.0] * 30}
    weights = matrix(table_of(first, second).to_pandas()).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[:3].sum() == pytest.approx(0.5)


def test_the_best_of_every_task_covers_all_and_the_median_nothing() -> None:
    frame = table_of({A: [0, 0, 0], B: [1, 2, 3], C: [-1, -5, -9]}).to_pandas()
    assert short_list(frame) == {B.digest(): 1.0}
    gains = matrix(frame).gains
    rows = dict(zip(matrix(frame).digests, gains.tolist(), strict=True))
    assert rows[A.digest()] == rows[C.digest()] == [0, 0, 0]


tasks_gains = st.lists(
    st.lists(st.integers(-50, 50).map(float), min_size=4, max_size=4), min_size=2, max_size=4
)


@given(tasks_gains, st.sampled_from([2.0**-10, 4.0, 2.0**20]), st.integers(-9, 9))
def test_neither_a_runs_metric_nor_its_default_changes_the_portfolio(
    gains: list[list[float]], scale: float, offset: int
) -> None:
    known = dict(zip((A, B, C, D), gains, strict=False))
    other = {s: [scale * (g + offset * t) for t, g in enumerate(own)] for s, own in known.items()}
    left, right = (short_list(table_of(known, run).to_pandas()) for run in (known, other))
    assert list(left) == list(right)
    assert list(left.values()) == pytest.approx(list(right.values()))


def test_a_run_in_which_all_are_alike_says_nothing() -> None:
    told, dull = {A: [0, 0], B: [1, 1], C: [-1, -1]}, {A: [0, 0], B: [0, 0]}
    assert short_list(table_of(told, dull).to_pandas()) == short_list(table_of(told).to_pandas())
    assert short_list(table_of(dull).to_pandas()) == {}


def test_one_that_is_brilliant_on_some_tasks_and_fails_on_others_is_not_picked() -> None:
    wild = {A: [0, 0, 0, 0], B: [1, 1, 1, 1], C: [0.5] * 4, D: [9, -99, 9, -99]}
    assert D.digest() not in short_list(table_of(wild).to_pandas())


def test_the_best_average_rank_is_good_in_every_run_rather_than_first_in_one() -> None:
    runs = [
        {A: [0.0], B: [3.0], C: [2.0], D: [-1.0]},
        {A: [0.0], C: [2.0], D: [3.0]},
        {A: [0.0], C: [2.0]},
    ]
    ranks = average_ranks(table_of(*runs).to_pandas())
    assert list(ranks) == [s.digest() for s in (C, B, D, A)]
    assert ranks[C.digest()] == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert ranks[B.digest()] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)  # not tried: the middle


# --- learning from runs ---------------------------------------------------------------------------


def story(**scores: Any) -> Story:
    """A run whose trials have these scores at their last rung; protonet is the default."""
    made = Story()
    for name, score in scores.items():
        made.trial(name, 0.1, 0.2, score)
    return made


def test_gains_are_paired_by_task_with_the_runs_default_and_ranked() -> None:
    own = [0.5 + task / 100 for task in range(16)]
    made = story(protonet=0.5, r2d2=0.4, new=own)
    frame = learn_prior([made.run()]).to_pandas()
    assert list(frame["name"]) == ["new", "protonet", "r2d2"]
    assert frame["gains"].iloc[0] == pytest.approx([task / 100 for task in range(16)])
    assert frame["gain"].to_list() == pytest.approx([0.075, 0.0, -0.1])
    assert frame["rank"].to_list() == [1, 2, 3]
    assert set(frame["ranked"]) == {3}
    protonet = frame.set_index("name").loc["protonet", "digest"]
    assert set(frame["default"]) == {protonet}
    assert Strategy.model_validate_json(frame["strategy"].iloc[0]).digest() == frame["digest"][0]


def test_where_a_lower_score_is_better_a_gain_is_still_positive() -> None:
    run = story(protonet=0.5, new=0.4).run()
    run.info["family"]["sign"] = -1
    assert learn_prior([run]).to_pandas().iloc[0][["name", "gain"]].to_list() == [
        "new",
        pytest.approx(0.1),
    ]


def test_only_completed_trials_are_learned_from_and_a_strategy_once() -> None:
    made = story(protonet=0.5)
    made.trial("bad", 0.1, state="stopped")
    made.trial("wild", state="diverged")
    made.trial("going", 0.1, state=None)
    made.trial("new", 0.1, 0.2, 0.6, strategy=prototypes(2.0))
    made.trial("again", 0.1, 0.2, 0.8, strategy=prototypes(2.0))
    assert list(learn_prior([made.run()]).to_pandas()["name"]) == ["new", "protonet"]


def in_round(rows: Sequence[Row], round_: int) -> list[Row]:
    """The rows as those of another round."""
    found = []
    for row in rows:
        assert isinstance(row, Asked | Scored | Ended)
        moved: Row = replace(row, trial=f"r{round_}{row.trial[2:]}")
        found.append(moved if isinstance(moved, Ended) else replace(moved, round=round_))  # type: ignore[call-arg]
    return found


def run_of(rows: list[Row], like: Story) -> Run:
    return Run(Path("/nowhere/run"), like.run().info, tables(rows))


def test_an_ensemble_is_not_learned_from() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    story.trial("new", 0.6, 0.6, 0.6)
    before = learn_prior([story.run()])
    story.score(story.ensemble("ensemble", "new", "protonet"), "select", 0.9)
    assert learn_prior([story.run()]).equals(before)


def test_a_run_is_learned_from_in_its_newest_round_whose_default_was_completed() -> None:
    first, second = story(protonet=0.5, r2d2=0.4, new=0.6), story(protonet=0.5, r2d2=0.7)
    both = [*first.rows, *in_round(second.rows, 2)]
    frame = learn_prior([run_of(both, first)]).to_pandas()
    assert list(zip(frame["name"], frame["round"], strict=True)) == [("r2d2", 2), ("protonet", 2)]
    going = [row for row in both if not (isinstance(row, Ended) and row.trial == "r2-0000")]
    assert set(learn_prior([run_of(going, first)]).to_pandas()["round"]) == {1}


def test_runs_of_one_name_are_told_apart() -> None:
    run = story(protonet=0.5, new=0.6).run()
    assert list(learn_prior([run, run]).to_pandas()["run"].unique()) == ["nowhere", "nowhere-2"]


def test_a_run_without_a_completed_default_is_refused_in_a_sentence() -> None:
    made = Story()
    made.trial("protonet", 0.5, state=None)
    with pytest.raises(RunError, match="/nowhere has not completed its default strategy"):
        learn_prior([made.run()])
    with pytest.raises(RunError, match="found no run"):
        learn_prior([])


# --- the file -------------------------------------------------------------------------------------


def test_a_prior_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    made = prior({A: [0.0, 0.0], B: [1.0, 2.0]})
    write_prior(made, tmp_path / "prior.parquet")
    back = read_prior(tmp_path / "prior.parquet")
    assert back.table.equals(made.table)
    assert (back.data, back.sha256) == (made.data, made.sha256)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "prior.parquet"), made.frame)


def test_every_column_says_what_it_means_and_the_file_its_version() -> None:
    assert all(field.metadata[b"meaning"] for field in SCHEMA)
    assert SCHEMA.metadata[b"metatune_prior"] == b"1"


def other_version(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({"metatune_prior": "7"})


def without_version(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata(None)


def other_tasks(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[0]["tasks"][0] = "another"
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def not_finite(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[0]["gains"][0] = NAN
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_version, "a prior of version 7; allowed: version 1: build it again"),
        (without_version, "which is no prior; allowed: a file that `metatune prior RUN"),
        (other_tasks, "which is no prior"),
        (not_finite, "which is no prior"),
    ],
)
def test_a_file_that_is_no_prior_is_refused_in_the_form_of_all_messages(
    change: Any, words: str, tmp_path: Path
) -> None:
    pq.write_table(change(table_of({A: [0.0], B: [1.0]})), tmp_path / "p.parquet")
    with pytest.raises(SpaceError) as error:
        read_prior(tmp_path / "p.parquet", Source("s.yaml", {("prior",): 3}))
    assert str(error.value).startswith(f"s.yaml:3: prior: found {tmp_path}/p.parquet, ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "which is missing"),
        (b"", "which is no whole Parquet file"),
        (b"PAR1 but no more", "which is no whole Parquet file"),
        ("folder", "which cannot be read"),
    ],
)
def test_what_is_no_file_of_tables_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SpaceError, match=words):
        read_prior(path)


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(prior({A: [0.0, 1.0], B: [1.0, 2.0]}).data)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.parquet"
    file.write_bytes(whole)
    with suppress(SpaceError):
        read_prior(file)


def test_a_prior_replaces_a_prior_and_nothing_else(tmp_path: Path) -> None:
    old, new = prior({A: [0.0], B: [1.0]}), prior({A: [0.0], C: [1.0]})
    write_prior(old, tmp_path / "p.parquet")
    write_prior(new, tmp_path / "p.parquet")
    assert read_prior(tmp_path / "p.parquet").table.equals(new.table)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"thesis.txt exists and is no prior"):
        write_prior(new, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(RunError, match="cannot be written: No such file"):
        write_prior(new, tmp_path / "nowhere" / "p.parquet")


# --- fitting it to a space ------------------------------------------------------------------------


def space_of(text: str = SPACE, info: FamilyInfo = WAVES) -> ResolvedSpace:
    return resolve(parse_space(load_yaml(text)[0]), info)


def test_what_fits_is_tried_under_its_name_or_with_a_suffix_where_that_may_clash() -> None:
    names = {B: "proposed-1-7", C: "steady", D: "wild"}
    made = prior(
        {A: [0, 0, 0], B: [3, 0, 0], C: [0, 3, 0], D: [0, 0, 3]},
        {A: [0, 0], B: [-1, -1], C: [-1, -1], D: [-1, -1]},
        names=names,
    )
    joined, brings = fit(made, space_of(), WAVES)
    assert {(e.name, e.origin, e.strategy) for e in brings.portfolio} == {
        ("proposed-1-7@prior", "portfolio", B),  # a proposal of the new run may have the name
        ("steady", "portfolio", C),
        ("wild@prior", "portfolio", D),  # the file has another of this name
    }
    assert brings.baseline == joined.initial[-1].name
    assert brings.brought == {s.digest() for s in (A, B, C, D)}


def test_a_name_from_an_earlier_prior_does_not_grow() -> None:
    names = {B: "proposed-1-7@prior", C: "prior-proposed-1-7", A: "fomaml"}
    made = prior({A: [0, 0, -1], B: [3, 0, 0], C: [0, 3, 0]}, names=names)
    _, brings = fit(made, space_of(), WAVES)
    assert {e.name for e in brings.portfolio} | {brings.baseline} == {
        "proposed-1-7@prior",
        "prior-proposed-1-7",
    }


def test_the_strategy_with_the_best_average_rank_becomes_a_rival() -> None:
    made = prior({A: [0, 0], B: [2, 2], C: [1, 1]}, names={B: "proposed-1-7"})
    plain = space_of()
    joined, brings = fit(made, plain, WAVES)
    added = joined.initial[len(plain.initial) :]
    assert [(e.name, e.origin, e.strategy) for e in added] == [
        ("prior-proposed-1-7", "baseline", B)
    ]
    assert joined.rivals == plain.rivals | {"prior-proposed-1-7"}
    assert B not in [e.strategy for e in brings.portfolio]  # it is tried once


def test_a_strategy_that_the_file_names_keeps_that_name_and_is_a_rival_too() -> None:
    text = SPACE.replace(
        "  - fomaml\n", "  - fomaml\n  - {name: mine, preset: fomaml, inner: {lr: 0.02}}\n"
    )
    plain = space_of(text)
    mine = next(e for e in plain.initial if e.name == "mine")
    assert mine.origin == "initial"
    made = prior({A: [0], mine.strategy: [1], B: [0.5]}, names={mine.strategy: "proposed-1-3"})
    joined, brings = fit(made, plain, WAVES)
    assert [e.name for e in joined.initial] == [e.name for e in plain.initial]
    assert next(e for e in joined.initial if e.name == "mine").origin == "baseline"
    assert "mine" in joined.rivals
    assert brings.baseline == "mine"
    assert mine.strategy.digest() not in brings.brought


def test_what_makes_no_sense_or_lies_outside_is_left_out_and_counted() -> None:
    images = Strategy(backbone=BODY, head=Prototypes())
    made = prior(
        {A: [0, 0], images: [9, 9], gradient(lr=1e-9): [8, 8], gradient(lr=1e-8): [7, 7], B: [1, 1]}
    )
    joined, brings = fit(made, space_of(), WAVES)
    assert brings.strategies == 5
    assert brings.left_out == {"without sense for sinusoid": 1, "outside the space": 2}
    assert [e.strategy for e in brings.portfolio] == [B]
    assert joined.initial[-1].strategy == gradient(lr=1e-9)  # a baseline may lie outside
    assert all(params["inner.lr"] >= 1e-4 for params, _ in brings.lessons if "inner.lr" in params)


def test_of_another_kind_of_family_nothing_is_left_and_that_is_said() -> None:
    made = prior({prototypes(1.0): [0, 0], prototypes(2.0): [1, 1]})
    joined, brings = fit(made, plain := space_of(), WAVES)
    assert joined == plain
    assert (brings.portfolio, brings.baseline, brings.lessons) == ((), None, ())
    assert sum(brings.left_out.values()) == brings.strategies == 2


def test_strategies_are_built_on_the_spaces_common_parts_as_presets_are() -> None:
    wide = gradient(0.02, backbone=MLP(width=64, depth=3))
    _, brings = fit(prior({A: [0, 0], wide: [1, 1], C: [2, 0]}), space_of(), WAVES)
    found = {e.strategy for e in brings.portfolio} | {
        e.strategy for e in fit(prior({A: [0, 0], wide: [1, 1]}), space_of(), WAVES)[0].initial
    }
    assert gradient(0.02) in found
    assert wide not in found


def test_common_parts_that_make_another_method_of_it_leave_it_out() -> None:
    text = SPACE.replace("common:\n", "common:\n  combination: {kind: single}\n")
    assert fit(prior({A: [0], B: [1]}), space_of(text), WAVES)[1].left_out == {}
    plan = by_hand()
    other = replace(
        plan.space,
        space=plan.space.space.model_copy(
            update={
                "common": plan.space.space.common.model_copy(update={"head": {"kind": "ridge"}})
            }
        ),
    )
    _, brings = fit(prior({prototypes(1.0): [0], prototypes(2.0): [1]}), other, plan.info)
    assert brings.left_out == {"outside the space": 2}


def test_a_strategy_of_a_version_that_is_no_more_is_left_out() -> None:
    rows = table_of({A: [0.0], B: [1.0]}).to_pylist()
    rows[0]["strategy"] = '{"head": {"kind": "telepathy"}}'
    rows[1]["strategy"] = "not even JSON"
    brings = fit(prior_of(pa.Table.from_pylist(rows, schema=SCHEMA)), space_of(), WAVES)[1]
    assert brings.left_out == {"outside the space": 2}


def test_no_file_of_data_has_code_imported_that_the_space_does_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sly.py").write_text("raise SystemExit('imported')")
    sly = Strategy(backbone=OwnBackbone(use="sly:Network"), head=Linear(start="learned"))
    pooled = gradient(prior=Pooled(model="sly:Model"))
    rows = table_of({A: [0.0], B: [5.0], C: [4.0], D: [1.0]}).to_pylist()
    rows[1]["strategy"], rows[2]["strategy"] = sly.model_dump_json(), pooled.model_dump_json()
    made = prior_of(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert fit(made, space_of(), WAVES)[1].left_out == {"outside the space": 2}
    named = SPACE.replace(
        "strategy:\n", "strategy:\n  prior: {kind: pooled, model: {choice: [a:B, c:D]}}\n"
    )
    assert _code(load_yaml(named)[0]) == {"a:B", "c:D"}
    assert _code(pooled.model_dump(mode="json")) == {"sly:Model"}
    assert _code(gradient(prior=Pooled(model="trees")).model_dump(mode="json")) == set()


def test_the_space_that_may_be_searched_stays_as_it_was() -> None:
    plain = space_of()
    joined, _ = fit(prior({A: [0, 0], B: [-5, -5], ridge(1.0): [-9, -9]}), plain, WAVES)
    assert joined.tree == plain.tree
    assert joined.initial[: len(plain.initial)] == plain.initial


# --- lessons --------------------------------------------------------------------------------------


def lesson(number: int, gain: float) -> Lesson:
    return {"x": number}, gain


RANKED = tuple(lesson(number, 10.0 - number) for number in range(20))


def test_measurements_that_rank_alike_agree_the_more_the_more_they_are() -> None:
    alike = [(float(n), 10.0 * n) for n in range(30)]
    assert agreement([]) == agreement(alike[:1]) == 0
    assert agreement(alike[:2]) == pytest.approx(1 / 4)
    assert agreement(alike[:3]) == pytest.approx(3 / 6)
    assert agreement(alike) > 0.99


def test_measurements_that_contradict_each_other_or_say_nothing_agree_in_nothing() -> None:
    assert agreement([(float(n), -float(n)) for n in range(9)]) == 0
    assert agreement([(1.0, 0.0), (1.0, 5.0), (1.0, 2.0)]) == 0


def test_without_a_strategy_that_both_know_no_lesson_is_heard() -> None:
    assert discounted(RANKED, [lesson(100 + n, float(n)) for n in range(40)]) == []


def test_where_the_run_contradicts_the_prior_no_lesson_is_heard() -> None:
    assert discounted(RANKED, [(params, -gain) for params, gain in RANKED]) == []


def test_what_lost_is_heard_at_half_its_gain_in_the_runs_own_measure() -> None:
    own = [(params, 0.1 * gain) for params, gain in RANKED]
    heard = discounted(RANKED, own)
    assert len(heard) == OBSERVATIONS - 1  # it agrees, but not quite for sure
    assert {params["x"] for params, _ in heard} <= set(range(10, 20))  # what won is tried instead
    assert {heard[0][0]["x"], heard[-1][0]["x"]} == {10, 19}
    unit, gains = spread([gain for _, gain in own]), {p["x"]: gain for p, gain in RANKED}
    assert [gain for _, gain in heard] == pytest.approx(
        [DISCOUNT * unit * gains[params["x"]] for params, _ in heard]
    )


def test_a_single_lesson_is_the_worst() -> None:
    assert [params for params, _ in discounted(RANKED[:4], RANKED[:4])] == [{"x": 3}]


finite = st.floats(-100, 100)


@given(
    st.lists(st.tuples(st.integers(0, 30), finite), max_size=40),
    st.lists(st.tuples(st.integers(0, 30), finite), max_size=60),
)
def test_of_what_the_proposer_goes_by_at_most_a_third_is_earlier_and_few_at_any_rate(
    earlier: list[tuple[int, float]], own: list[tuple[int, float]]
) -> None:
    known = sorted(((lesson(*each)) for each in earlier), key=lambda found: -found[1])
    heard = discounted(known, [lesson(*each) for each in own])
    assert len(heard) <= OBSERVATIONS
    assert 3 * len(heard) <= len(heard) + len(own)
    assert len({frozenset(params.items()) for params, _ in heard}) <= len(known)


def test_lessons_fade_as_own_observations_come_in() -> None:
    def share(count: int) -> float:
        own = [(RANKED[n % 20][0], RANKED[n % 20][1]) for n in range(count)]
        heard = len(discounted(RANKED, own))
        return heard / (heard + count)

    shares = [share(count) for count in (20, 40, 80, 160)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.05


def test_gains_of_a_strategy_are_averaged_over_runs_each_in_its_own_measure() -> None:
    frame = table_of(
        {A: [0.0], B: [1.0], C: [2.0], D: [-1.0]}, {A: [0.0], B: [-1000.0], C: [2000.0]}
    ).to_pandas()
    params = {s.digest(): {"lr": number} for number, s in enumerate((A, B, C))}
    found = {p["lr"]: gain for p, gain in lessons(frame, params)}
    assert found[0] == 0
    assert found[1] == pytest.approx((1 / 1 - 1000 / 1500) / 2)
    assert found[2] == pytest.approx((2 / 1 + 2000 / 1500) / 2)


# --- a wrong prior is recovered from --------------------------------------------------------------

TREE = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True}},
        "choose": {
            "ridge": {"head": {"kind": "ridge", "penalty": {"float": [0.01, 100.0], "log": True}}},
            "linear": {"head": {"kind": "linear", "start": {"choice": ["zero", "learned"]}}},
            "prototypes": {"head": {"kind": "prototypes"}},
        },
    }
)


def value(params: Mapping[str, Any]) -> float:
    """Highest, 0.3, for ridge at a rate of 0.01."""
    return 0.3 * (params["choose"] == "ridge") - 0.15 * (np.log10(params["inner.lr"]) + 2) ** 2


def told(known: Sequence[Lesson]) -> list[Observation]:
    return [Observation(params, "completed", {1: gain}) for params, gain in known]


def searched(tree: KnobTree, known: Sequence[Lesson], trials: int, seed: int) -> float:
    """The value of what a search ends with that tries the best lessons first."""
    own: list[Lesson] = []
    for number in range(trials):
        if number < min(4, len(known)):
            params = known[number][0]
        else:
            heard = discounted(known, own) if number % 2 == 0 else []
            params = propose(tree, told([*heard, *own]), 1000 * seed + number)
        own.append((params, value(params)))
    return max(gain for _, gain in own)


def test_a_right_prior_does_no_harm_and_a_wrong_one_is_recovered_from() -> None:
    """Over seeds: what a search ends with that has an earlier one as its prior, or its negative."""
    seeds, ends = range(12), {"none": [], "right": [], "wrong": []}
    for seed in seeds:
        drawn = [propose(TREE, [], 77_000 + 100 * seed + n) for n in range(25)]
        right = sorted(((p, value(p)) for p in drawn), key=lambda found: -found[1])
        wrong = [(params, -gain) for params, gain in reversed(right)]
        for name, known in (("none", []), ("right", right), ("wrong", wrong)):
            ends[name].append(searched(TREE, known, 24, seed))
    none, right, wrong = (np.array(ends[name]) for name in ("none", "right", "wrong"))
    assert right.mean() >= none.mean() - 0.01
    noise = 2 * (wrong - none).std(ddof=1) / np.sqrt(len(seeds))
    assert wrong.mean() >= none.mean() - max(noise, 0.02)
