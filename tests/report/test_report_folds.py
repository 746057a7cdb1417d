"""The page of a search over folds: what they say together, and the way to each fold's page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_folds import four_folds

from metatune.errors import RunError
from metatune.folds import rotated
from metatune.report import report
from metatune.report.blocks import Links
from metatune.report.folds import content_of_folds
from metatune.report.page import html
from metatune.tables import rotation_sheet, rotation_text


def test_it_says_what_the_folds_say_together_and_leads_to_each() -> None:
    runs = four_folds()
    pages = [Path(f"/there/fold-{fold}/report.html") for fold in range(4)]
    content = content_of_folds("search", runs, 4, Path("/there/report.html"), pages)
    found = rotated(runs)
    assert " ".join(content.verdict) == f"{rotation_text(found, 'accuracy')}."
    page = html(content)
    assert 'href="fold-3/report.html"' in page
    for row in rotation_sheet(found, "accuracy").rows:
        assert f">{row[1]}<" in page
    (plot,) = content.plots
    scope = {"rotated": rotated, "runs": runs}
    pd.testing.assert_frame_equal(eval(plot.question.code, scope), plot.question.frame)
    drawn = {float(x) for line in plot.figure().axes[0].lines for x in line.get_xdata(orig=True)}
    assert set(found.frame["over_rival"]) | set(found.frame["gain"]) <= drawn


def test_where_a_fold_goes_on_the_line_of_code_leaves_it_out() -> None:
    runs = four_folds()
    content = content_of_folds("search", runs, 5, Path("report.html"), [])
    scope = {"rotated": rotated, "runs": runs}
    (plot,) = content.plots
    pd.testing.assert_frame_equal(eval(plot.question.code, scope), plot.question.frame)
    assert "4 of 5 folds have a verdict." in html(content)


def test_each_fold_that_has_begun_has_a_page_of_its_own(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metatune.report.page.html", lambda content: content.verdict[0])
    (tmp_path / "folds.json").write_text(json.dumps({"folds": 2}))
    with pytest.raises(RunError, match="none of its 2 folds has begun"):
        report(tmp_path)
    shutil.copytree(finished, tmp_path / "fold-0")
    written = report(tmp_path)
    assert written == [tmp_path / "report.html", tmp_path / "fold-0" / "report.html"]
    assert written[0].read_text() == "No verdict over folds yet."
    assert written[1].read_text() != "No verdict over folds yet."


def test_a_page_elsewhere_finds_those_of_the_folds() -> None:
    pages = [Path("/there/search/fold-0/report.html")]
    content = content_of_folds("search", four_folds(), 4, Path("/there/pages/all.html"), pages)
    (links,) = [b for section in content.sections for b in section.blocks if isinstance(b, Links)]
    assert links.to == (("The page of fold-0", "../search/fold-0/report.html"),)
