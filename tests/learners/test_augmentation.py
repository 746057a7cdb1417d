"""Augmentation: what may change does so as the diet says, by each task's own seed; no more."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metatune.learners.augmentation import augment
from metatune.learners.interface import Tensors
from metatune.strategy.diet import Diet, ImageAugmentation, TableAugmentation, Where

CLASSES = 10  # of the training split
WAY, SHOT, QUERY = 3, 2, 4
SIDE = 16
SUPPORT = WAY * SHOT
SETS: dict[Where, set[str]] = {
    "both": {"support", "query"},
    "support": {"support"},
    "query": {"query"},
}

some = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**63 - 1)
wheres = st.sampled_from(sorted(SETS))
copies = st.integers(0, 3)
dtypes = st.sampled_from([torch.float32, torch.float64])
images_changed = st.builds(
    ImageAugmentation,
    shift=st.floats(0, 0.5),
    rotate=st.floats(0, 180),
    scale=st.floats(0, 2),
    shear=st.floats(0, 45),
    elastic=st.floats(0, 3),
    where=wheres,
    copies=copies,
)
tables_changed = st.builds(
    TableAugmentation,
    noise=st.floats(0, 2),
    dropout=st.floats(0, 0.9),
    target_scale=st.floats(0, 3),
    where=wheres,
    copies=copies,
)


def image_tasks(tasks: int, dtype: torch.dtype = torch.float32, way: int = WAY) -> Tensors:
    """Tasks of random images without symmetry, with an empty border."""
    generator = torch.Generator().manual_seed(5)

    def images(n: int) -> Tensor:
        inner = torch.rand(tasks, n, 1, SIDE - 4, SIDE - 4, generator=generator, dtype=dtype)
        return torch.nn.functional.pad(inner, (2, 2, 2, 2))

    support_y = torch.arange(way).repeat_interleave(SHOT).repeat(tasks, 1)
    query_y = torch.arange(way).repeat(tasks, QUERY)
    numbers = torch.stack(
        [torch.randperm(max(CLASSES, way), generator=generator)[:way] for _ in range(tasks)]
    )
    return Tensors(
        images(way * SHOT),
        support_y,
        images(way * QUERY),
        query_y,
        numbers.gather(1, support_y),
        numbers.gather(1, query_y),
        groups=tuple(f"group {task}" for task in range(tasks)),
    )


def blobs(images: int, side: int = SIDE) -> Tensors:
    """One task of smooth round spots away from the border, which warping samples well."""
    place = torch.arange(side) - (side - 1) / 2
    spot = torch.exp(-(place[:, None].square() + place.square()) / (2 * (side / 10) ** 2))
    x = spot.expand(1, images, 1, side, side).clone()
    y = torch.zeros(1, images, dtype=torch.int64)
    return Tensors(x, y, x.clone(), y, y, y)


def table_tasks(
    tasks: int, features: int = 4, points: int = 6, dtype: torch.dtype = torch.float32
) -> Tensors:
    """Regression tasks with inputs and targets that are not zero."""
    generator = torch.Generator().manual_seed(6)

    def numbers(*shape: int) -> Tensor:
        return 1 + torch.rand(tasks, *shape, generator=generator, dtype=dtype)

    return Tensors(
        numbers(points, features), numbers(points, 2), numbers(points, features), numbers(points, 2)
    )


def same(one: Tensors, other: Tensors, exactly: bool = True) -> bool:
    """Equality of all fields; else up to the rounding of products over larger batches."""

    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, Tensor):
            return bool(a == b)
        return torch.equal(a, b) if exactly else torch.allclose(a, b, rtol=1e-4, atol=1e-4)

    return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Tensors))


def copied(batch: Tensors) -> Tensors:
    values = {f.name: getattr(batch, f.name) for f in fields(Tensors)}
    return replace(batch, **{k: v.clone() for k, v in values.items() if isinstance(v, Tensor)})


def image_diet(**options: Any) -> Diet:
    return Diet(augment=ImageAugmentation(**options))


def table_diet(**options: Any) -> Diet:
    return Diet(augment=TableAugmentation(**options))


def ink(images: Tensor) -> Tensor:
    return images.sum((-3, -2, -1))


def centre(images: Tensor) -> Tensor:
    """Centres of mass ``(..., 2)`` in pixels, row before column."""
    place = torch.arange(images.shape[-1], dtype=images.dtype)
    rows, columns = images.sum((-3, -1)) @ place, images.sum((-3, -2)) @ place
    return torch.stack([rows, columns], -1) / ink(images)[..., None]


# Any diet


@some
@given(part=st.one_of(images_changed, tables_changed), turns=st.booleans(), seed=seeds)
def test_equal_seeds_give_equal_tasks_and_inputs_stay_as_they_are(
    part: ImageAugmentation | TableAugmentation, turns: bool, seed: int
) -> None:
    batch = image_tasks(2)
    before, diet = copied(batch), Diet(augment=part, quarter_turns=turns)
    once = augment(diet, batch, [seed, seed + 1], CLASSES)
    assert same(once, augment(diet, batch, [seed, seed + 1], CLASSES))
    assert same(batch, before)


@some
@given(
    part=st.one_of(images_changed, tables_changed),
    turns=st.booleans(),
    own=st.lists(seeds, min_size=3, max_size=3),
    order=st.permutations([0, 1, 2]),
)
def test_a_task_depends_on_its_own_seed_alone(
    part: ImageAugmentation | TableAugmentation, turns: bool, own: list[int], order: list[int]
) -> None:
    """Neither on its neighbours nor on its place among them."""
    # Rounding of a place in an image counts the more, the steeper the image: in float64 little.
    batch, diet = image_tasks(3, torch.float64), Diet(augment=part, quarter_turns=turns)
    together = augment(diet, batch, own, CLASSES)
    moved = augment(diet, batch.tasks(order), [own[task] for task in order], CLASSES)
    assert same(together.tasks(order), moved, exactly=False)
    alone = augment(diet, batch.tasks([1]), own[1:2], CLASSES)
    assert same(together.tasks([1]), alone, exactly=False)


@pytest.mark.parametrize(
    "diet",
    [
        Diet(quarter_turns=True),
        image_diet(shift=0.2),
        image_diet(rotate=30),
        image_diet(scale=0.5),
        image_diet(shear=20),
        image_diet(elastic=1),
        table_diet(noise=1),
    ],
)
def test_every_setting_changes_tasks_and_other_seeds_change_them_otherwise(diet: Diet) -> None:
    batch = image_tasks(1)
    one, other = (augment(diet, batch, [seed], CLASSES).query_x for seed in (1, 2))
    assert not torch.equal(one, batch.query_x)
    assert not torch.equal(one, other)


@some
@given(part=st.one_of(images_changed, tables_changed), turns=st.booleans(), dtype=dtypes)
def test_shapes_types_and_groups_are_kept(
    part: ImageAugmentation | TableAugmentation, turns: bool, dtype: torch.dtype
) -> None:
    batch = image_tasks(2, dtype)
    result = augment(Diet(augment=part, quarter_turns=turns), batch, [1, 2], CLASSES)
    assert result.support_x.dtype == result.query_x.dtype == dtype
    assert result.support_x.shape == (2, (1 + part.copies) * SUPPORT, 1, SIDE, SIDE)
    assert result.query_x.shape == batch.query_x.shape
    assert result.groups == batch.groups
    assert result.support_x.isfinite().all()
    assert result.query_x.isfinite().all()


@pytest.mark.parametrize("diet", [Diet(), image_diet(), table_diet()])
def test_a_diet_that_changes_nothing_returns_the_batch_itself(diet: Diet) -> None:
    batch = image_tasks(2)
    assert augment(diet, batch, [1, 2], CLASSES) is batch


# Quarter turns


@some
@given(seed=seeds, way=st.integers(1, 20))
def test_all_images_of_a_class_turn_alike_and_turned_classes_are_new_ones(
    seed: int, way: int
) -> None:
    batch, classes = image_tasks(2, way=way), max(CLASSES, way)
    result = augment(Diet(quarter_turns=True), batch, [seed, seed + 1], classes)
    assert torch.equal(result.support_y, batch.support_y)
    assert torch.equal(result.query_y, batch.query_y)
    for task in range(2):
        turn_of: dict[int, int] = {}
        for name in ("support", "query"):
            old_x, new_x = (getattr(b, f"{name}_x")[task] for b in (batch, result))
            old_c, new_c = (getattr(b, f"{name}_class")[task] for b in (batch, result))
            for example, label in enumerate(getattr(batch, f"{name}_y")[task].tolist()):
                turn, number = divmod(int(new_c[example]), classes)
                assert number == old_c[example]
                assert turn in range(4)
                assert turn_of.setdefault(label, turn) == turn
                assert torch.equal(new_x[example], torch.rot90(old_x[example], turn, (-2, -1)))


def test_the_four_turns_are_equally_likely() -> None:
    batch = image_tasks(200)
    result = augment(Diet(quarter_turns=True), batch, range(200), CLASSES)
    assert result.support_class is not None
    counts = torch.bincount(result.support_class[:, ::SHOT].flatten() // CLASSES, minlength=4)
    expected = 200 * WAY / 4
    assert (counts - expected).abs().max() < 4 * math.sqrt(expected)


def test_turns_are_the_same_whatever_else_the_diet_does() -> None:
    batch = image_tasks(2)
    turned = augment(Diet(quarter_turns=True), batch, [1, 2], CLASSES)
    part = ImageAugmentation(shift=0.1)
    both = augment(Diet(quarter_turns=True, augment=part), batch, [1, 2], CLASSES)
    assert same(both, augment(Diet(augment=part), turned, [1, 2], CLASSES))


# Sets and copies


@some
@given(
    part=st.one_of(
        st.builds(ImageAugmentation, shift=st.just(0.3), where=wheres, copies=copies),
        st.builds(TableAugmentation, noise=st.just(1.0), where=wheres, copies=copies),
    ),
    seed=seeds,
)
def test_only_the_chosen_sets_change_but_copies_always_do(
    part: ImageAugmentation | TableAugmentation, seed: int
) -> None:
    batch = image_tasks(2)
    result = augment(Diet(augment=part), batch, [seed, seed + 1], CLASSES)
    originals, extra = result.support_x[:, :SUPPORT], result.support_x[:, SUPPORT:]
    assert torch.equal(originals, batch.support_x) == ("support" not in SETS[part.where])
    assert torch.equal(result.query_x, batch.query_x) == ("query" not in SETS[part.where])
    # All versions of an example differ from it and from each other.
    versions = [batch.support_x, *extra.split(SUPPORT, dim=1)]
    for i, one in enumerate(versions):
        assert not any(torch.equal(one, other) for other in versions[:i])


@some
@given(part=st.one_of(images_changed, tables_changed))
def test_copies_repeat_labels_and_class_numbers(
    part: ImageAugmentation | TableAugmentation,
) -> None:
    batch = image_tasks(2)
    result = augment(Diet(augment=part), batch, [1, 2], CLASSES)
    assert batch.support_class is not None
    assert result.support_class is not None
    assert torch.equal(result.support_y, batch.support_y.repeat(1, 1 + part.copies))
    assert torch.equal(result.support_class, batch.support_class.repeat(1, 1 + part.copies))
    assert result.query_class is batch.query_class


@pytest.mark.parametrize("diet", [image_diet(copies=2), table_diet(copies=2)])
def test_copies_without_changes_are_exact(diet: Diet) -> None:
    batch = image_tasks(2)
    result = augment(diet, batch, [1, 2], CLASSES)
    assert torch.equal(result.support_x, batch.support_x.repeat(1, 3, 1, 1, 1))
    assert torch.equal(result.query_x, batch.query_x)


def test_copies_of_a_regression_repeat_targets() -> None:
    batch = table_tasks(2)
    result = augment(table_diet(copies=2, noise=0.1), batch, [1, 2], 0)
    assert torch.equal(result.support_y, batch.support_y.repeat(1, 3, 1))
    assert result.support_class is None


def test_copies_of_a_padded_support_set_are_padded() -> None:
    batch = table_tasks(2)
    real = torch.arange(batch.support_x.shape[1]) < torch.tensor([[3], [2]])
    every = torch.ones(batch.query_x.shape[:2], dtype=torch.bool)
    padded = replace(batch, support_mask=real, query_mask=every)
    for diet in (table_diet(copies=2), table_diet(copies=2, noise=0.1)):
        result = augment(diet, padded, [1, 2], 0)
        assert result.support_mask is not None
        assert torch.equal(result.support_mask, real.repeat(1, 3))
        assert result.query_mask is every


# Images


@some
@given(seed=seeds, shift=st.floats(0.01, 0.25))
def test_a_shift_moves_the_centre_by_no_more_than_its_share_of_the_side(
    seed: int, shift: float
) -> None:
    batch = blobs(20)
    result = augment(image_diet(shift=shift), batch, [seed], 1)
    moved = (centre(result.query_x) - centre(batch.query_x)).abs()
    assert moved.max() <= shift * SIDE + 0.05
    # 20 images move in two directions each: one of them far, one of them little.
    assert moved.max() > shift * SIDE / 2
    assert moved.min() < shift * SIDE / 2


@some
@given(seed=seeds)
def test_a_shift_is_a_share_of_the_side_at_any_scale(seed: int) -> None:
    batch = blobs(20, side=48)
    result = augment(image_diet(shift=0.2, scale=1, rotate=180), batch, [seed], 1)
    assert (centre(result.query_x) - centre(batch.query_x)).abs().max() <= 0.2 * 48 + 0.1


@some
@given(seed=seeds, rotate=st.floats(1, 180))
def test_a_rotation_keeps_the_ink_and_the_distance_from_the_middle(
    seed: int, rotate: float
) -> None:
    batch = blobs(20, side=32)
    off_centre = torch.roll(batch.query_x, (-6, 2), dims=(-2, -1))
    batch = replace(batch, query_x=off_centre)
    turned = augment(image_diet(rotate=rotate), batch, [seed], 1).query_x
    torch.testing.assert_close(ink(turned), ink(off_centre), rtol=0.02, atol=0.0)
    before, after = (centre(x)[0] - 31 / 2 for x in (off_centre, turned))
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=0.0, atol=0.1)
    cosine = (before * after).sum(-1) / (before.norm(dim=-1) * after.norm(dim=-1))
    degrees = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
    assert degrees.max() <= rotate + 1
    assert degrees.max() > rotate / 4


def test_images_that_are_not_square_turn_without_distortion() -> None:
    spots = blobs(30, side=32)
    wide = torch.nn.functional.pad(torch.roll(spots.query_x, 6, dims=-1), (16, 16))
    batch = replace(spots, support_x=wide, query_x=wide)
    turned = augment(image_diet(rotate=180), batch, [1], 1).query_x
    columns = torch.arange(64.0) - 63 / 2
    rows = torch.arange(32.0) - 31 / 2
    x, y = (turned.sum((-3, -2)) @ columns, turned.sum((-3, -1)) @ rows)
    distance = torch.hypot(x, y) / ink(turned)
    torch.testing.assert_close(distance, torch.full_like(distance, 6.0), rtol=0.0, atol=0.1)


@some
@given(seed=seeds, scale=st.floats(0.05, 1))
def test_a_change_of_size_stays_within_its_factors(seed: int, scale: float) -> None:
    batch = blobs(20, side=48)
    result = augment(image_diet(scale=scale), batch, [seed], 1)
    factor = (ink(result.query_x) / ink(batch.query_x)).sqrt()
    assert factor.min() >= 0.97 / (1 + scale)
    assert factor.max() <= 1.03 * (1 + scale)
    assert factor.max() / factor.min() > 1 + scale / 4


@some
@given(seed=seeds, shear=st.floats(5, 45))
def test_shear_keeps_the_ink(seed: int, shear: float) -> None:
    batch = blobs(20, side=32)
    result = augment(image_diet(shear=shear), batch, [seed], 1)
    torch.testing.assert_close(ink(result.query_x), ink(batch.query_x), rtol=0.02, atol=0.0)
    assert not torch.allclose(result.query_x, batch.query_x, atol=0.01)


@pytest.mark.parametrize("elastic", [0.5, 2.0])
def test_elastic_displacements_have_the_standard_deviation_asked_for(elastic: float) -> None:
    """A ramp shows by how many pixels each place is displaced."""
    side, edge = 28, 8
    ramp = torch.arange(side, dtype=torch.float64).repeat(side, 1)
    x = torch.stack([ramp, ramp.T])[:, None].repeat(200, 1, 1, 1)[None]
    y = torch.zeros(1, 400, dtype=torch.int64)
    bent = augment(image_diet(elastic=elastic), Tensors(x, y, x, y), [1], 1).query_x
    # Away from the border, beyond which the ramp ends.
    moved = (bent - x)[..., edge:-edge, edge:-edge]
    assert moved.std() == pytest.approx(elastic, rel=0.03)
    assert abs(moved.mean()) < 0.05 * elastic
    # Smooth: neighbours are displaced nearly alike.
    assert moved.diff(dim=-1).std() < 0.4 * elastic


def test_every_image_has_a_draw_of_its_own() -> None:
    moved = augment(image_diet(shift=0.2), blobs(10), [1], 1)
    everything = torch.cat([moved.support_x, moved.query_x], 1)[0].flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)


# Tables


@some
@given(seed=seeds, noise=st.floats(0.01, 100), where=wheres)
def test_noise_has_the_standard_deviation_asked_for(seed: int, noise: float, where: Where) -> None:
    batch = table_tasks(2, features=10, points=100, dtype=torch.float64)
    result = augment(table_diet(noise=noise, where=where), batch, [seed, seed + 1], 0)
    for name in ("support", "query"):
        added = getattr(result, f"{name}_x") - getattr(batch, f"{name}_x")
        if name not in SETS[where]:
            assert not added.any()
        else:
            # 2000 numbers: four standard errors of their deviation are 0.063 of it; Hypothesis
            # looks for the worst, so six.
            assert float(added.std()) == pytest.approx(noise, rel=0.095)
            assert abs(float(added.mean())) < 6 * noise / math.sqrt(2000)
    assert same(replace(result, support_x=batch.support_x, query_x=batch.query_x), batch)


@some
@given(seed=seeds, dropout=st.floats(0.1, 0.9), where=wheres, noise=st.sampled_from([0.0, 0.1]))
def test_lost_features_are_zero_in_the_whole_task_and_the_others_stay(
    seed: int, dropout: float, where: Where, noise: float
) -> None:
    batch = table_tasks(2, features=200)
    own = [seed, seed + 1]
    without = augment(table_diet(noise=noise, where=where, copies=1), batch, own, 0)
    diet = table_diet(noise=noise, where=where, copies=1, dropout=dropout)
    result = augment(diet, batch, own, 0)
    lost = (result.support_x == 0).all(1)
    assert torch.equal(lost, (result.query_x == 0).all(1))
    for name in ("support_x", "query_x"):
        assert torch.equal(getattr(result, name), getattr(without, name) * ~lost[:, None])
    assert not torch.equal(lost[0], lost[1])
    error = math.sqrt(dropout * (1 - dropout) / lost.numel())
    assert abs(float(lost.double().mean()) - dropout) < 6 * error


def test_features_of_inputs_with_several_dimensions_are_lost_one_by_one() -> None:
    batch = image_tasks(1)
    result = augment(table_diet(dropout=0.5), batch, [1], CLASSES)
    inner = (result.support_x == 0)[0, :, 0, 2:-2, 2:-2]
    assert torch.equal(inner.all(0), inner.any(0))
    assert 0.3 < float(inner.double().mean()) < 0.7


@some
@given(seed=seeds, target_scale=st.floats(0.01, 10), where=wheres)
def test_all_targets_of_a_task_are_multiplied_by_one_factor_within_bounds(
    seed: int, target_scale: float, where: Where
) -> None:
    batch = table_tasks(30, dtype=torch.float64)
    diet = table_diet(target_scale=target_scale, where=where)
    result = augment(diet, batch, range(seed, seed + 30), 0)
    ratios = torch.cat([result.support_y / batch.support_y, result.query_y / batch.query_y], 1)
    factors = ratios[:, 0, 0]
    torch.testing.assert_close(ratios, factors[:, None, None].expand_as(ratios))
    largest = math.log1p(target_scale) * (1 + 1e-6)
    assert factors.abs().log().abs().max() <= largest
    assert factors.abs().log().max() > 0 > factors.abs().log().min()
    assert factors.max() > 0 > factors.min()
    assert result.support_x is batch.support_x


def test_labels_are_never_scaled() -> None:
    batch = image_tasks(2)
    result = augment(table_diet(target_scale=1, noise=0.1), batch, [1, 2], CLASSES)
    assert torch.equal(result.support_y, batch.support_y)
    assert torch.equal(result.query_y, batch.query_y)
