"""Every code block of README and docs is executed, in the order of its page, in a folder with data
and finished runs (``conftest.py``).

- ``python``: in one namespace a page. A block whose first line is ``# name.py`` is that file.
- ``sh``: ``metatune`` by its entry point, in this process. ``metatune run`` (and ``session.run``)
  does all that it does before workers start; a search of at most ``CHEAP`` examples goes on to its
  verdict, by the runner that works in this process, and one that already lies finished where
  it is to be written is left as it is.
- ``yaml``: a whole space file is planned, its data opened; so is a fragment, within a small space.

``CHECKED`` lists the blocks that are not executed: their commands are parsed, their code compiled.
"""

from __future__ import annotations

import glob
import io
import os
import runpy
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import typer
from inline_runner import InlineRunner
from pages import PAGES, ROOT, Block, blocks

from metatune import baselines, cli, session
from metatune.space import load_space, load_yaml, parse_space
from metatune.space.schema import Partial, Space
from metatune.space.source import Source
from metatune.strategy import Strategy

CHEAP = 60_000
CHECKED = {
    # a run on each of several folds
    "own_data.md": {"metatune run own.yaml --folds --out runs/all"},
    # torchvision; tests/test_own_images.py runs it with another network
    "own_images.md": {"# my_networks.py", "common:"},
    # a cluster; tests/integration/test_cluster.py runs the first
    "cluster.md": {
        "cluster/local/local-multi-node.sh --nodes 3 --cpus 1",
        "ray job submit --address http://127.0.0.1:8265 --no-wait -- \\",
        "metatune resume RUN --address auto --standby",
        "metatune run SPACE.yaml --out s3://bucket/runs/first --address auto",
    },
    # servers of others; tests/test_dashboards.py and integration/test_scraped_metrics.py start them
    "watch.md": {
        "optuna-dashboard runs/glyphs/study.log",
        "metatune watch runs/glyphs --tensorboard events",
        "prometheus --config.file=/tmp/ray/session_latest/metrics/prometheus/prometheus.yml "
        "--web.listen-address=127.0.0.1:9090",
    },
}
BASE = """
family: {name: sinusoid, shot: 5, query: 5}
budget: {trials: 4}
default: ridge
strategy: {head: {kind: ridge, penalty: {float: [0.1, 10.0], log: true}}}
"""
"""What a fragment of a space file is put into."""

ALL = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"python", "sh", "yaml", "csv", "text"}


class Reader:
    """Executes a page's blocks, as its reader would."""

    shown: ClassVar[set[tuple[str, ...]]] = set()
    """``baselines`` that ran on an earlier page: they take seconds, and write nothing."""

    def __init__(self, scratch: Path, patch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self._scratch, self._patch = scratch, patch
        self._started = 0
        patch.setattr(session, "run", self.run)
        patch.setattr(baselines, "baselines", partial(baselines.baselines, resource=2_000))
        patch.setattr(baselines, "SHOTS", (8,))
        patch.setattr(baselines, "PARTS", (1,))

    def execute(self, block: Block) -> None:
        """Execute one block.

        Raises:
            AssertionError, MetatuneError and others: it does not work.
        """
        getattr(self, block.language)(block)

    # --- languages --------------------------------------------------------------------------------

    def text(self, block: Block) -> None:
        """Nothing to be done."""

    def csv(self, block: Block) -> None:
        """An excerpt of data that lie in the folder."""
        columns = set(pd.read_csv(io.StringIO(block.text)).columns)
        files = [*Path.cwd().glob("*.csv"), *Path.cwd().glob("data/*.csv")]
        assert any(columns == set(pd.read_csv(file, nrows=1).columns) for file in files)

    def python(self, block: Block) -> None:
        """Code, or a file."""
        code = compile(block.text, block.place, "exec")
        if block.file is not None:
            Path(block.file).write_text(block.text)
            sys.modules.pop(Path(block.file).stem, None)  # another test's of the same name
        elif not block.checked_only:
            exec(code, self.names)

    def yaml(self, block: Block) -> None:
        """A space file, or some of its keys, or parts of a strategy."""
        plain, _ = load_yaml(block.text)
        if block.file is not None:
            Path(block.file).write_text(block.text)
            space = load_space(block.file)
        elif set(plain) <= set(Partial.model_fields) and not isinstance(plain.get("prior"), str):
            Strategy.model_validate(plain)
            return
        else:
            assert set(plain) <= set(Space.model_fields)
            base, _ = load_yaml(BASE)
            if {"default", "initial"} & set(plain):
                del base["default"]
            if plain.get("family", {}).get("way"):
                base["default"] = "r2d2"
            space = parse_space(base | plain, Source("fragment.yaml"))
        if not block.checked_only:
            session.plan_of(space, code=str(Path.cwd()))

    def sh(self, block: Block) -> None:
        """Commands, one after the other."""
        for words in block.commands:
            program, *arguments = words
            if program == "make":
                assert all(
                    f"\n{target}:" in (ROOT / "Makefile").read_text() for target in arguments
                )
            elif program == "metatune":
                given = [path for word in arguments for path in sorted(glob.glob(word)) or [word]]
                parse(given) if block.checked_only else self.metatune(given)
            elif program == "pytest":
                quiet = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
                assert pytest.main([*arguments, *quiet]) == 0
            elif program.endswith("python"):
                assert Path(arguments[0]).is_file()
                if not block.checked_only:
                    self._patch.setattr(sys, "argv", arguments)
                    runpy.run_path(arguments[0], run_name="__main__")
            else:
                assert block.checked_only, f"{program} is no command that these tests know"

    # --- metatune ---------------------------------------------------------------------------------

    def metatune(self, arguments: list[str]) -> None:
        """The command, by its entry point."""
        if tuple(arguments) in self.shown:
            return
        if arguments[0] == "baselines":
            self.shown.add(tuple(arguments))
        self._patch.setattr(sys, "argv", ["metatune", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        assert not code, f"metatune {' '.join(arguments)} ends with {code}"

    def run(self, space_file: str | Path, **options: Any) -> Path:
        """In place of ``session.run``."""
        out = Path(options.get("out") or session.default_folder(Path(space_file)))
        asked = {name: options.get(name) for name in ("trials", "seed", "storage")}
        self._started += 1
        made = self._scratch / str(self._started) if out.exists() else out
        folder, plan = session.create(space_file, out=made, **asked)
        if made is out and plan.trials * plan.rungs(plan.first_round)[-1] <= CHEAP:
            session.drive(folder, plan, None, nullcontext(InlineRunner()))
        return out


def parse(arguments: list[str]) -> None:
    """Read a command's arguments as it does, and stop there."""
    group: Any = typer.main.get_command(cli.app)
    with group.make_context("metatune", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        command.make_context(name, rest, parent=context)


@pytest.fixture
def reader(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader in a copy of the folder, where Ray cannot be imported."""
    for name in ("ray", "metatune.runner.tune_runner", "metatune.runner.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "path", [*sys.path])
    on_term, known = signal.getsignal(signal.SIGTERM), set(sys.modules)
    shutil.copytree(workspace, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    sys.path.insert(0, str(tmp_path / "work"))
    yield Reader(tmp_path, monkeypatch)
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    signal.signal(signal.SIGTERM, on_term)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_works(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        try:
            reader.execute(block)
        except Exception as error:
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}") from error


def test_every_block_says_in_which_language_it_is() -> None:
    assert [block.place for block in ALL if block.language not in LANGUAGES] == []


def test_a_family_of_ones_own_takes_fewer_than_40_lines() -> None:
    (family,) = [block for block in ALL if block.file == "my_tasks.py"]
    assert len(family.text.splitlines()) < 40


def test_what_is_not_executed_is_known() -> None:
    found: dict[str, set[str]] = {}
    for block in ALL:
        if block.checked_only:
            first = block.text.strip().partition("\n")[0].partition("  #")[0].strip()
            found.setdefault(block.page.name, set()).add(first)
    assert found == CHECKED


def test_a_command_that_is_only_checked_is_read_as_the_command_reads_it() -> None:
    parse(["run", "own.yaml", "--folds"])
    with pytest.raises(Exception, match="No such option"):
        parse(["run", "own.yaml", "--fold"])
    with pytest.raises(Exception, match="No such command"):
        parse(["rum", "own.yaml"])
