"""Where strategies come from, and how trials ended."""

from __future__ import annotations

import json
from dataclasses import replace

from handmade import Story, prototypes

from metatune.analysis import endings, from_prior, lineage
from metatune.records.rows import Asked, Concluded, Ended, Origin, Row


def change(story: Story, trial: str, **fields: object) -> None:
    """Changes what was asked."""
    story.rows = [
        replace(row, **fields) if isinstance(row, Asked) and row.trial == trial else row  # type: ignore[arg-type]
        for row in story.rows
    ]


def family_tree() -> Story:
    """In round 1 a parent, its probe and its child; in round 2 the child again, which wins."""
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    parent = story.trial("parent", 0.6, 0.6, 0.6, strategy=prototypes(2.0))
    made: tuple[tuple[str, Origin, float], ...] = (
        ("parent~faster", "probe", 3.0), ("parent~child", "child", 2.5),
    )  # fmt: skip
    for name, origin, scale in made:
        trial = story.trial(name, 0.7, 0.7, 0.7, strategy=prototypes(scale))
        change(story, trial, origin=origin, parent=parent)
    again = story.trial("parent~child", 0.8, 0.8, 0.8, strategy=prototypes(2.5))
    change(story, again, origin="incumbent", round=2)
    return story


def test_a_lineage_goes_from_the_first_parent_to_the_winner() -> None:
    story = family_tree()
    story.rows.append(Concluded("r1-0004", "r1-0000", "new groups", "so it is"))
    frame = lineage(story.run())
    assert frame["name"].to_list() == ["parent", "parent~faster", "parent~child", "parent~child"]
    assert frame["origin"].astype(str).to_list() == ["proposed", "probe", "child", "incumbent"]
    assert frame["made_from"].to_list()[1:] == ["r1-0001", "r1-0001", "r1-0003"]
    assert frame["made_from"].isna().to_list() == [True, False, False, False]
    changes = [json.loads(text) for text in frame["changed"].iloc[1:]]
    assert changes == [{"head.scale": [2.0, 3.0]}, {"head.scale": [2.0, 2.5]}, {}]


def test_a_lineage_of_any_trial_can_be_asked_for_and_none_is_empty_before_the_verdict() -> None:
    run = family_tree().run()
    assert lineage(run).empty
    assert lineage(run, trial="r1-0001")["name"].to_list() == ["parent"]
    assert lineage(run, trial="r1-0002")["name"].to_list() == ["parent", "parent~faster"]


def test_an_ensembles_lineage_has_each_members() -> None:
    story = family_tree()
    own = story.ensemble("ensemble", "parent", "protonet")
    names = lineage(story.run(), trial=own)["name"].to_list()
    assert names == ["parent", "protonet"]


def test_records_that_name_each_other_as_parents_do_not_turn_for_ever() -> None:
    story = family_tree()
    change(story, "r1-0001", parent="r1-0003")
    assert set(lineage(story.run(), trial="r1-0003").index) >= {"r1-0001", "r1-0003"}


def test_alike_reasons_count_together_and_have_an_example() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    ends: list[Row] = []
    for number, reason in enumerate(["lost 1 of 2", "lost 12 of 3.5e+2\n", "a\nValueError: x", ""]):
        trial = story.trial(f"new-{number}", state=None)
        if reason:
            state = "failed" if "Error" in reason else "stopped"
            ends.append(Ended(trial, state, reason, 1.0))  # type: ignore[arg-type]
    story.rows += ends
    found = endings(story.run()).set_index(["state", "reason"])
    assert found["trials"].to_dict() == {
        ("running", ""): 1, ("completed", ""): 1, ("stopped", "lost # of #"): 2,
        ("failed", "ValueError: x"): 1,
    }  # fmt: skip
    assert found.loc[("stopped", "lost # of #"), "example"] == "r1-0001"
    assert endings(Story().run()).empty


def test_what_a_prior_brought_has_its_place_among_the_completed() -> None:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    for score, state in ((0.7, "completed"), (0.4, "completed"), (0.9, "stopped")):
        trial = story.trial(f"of-prior-{score}", score, score, score, state=state)  # type: ignore[arg-type]
        change(story, trial, origin="portfolio")
    frame = from_prior(story.run()).set_index("name")
    places = frame["place"].fillna(0).to_dict()
    assert places == {"of-prior-0.7": 1, "of-prior-0.4": 3, "of-prior-0.9": 0}
    assert set(frame["completed"]) == {3}
    assert from_prior(Story().run()).empty
