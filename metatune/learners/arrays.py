"""Fitted scikit-learn models as plain arrays, and predictions from these by numpy alone.

Nothing of scikit-learn is pickled, and nothing of it is needed to predict. What arrays say is
checked before it is used: they may come from a stranger.

Each kind of model gives ``K`` scores of a row. A regressor's one is what it predicts. A
classifier's are logits of the classes that it has seen; of two classes it gives the second one's,
beside 0 for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metatune.errors import ArtifactError

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]

LEAST = 1e-6
"""A probability below it counts as it, so that logits stay finite."""
SEEN = "seen"


class Predictor(Protocol):
    """Predicts a number of each row, or the logits of its classes."""

    def predict(self, rows: Rows) -> Floats:
        """``(N,)`` numbers of ``(N, F)``, or ``(N, classes)`` logits."""
        ...


class Scores(Protocol):
    """A model of any kind."""

    def __call__(self, rows: Rows) -> Floats:
        """``(N, K)`` of ``(N, F)``."""
        ...


@dataclass(frozen=True)
class Regressor:
    """Predicts the one score of its model."""

    scores: Scores

    def predict(self, rows: Rows) -> Floats:
        """``(N,)`` of ``(N, F)``."""
        found: Floats = self.scores(rows)[:, 0]
        return found


@dataclass(frozen=True)
class Classifier:
    """Logarithms of the probabilities of ``classes`` classes.

    Attributes:
        scores: the model; None where one class was seen.
        seen: the classes that have a score, ascending.
        classes: how many there are.
    """

    scores: Scores | None
    seen: NDArray[np.int64]
    classes: int

    def predict(self, rows: Rows) -> Floats:
        """``(N, classes)`` of ``(N, F)``."""
        logits = np.zeros((len(rows), 1)) if self.scores is None else self.scores(rows)
        if len(self.seen) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], 1)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return log_shares(shares / shares.sum(1, keepdims=True), self.seen, self.classes)


def log_shares(shares: Floats, seen: NDArray[np.int64], classes: int) -> Floats:
    """``(N, classes)`` logits from the probabilities ``(N, K)`` of the classes that were seen."""
    every = np.zeros((len(shares), classes))
    every[:, seen] = shares
    found: Floats = np.log(np.maximum(every, LEAST))
    return found


def to_arrays(model: str, fitted: Any) -> Arrays:
    """The arrays of a fitted regressor or classifier.

    Args:
        model: ``linear``, ``trees`` or ``mlp``, as ``strategy.Pooled`` names them.
        fitted: scikit-learn's.

    Raises:
        ArtifactError: it is of another kind, or has what these arrays cannot say.
    """
    if model not in _WRITE:
        raise ArtifactError(
            f"prior.model: found {model}, which has no form without pickle; allowed: "
            f"{', '.join(_WRITE)}"
        )
    seen = getattr(fitted, "classes_", None)
    if seen is None:
        return _WRITE[model](fitted)
    arrays = {SEEN: np.asarray(seen, np.int64)}
    return arrays if len(seen) == 1 else arrays | _WRITE[model](fitted)


def from_arrays(
    model: str, arrays: Mapping[str, NDArray[Any]], inputs: int, classes: int = 0
) -> Predictor:
    """The regressor or classifier of such arrays.

    Args:
        model: as of ``to_arrays``.
        arrays: by their names.
        inputs: ``F``, numbers a row.
        classes: how many there are; 0 for a regressor.

    Raises:
        ArtifactError: the arrays are not those of such a model.
    """
    if model not in _READ:
        raise ArtifactError(f"prior.model: found {model}; allowed: {', '.join(_READ)}")
    try:
        if not classes:
            return Regressor(_READ[model](arrays, inputs, 1))
        seen = _seen(arrays[SEEN], classes)
        known = {name: array for name, array in arrays.items() if name != SEEN}
        if len(seen) == 1:
            return Classifier(None, seen, classes)
        wanted = 1 if len(seen) == 2 else len(seen)
        return Classifier(_READ[model](known, inputs, wanted), seen, classes)
    except (KeyError, ValueError, IndexError) as error:
        raise ArtifactError(f"the arrays of the pooled model are no {model} model") from error


def _seen(array: NDArray[Any], classes: int) -> NDArray[np.int64]:
    _require(array.dtype == np.int64 and array.ndim == 1 and len(array) > 0)
    _require(bool((array >= 0).all() and (array < classes).all() and (np.diff(array) > 0).all()))
    return array


def _require(fits: bool) -> None:
    if not fits:
        raise ValueError


def _floats(array: NDArray[Any], *shape: int) -> Floats:
    """The array, of float64, finite, and of this shape (-1: any)."""
    _require(array.dtype == np.float64 and array.ndim == len(shape))
    _require(all(want in (-1, have) for want, have in zip(shape, array.shape, strict=True)))
    _require(bool(np.isfinite(array).all()))
    return array


# --- linear --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """``rows @ slope + intercept``."""

    slope: Floats
    intercept: Floats

    def __call__(self, rows: Rows) -> Floats:
        """``(N, K)`` of ``(N, F)``."""
        found: Floats = rows @ self.slope + self.intercept
        return found


def _write_line(fitted: Any) -> Arrays:
    return {
        "slope": np.atleast_2d(np.asarray(fitted.coef_, np.float64)).T.copy(),
        "intercept": np.atleast_1d(np.asarray(fitted.intercept_, np.float64)),
    }


def _read_line(arrays: Mapping[str, NDArray[Any]], inputs: int, scores: int) -> Line:
    return Line(_floats(arrays["slope"], inputs, scores), _floats(arrays["intercept"], scores))


# --- boosted trees -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trees:
    """Boosted trees: base values and what each tree adds.

    Attributes:
        base: ``(K,)``: the scores without trees.
        roots: ``(trees,)``: the first node of each; tree ``t`` adds to score ``t`` modulo K.
        feature, threshold: ``(N,)``: a row goes left where its input is at most the threshold.
        left, right: ``(N,)`` nodes, which stand behind this one; a leaf's are itself.
        value: ``(N,)`` of a leaf.
        depth: of the deepest tree.
    """

    base: Floats
    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats
    depth: int

    def __call__(self, rows: Rows) -> Floats:
        """``(N, K)`` of ``(N, F)``."""
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        row = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            goes_left = rows[row, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        added = self.value[node].reshape(len(rows), -1, len(self.base))
        found: Floats = self.base + added.sum(1)
        return found


def _write_trees(fitted: Any) -> Arrays:
    trees = [tree.nodes for iteration in fitted._predictors for tree in iteration]
    if fitted.loss not in ("squared_error", "absolute_error", "quantile", "log_loss"):
        raise ArtifactError(f"prior.options.loss: found {fitted.loss}, which has no form as arrays")
    if any(nodes["is_categorical"].any() for nodes in trees):
        raise ArtifactError(
            "prior.options: found categorical features, which have no form as arrays"
        )
    starts = np.cumsum([0, *(len(nodes) for nodes in trees)])
    leaf = np.concatenate([nodes["is_leaf"].astype(bool) for nodes in trees])
    place = np.arange(starts[-1])

    def behind(side: str) -> NDArray[np.int64]:
        children = [nodes[side] + start for nodes, start in zip(trees, starts, strict=False)]
        return np.where(leaf, place, np.concatenate(children).astype(np.int64))

    def of(name: str) -> NDArray[Any]:
        return np.concatenate([nodes[name] for nodes in trees])

    return {
        "base": np.asarray(fitted._baseline_prediction, np.float64).reshape(-1),
        "roots": starts[:-1].astype(np.int64),
        "feature": np.where(leaf, 0, of("feature_idx")).astype(np.int64),
        "threshold": np.where(leaf, 0.0, of("num_threshold")),
        "left": behind("left"),
        "right": behind("right"),
        "value": np.where(leaf, of("value"), 0.0),
    }


def _read_trees(arrays: Mapping[str, NDArray[Any]], inputs: int, scores: int) -> Trees:
    whole = ("roots", "feature", "left", "right")
    roots, feature, left, right = (arrays[name] for name in whole)
    nodes = len(feature)
    _require(all(a.dtype == np.int64 and a.ndim == 1 for a in (roots, feature, left, right)))
    _require(len(left) == len(right) == nodes and nodes > 0 and len(roots) % scores == 0)
    _require(bool(((roots >= 0) & (roots < nodes)).all()))
    _require(bool(((feature >= 0) & (feature < inputs)).all()))
    place = np.arange(nodes)
    leaf = (left == place) & (right == place)
    # A child stands behind its parent, so no walk goes round for ever.
    inner = (left > place) & (right > place) & (left < nodes) & (right < nodes)
    _require(bool((leaf | inner).all()))
    depth = np.zeros(nodes, np.int64)
    for node in np.flatnonzero(inner)[::-1].tolist():
        depth[node] = 1 + max(depth[left[node]], depth[right[node]])
    return Trees(
        base=_floats(arrays["base"], scores),
        roots=roots,
        feature=feature,
        threshold=_floats(arrays["threshold"], nodes),
        left=left,
        right=right,
        value=_floats(arrays["value"], nodes),
        depth=int(depth[roots].max(initial=0)),
    )


# --- networks ------------------------------------------------------------------------------------


_ACTIVATIONS: dict[str, Callable[[Rows], Rows]] = {
    "identity": lambda h: h,
    "relu": lambda h: np.maximum(h, 0.0),
    "tanh": np.tanh,
    "logistic": lambda h: 0.5 + 0.5 * np.tanh(0.5 * h),  # no exponential that overflows
}


@dataclass(frozen=True)
class Network:
    """Layers of a multilayer perceptron; its last one gives scores."""

    layers: tuple[tuple[Floats, Floats], ...]
    activation: str

    def __call__(self, rows: Rows) -> Floats:
        """``(N, K)`` of ``(N, F)``."""
        h, act = rows, _ACTIVATIONS[self.activation]
        for weight, bias in self.layers[:-1]:
            h = act(h @ weight + bias)
        weight, bias = self.layers[-1]
        found: Floats = h @ weight + bias
        return found


def _write_network(fitted: Any) -> Arrays:
    of_classes = hasattr(fitted, "classes_")
    if fitted.out_activation_ not in (("logistic", "softmax") if of_classes else ("identity",)):
        raise ArtifactError(f"prior.options.loss: found {fitted.loss}, which has no form as arrays")
    number = list(_ACTIVATIONS).index(fitted.activation)
    arrays = {"activation": np.array([number], np.int64)}
    for layer, (weight, bias) in enumerate(zip(fitted.coefs_, fitted.intercepts_, strict=True)):
        arrays |= {f"{layer}.weight": weight.astype(np.float64), f"{layer}.bias": bias.astype("f8")}
    return arrays


def _read_network(arrays: Mapping[str, NDArray[Any]], inputs: int, scores: int) -> Network:
    layers = []
    count = (len(arrays) - 1) // 2
    _require(count > 0)
    for layer in range(count):
        weight = _floats(arrays[f"{layer}.weight"], inputs, -1)
        inputs = weight.shape[1]
        layers.append((weight, _floats(arrays[f"{layer}.bias"], inputs)))
    _require(inputs == scores)
    number = arrays["activation"]
    _require(number.dtype == np.int64 and number.shape == (1,) and bool(number[0] >= 0))
    return Network(tuple(layers), list(_ACTIVATIONS)[int(number[0])])


_WRITE: dict[str, Callable[[Any], Arrays]] = {
    "linear": _write_line,
    "trees": _write_trees,
    "mlp": _write_network,
}
KINDS = tuple(_WRITE)
"""Models that have a form as arrays, as ``strategy.Pooled`` names them."""
_READ: dict[str, Callable[[Mapping[str, NDArray[Any]], int, int], Scores]] = {
    "linear": _read_line,
    "trees": _read_trees,
    "mlp": _read_network,
}
