"""``metatune init``: from files to a space that runs as it is, and what it assumed is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_runner import InlineRunner, inline_resume, inline_run, rows_of
from user_tables import messy_folder, plain_rows, tables, uneven_rows

from metatune import session
from metatune.errors import DataError, MetatuneError, RunError, SpaceError
from metatune.init import init, look, shape_of, shots_and_query, space_text, word
from metatune.records.folder import RunFolder
from metatune.records.reading import read_info, read_run
from metatune.records.rows import Ended
from metatune.space import load_space, load_yaml
from metatune.tables import select_table
from metatune.tables import test_table as verdict_rows
from metatune.tasks.base import Episode


def written(path: Path) -> dict:
    return load_yaml(path)[0]["family"]


def table(tmp_path: Path, frame: pd.DataFrame, name: str = "a.csv") -> str:
    frame.to_csv(tmp_path / name, index=False)
    return str(tmp_path / name)


def small(path: Path) -> str:
    """The same space with a budget for tests."""
    space = yaml.safe_load(path.read_text())
    space |= {"resource": {"full": 3000, "rungs": 2, "reduction": 3}, "rounds": {"count": 1}}
    space["tasks"] = {"select": 16, "confirm": 16, "test": 16}
    space["verdict"] |= {"seeds": 1, "finalists": 1}
    return yaml.safe_dump(space, sort_keys=False)


# --- the user's own data, from init to a leaderboard ----------------------------------------------


@pytest.mark.parametrize("target", ["class", pytest.param("number", marks=pytest.mark.long)])
def test_a_messy_folder_goes_from_init_to_a_leaderboard_and_resumes_elsewhere(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messy_folder(tmp_path / "data", target=target)
    monkeypatch.chdir(tmp_path)
    found = init(["data"], "file", "y", out="spaces/own.yaml")
    plain = written(tmp_path / "spaces" / "own.yaml")
    assert plain["data"] == "../data"
    assert plain["columns"] == {
        "age": "number", "price": "number", "kind": "category", "day": "date",
        "version": "number", "unnamed 1": "skip",
    }  # fmt: skip
    assert plain["predict"] == target
    assert any("version is constant in train" in note for note in found.said)
    plan, _ = session.plan_of(load_space("spaces/own.yaml"))  # as it is
    assert plan.options["data"] == [str(tmp_path / "spaces" / "../data")]

    text = small(tmp_path / "spaces" / "own.yaml")
    run = inline_run(text, tmp_path / "spaces" / "run", trials=10)
    results = read_run(run)
    ended = [row for row in rows_of(run) if isinstance(row, Ended)]
    assert {row.state for row in ended} <= {"completed", "stopped"}
    assert select_table(results, 20).row_count >= 10  # all named ones, at least
    assert verdict_rows(results).row_count >= 5
    assert read_info(RunFolder.open(run))["family"]["options"]["target"] == "y"
    assert any("take part" in note for note in read_info(RunFolder.open(run))["notes"])

    # A run that goes on from another folder finds the same data.
    made, _ = session.create(
        tmp_path / "spaces" / "run.yaml", out=tmp_path / "spaces" / "second", trials=10
    )
    monkeypatch.chdir("/")
    runner = InlineRunner()
    inline_resume(made.path, runner=runner)
    assert {tuple(job.options["data"]) for job in runner.jobs} == {
        (str(tmp_path / "spaces" / "../data"),)
    }
    scores = [run.scores["score"].to_numpy() for run in (results, read_run(made.path))]
    np.testing.assert_array_equal(*scores)
    again, _ = session.plan_of(load_space(made.path / "method.yaml"))
    assert again.options == plan.options


@pytest.mark.parametrize("target", ["y", pytest.param("label", marks=pytest.mark.long)])
def test_tasks_of_3_to_40_rows_all_take_part_from_init_to_a_leaderboard(
    tmp_path: Path, target: str
) -> None:
    frame = uneven_rows().drop(columns="label" if target == "y" else "y")
    found = init([table(tmp_path, frame)], "task", target, out=tmp_path / "s.yaml")
    assert (found.episode.shot, found.episode.query, found.episode.fewest) == (4, 6, 2)
    run = inline_run(small(tmp_path / "s.yaml"), tmp_path / "run", trials=6)
    ended = [row for row in rows_of(run) if isinstance(row, Ended)]
    assert {row.state for row in ended} <= {"completed", "stopped"}
    results = read_run(run)
    assert results.scores["score"].notna().all()
    assert verdict_rows(results).row_count >= 5
    notes = read_info(RunFolder.open(run))["notes"]
    assert (
        "7 of 38 tasks have fewer than 10 rows and take part with what they have, 3 or more."
        in (notes)
    )
    assert not any("never drawn" in note for note in notes)
    drawn = set(results.scores["task"].str.rpartition("-")[0])
    info = found.family.info
    assert drawn >= {group for split in ("select", "test") for group in info.groups[split]}


def test_data_that_changed_are_noticed_by_a_resume(tmp_path: Path) -> None:
    frame = plain_rows().drop(columns="label")
    init([table(tmp_path, frame)], "task", "y", out=tmp_path / "s.yaml")
    folder, _ = session.create(tmp_path / "s.yaml", out=tmp_path / "run")
    session.reopen(folder.path)
    table(tmp_path, frame.assign(number=0.5 * frame["number"] + frame.index % 3))
    from metatune.tasks import registry

    registry._opened.cache_clear()  # as another process
    with pytest.raises(RunError, match="the data of table have changed"):
        session.reopen(folder.path)


def test_an_option_that_does_not_fit_the_data_is_refused_with_its_line(tmp_path: Path) -> None:
    init([table(tmp_path, plain_rows())], "task", "y", out=tmp_path / "s.yaml")
    text = (tmp_path / "s.yaml").read_text()
    line = text[: text.index("  target: y")].count("\n") + 1
    (tmp_path / "s.yaml").write_text(text.replace("target: y", "target: z"))
    with pytest.raises(SpaceError, match=f"s.yaml:{line}: family.target: found no column 'z' in"):
        session.plan_of(load_space(tmp_path / "s.yaml"))


# --- what it assumes ------------------------------------------------------------------------------


@given(rows=st.integers(4, 10_000))
def test_shots_and_query_fit_and_are_as_many_as_are_of_use(rows: int) -> None:
    shot, query = shots_and_query(rows)
    assert 2 <= shot <= 16
    assert 2 <= query <= 32
    assert shot + query <= rows
    assert shot + query == rows or (shot, query) == (16, 32)


def test_fewer_than_four_rows_in_half_of_the_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 3 rows or fewer in half of the tasks"):
        look([table(tmp_path, plain_rows(rows=3))], "task", "y")


@pytest.mark.parametrize(("sizes", "shot", "query", "fewest"), [
    ([20] * 10, 8, 12, None),
    ([20] * 19 + [5], 8, 12, None),  # one in twenty is left out
    ([20] * 8 + [5] * 2, 2, 3, None),  # a fifth is not: all hold what the smallest can
    ([20] * 17 + [5] * 3, 8, 12, 2),
    ([20] * 7 + [3] * 3, 8, 12, 2),
    ([4] * 6 + [1] * 4, 2, 2, 2),
])  # fmt: skip
def test_many_smaller_tasks_take_part_with_what_they_have(sizes, shot, query, fewest) -> None:
    found = shape_of(np.array(sizes), way=1)
    assert (found.shot, found.query, found.fewest) == (shot, query, fewest)


def test_query_sets_that_are_too_small_for_r2_are_judged_by_squared_error(tmp_path: Path) -> None:
    thin = look([table(tmp_path, uneven_rows())], "task", "y")
    assert thin.options.metric == "mse"
    assert "Judged by mse: R2 has no mean where tasks have 1 query rows." in thin.said
    frame = uneven_rows()
    thick = look([table(tmp_path, frame[frame["task"] >= "t06"], "b.csv")], "task", "y")
    assert (thick.options.metric, thick.options.fewest) == ("r2", 2)
    assert "Smaller tasks take part with what they have, 2 support rows at least: fewest." in (
        thick.said
    )


def test_four_fifths_of_the_tasks_can_hold_the_episode(tmp_path: Path) -> None:
    frame = plain_rows(tasks=40, rows=60)
    kept = frame.groupby("task").cumcount() < frame["task"].map(
        {f"t{n:02d}": 10 + n for n in range(40)}
    )
    found = look([table(tmp_path, frame[kept])], "task", "y")
    needed = found.episode.shot + found.episode.query
    assert (found.family.data.sizes >= needed).mean() >= 0.8
    assert needed == 17  # the eighth smallest of 10, 11, .. 49 rows


def test_a_target_that_is_mostly_one_value_is_judged_by_squared_error(tmp_path: Path) -> None:
    frame = plain_rows().assign(y=lambda f: np.where(f.index % 4 == 0, f["y"], 0.0))
    found = look([table(tmp_path, frame)], "task", "y")
    assert (found.options.metric, found.family.info.metric.name) == ("mse", "mse")
    assert "Judged by mse: in most tasks more than half of y is one value." in found.said


def test_files_that_a_shell_wrote_out_are_written_in_few_words(tmp_path: Path) -> None:
    for name, own in plain_rows().groupby("task"):
        own.to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(path) for path in tmp_path.glob("*.csv")]
    assert look(files, "file", "y").options.data == (str(tmp_path),)
    plain_rows().to_parquet(tmp_path / "other.parquet")
    assert look(files, "file", "y").options.data == (f"{tmp_path}/*.csv",)
    assert len(look(files[1:], "file", "y").options.data) == 23


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    data = table(tmp_path, plain_rows())
    with pytest.raises(RunError, match=r"a\.csv exists already"):
        init([data], "task", "y", out=data)


@pytest.mark.parametrize(("arguments", "told"), [
    (([], "task", "y"), "data: found an empty list"),
    ((["a.csv"], "task", "task"), "found task task, target task; allowed: a column for each"),
    ((["a.csv"], "", "y"), "task: found "),
    ((["\0"], "task", "y"), "data: found an empty path"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments: tuple, told: str) -> None:
    with pytest.raises(SpaceError, match=told):
        look(*arguments)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(frame=tables(), group=st.none() | st.just("region"))
def test_any_table_is_refused_in_a_sentence_or_becomes_a_space_that_runs(
    tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame, group: str | None
) -> None:
    folder = tmp_path_factory.mktemp("any")
    frame.to_csv(folder / "a.csv", index=False)
    try:
        init([str(folder)], "task", "y", group=group, out=folder / "s.yaml")
    except MetatuneError as error:
        told = str(error)
        assert not (folder / "s.yaml").exists()
    else:
        told = ""
        session.plan_of(load_space(folder / "s.yaml"))
    assert "\n" not in told


# --- the file -------------------------------------------------------------------------------------


@given(st.text(max_size=12).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t)))
def test_any_name_stands_in_the_file_as_it_is(text: str) -> None:
    assert load_yaml(f"x: {word(text)}  # said")[0]["x"] == text


@pytest.mark.parametrize("text", ["a b", "no", "1", "1e5", ".5", "~", "null", "a: b", "a #b", "é"])
def test_names_that_look_like_something_else_are_quoted(text: str) -> None:
    assert load_yaml(f"x: {word(text)}")[0]["x"] == text
    assert word("customer_id") == "customer_id"


def test_names_with_signs_go_through_the_whole_file(tmp_path: Path) -> None:
    frame = plain_rows(groups=14).rename(
        columns={"number": "a: b # c", "region": "no", "y": "Größe (€)", "task": "1"}
    )
    init([table(tmp_path, frame, "my data.csv")], "1", "Größe (€)", group="no",
         out=tmp_path / "s.yaml")  # fmt: skip
    plain = written(tmp_path / "s.yaml")
    assert (plain["task"], plain["target"], plain["group"]) == ("1", "Größe (€)", "no")
    assert plain["columns"]["a: b # c"] == "number"
    session.plan_of(load_space(tmp_path / "s.yaml"))


def test_the_file_says_what_was_assumed(tmp_path: Path) -> None:
    found = look([table(tmp_path, plain_rows())], "task", "y")
    text = space_text(found, 1000, 5, 1)
    head = " ".join(line.removeprefix("#").strip() for line in text.splitlines()[:20])
    for sentence in found.said:
        assert " ".join(sentence.split()) in " ".join(head.split())
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("  data:"))


# --- classes of their own -------------------------------------------------------------------------


def species(folder: Path, of_all: int, of_each: int, rows: int) -> Path:
    """A table of sites with some species each."""
    rng = np.random.default_rng(2)
    sites = [rng.choice(of_all, of_each, replace=False).repeat(rows) for _ in range(24)]
    kinds = np.concatenate(sites)
    task = np.repeat(np.arange(24), of_each * rows)
    frame = pd.DataFrame({"site": task, "size": kinds + rng.normal(0, 0.1, len(kinds))})
    frame["kind"] = [f"s{k}" for k in kinds]
    frame.to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


@pytest.mark.parametrize(("of_all", "of_each", "rows", "episode"), [
    (30, 7, 8, Episode(5, 4, 4)),     # many
    (12, 4, 3, Episode(4, 1, 2)),     # mostly different ones
    (12, 8, 4, Episode(12, 16, 16, per_class=False)),
    (30, 7, 1, Episode(30, 2, 5, per_class=False)),    # one row of each: nothing to be judged on
])  # fmt: skip
def test_a_way_is_proposed_where_classes_are_many_or_mostly_different(
    of_all: int, of_each: int, rows: int, episode: Episode, tmp_path: Path
) -> None:
    data, out = species(tmp_path, of_all, of_each, rows), tmp_path / "own.yaml"
    found = init([str(data)], "site", "kind", out=out, predict="class")
    assert found.episode == episode
    plan, _ = session.plan_of(load_space(out))
    assert plan.space.space.episode == episode
    said = any(f"each task draws {episode.way} of its own" in s for s in found.said)
    assert said == episode.per_class
