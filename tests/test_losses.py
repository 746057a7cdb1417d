"""How a worker was lost, in words: from what Ray 2.60 says."""

from __future__ import annotations

import pytest

from metatune.runner.losses import why_hung, why_lost, why_silent

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: with_resources.<locals>.ResourceTrainable
\tactor_id: 6f691f9e84942c27aad162e701000000
\tpid: 16789
\tnamespace: 3af7620a-fc53-4585-85be-d161ae6331ea
\tip: 127.0.0.1
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes
include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop --force
was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."""


def test_a_process_that_ended_is_named_with_what_may_have_ended_it() -> None:
    reason = why_lost(DIED)
    assert reason.startswith("the worker's process ended (process 16789 on 127.0.0.1): killed")
    assert "\n" not in reason


@pytest.mark.parametrize(("said", "reason"), [
    ("", "the worker was lost: no reason is known"),
    ("Something\n  else.\n", "the worker was lost: Something else."),
])  # fmt: skip
def test_what_is_not_known_is_told_in_one_line_as_it_is(said: str, reason: str) -> None:
    assert why_lost(said) == reason


def test_of_a_hang_the_last_line_says_what_it_is() -> None:
    reason = why_hung(600.0, '  File "mine.py", line 3, in forward\n    lock.acquire()\n')
    assert reason.splitlines()[-1] == "no progress for 10 min"
    assert 'File "mine.py", line 3, in forward' in reason
    assert "for 90 s" in why_silent(90.0)
