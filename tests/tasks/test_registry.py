"""Families by name, and what opening one may import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metatune.errors import DataError
from metatune.tasks.registry import family_names, open_family


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        DataError,
        match="'imagenet'; allowed: sinusoid, linear, quadratic, noisy_quadratic, glyphs, "
        "omniglot, chembl",
    ):
        open_family("imagenet")


def test_a_family_is_opened_once_a_process():
    assert open_family("sinusoid") is open_family("sinusoid")
    assert open_family("glyphs") is open_family("glyphs")


@pytest.mark.parametrize("name", ["sinusoid", "glyphs"])
def test_a_family_carries_the_name_that_it_is_opened_by(name):
    assert name in family_names()
    assert open_family(name).info.name == name


def test_tasks_are_had_without_torch_and_typefaces_imported_only_for_glyphs():
    program = (
        "import sys; from metatune.tasks.registry import open_family;"
        "import metatune.tasks.images.glyphs, metatune.tasks.images.omniglot;"
        "open_family('sinusoid');"
        "heavy = {'torch', 'pydantic', 'pandas', 'PIL', 'matplotlib', 'fontTools', 'optuna'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
