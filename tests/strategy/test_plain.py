"""Without pydantic the same declarations read the same data, and refuse the same."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest
from families import SMALL_IMAGES, TABLES, WAVES

from metatune.errors import SpaceError
from metatune.presets import PRESETS, preset
from metatune.strategy import Strategy, plain

STRANGE = [
    None, True, False, -1, 0, 1, 2, 3, 0.5, 1.0, -0.0, 1e308, 10**9, 10**30, 10**400, "", "1",
    "sgd", "none", "mlp", [], [1], {}, {"kind": "mlp"}, {"kind": "ridge", "penalty": 2},
    {"kind": None}, {"use": "a:b"}, {"use": ""}, {"kind": "own", "use": "a:b", "options": {"x": 1}},
    {"a": 1},
]  # fmt: skip

READ = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("pydantic"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from metatune.strategy import Strategy
def read(text):
    try:
        strategy = Strategy.model_validate_json(text, strict=True)
    except ValueError as error:
        assert error.errors()[0]["msg"]
        return None
    assert json.loads(strategy.model_dump_json()) == strategy.model_dump()
    assert Strategy.model_validate_json(strategy.model_dump_json(), strict=True) == strategy
    return [strategy.digest(), strategy.structure()]
print(json.dumps([read(text) for text in json.load(sys.stdin)]))
assert "pydantic" not in sys.modules
"""


def strategies() -> list[dict[str, Any]]:
    """Every preset, as plain data."""
    found = {}
    for name in PRESETS:
        for info in (WAVES, TABLES, SMALL_IMAGES):
            try:
                strategy = preset(name, info)
            except SpaceError:
                continue
            found[strategy.digest()] = strategy.model_dump(mode="json")
    return list(found.values())


def places(data: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key in nested mappings."""
    inside = data.items() if isinstance(data, dict) else ()
    return [p for key, value in inside for p in ((*path, key), *places(value, (*path, key)))]


def spoilt(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One place holds something else, is left out, or has a neighbour that is not known."""
    copy = json.loads(json.dumps(data))
    *above, key = rng.choice(places(copy))
    inside = copy
    for step in above:
        inside = inside[step]
    match rng.choice(["other", "other", "other", "none", "more"]):
        case "other":
            inside[key] = rng.choice(STRANGE)
        case "none":
            del inside[key]
        case "more":
            inside["more"] = 1
    return copy


def by_pydantic(text: str) -> list[str] | None:
    try:
        strategy = Strategy.model_validate_json(text, strict=True)
    except ValueError:
        return None
    return [strategy.digest(), strategy.structure()]


def test_both_readings_take_and_refuse_the_same():
    rng, known = random.Random(0), strategies()
    texts = [json.dumps(one) for one in known]
    texts += [json.dumps(spoilt(rng.choice(known), rng)) for _ in range(3000)]
    expected = [by_pydantic(text) for text in texts]
    taken = sum(one is not None for one in expected)
    assert len(known) + 500 < taken < len(texts) - 500
    done = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(texts), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    differ = [
        (text, own, other)
        for text, own, other in zip(texts, expected, json.loads(done.stdout), strict=True)
        if own != other
    ]
    assert not differ


def test_every_word_of_the_declarations_is_understood():
    """A setting of a kind that the plain reading has no word for would raise TypeError."""

    class Part(plain.BaseModel):
        width: int = plain.Field(3, ge=1, le=9)
        share: float = plain.Field(0.5, gt=0, lt=1)
        name: str = plain.Field("a", min_length=1)

    assert Part(width=9, share=0.9, name="b").model_dump() == {
        "width": 9, "share": 0.9, "name": "b",
    }  # fmt: skip
    for wrong in ({"width": 0}, {"width": 10}, {"share": 0}, {"share": 1}, {"name": ""}):
        with pytest.raises(plain.ValidationError, match=rf"^{next(iter(wrong))}: found"):
            Part(**wrong)
