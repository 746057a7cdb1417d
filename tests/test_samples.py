"""Tasks drawn to a picture: of train alone, whatever they are made of."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from user_images import save_image
from user_tables import plain_rows, uneven_rows

from metatune.errors import DataError
from metatune.samples import draw_samples, examples, mosaic
from metatune.tasks.base import Episode, TaskFamily
from metatune.tasks.registry import open_family


class OnlyTrain:
    """A family of which nothing but train may be drawn."""

    def __init__(self, family: TaskFamily) -> None:
        self._family, self.info = family, family.info

    def check(self, episode: Episode) -> None:
        self._family.check(episode)

    def sample(self, split, episode, seeds, groups=None):
        assert split == "train"
        return self._family.sample(split, episode, seeds, groups)


def colours(path: Path) -> int:
    """Different colours of a picture."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        found = image.convert("RGB").getcolors(maxcolors=image.width * image.height)
        assert found is not None
        return len(found)


def test_images_are_drawn_from_train_alone(tiny: TaskFamily, tmp_path: Path) -> None:
    path = tmp_path / "tiny.png"
    shown = draw_samples(OnlyTrain(tiny), Episode(3, 2, 4), path)  # type: ignore[arg-type]
    assert "a row a class" in shown
    assert colours(path) > 20


def test_colour_images_whose_groups_have_odd_names_are_drawn(tmp_path: Path) -> None:
    for number in range(32):
        group = ("$x_1$", "кот", "図", "a b")[number % 4]
        save_image(tmp_path / "d" / group / f"c{number // 4 % 2}" / f"{number}.png", number)
    options = {"data": str(tmp_path / "d"), "levels": "group/class", "colour": "rgb"}
    family = open_family("image_folder", options=options)
    draw_samples(family, Episode(2, 1, 1), tmp_path / "d.png")
    assert colours(tmp_path / "d.png") > 20
    with pytest.raises(DataError, match="no group of split"):
        draw_samples(family, Episode(3, 1, 1), tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()


def test_a_curve_has_its_points(tmp_path: Path) -> None:
    family = OnlyTrain(open_family("sinusoid"))
    shown = draw_samples(family, Episode(1, 5, 20), tmp_path / "s.png")  # type: ignore[arg-type]
    assert shown == "support and query points"
    assert colours(tmp_path / "s.png") > 20


def test_a_table_shows_its_first_rows_and_inputs_by_name(tmp_path: Path) -> None:
    plain_rows().drop(columns="label").rename(columns={"number": "$number_"}).to_csv(
        tmp_path / "t.csv"
    )
    options = {"data": [str(tmp_path / "t.csv")], "task": "task", "target": "y"}
    family = open_family("table", options=options)
    episode = Episode(1, 12, 4, per_class=False)
    assert draw_samples(family, episode, tmp_path / "t.png") == (
        "the first 8 support rows, the first 8 inputs"
    )
    assert colours(tmp_path / "t.png") > 20


def test_a_mosaic_has_a_row_a_class_and_ends_blank_where_images_are_few() -> None:
    x = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((1, 1, 2, 3), np.float32)
    sheet = mosaic(x, np.array([0, 0, 1, 0, 7]), [0, 1])
    assert sheet.shape == (4, 9, 1)
    np.testing.assert_array_equal(sheet[::2, ::3, 0], [[0, 1, 3], [2, 4, 4]])


def test_smaller_tasks_are_drawn_without_their_padding(tmp_path: Path) -> None:
    uneven_rows().drop(columns="label").to_csv(tmp_path / "a.csv")
    options = {"data": [str(tmp_path / "a.csv")], "task": "task", "target": "y", "metric": "mse"}
    family = open_family("table", options=options)
    tasks = family.sample("train", Episode(1, 30, 9, fewest=2), range(20))
    assert tasks.support_mask is not None
    assert tasks.query_mask is not None
    for task, (own, others) in enumerate(
        zip(tasks.support_mask.sum(1), tasks.query_mask.sum(1), strict=True)
    ):
        support, query = examples(tasks, task)
        assert [len(values) for values in (*support, *query)] == [own, own, others, others]
    draw_samples(family, Episode(1, 30, 9, fewest=2), tmp_path / "rows.png")
    assert colours(tmp_path / "rows.png") > 2


def test_what_cannot_be_drawn_is_told_in_a_sentence(
    tiny: TaskFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"nowhere.x\.png cannot be written: No such file"):
        draw_samples(tiny, Episode(3, 1, 1), tmp_path / "nowhere" / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match="drawn by matplotlib: pip install matplotlib"):
        draw_samples(tiny, Episode(3, 1, 1), tmp_path / "x.png")
