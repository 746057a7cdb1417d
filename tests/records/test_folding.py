from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.records.folding import extend, tables
from metatune.records.rows import Retried, Row, Turned

from . import strategies_of_rows as some


def test_a_trial_is_one_row_with_its_highest_rung_on_select() -> None:
    rows = [
        some.an_asked(),
        some.a_scored(rung=1, score=0.25),
        some.a_scored(rung=2, score=0.5),
        some.a_scored(rung=3, score=0.75, split="confirm"),
        some.a_scored(rung=3, score=0.75, replica=1),
    ]
    (trial,) = tables(rows)["trials"].to_pylist()
    assert (trial["rung"], trial["score"], trial["resource"]) == (2, 0.5, 200)
    assert (trial["state"], trial["reason"], trial["seconds"]) == ("running", None, None)
    assert trial["strategy"] == '{"start": "none", "head": {"kind": "ridge", "penalty": 0.5}}'
    (ended,) = tables([*rows, some.an_ended(state="stopped", reason="lost to r1-0002")])[
        "trials"
    ].to_pylist()
    assert ended == {
        **trial,
        "state": "stopped",
        "reason": "lost to r1-0002",
        "seconds": 9.0,
    }


def test_the_end_of_a_training_anew_does_not_end_the_trial() -> None:
    rows = [some.an_asked(), some.an_ended(replica=1, state="failed")]
    assert tables(rows)["trials"]["state"].to_pylist() == ["running"]


def test_an_ensemble_is_completed_as_it_is_chosen_and_has_its_members() -> None:
    ensemble = some.an_asked(7, origin="ensemble", strategy={}, params=None, members=["r1-0000"])
    rows = [some.an_asked(), ensemble, some.an_asked(8, origin="ensemble")]
    found = tables([*rows, some.an_ended(8, state="failed", reason="lost")])["trials"]
    assert found["members"].to_pylist() == [[], ["r1-0000"], []]
    assert found["state"].to_pylist() == ["running", "completed", "failed"]


def test_scores_have_one_row_a_task_and_curves_one_a_rung() -> None:
    found = tables(some.a_run(2))
    assert found["scores"].num_rows == 2 * 2 * 2
    assert found["curves"].num_rows == 2 * 2
    assert found["scores"].slice(0, 2).to_pylist() == [
        {
            "trial": "r1-0000",
            "round": 1,
            "rung": 1,
            "split": "select",
            "replica": 0,
            "task": task,
            "group": group,
            "score": score,
            "transductive": False,
        }
        for task, group, score in [("a", "north", 0.25), ("b", "south", 0.75)]
    ]
    assert found["curves"]["score"].to_pylist() == [0.5] * 4
    assert found["curves"]["tasks"].to_pylist() == [2] * 4


def test_curves_tell_what_a_trial_has_learned_of_its_knobs() -> None:
    learned = {"prior.strength": 2.5, "head.penalty": 0.5}
    found = tables([some.a_scored(learned=learned), some.a_scored(1)])["curves"]["learned"]
    assert found.to_pylist() == ['{"head.penalty": 0.5, "prior.strength": 2.5}', None]


def test_a_rung_scored_twice_counts_once_and_the_later_scores_stand() -> None:
    rows = [some.a_scored(score=0.5), some.a_scored(1), some.a_scored(score=0.75)]
    found = tables(rows)
    assert found["curves"]["trial"].to_pylist() == ["r1-0001", "r1-0000"]
    assert found["curves"]["score"].to_pylist() == [0.5, 0.75]
    assert found["scores"].num_rows == 4
    assert found["trials"]["score"].to_pylist() == [0.75, 0.5]


def test_a_reason_that_is_not_unicode_does_not_hide_the_run() -> None:
    rows = [some.an_asked(), some.an_ended(state="failed", reason="no file \udcff.png")]
    rows_of_round = Turned(1, [], ["\udcff"], 1.0)
    found = tables([*rows, rows_of_round])
    assert found["trials"]["reason"].to_pylist() == ["no file ?.png"]
    assert found["rounds"]["moves"].to_pylist() == [["?"]]


@settings(max_examples=50)
@given(some.rows, st.data())
def test_folding_in_two_steps_equals_folding_at_once(rows: list[Row], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    some.same_tables(extend(tables(rows[:cut]), rows[cut:]), tables(rows))


def test_retries_are_counted_and_make_no_trial_of_an_ensemble_that_was_not_chosen() -> None:
    lost = [
        Retried("r1-0000", "select", 0, 0, "killed"),
        Retried("r1-e0", "select", 0, 1, "killed"),
    ]
    found = tables([some.an_asked(), *lost, some.an_asked(1), lost[0]])["trials"]
    assert found["trial"].to_pylist() == ["r1-0000", "r1-0001"]
    assert found["retries"].to_pylist() == [2, 0]
