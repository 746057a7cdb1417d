"""Figures: what is drawn is what the line of code below gives, number by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from handmade import SPACE, TWO
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from told import HOSTILE, whole

import metatune
from metatune import analysis
from metatune.records.reading import Run
from metatune.report.blocks import Board
from metatune.report.figures import Plot, inline_svg
from metatune.report.figures.style import CYCLE, GUIDE
from metatune.report.page import write_plots
from metatune.report.sections import content_of

EVERYWHERE = {
    "gains", "profiles", "differences-by-task", "drop", "trade-off-test", "trade-off-select",
    "ways", "progress", "learning-curves",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(finished: Path) -> dict[str, Run]:
    """A real run, and runs by hand: with eight groups, and with two objectives."""
    return {
        "real": metatune.read_run(finished),
        "groups": whole().run(),
        "costs": whole(TWO).run(),
    }


@pytest.fixture(scope="module")
def plots(runs: dict[str, Run]) -> dict[str, list[Plot]]:
    return {name: content_of(run).plots for name, run in runs.items()}


def marks(figure: Figure) -> Iterator[tuple[list[float], list[float]]]:
    """What stands for numbers, as sequences of one coordinate and of the other."""
    for ax in figure.axes:
        for line in ax.lines:
            if line.get_gid() != GUIDE:
                x, y = line.get_data(orig=True)
                yield [float(v) for v in x], [float(v) for v in y]
        for bar in ax.patches:
            assert isinstance(bar, Rectangle)
            yield [bar.get_width()], [bar.get_height()]


def numbers(frame: pd.DataFrame, columns: list[str]) -> set[float]:
    values = frame[columns].to_numpy(float, na_value=np.nan).ravel()
    return set(values[np.isfinite(values)].tolist())


def test_a_report_has_these_figures(plots: dict[str, list[Plot]]) -> None:
    names = {kind: {plot.name for plot in own} for kind, own in plots.items()}
    assert names["real"] >= EVERYWHERE
    assert names["groups"] >= EVERYWHERE | {"differences-by-group", "importance"}
    assert names["costs"] >= {"importance", "importance-adapt_seconds"}
    assert any(name.startswith("response-") for name in names["costs"])


@pytest.mark.parametrize("kind", ["real", "groups", "costs"])
def test_the_line_below_a_figure_gives_exactly_the_numbers_drawn(
    kind: str, runs: dict[str, Run], plots: dict[str, list[Plot]]
) -> None:
    for plot in plots[kind]:
        frame = eval(plot.question.code, {"analysis": analysis, "run": runs[kind]})
        pd.testing.assert_frame_equal(frame, plot.question.frame)
        wanted = numbers(frame, list(plot.drawn))
        assert wanted, plot.name
        known = numbers(frame, frame.select_dtypes("number").columns.to_list())
        drawn = set[float]()
        for x, y in marks(plot.figure()):
            own = [set(v) - {np.nan} for v in (np.array(x), np.array(y))]
            finite = [{value for value in values if np.isfinite(value)} for values in own]
            assert any(values <= known for values in finite), f"{plot.name} draws {finite}"
            drawn |= finite[0] | finite[1]
        assert wanted <= drawn, f"{plot.name} leaves out {wanted - drawn}"


def test_the_line_below_a_table_gives_its_frame(runs: dict[str, Run]) -> None:
    for run in runs.values():
        boards = [
            block
            for section in content_of(run).sections
            for block in section.blocks
            if isinstance(block, Board) and block.question is not None
        ]
        assert len(boards) > 3
        for board in boards:
            assert board.question is not None
            frame = eval(board.question.code, {"analysis": analysis, "run": run})
            pd.testing.assert_frame_equal(frame, board.question.frame)
            assert len(board.sheet.rows) <= len(frame)


def test_every_figure_says_how_to_read_it(plots: dict[str, list[Plot]]) -> None:
    for plot in (plot for own in plots.values() for plot in own):
        assert len(plot.caption) > 100
        assert plot.caption.endswith(".")


def test_an_inline_svg_repeats_has_text_as_text_and_takes_the_pages_colours(
    plots: dict[str, list[Plot]],
) -> None:
    by_name = {plot.name: plot for plot in plots["groups"]}
    first, second = (inline_svg(by_name["gains"]) for _ in range(2))
    assert first == second
    assert "gain over the default" in first
    assert "&lt;script&gt;alert" in first
    assert "<script" not in first
    assert "currentColor" in first
    assert "var(--c1, #0072b2)" in first
    assert "<style" not in first
    assert "<metadata" not in first
    other = inline_svg(by_name["drop"])
    ids = [set(_ids(text)) for text in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text in (first, other):
        assert len(set(_ids(text))) == len(_ids(text))
        for use in ElementTree.fromstring(text).iter():
            for key, value in use.attrib.items():
                if key.endswith("href"):
                    assert value.removeprefix("#") in _ids(text)


def _ids(text: str) -> list[str]:
    return [
        node.attrib["id"] for node in ElementTree.fromstring(text).iter() if "id" in node.attrib
    ]


def test_colours_differ_for_whom_red_and_green_are_alike() -> None:
    """Okabe and Ito's, by the simulation of Viénot, Brettel & Mollon (1999)."""
    to_lms = np.array([[17.8824, 43.5161, 4.1194], [3.4557, 27.1554, 3.8671],
                       [0.03, 0.1843, 1.4671]])  # fmt: skip
    without_red = np.array([[0, 2.0234, -2.5258], [0, 1, 0], [0, 0, 1]])
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in CYCLE])
    seen = (rgb**2.2) @ to_lms.T @ without_red.T @ np.linalg.inv(to_lms).T
    apart = np.abs(seen[:, None] - seen[None]).sum(axis=2) + np.eye(len(CYCLE))
    assert apart.min() > 0.1


def test_figures_are_written_as_files(tmp_path: Path) -> None:
    story = whole(SPACE)
    story.rows = story.rows[:12]  # few figures
    content = content_of(story.run())
    paths = write_plots(content, tmp_path / "new" / "plots")
    assert [path.name for path in paths] == [
        f"{plot.name}.{kind}" for plot in content.plots for kind in ("png", "svg")
    ]
    assert paths
    for path in paths:
        head = path.read_bytes()[:8]
        assert head.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_long_and_many_lined_names_are_cut_to_one_line() -> None:
    from metatune.report.figures.style import label

    assert label("a\nb") == "a?b"
    assert label("x" * 99) == "x" * 29 + "…"
    assert label(HOSTILE, 999) == HOSTILE
