"""What Prometheus reads of a run at the nodes of a real cluster, with Ray's agents on them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from metatune import read_run, session
from tests.expected_metrics import Sample, expected, sample
from tests.integration.conftest import SPACE

pytestmark = pytest.mark.long
DASHBOARD = Path(__file__).parents[2] / "cluster/grafana/metatune.json"
ALWAYS = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
"""Tags that Ray gives; and those of OpenTelemetry begin with ``otel``."""


def until(look: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What a look finds, as soon as it finds something."""
    end = monotonic() + seconds
    while monotonic() < end:
        if found := look():
            return found
        sleep(0.5)
    raise AssertionError(f"nothing within {seconds:g} s")


def scraped(port: int, run: str) -> dict[Sample, float]:
    """Samples of a run at a node's port, but for the sums of histograms, which Ray estimates."""
    text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            tags = {
                name: value
                for name, value in each.labels.items()
                if name not in ALWAYS and not name.startswith("otel")
            }
            if tags.pop("run", None) == run and not each.name.endswith("_sum"):
                found[sample(each.name.removeprefix("ray_"), **tags)] = each.value
    return found


@pytest.fixture(scope="module")
def prometheus(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """The URL of a Prometheus that reads every node each second; None where none is installed."""
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("prometheus")
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "ray",
                "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in ports()]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def ports() -> list[int]:
    """Where the nodes of the cluster show their metrics."""
    import ray

    return [node["MetricsExportPort"] for node in ray.nodes() if node["Alive"]]


@pytest.fixture(scope="module")
def run(cluster: str, prometheus: str | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds in which a trial diverges."""
    folder = tmp_path_factory.mktemp("watched")
    wild = "[fomaml, {preset: maml, name: wild, inner: {lr: 1e6}}]"
    (folder / "space.yaml").write_text(SPACE.replace("[fomaml, maml]", wild))
    return session.run(folder / "space.yaml", out=folder / "scraped", workers=2, address=cluster)


def test_a_node_shows_what_the_records_say(run: Path) -> None:
    wanted = expected(read_run(run))
    assert {state for (name, tags), count in wanted.items() if name == "metatune_trials" and count
            for _, state in tags} >= {"completed", "diverged"}  # fmt: skip

    def look() -> dict[Sample, float] | None:
        found = [samples for port in ports() if (samples := scraped(port, run.name))]
        assert len(found) <= 1  # the driver's node alone
        return found[0] if found and found[0].keys() >= wanted.keys() else None

    # Ray sends what is new every 10 s.
    found = until(look)
    assert found == pytest.approx(wanted)


def test_every_panel_of_the_dashboard_shows_something(run: Path, prometheus: str | None) -> None:
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    wanted = expected(read_run(run))

    def asked(expression: str) -> dict[str, float]:
        query = urlencode({"query": expression.replace("$run", run.name)})
        answer = json.load(urlopen(f"{prometheus}/api/v1/query?{query}", timeout=10))
        results = answer["data"]["result"]
        return {json.dumps(each["metric"]): float(each["value"][1]) for each in results}

    ended = sum(
        count
        for (name, tags), count in wanted.items()
        if name == "metatune_trials" and ("state", "running") not in tags
    )
    of_ended = 'sum(ray_metatune_trials{run="$run", state!="running"})'
    until(lambda: asked(of_ended) == {"{}": ended})
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            values = asked(target["expr"])
            assert values, panel["title"]
            assert all(map(isfinite, values.values())), (panel["title"], values)
    by_state = asked('max by (state) (ray_metatune_trials{run="$run"})')
    assert {sample("metatune_trials", **json.loads(tags)): n for tags, n in by_state.items()} == {
        key: count for key, count in wanted.items() if key[0] == "metatune_trials"
    }
