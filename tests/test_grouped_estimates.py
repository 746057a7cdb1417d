"""Many estimates at once are, one by one, those of ``estimate``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatune.statistics import claim_for, estimate, estimate_each

rows = st.lists(
    st.tuples(
        st.integers(0, 3),  # owner
        st.integers(0, 7),  # group: with six or more, the claim is another
        st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.1, 0.5]),
    ),
    max_size=60,
)


@given(rows)
def test_each_owner_has_the_estimate_of_its_own_values(found: list[tuple[int, int, float]]) -> None:
    owners, groups, values = zip(*found, strict=True) if found else ((), (), ())
    every = estimate_each(values, groups, owners, 4)
    scale = 1e-12 * max(1.0, *(abs(value) for value in values), 1.0)
    for owner in range(4):
        own = [(f"g{group}", value) for who, group, value in found if who == owner]
        if not own:
            assert every[owner].units == 0
            assert np.isnan([every[owner].mean, every[owner].low, every[owner].high]).all()
            continue
        names, numbers = zip(*own, strict=True)
        one = estimate(numbers, names, claim_for(names))
        assert every[owner].units == one.units
        assert every[owner].mean == pytest.approx(one.mean, rel=1e-12, abs=scale)
        # A spread of nothing but rounding has no digits to agree on.
        assert every[owner].low == pytest.approx(one.low, rel=1e-12, abs=100 * scale)
        assert every[owner].high == pytest.approx(one.high, rel=1e-12, abs=100 * scale)


def test_with_six_groups_the_units_are_groups_and_with_five_tasks() -> None:
    groups = [0, 1, 2, 3, 4, 5, 5, 0, 1, 2, 3, 4, 4, 4]
    owners = [0] * 7 + [1] * 7
    values = np.arange(14.0)
    found = estimate_each(values, groups, owners, 2)
    assert found.units.tolist() == [6, 7]
    assert found[0].mean == pytest.approx(np.mean([0, 1, 2, 3, 4, 5.5]))
    assert found[1].mean == pytest.approx(10.0)


def test_a_single_unit_bounds_nothing() -> None:
    found = estimate_each([0.5], [0], [0], 1)[0]
    assert (found.mean, found.low, found.high) == (0.5, -np.inf, np.inf)


def test_the_order_of_the_rows_does_not_matter() -> None:
    random = np.random.default_rng(0)
    values, groups, owners = (
        random.normal(size=500),
        random.integers(9, size=500),
        np.arange(500) % 7,
    )
    mixed = random.permutation(500)
    a = estimate_each(values, groups, owners, 7)
    b = estimate_each(values[mixed], groups[mixed], owners[mixed], 7)
    assert np.allclose(a.low, b.low, rtol=1e-12)
