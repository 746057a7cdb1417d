"""Split conformal over groups: what it promises, by simulation, and the formula by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatune.artifact.intervals import Calibration, unit
from metatune.errors import ArtifactError


def calibration(scores, group):
    values = torch.tensor(scores, dtype=torch.float64)[:, None]
    return Calibration(values, torch.tensor(group), torch.tensor([0.0]).double())


def test_the_threshold_by_hand():
    """Three groups: each score weighs 1/(4 n_k), so 0.5 is reached at the third of these."""
    found = calibration([1.0, 2, 3, 4, 5, 6], [0, 0, 1, 1, 2, 2])
    assert found.threshold(0.375).item() == 3.0
    assert found.threshold(0.5).item() == 4.0
    assert found.threshold(0.75).item() == 6.0
    uneven = calibration([1.0, 2, 3, 9], [0, 0, 0, 1])
    assert uneven.threshold(1 / 3).item() == 3.0
    assert uneven.threshold(0.4).item() == 9.0


def test_a_level_that_the_groups_cannot_bear_is_refused():
    found = calibration([1.0, 2, 3], [0, 1, 2])
    y = torch.tensor([[0.0], [2.0]]).double()
    assert found.half_width(y, 0.75).item() == 3.0
    for level in (0.9, 1.0, 0.0, -1.0, float("nan")):
        with pytest.raises(ArtifactError, match=r"up to 0.75, which is what the 3 groups"):
            found.half_width(y, level)


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 3)), min_size=4, max_size=30))
def test_a_higher_level_is_never_narrower(pairs):
    names = sorted({group for _, group in pairs})
    found = calibration([s for s, _ in pairs], [names.index(g) for _, g in pairs])
    most = found.groups / (found.groups + 1)
    widths = [found.threshold(most * share).item() for share in np.linspace(0.05, 1, 20)]
    assert widths == sorted(widths)


def test_new_groups_are_covered_at_least_as_often_as_was_said():
    """400 draws of 9 groups of unequal sizes, whose spreads differ by far, and one more."""
    rng, within = np.random.default_rng(0), []
    for _ in range(400):
        sizes, spreads = rng.integers(1, 30, 10), rng.lognormal(0, 1.5, 10)
        errors = [abs(rng.normal(0, s, n)) for s, n in zip(spreads, sizes, strict=True)]
        group = np.repeat(np.arange(9), sizes[:9])
        found = calibration(np.concatenate(errors[:9]).tolist(), group.tolist())
        within.append((errors[9] <= found.threshold(0.8).item()).mean())
    assert np.mean(within) > 0.78  # 0.8, less two standard errors
    assert np.mean(within) < 0.93  # and no more than 1 / (K + 1) beyond, with room


def test_a_task_of_ten_times_the_scale_has_intervals_of_ten_times_the_width():
    y = torch.randn(3, 7, 1, dtype=torch.float64)
    floor = torch.zeros(1).double()
    torch.testing.assert_close(unit(10 * y, floor), 10 * unit(y, floor))
