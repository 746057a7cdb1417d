"""The report as a page: what it says, that it says nothing else, and how a browser shows it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from handmade import Story
from inline_runner import rows_of
from rich.console import Console
from scipy import stats
from told import HOSTILE, REASON, whole, without_verdict

import metatune
from metatune.analysis import verdict_table
from metatune.cli import results as commands
from metatune.errors import RunError
from metatune.records.folding import tables
from metatune.records.reading import Run
from metatune.records.rows import Asked, Concluded, Ended, Scored
from metatune.report import report
from metatune.report.page import html
from metatune.report.sections import content_of

CHROMIUM = shutil.which("chromium")
SECTIONS = {
    "setting", "test", "differences", "drop", "trade", "knobs", "search", "lineage", "endings",
    "again", "numbers",
}  # fmt: skip


class Seen(HTMLParser):
    """What a page is made of.

    Attributes:
        tags: names of all elements.
        attributes: all of them, by name and value.
        text: what is read.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run."""
    (written,) = report(finished, out=tmp_path_factory.mktemp("page") / "report.html")
    return written


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose names and texts are written to break it."""
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_bytes(html(content_of(whole().run())).encode(errors="replace"))
    return path


def ids(seen: Seen) -> list[str]:
    return [value or "" for name, value in seen.attributes if name == "id"]


# --- what it says ---------------------------------------------------------------------------------


def test_the_verdict_comes_first_in_its_own_words(page: Path, finished: Path) -> None:
    seen = Seen(page.read_text())
    sentence = metatune.read_run(finished).verdicts.iloc[-1]["sentence"]
    lead = sentence.partition(". ")[0]
    assert lead in seen.text
    assert seen.text.index(lead) < seen.text.index("Who competes, and how")
    assert sentence.partition(". ")[2] in seen.text
    assert set(ids(seen)) >= SECTIONS


def test_the_page_stands_alone(page: Path, hostile: Path) -> None:
    for path in (page, hostile):
        seen = Seen(path.read_text())
        assert not {"script", "img", "iframe", "object", "form"} & set(seen.tags)
        for name, value in seen.attributes:
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value is not None
                assert value.startswith(("#", "data:,"))
        assert len(set(ids(seen))) == len(ids(seen))
        inside = {value for name, value in seen.attributes if "href" in name} - {"data:,"}
        assert {value[1:] for value in inside if value} <= set(ids(seen))


def test_hostile_names_and_reasons_are_text(hostile: Path) -> None:
    seen = Seen(hostile.read_text())
    assert HOSTILE in seen.text
    assert "ValueError: <script>alert(2)</script>" in seen.text
    assert " ".join(REASON.split()[:3]) in seen.text
    assert "<b>bold</b>" in seen.text
    assert "b" not in seen.tags


def test_transductive_scores_are_marked(hostile: Path, page: Path) -> None:
    told = Seen(hostile.read_text()).text
    assert "r2d2, transductive (rival)" in told
    assert "Marked as transductive" in told
    assert "Marked as transductive" not in Seen(page.read_text()).text


def test_who_competes_how_it_ended_and_how_to_run_it_again(page: Path, finished: Path) -> None:
    told, run = Seen(page.read_text()).text, metatune.read_run(finished)
    for words in (
        "9 trials, no limit of time", "200, 600, 1,800 examples seen", "5 rows to learn from",
        "the default (1)", "opened once, by the verdict", "after round 1, for 4",
        "metatune run run/space.yaml --seed 0 --trials 9 --workers 1",
        f"ray {run.info['versions']['ray']}", run.info["space_sha256"],
        "the training loss is not finite at meta-step #", "verdict: {seeds: 2",
    ):  # fmt: skip
        assert words in told
    for state, count in run.trials["state"].astype(str).value_counts().items():
        assert f"{state} {count}" in told


def test_rounds_say_what_they_changed(hostile: Path) -> None:
    told = Seen(hostile.read_text()).text
    assert "head.scale: [0.1, 10] -> [0.5, 4], around 3 leaders; <b>bold</b>" in told


def test_report_leaderboard_frames_and_raw_parquet_agree_to_the_last_digit(
    page: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(commands, "console", Console(file=out, width=300, markup=False))
    commands.leaderboard(finished, 20)
    printed, told = out.getvalue(), Seen(page.read_text()).text
    run = metatune.read_run(finished)
    final, frame = run.verdicts.iloc[-1], verdict_table(run)
    (raw,) = [pq.read_table(p).to_pylist() for p in finished.glob("records/parquet-*/scores.parq*")]
    winner, rival = (_by_training(raw, str(final[role])) for role in ("winner", "rival"))
    own = _interval(winner.mean(axis=0), winner)
    gain = _interval(rival.mean(axis=0) - winner.mean(axis=0), winner, rival)  # an error
    row = frame.loc[final["winner"]]
    assert own == pytest.approx(row[["score", "low", "high"]].to_list())
    over = [f"over_rival{end}" for end in ("", "_low", "_high")]
    assert gain == pytest.approx(row[over].to_list())
    mean, low, high = (f"{value:.4g}" for value in own)
    difference = "{:+.3g} [{:+.3g}, {:+.3g}]".format(*gain)
    for text in (printed, told):
        line = text[text.index(f"{row['name']} (winner)") :][:250]
        for number in (mean, f"{low} to {high}", difference):
            assert number in line
    assert difference in final["sentence"]
    assert f"95 % interval {low} to {high}" in told  # among the numbers that are read first


def _by_training(raw: list[dict[str, Any]], trial: str) -> np.ndarray:
    """``(trainings, tasks)`` of a trial's scores on ``test``."""
    own = [r for r in raw if r["trial"] == trial and r["split"] == "test" and r["replica"]]
    tasks = sorted({r["task"] for r in own})
    found = np.full((max(r["replica"] for r in own), len(tasks)), np.nan)
    for r in own:
        found[r["replica"] - 1, tasks.index(r["task"])] = r["score"]
    return found


def _interval(values: np.ndarray, *trainings: np.ndarray) -> tuple[float, float, float]:
    """Mean with the 95 % interval over tasks, the luck of trainings in it, by Welch."""
    samples = [values, *(own.mean(axis=1) for own in trainings)]
    errors = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    freedom = errors.sum() ** 2 / sum(
        e**2 / (len(s) - 1) for e, s in zip(errors, samples, strict=True)
    )
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(errors.sum())
    return values.mean(), values.mean() - reach, values.mean() + reach


# --- runs that have not come so far ---------------------------------------------------------------


def nothing() -> Story:
    return Story()


def one_trial() -> Story:
    story = Story()
    story.trial("protonet", 0.5, 0.5, 0.5)
    return story


def only_failures() -> Story:
    story = Story()
    for name in ("protonet", "r2d2"):
        trial = story.trial(name, state=None)
        story.rows.append(Ended(trial, "failed", "Traceback\nMemoryError: no room", 1.0))
    return story


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (nothing, ["The run has not tried anything.", "Nothing has been tried yet."]),
        (one_trial, ["strategies: 1 completed.", "Fewer than two trials are complete."]),
        (only_failures, ["strategies: 2 failed.", "MemoryError: no room", "No trial is complete"]),
    ],
)
def test_a_run_that_has_little_says_what_is_missing(story: Any, said: list[str]) -> None:
    seen = Seen(html(content_of(story().run())))
    for words in (*said, "No verdict yet.", "There is no winner yet."):
        assert words in seen.text
    assert set(ids(seen)) >= SECTIONS
    assert not re.search(r"\b(nan|None|NaT|inf|<NA>)\b", seen.text)


def test_a_run_without_its_verdict_shows_what_it_has(tmp_path: Path) -> None:
    content = content_of(without_verdict(whole()).run())
    names = {plot.name for plot in content.plots}
    assert {"progress", "drop", "importance", "learning-curves"} <= names
    assert not {"gains", "profiles", "differences-by-task"} & names
    assert content.verdict[0] == "No verdict yet."


def test_at_no_point_of_a_run_is_there_a_hole(finished: Path) -> None:
    rows, info = rows_of(finished), metatune.read_run(finished).info
    for kept in (0, 3, 12, len(rows) // 2, len(rows) - 1):
        content = content_of(Run(finished, info, tables(rows[:kept])))
        assert content.given == any(isinstance(row, Concluded) for row in rows[:kept])
        for section in content.sections:
            assert section.blocks
        for plot in content.plots:
            assert len(plot.question.frame)
        for text in (*content.verdict, *(n for number in content.numbers for n in number)):
            assert "nan" not in text


def test_no_word_of_the_real_page_is_a_missing_number(page: Path) -> None:
    assert not re.search(r"\b(nan|None|NaT|inf|<NA>)\b", Seen(page.read_text()).text)


def test_a_winner_that_is_the_rival_is_not_compared_with_itself() -> None:
    story = whole()
    last = story.rows.pop()
    assert isinstance(last, Concluded)
    story.rows.append(replace(last, winner=last.rival))
    content = content_of(story.run())
    assert not [plot for plot in content.plots if plot.name.startswith("differences")]
    assert ("-", "it is the rival itself") in [number[1:] for number in content.numbers]


def test_what_a_prior_brought_has_a_section() -> None:
    story = whole(name="new")
    story.rows = [
        replace(row, origin="portfolio")
        if isinstance(row, Asked) and row.name == "proposed-1-4"
        else row
        for row in story.rows
    ]
    run = story.run()
    assert "prior" not in {section.anchor for section in content_of(run).sections}
    run.info["prior_sha256"] = "abc"
    (section,) = [s for s in content_of(run).sections if s.anchor == "prior"]
    (board,) = section.blocks
    assert [row[1] for row in board.sheet.rows] == ["proposed-1-4"]  # type: ignore[union-attr]


# --- where it is written --------------------------------------------------------------------------


def test_by_default_the_page_lies_in_the_runs_folder_and_replaces_an_older_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "report.html").write_text("old")
    monkeypatch.setattr("metatune.report.page.html", lambda content: content.title)
    assert report(copy) == [copy / "report.html"]
    assert (copy / "report.html").read_text() == "copy"


@pytest.mark.parametrize("out", ["missing/report.html", "."])
def test_where_it_cannot_be_written_one_sentence_says_so(
    finished: Path, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metatune.report.page.html", lambda content: "")
    with pytest.raises(RunError, match="cannot be written"):
        report(finished, out=tmp_path / out)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        report(tmp_path)


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs rights that containers do not give; the pages are our own.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_browser_shows_it_without_errors_network_or_overflow(
    page: Path, hostile: Path, browser: Any, width: int, scheme: str
) -> None:
    for path in (page, hostile):
        shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        shown.set_default_timeout(120_000)
        said, asked = list[str](), list[str]()
        shown.on("console", lambda message, said=said: said.append(message.text))
        shown.on("pageerror", lambda error, said=said: said.append(str(error)))
        shown.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        shown.on("request", lambda request, asked=asked: asked.append(request.url))
        shown.goto(path.as_uri())
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        for target in shown.eval_on_selector_all("a", "links => links.map(a => a.hash)"):
            assert shown.locator(target).count() == 1
        ink, paper = (
            _brightness(shown.evaluate(f"getComputedStyle(document.body).{name}"))
            for name in ("color", "backgroundColor")
        )
        assert abs(ink - paper) > 0.7
        assert (paper > ink) == (scheme == "light")
        of_text = shown.eval_on_selector("svg.plot text", "text => getComputedStyle(text).fill")
        assert _brightness(of_text) == pytest.approx(ink)
        shown.close()


def _brightness(colour: str) -> float:
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / (3 * 255)


def test_it_prints(page: Path, browser: Any) -> None:
    shown = browser.new_page()
    shown.set_default_timeout(120_000)
    shown.goto(page.as_uri())
    assert shown.pdf(format="A4").startswith(b"%PDF")
    shown.close()


def test_the_stories_hold_every_kind_of_row() -> None:
    kinds = {type(row) for row in whole().rows}
    assert {Asked, Scored, Ended, Concluded} <= kinds
