"""What a user does with an artifact: adapt, predict, save; and what is said of wrong input."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from families import IMAGES, TABLES, WAVES, random_tasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import made
from safetensors.torch import save_file

import metatune
from metatune.artifact.learner import UnlikeTask
from metatune.errors import ArtifactError
from metatune.strategy import MLP, Conv4, Linear, Meta, Prototypes, Ridge, Steps, Strategy
from metatune.tasks.base import Episode

NUMBERS = Strategy(backbone=MLP(width=5, depth=1), head=Ridge())
CLASSES = Strategy(head=Prototypes(), meta=Meta(rule="none"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return made(tmp_path_factory.mktemp("n") / "a", NUMBERS, WAVES, Episode(1, 6, 4))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return made(tmp_path_factory.mktemp("c") / "a", CLASSES, TABLES, Episode(3, 2, 2))


def a_task(artifact, seed=1):
    """Support and query of a task like those of the training, as arrays."""
    batch = random_tasks(artifact.info, artifact.episode, tasks=1, seed=seed)
    x, y, queries = (t[0].numpy() for t in (batch.support_x, batch.support_y, batch.query_x))
    return x, y, queries


# --- learning -------------------------------------------------------------------------------------


def test_numbers_are_predicted_one_a_row(numbers):
    x, y, queries = a_task(numbers)
    learner = numbers.adapt(x, y[:, 0])
    assert learner.predict(queries).shape == (4,)
    ends = learner.predict_interval(queries, 0.9)
    assert ends.shape == (4, 2)
    np.testing.assert_allclose(ends.mean(1), learner.predict(queries))
    with pytest.raises(
        ArtifactError, match=r"predicts numbers; allowed: predict, predict_interval"
    ):
        learner.predict_proba(queries)


@pytest.mark.parametrize("names", [list("abc"), [7, 3, 5], [True, False], ["a", "b"]])
def test_classes_have_the_names_that_they_were_given(classes, names):
    x, y, queries = a_task(classes)
    given = np.array(names)[y % len(names)]
    learner = classes.adapt(x, given)
    assert learner.classes.tolist() == sorted(names)
    assert set(learner.predict(queries).tolist()) <= set(names)
    found = learner.predict_proba(queries)
    np.testing.assert_allclose(found.sum(1), 1)
    assert learner.classes[found.argmax(1)].tolist() == learner.predict(queries).tolist()
    with pytest.raises(ArtifactError, match=r"predicts classes; allowed: predict, predict_proba"):
        learner.predict_interval(queries)


def test_many_queries_are_predicted_as_few_are(numbers):
    x, y, _ = a_task(numbers)
    queries = np.linspace(-2, 2, 2500)[:, None]
    learner = numbers.adapt(x, y)
    each = np.concatenate([learner.predict(part) for part in np.array_split(queries, 7)])
    np.testing.assert_allclose(learner.predict(queries), each, rtol=1e-5, atol=1e-6)


def test_a_head_of_another_number_of_classes_is_refused(tmp_path):
    linear = Strategy(head=Linear(), inner=Steps(steps=2), meta=Meta(rule="first_order"))
    artifact = made(tmp_path / "a", linear, TABLES, Episode(3, 2, 2))
    x, y, _ = a_task(artifact)
    with pytest.raises(
        ArtifactError, match=r"classes: found 2; the strategy was trained for others"
    ):
        artifact.adapt(x, y % 2)


def test_images_are_taken_in_their_shape_or_flat(tmp_path):
    strategy = Strategy(backbone=Conv4(width=4, depth=2), head=Prototypes())
    artifact = made(tmp_path / "a", strategy, IMAGES, Episode(3, 2, 2))
    x, y, queries = a_task(artifact)
    expected = artifact.adapt(x, y).predict(queries)
    flat = artifact.adapt(x.reshape(len(x), -1), y).predict(queries.reshape(len(queries), -1))
    assert expected.tolist() == flat.tolist()
    with pytest.raises(ArtifactError, match=r"allowed: rows of 1 x 28 x 28"):
        artifact.adapt(x[:, 0, :5], y)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_a_learned_task_is_saved_and_loaded(kind, tmp_path, request):
    artifact = request.getfixturevalue(kind)
    x, y, queries = a_task(artifact)
    learner = artifact.adapt(x, y if kind == "numbers" else np.array(["no", "yes", "well"])[y])
    again = metatune.load_adapted(learner.save(tmp_path / "saved"))
    assert again.predict(queries).tolist() == learner.predict(queries).tolist()
    for x in (torch.zeros(()), torch.zeros(0, *artifact.info.input_shape), torch.zeros(4, 99)):
        save_file({"x": x, "y": torch.zeros(4, 1)}, tmp_path / "saved" / "support.safetensors")
        with pytest.raises(ArtifactError, match=r"found no support set of such a task"):
            metatune.load_adapted(tmp_path / "saved")


# --- a user's tables ------------------------------------------------------------------------------


def test_a_frame_is_encoded_as_the_runs_tables_were(table_artifact, table_run):
    artifact = metatune.load(table_artifact)
    files = sorted((table_run.parent / "data").iterdir())
    frame = pd.read_csv(files[0], encoding="utf-8-sig", skipinitialspace=True, dtype=str)
    frame.columns = [name.strip() for name in frame.columns]
    support, query, y = frame[:30], frame[30:38], frame["y"][:30].astype(float)
    found = artifact.adapt(support, y).predict(query)
    assert abs(found - y.mean()).max() < 20 * y.std()  # in the target's own unit
    shuffled = support[sorted(support.columns)].iloc[::-1]
    again = artifact.adapt(shuffled, y[::-1]).predict(query[sorted(query.columns)])
    np.testing.assert_allclose(again, found, rtol=1e-3)
    with pytest.raises(ArtifactError, match=r"x: found no column 'age'; allowed: "):
        artifact.adapt(support.drop(columns="age"), y)
    with pytest.warns(UserWarning, match=r"x: price: 1 cells are no numbers \(first: 'dear'\)"):
        artifact.adapt(support.assign(price=["dear", *support["price"][1:]]), y)


# --- unlike the training tasks --------------------------------------------------------------------


def test_a_task_of_another_kind_is_warned_of_and_names_what_is_off(numbers):
    x, y, _ = a_task(numbers)
    with pytest.warns(UnlikeTask, match=r"of which 99% keep .*farthest: mean of input 0 \("):
        numbers.adapt(x + 50, y)
    with pytest.warns(UnlikeTask, match=r"farthest: spread of the label \("):
        numbers.adapt(x, (y - y.mean()) * 100 + y.mean())


def test_tasks_like_those_of_the_training_are_hardly_ever_warned_of(numbers):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(100, 200):
            x, y, _ = a_task(numbers, seed)
            numbers.adapt(x, y)
    assert len(caught) < 10


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y", "said"), [
    (np.zeros((6, 2)), np.zeros(6), r"x: found 2 inputs a row; allowed: 1 inputs a row"),
    (np.zeros(6), np.zeros(6), r"x: found the shape \(6,\); allowed: 1 inputs a row"),
    (np.zeros((0, 1)), [], r"x: found no rows; allowed: one or more"),
    ([[0.0], [np.nan]], [0, 1], r"x: found nan in row 1, input 0; allowed: finite numbers"),
    ([[0.0], [1e300]], [0, 1], r"x: found inf in row 1, input 0"),
    ([["a"], ["b"]], [0, 1], r"x: found what is no array of numbers"),
    (np.zeros((6, 1)), np.zeros(5), r"y: found 5 labels; allowed: 6, one a row of x"),
    (np.zeros((2, 1)), [0, np.inf], r"y: found \[inf\] in row 1; allowed: finite numbers"),
    (np.zeros((2, 1)), np.zeros((2, 2)), r"y: found the shape \(2, 2\); allowed: \(N,\)"),
    (np.zeros((2, 1)), ["a", "b"], r"y: found what is no array of numbers"),
])  # fmt: skip
def test_wrong_numbers_are_told_in_a_sentence(numbers, x, y, said):
    with pytest.raises(ArtifactError, match=said) as caught:
        numbers.adapt(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("y", "said"), [
    ([1] * 6, r"y: found one class only \(1\); allowed: rows of two classes or more"),
    ([0, 1, np.nan, 0, 1, 0], r"y: found nan in row 2; allowed: a class for each row"),
    (["a", None, "b", "a", "b", "a"], r"y: found None in row 1"),
    ([["a"]] * 6, r"y: found the shape \(6, 1\); allowed: \(N,\)"),
])  # fmt: skip
def test_wrong_classes_are_told_in_a_sentence(classes, y, said):
    with pytest.raises(ArtifactError, match=said):
        classes.adapt(np.zeros((6, 12)), y)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 5), seed=st.integers(0, 99), scale=st.sampled_from([0, 1, 1e6, 1e30]))
def test_any_finite_support_is_learned_or_refused(numbers, rows, seed, scale):
    rng = np.random.default_rng(seed)
    x, y = scale * rng.normal(size=(rows, 1)), scale * rng.normal(size=rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlikeTask)
        learner = numbers.adapt(x, y)
    try:
        found = learner.predict(x)
    except ArtifactError:
        return
    assert np.isfinite(found).all()


def test_what_a_task_says_is_the_same_whatever_is_learned_beside_it(classes):
    x, y, queries = a_task(classes)
    other = a_task(classes, seed=2)
    first = classes.adapt(x, y)
    before = first.predict_proba(queries)
    classes.adapt(*other[:2]).predict(other[2])
    torch.testing.assert_close(first.predict_proba(queries), before, rtol=0, atol=0)
