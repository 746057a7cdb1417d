from __future__ import annotations

import json

from hypothesis import given, settings

from metatune.records.rows import Row, from_plain, to_plain

from . import strategies_of_rows as some


@settings(max_examples=50)
@given(some.rows)
def test_rows_come_back_from_plain_data_as_they_were(rows: list[Row]) -> None:
    back = [from_plain(json.loads(json.dumps(to_plain(row)))) for row in rows]
    assert some.same_rows(back, rows)


def test_scores_of_an_older_version_say_nothing_of_what_was_learned() -> None:
    plain = to_plain(some.a_scored())
    del plain["learned"]
    assert from_plain(plain) == some.a_scored()


def test_a_trial_of_an_older_version_has_no_members() -> None:
    plain = to_plain(some.an_asked())
    del plain["members"]
    assert from_plain(plain) == some.an_asked()


def test_fields_of_a_newer_version_are_ignored() -> None:
    assert from_plain({**to_plain(some.an_ended()), "mood": "good"}) == some.an_ended()
