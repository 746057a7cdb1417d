"""Stopping: successive halving over rung scores, with some always let through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatune.stopping import Standing, why_stop

PROPERTY = settings(deadline=None, max_examples=50)


def standings(*scores: float, structure: str = "a", passed: bool = True) -> dict[str, Standing]:
    """Trials t0, t1, .. that have passed; t0 has not."""
    return {
        f"t{number}": Standing(score, structure, passed and number > 0)
        for number, score in enumerate(scores)
    }


SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5))
def test_who_ranks_within_the_places_goes_on_and_no_one_else(
    scores: list[float], reduction: int
) -> None:
    table = standings(*scores)
    better = sum(score > scores[0] for score in scores)
    places = max(1, len(scores) // reduction)
    goes_on = why_stop("t0", table, reduction, protected=False) is None
    assert goes_on == (better < places or len(scores) == 1)


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5), more=st.integers(1, 5))
def test_a_higher_score_never_stops_who_a_lower_one_let_through(
    scores: list[float], reduction: int, more: int
) -> None:
    if why_stop("t0", standings(*scores), reduction, protected=False) is None:
        raised = standings(scores[0] + more, *scores[1:])
        assert why_stop("t0", raised, reduction, protected=False) is None


@PROPERTY
@given(scores=SCORES, reduction=st.integers(2, 5))
def test_the_best_goes_on(scores: list[float], reduction: int) -> None:
    table = standings(max(scores), *scores)
    assert why_stop("t0", table, reduction, protected=False) is None


def test_the_reason_names_rank_field_and_places() -> None:
    table = standings(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert why_stop("t0", table, 3, protected=False) == "ranked 6 of 6 at its rung, 2 went on"


def test_equal_scores_share_the_better_rank() -> None:
    assert why_stop("t0", standings(1.0, 1.0, 1.0, 2.0, 0.0, 0.0), 3, protected=False) is None


def test_who_is_protected_goes_on_whatever_it_scores() -> None:
    table = standings(-100.0, 1.0, 2.0, 3.0)
    assert why_stop("t0", table, 3, protected=True) is None
    assert why_stop("t0", table, 3, protected=False) is not None


def test_the_first_of_a_structure_goes_on_and_the_second_is_compared() -> None:
    table = standings(0.0, 5.0, 6.0, 7.0) | {"new": Standing(-1.0, "b", False)}
    assert why_stop("new", table, 3, protected=False) is None
    table["before"] = Standing(-2.0, "b", True)
    assert why_stop("new", table, 3, protected=False) is not None


def test_one_of_a_structure_that_did_not_pass_does_not_count() -> None:
    table = standings(0.0, 5.0, 6.0, 7.0)
    table |= {"new": Standing(-1.0, "b", False), "before": Standing(-2.0, "b", False)}
    assert why_stop("new", table, 3, protected=False) is None


def test_whether_it_passed_itself_does_not_matter() -> None:
    table = {"new": Standing(-1.0, "b", True), "best": Standing(1.0, "a", True)}
    assert why_stop("new", table, 3, protected=False) is None


def test_a_trial_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        why_stop("t9", standings(1.0), 3, protected=False)
