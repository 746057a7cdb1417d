"""One's own images and one's own pretrained network, from the space file to the leaderboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from inline_runner import inline_run
from user_images import class_folders

import metatune
from metatune.records.folder import RunFolder
from metatune.records.reading import read_info

DOCS = Path(__file__).parents[1] / "docs" / "own_images.md"
START = """\
family:
  {name: image_folder, data: pictures, levels: group/class, size: 8, way: 3, shot: 2, query: 2}
resource: {full: 400, rungs: 2, reduction: 2}
tasks: {select: 6, confirm: 6, test: 6}
budget: {trials: 5}
verdict: {seeds: 1, finalists: 1, best_seeds: 1}
"""


def documented() -> str:
    """The parts of a space for a pretrained network, as docs/own_images.md has them."""
    *_, block = re.findall(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert "my_networks:features" in block
    return block.replace("my_networks:features", "own_networks:pretrained")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    class_folders(folder / "pictures", groups=8, classes=3, images=4)
    (folder / "pictures" / "g00" / "c00" / "torn.png").write_bytes(b"torn")
    return inline_run(START + documented(), folder / "run")


def test_both_baselines_are_in_the_leaderboard_and_the_verdict(run: Path) -> None:
    results = metatune.read_run(run)
    told = results.verdicts["sentence"].iloc[-1]
    assert "frozen_features" in told or "nearest_neighbour" in told
    assert {"frozen_features", "nearest_neighbour", "cosine"} <= {*results.trials["name"]}
    tested = {*results.scores.query("split == 'test'")["trial"]}
    for name in ("frozen_features", "nearest_neighbour"):
        assert tested & {*results.trials.query("name == @name").index}, name
    assert set(results.trials["state"]) == {"completed"}
    assert not results.scores["transductive"].any()


def test_what_was_left_out_stands_in_the_runs_folder(run: Path) -> None:
    notes = read_info(RunFolder.open(run))["notes"]
    assert notes[0] == "96 images of 24 classes, grey, 8x8 pixels."
    assert any("g00/c00/torn.png: cannot identify image file" in note for note in notes)
