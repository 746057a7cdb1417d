"""A task family of the user's own, found by its name: what it may be, and what is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from metatune.errors import DataError, OptionError
from metatune.tasks.formulas.linear import LinearFamily
from metatune.tasks.own_family import open_own
from metatune.tasks.registry import open_family


class Named(LinearFamily):
    """A family that takes an option."""

    def __init__(self, noise: float = 0.0) -> None:
        if noise < 0:
            raise DataError("noise is below 0")
        self.noise = noise


class Half:
    """Lacks most of a family."""

    info = LinearFamily.info
    check = usable_groups = LinearFamily.check


def test_it_is_made_with_its_options_once_a_process() -> None:
    told = {"use": f"{__name__}:Named", "options": {"noise": 0.5}}
    family = open_family("own", None, told)
    assert isinstance(family, Named)
    assert family.noise == 0.5
    assert open_family("own", None, told) is family


@pytest.mark.parametrize(("use", "options", "key", "told"), [
    (None, {}, "use", "found nothing; allowed: module:Class"),
    ("nowhere:Named", {}, "use", "importing nowhere says: No module named 'nowhere'"),
    ("no entry point", {}, "use", "found no entry point; allowed: module:name"),
    (f"{__name__}:Mane", {}, "use", f"the module {__name__} has no Mane"),
    (f"{__name__}:Named", {"noises": 1}, "options", "unexpected keyword argument 'noises'"),
    (f"{__name__}:Named", {"noise": "a\nb"}, "options", "TypeError: '<' not supported"),
    (f"{__name__}:Half", {}, "use", "Half, which has no fingerprint, sample; allowed: a task"),
    ("builtins:dict", {}, "use", "dict, which has no info (a FamilyInfo), fingerprint, check"),
])  # fmt: skip
def test_what_makes_no_family_is_told(
    use: str | None, options: Mapping[str, Any], key: str, told: str
) -> None:
    with pytest.raises(OptionError) as refused:
        open_own(use, options)
    assert refused.value.key == key
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_the_family_itself_says_of_its_data_stands() -> None:
    with pytest.raises(DataError, match=r"^noise is below 0$"):
        open_own(f"{__name__}:Named", {"noise": -1.0})
