"""Artifacts of strangers: none of their code is executed, and nonsense is told in a sentence."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import shutil
import struct
import sys
from types import ModuleType

import pytest
import torch
from families import TABLES, WAVES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import made, stored
from safetensors.torch import load_file, save_file

import metatune
from metatune.artifact import files
from metatune.errors import ArtifactError, MetatuneError
from metatune.learners.heads import RidgeHead
from metatune.strategy import MLP, Meta, OwnHead, Prototypes, Ridge, Strategy
from metatune.tasks.base import Episode

EPISODE = Episode(1, 6, 4)
NETWORK = Strategy(backbone=MLP(width=5, depth=1), head=Ridge(), meta=Meta(rule="first_order"))


@pytest.fixture
def folder(tmp_path):
    """An artifact to be spoiled."""
    return files.write(stored(NETWORK, WAVES, EPISODE), tmp_path / "artifact")


def refusal(path, **options):
    """What is said of an artifact that is refused: one sentence of bearable length."""
    with pytest.raises(ArtifactError) as caught:
        metatune.load(path, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def told(call):
    """What is said, where a call is refused."""
    try:
        call()
    except MetatuneError as error:
        return str(error)
    except UserWarning:  # the task is unlike what the spoiled file says
        pass
    return ""


# --- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["strategy.json", "weights.safetensors", "card.md"])
def test_a_file_that_is_missing_or_a_link_or_a_folder_is_refused(folder, tmp_path, name):
    kept = shutil.copy(folder / name, tmp_path / "kept")
    (folder / name).unlink()
    assert f"{name}: found no such file" in refusal(folder)
    (folder / name).symlink_to(kept)
    assert f"{name}: found a link, folder or device" in refusal(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{name}: found a link, folder or device" in refusal(folder)


def test_a_path_that_is_no_artifact_is_refused(tmp_path):
    said = refusal(tmp_path / "nowhere")
    assert "found no such folder; allowed: a folder of metatune export" in said
    assert "strategy.json: found no such file" in refusal(tmp_path)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "[" * 100_000, '{"format": NaN}', '{"format": 2}', '{"format": true}',
    "\x00\xff", "{}",
])  # fmt: skip
def test_strange_json_is_refused(folder, text):
    (folder / "strategy.json").write_bytes(text.encode("latin-1"))
    assert "strategy.json" in refusal(folder)


@pytest.mark.parametrize("data", [
    b"",
    b"\x80\x04}.",
    struct.pack("<Q", 1 << 62) + b"{}",
    struct.pack("<Q", 2) + b"{}",
    struct.pack("<Q", 81)
    + b'{"0/params/x":{"dtype":"F32","shape":[999999999999],"data_offsets":[0,399999996]}}',
])  # fmt: skip
def test_strange_tensors_are_refused(folder, data):
    (folder / "weights.safetensors").write_bytes(data)
    assert "weights" in refusal(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_half_a_file_and_flipped_bytes_never_end_in_a_traceback(folder, tmp_path, data):
    spoiled = tmp_path / "spoiled"
    shutil.rmtree(spoiled, ignore_errors=True)
    shutil.copytree(folder, spoiled)
    path = spoiled / data.draw(st.sampled_from(["strategy.json", "weights.safetensors"]))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=4)):
        if content:
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    said = told(lambda: metatune.load(spoiled).adapt([[0.0]] * 6, [0, 1, 2, 3, 4, 5]))
    assert "\n" not in said


# --- hostile plain data ---------------------------------------------------------------------------


def places(data, path=()):
    """Every place in nested plain data."""
    yield path
    keyed = (
        data if isinstance(data, dict) else dict(enumerate(data if isinstance(data, list) else ()))
    )
    for key, value in keyed.items():
        yield from places(value, (*path, key))


STRANGE = st.sampled_from([
    None, True, -1, 0, 1, 3, 10**9, 10**30, 1e308, "", "../../etc/passwd", "os:system", "x" * 5000,
    [], [[]], {}, {"kind": "own", "use": "os:system", "options": {"command": "touch pwned"}},
    [1000000, 1000000], {"a": 1}, {"a\nb" * 99: []},
])  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_whatever_stands_anywhere_is_refused_in_a_sentence_or_does_no_harm(tmp_path, data):
    made_up = stored(NETWORK, WAVES, EPISODE)
    plain = json.loads(json.dumps(made_up.plain))
    path = data.draw(st.sampled_from([p for p in places(plain) if p]))
    inside = plain
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = data.draw(STRANGE)
    spoiled = tmp_path / "spoiled"
    shutil.rmtree(spoiled, ignore_errors=True)
    files.write(files.Stored(plain, made_up.tensors, ""), spoiled)
    said = told(lambda: metatune.load(spoiled))
    assert "\n" not in said
    assert len(said) < 1000


@pytest.mark.parametrize(("change", "said"), [
    (lambda t: t.pop("0/params/backbone.layer0.weight"), r"lacking: backbone.layer0.weight"),
    (lambda t: t.update({"0/params/more": torch.zeros(1)}), r"found the names more"),
    (lambda t: t.update({"0/more": torch.zeros(1)}), r"found names such as more"),
    (lambda t: t.update({"0/params/backbone.layer0.bias": torch.zeros(6)}),
     r"layer0.bias: found \(6,\) of torch.float32; allowed: \(5,\) of torch.float32"),
    (lambda t: t.update({"0/params/backbone.layer0.bias": torch.zeros(5).double()}),
     r"found \(5,\) of torch.float64; allowed"),
    (lambda t: t["0/params/backbone.layer0.bias"].fill_(float("nan")), r"are not finite"),
    (lambda t: t.pop("likeness/mean"), r"likeness: found tensors of other shapes"),
    (lambda t: t["likeness/spread"].zero_(), r"likeness: found tensors of other shapes or values"),
    (lambda t: t["calibration/group"].fill_(7), r"calibration: found tensors of other shapes"),
    (lambda t: t["calibration/scores"].fill_(-1), r"calibration: found tensors of other shapes"),
])  # fmt: skip
def test_tensors_that_the_strategy_does_not_ask_for_are_refused(folder, change, said):
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")
    assert re.search(said, refusal(folder))


def test_a_file_that_asks_for_more_than_it_holds_takes_no_memory(folder):
    """16 layers of 4096 units over four million inputs would be 70 GB."""
    plain = json.loads((folder / "strategy.json").read_text())
    plain["strategies"][0]["backbone"] |= {"width": 4096, "depth": 16}
    plain["family"]["input_shape"] = [1 << 22]
    (folder / "strategy.json").write_text(json.dumps(plain))
    assert re.search(r"layer0.weight: found|lacking: backbone.layer1", refusal(folder))


# --- code of its maker's own ----------------------------------------------------------------------


class OwnRidge(RidgeHead):
    """A rule of adaptation that stands in this module."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(Ridge())


OWN = Strategy(head=OwnHead(use=f"{__name__}:OwnRidge"), meta=Meta(rule="first_order"))


def test_parts_of_ones_own_come_from_the_module_that_is_handed_over(tmp_path):
    folder = files.write(stored(OWN, WAVES, EPISODE), tmp_path / "artifact")
    said = refusal(folder)
    assert re.search(rf"parts of its maker's own \(head {__name__}:OwnRidge\).*parts=module", said)
    said = refusal(folder, parts=math)
    assert re.search(r"head.use: found .*OwnRidge, which math does not hold", said)
    assert "parts: found 'os'; allowed: an imported module" in refusal(folder, parts="os")
    x, y = [[-1.0], [0.5], [1.0], [-0.5], [0.1], [0.3]], [0.8, 1.1, 1.3, 0.9, 1.0, 1.2]
    found = metatune.load(folder, parts=sys.modules[__name__]).adapt(x, y).predict(x)
    plain = Strategy(head=Ridge(), meta=Meta(rule="first_order"))
    same = made(tmp_path / "same", plain, WAVES, EPISODE).adapt(x, y).predict(x)
    assert found.tolist() == same.tolist()


def test_an_artifact_of_a_stranger_executes_none_of_its_code(tmp_path, monkeypatch):
    """A module lies beside the artifact and where Python looks; every place of code names it."""
    (tmp_path / "stranger.py").write_text(
        f"import os\nopen({str(tmp_path / 'pwned')!r}, 'w').write('x')\nclass Part: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    own = {"use": "stranger:Part", "options": {}}
    spoils = [
        {"backbone": {"kind": "own", **own}},
        {"head": {"kind": "own", **own}},
        {"learner": own},
        {"prior": {"kind": "pooled", "model": "stranger:Part"}},
        {"start": "stranger:Part"},
    ]
    for number, spoil in enumerate(spoils):
        made_up = stored(NETWORK, WAVES, EPISODE)
        plain = copy.deepcopy(dict(made_up.plain))
        plain["strategies"][0] |= spoil
        folder = files.write(files.Stored(plain, made_up.tensors, ""), tmp_path / f"a{number}")
        shutil.copy(tmp_path / "stranger.py", folder)
        for parts in (None, sys.modules[__name__], os):
            said = refusal(folder, parts=parts)
            assert "stranger" in said or "start" in said
    assert "stranger" not in sys.modules
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("use", ["system", "os:path.join", "os:_exit", "os:__import__", "a b", ""])
def test_only_what_the_module_itself_holds_is_taken(tmp_path, use):
    made_up = stored(OWN, WAVES, EPISODE)
    plain = copy.deepcopy(dict(made_up.plain))
    plain["strategies"][0]["head"] = {"kind": "own", "use": use, "options": {"command": "true"}}
    folder = files.write(files.Stored(plain, made_up.tensors, ""), tmp_path / "artifact")
    with pytest.raises(ArtifactError):
        metatune.load(folder, parts=os)


def test_a_module_that_is_not_imported_is_no_module(tmp_path):
    folder = files.write(stored(OWN, WAVES, EPISODE), tmp_path / "artifact")
    assert "parts: found" in refusal(folder, parts=ModuleType("os"))


def test_classes_of_another_number_are_taken_as_far_as_the_strategy_goes(tmp_path):
    any_way = Strategy(head=Prototypes(), meta=Meta(rule="none"))
    artifact = made(tmp_path / "a", any_way, TABLES, Episode(3, 2, 2))
    x = torch.randn(8, 12, generator=torch.Generator().manual_seed(0)).numpy()
    assert len(artifact.adapt(x, list("abcdabcd")).predict_proba(x)[0]) == 4
