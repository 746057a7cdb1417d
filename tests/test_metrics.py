"""Metrics follow the rows of a run; and the dashboard asks for those that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from expected_metrics import Sample, buckets, expected, sample
from handmade import Story
from inline_runner import rows_of
from ray.util.metrics import Counter, Histogram, Metric

import metatune
from metatune.history import History
from metatune.records.rows import Row
from metatune.runner.metrics import Metrics, rung_seconds

ROOT = Path(__file__).parents[1]
DASHBOARD = json.loads((ROOT / "cluster/grafana/metatune.json").read_text())
ALL = {metric.info["name"]: metric for metric in Metrics("any").all}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Metric, dict[str, str], float]]:
    """What is handed to Ray's metrics."""
    found: list[tuple[Metric, dict[str, str], float]] = []
    record = Metric._record

    def spy(self: Metric, value: float, tags: dict[str, str] | None = None) -> None:
        found.append((self, {**self.info["default_tags"], **(tags or {})}, value))
        record(self, value, tags)

    monkeypatch.setattr(Metric, "_record", spy)
    return found


def shown(rows: list[Row], sign: int, told: list[tuple[Metric, dict[str, str], float]]) -> Any:
    """What Prometheus would be shown once these rows were recorded."""
    history, metrics = History(sign), Metrics("a run")
    for row in rows:
        history.add(row)
        metrics.watch(row, history)
    found: dict[Sample, float] = {}
    observed = []
    for metric, tags, value in told:
        assert tags.pop("run") == "a run"
        if isinstance(metric, Histogram):
            observed.append((tags["rung"], value))
            continue
        key = sample(metric.info["name"], **tags)
        found[key] = value + (found.get(key, 0.0) if isinstance(metric, Counter) else 0.0)
    return found | buckets(observed)


def test_metrics_say_what_the_records_say(finished: Path, told: list[Any]) -> None:
    run = metatune.read_run(finished)
    assert set(run.trials["state"]) == {"completed", "stopped", "diverged", "failed"}
    found = shown(rows_of(finished), run.info["family"]["sign"], told)
    assert found == pytest.approx(expected(run))


def test_before_a_trial_is_completed_there_is_no_best_score(told: list[Any]) -> None:
    story = Story()
    story.trial("protonet", 0.5, state=None)
    found = shown(story.rows, 1, told)
    assert found[sample("metatune_trials", state="running")] == 1
    assert not [name for name, _ in found if "best" in name]


def test_the_seconds_of_a_rung_are_those_since_the_rung_before() -> None:
    story = Story()
    trial = story.trial("protonet", 0.5, 0.5, 0.5, seconds=0.25)
    history = History(1, story.rows)
    rows = [history.trials[trial].at(rung) for rung in (1, 2, 3)]
    assert [row.train_seconds for row in rows] == [1, 2, 3]
    scoring = 0.25 * len(rows[0].tasks)
    assert [rung_seconds(row, history) for row in rows] == pytest.approx([1 + scoring] * 3)


# --- the dashboard --------------------------------------------------------------------------------

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]
KINDS = {"Histogram": ("_bucket", "_count", "_sum"), "Counter": ("",), "Gauge": ("",)}
EXPORTED = {
    f"ray_{name}{suffix}": metric
    for name, metric in ALL.items()
    for suffix in KINDS[type(metric).__name__]
}


def test_the_dashboard_asks_for_metrics_that_there_are_by_tags_that_they_have() -> None:
    asked = set()
    for target in TARGETS:
        for name, selector in re.findall(r"(ray_\w+)(\{[^}]*\})?", target["expr"]):
            assert name in EXPORTED, name
            asked.add(EXPORTED[name].info["name"])
            tags = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
            assert tags <= {*EXPORTED[name].info["tag_keys"], "le"}, target["expr"]
            assert "run" in tags, target["expr"]
        by = {tag.strip() for tags in re.findall(r"by \(([^)]*)\)", target["expr"])
              for tag in tags.split(",")}  # fmt: skip
        of_all = {tag for metric in ALL.values() for tag in metric.info["tag_keys"]}
        assert by <= {*of_all, "le"}
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= by
    assert asked == set(ALL)  # and nothing is exported for nobody


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["id"] is None  # Grafana gives it one
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert isinstance(DASHBOARD["title"], str)
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["run"]["query"]["query"] == "label_values(ray_metatune_trials, run)"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == source
        assert panel["type"] in {"stat", "timeseries"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        assert all(target["datasource"] == source for target in panel["targets"])


def test_no_panel_lies_on_another_or_leaves_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken
        taken |= cells


def test_each_metric_stands_on_the_page_with_its_tags() -> None:
    page = (ROOT / "docs/watch.md").read_text()
    for name, metric in ALL.items():
        row = re.search(rf"^\| `ray_{name}` \|(.*?)\| .+ \|$", page, re.MULTILINE)
        assert row, name
        tags = set(re.findall(r"`(\w+)`", row[1]))
        assert tags == set(metric.info["tag_keys"]) - {"run"}, name
