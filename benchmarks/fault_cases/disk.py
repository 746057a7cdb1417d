"""Storage that fails under a run of two workers: full, away, broken, removed; and comes back.

Everything is made for real, on small file systems of this process' own: it needs root, on Linux.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Timer
from time import monotonic, sleep

import filesystems

from fault_cases import SPACE, Case, damaged, miscounted, rows_of
from metatune.errors import RunError
from metatune.records.rows import Concluded

AWAY_SECONDS = 30.0
SEARCH_SECONDS = 900.0
STARTS = 3
ROWS = (3, 30)
"""Recorded before a fault; a search has some 45 until its verdict."""


def cases(seed: int, scale: float) -> Iterator[Case]:
    """One case a fault, each at 2 x ``scale`` random instants, at least one."""
    if filesystems.why_not():
        raise RuntimeError(filesystems.why_not())
    draw = Random(seed)
    faults = (
        away_for_a_while, full, broken, unmounted_for_a_while, removed, interrupted,
        away_for_good, full_for_a_while,
    )  # fmt: skip
    yield not_begun()
    for fault in faults:
        for _ in range(max(1, round(2 * scale))):
            with TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
                place = Path(folder)
                with filesystems.disk(place / "disk", 64) as disk:
                    yield fault(Scene(place, disk, disk, seed, draw.randint(*ROWS)))


@dataclass
class Scene:
    """A run on a disk of its own, and what is found out about it."""

    place: Path
    disk: Path
    home: Path
    seed: int
    instant: int
    faults: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.home / "run"

    def begun(self) -> subprocess.Popen[str]:
        """A run that has recorded so many rows. On a busy machine Ray may need more than one start.

        Raises:
            RuntimeError: it never came to that.
        """
        space = self.place / "space.yaml"
        space.write_text(SPACE)
        for _ in range(STARTS):
            process = start("run", space, "--seed", self.seed, "--workers", 2, "--out", self.run)
            while process.poll() is None:
                if count(self.run) >= self.instant:
                    # The newest may not be acknowledged yet: it is taken back where a disk
                    # fails before it is.
                    self.before = rows_of(self.run)[:-1]
                    return process
                sleep(0.05)
            said = process.communicate()
            shutil.rmtree(self.run, ignore_errors=True)
        raise RuntimeError(f"the run ended before its fault: {said}")

    def search(self, fault: Callable[[], object]) -> tuple[int, float]:
        """Run with a fault; the exit code, and the seconds from the fault to the end."""
        process = self.begun()
        fault()
        since = monotonic()
        code = self.end(process)
        return code, monotonic() - since

    def end(self, process: subprocess.Popen[str]) -> int:
        """The exit code; what was said is kept."""
        self.said, self.refusal = process.communicate(timeout=SEARCH_SECONDS)
        if "Traceback" in self.said + self.refusal:
            self.faults.append(f"a traceback: {self.refusal[-2000:]}")
        return process.returncode

    def ended(self, found: tuple[int, float], why: str) -> None:
        """A run that is to have ended with one sentence."""
        code, seconds = found
        lines = [line for line in self.refusal.splitlines() if line.startswith("metatune: ")]
        if code != 2 or len(lines) != 1 or why not in lines[0]:
            self.faults.append(f"exit code {code}, said {self.refusal!r}")
        self.told.append(f"ended after {seconds:.0f} s")

    def went_on(self, found: tuple[int, float]) -> None:
        """A run that is to have come to its end."""
        code, seconds = found
        if code != 0:
            self.faults.append(f"exit code {code}, said {self.refusal!r}")
        waited = self.said.count("Waiting up to")
        self.told.append(f"went on, {seconds:.0f} s to its end, {waited} notices")

    def resumed(self) -> None:
        """Resume, to the end."""
        if code := self.end(start("resume", self.run, "--workers", 2)):
            self.faults.append(f"resume ended with exit code {code}: {self.refusal!r}")

    def whole(self) -> None:
        """Every file is, and what was recorded stands."""
        wrong, rows = damaged(self.run), rows_of(self.run)
        self.faults += wrong
        if rows[: len(self.before)] != self.before:
            self.faults.append("what stood before does not stand")
        files = sum(each.is_file() for each in self.run.rglob("*"))
        self.told.append(f"{files} files whole, {len(rows)} rows")

    def finished(self) -> None:
        """Nothing is lost and nothing there twice."""
        self.whole()
        rows = rows_of(self.run)
        self.faults += miscounted(rows)
        if not any(isinstance(row, Concluded) for row in rows):
            self.faults.append("no verdict")

    def case(self, name: str, done: str, expected: str) -> Case:
        counts = {"after rows": self.instant, "seed": self.seed}
        found = "; ".join([*self.faults, *self.told])
        return Case(name, done, counts, expected, found, not self.faults)


RESUMED = "one sentence and exit code 2; every file whole; a resume ends it, nothing lost or twice"
GOES_ON = "the run goes on to its verdict; nothing lost or twice"


def full(scene: Scene) -> Case:
    scene.ended(scene.search(lambda: filesystems.fill(scene.disk)), "No space left on device")
    scene.whole()
    (scene.disk / "filler").unlink()
    scene.resumed()
    scene.finished()
    return scene.case("full disk", "a file took all that a disk of 64 MB had left", RESUMED)


def full_for_a_while(scene: Scene) -> Case:
    def fill() -> None:
        filler = filesystems.fill(scene.disk)
        Timer(AWAY_SECONDS, filler.unlink).start()

    scene.went_on(scene.search(fill))
    scene.finished()
    done = f"a file took all that a disk had left, for {AWAY_SECONDS:g} s"
    return scene.case("disk full for a while", done, GOES_ON)


def away_for_a_while(scene: Scene) -> Case:
    elsewhere = scene.disk / "elsewhere"

    def away() -> None:
        scene.run.rename(elsewhere)
        Timer(AWAY_SECONDS, lambda: elsewhere.rename(scene.run)).start()

    scene.went_on(scene.search(away))
    scene.finished()
    done = f"the run's folder was renamed, and back after {AWAY_SECONDS:g} s"
    return scene.case("folder away for a while", done, GOES_ON)


def unmounted_for_a_while(scene: Scene) -> Case:
    share = scene.home = scene.place / "share"
    share.mkdir()
    filesystems.bind(scene.disk, share)

    def back() -> None:
        scene.faults += [f"made below the mount: {path}" for path in share.iterdir()]
        filesystems.bind(scene.disk, share)

    def away() -> None:
        filesystems.unmount(share)
        Timer(AWAY_SECONDS, back).start()

    scene.went_on(scene.search(away))
    scene.finished()
    filesystems.unmount(share)
    done = f"the share was unmounted, and mounted again after {AWAY_SECONDS:g} s"
    return scene.case("share unmounted for a while", done, GOES_ON)


def away_for_good(scene: Scene) -> Case:
    elsewhere = scene.disk / "elsewhere"
    found = scene.search(lambda: scene.run.rename(elsewhere))
    scene.ended(found, "No such file or directory")
    if scene.run.exists():
        scene.faults.append("something was made in its place")
    elsewhere.rename(scene.run)
    scene.whole()
    scene.resumed()
    scene.finished()
    return scene.case("folder away for longer", "the run's folder was renamed", RESUMED)


def broken(scene: Scene) -> Case:
    found = scene.search(lambda: filesystems.break_disk(scene.disk))
    scene.ended(found, "Read-only file system")
    filesystems.unmount(scene.disk)
    filesystems.mount_disk(scene.disk)
    scene.whole()
    scene.resumed()
    scene.finished()
    return scene.case("disk with an error", "ext4 aborted: from then on read-only", RESUMED)


def removed(scene: Scene) -> Case:
    scene.ended(scene.search(lambda: shutil.rmtree(scene.run)), "No such file or directory")
    left = sorted(str(path.relative_to(scene.disk)) for path in scene.run.rglob("*"))
    scene.faults += [f"was made anew: {name}" for name in left]
    expected = "one sentence and exit code 2; nothing is made anew"
    return scene.case("folder removed", "rm -r of the run's folder", expected)


def interrupted(scene: Scene) -> Case:
    process = scene.begun()
    filler = filesystems.fill(scene.disk)
    sleep(10)
    since = monotonic()
    process.terminate()
    code = scene.end(process)
    scene.told.append(f"ended after {monotonic() - since:.0f} s")
    if code != 130:
        scene.faults.append(f"exit code {code}, said {scene.refusal!r}")
    scene.whole()
    filler.unlink()
    scene.resumed()
    scene.finished()
    done = "SIGTERM 10 s after its disk was full"
    return scene.case("ended while it waits", done, RESUMED.replace("2", "130", 1))


def not_begun() -> Case:
    """Folders that cannot hold a run."""
    faults = []
    with TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        place = Path(folder)
        space = place / "space.yaml"
        space.write_text(SPACE)
        with filesystems.tmpfs(place / "read") as read, filesystems.tmpfs(place / "full") as packed:
            filesystems.only_read(read)
            filesystems.fill(packed)
            for out, why in (
                (read / "run", "Read-only file system"),
                (packed / "run", "No space left on device"),
                (Path("/no-such-share/run"), "is its disk or share not mounted?"),
            ):
                process = start("run", space, "--out", out)
                _, refusal = process.communicate(timeout=SEARCH_SECONDS)
                if process.returncode != 2 or why not in refusal or refusal.count("\n") != 1:
                    faults.append(f"{out}: exit code {process.returncode}, said {refusal!r}")
                if out.exists():
                    faults.append(f"{out} was made")
    return Case(
        "no place for a run",
        "--out on a read-only, a full, and a share that is not mounted",
        {"places": 3},
        "each is refused in one sentence, exit code 2, before anything starts",
        "; ".join(faults) or "refused",
        not faults,
    )


def start(*arguments: object) -> subprocess.Popen[str]:
    """``metatune`` as a user starts it."""
    command = [sys.executable, "-m", "metatune", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def count(run: Path) -> int:
    """Rows recorded so far."""
    try:
        return len(rows_of(run))
    except RunError:
        return 0
