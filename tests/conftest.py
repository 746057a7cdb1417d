"""What the tests share: one thread, and a tiny family of images with groups."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from metatune.tasks.base import ACCURACY, SPLITS, Episode, FamilyInfo, Split, TaskBatch, TaskFamily

if TYPE_CHECKING:
    from s3 import S3

# Everyday runs look at fewer examples; HYPOTHESIS_PROFILE=thorough looks at many.
# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("everyday", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """A file's tests run in one process, what it sets up once; all that needs Ray in another's."""
    for item in items:
        real = item.path.parent.name == "integration"
        item.add_marker(pytest.mark.xdist_group("ray" if real else str(item.path)))
    yield
    if getattr(config.option, "loadgroup", False) and not all("@" in i.nodeid for i in items):
        raise pytest.UsageError("this pytest-xdist cannot group tests with this pytest")


CLASSES = 6  # a group
GROUPS = {split: tuple(f"{split}-{letter}" for letter in "abc") for split in SPLITS}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """A real S3 server on this machine; its credentials are in the environment."""
    from s3 import ENVIRONMENT, S3

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        server = S3()
        yield server
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Torch, where a test of this session imports it, computes on one thread."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; subprocesses inherit the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METATUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run in which every state occurs. Not to be changed: copy it."""
    from inline_runner import SPACE, inline_run

    return inline_run(SPACE, tmp_path_factory.mktemp("finished") / "run")


class TinyImages:
    """Images of 1x8x8: each class has a pattern, each image adds noise to its class's."""

    info = FamilyInfo(
        name="tiny",
        kind="classification",
        input_shape=(1, 8, 8),
        outputs=0,
        metric=ACCURACY,
        train_classes=CLASSES * len(GROUPS["train"]),
        groups={split: dict.fromkeys(names, CLASSES) for split, names in GROUPS.items()},
        grouped=True,
        baselines=(),
        about="Noisy patterns, for tests.",
    )
    fingerprint = "tiny"

    def check(self, episode: Episode) -> None:
        assert episode.way <= CLASSES

    def usable_groups(self, split: Split, episode: Episode) -> tuple[str, ...]:
        return GROUPS[split]

    def sample(
        self,
        split: Split,
        episode: Episode,
        seeds: Sequence[int],
        groups: Sequence[str] | None = None,
    ) -> TaskBatch:
        drawn = [np.random.default_rng([seed, SPLITS.index(split)]) for seed in seeds]
        numbers = [int(rng.integers(len(GROUPS[split]))) for rng in drawn]
        if groups is not None:
            numbers = [GROUPS[split].index(name) for name in groups]
        classes = np.stack([rng.permutation(CLASSES)[: episode.way] for rng in drawn])
        classes += CLASSES * np.array(numbers)[:, None]

        def examples(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            of_each = np.repeat(classes, count, axis=1)
            noise = np.stack([rng.normal(size=(of_each.shape[1], 1, 8, 8)) for rng in drawn])
            return (_patterns(split)[of_each] + 0.5 * noise).astype(np.float32), of_each

        def labels(count: int) -> NDArray[np.int64]:
            return np.tile(np.repeat(np.arange(episode.way), count), (len(seeds), 1))

        support_x, support_class = examples(episode.shot)
        query_x, query_class = examples(episode.query)
        return TaskBatch(
            support_x,
            labels(episode.shot),
            query_x,
            labels(episode.query),
            ids=tuple(f"tiny-{seed}" for seed in seeds),
            groups=tuple(GROUPS[split][number] for number in numbers),
            support_class=support_class,
            query_class=query_class,
        )


def _patterns(split: Split) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(split.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=(CLASSES * len(GROUPS[split]), 1, 8, 8))


@pytest.fixture(scope="session")
def tiny() -> TaskFamily:
    """A family of images: four splits of three groups, six classes each."""
    return TinyImages()
