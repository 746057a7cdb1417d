"""An artifact as a scikit-learn estimator: fitting it to a data set is learning one task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from metatune.artifact.learner import Adapted, Artifact
from metatune.artifact.loading import load
from metatune.errors import ArtifactError

Array = NDArray[Any]


class _MetaEstimator(BaseEstimator):
    """What both have in common.

    Args:
        artifact: as ``metatune.load`` gives it, or its folder.
    """

    def __init__(self, artifact: Artifact | str | Path) -> None:
        self.artifact = artifact

    def _learn(self, X: Any, y: Any, *, classes: bool) -> None:  # noqa: N803 - scikit-learn's word
        given = self.artifact
        artifact = given if isinstance(given, Artifact) else load(given)
        if artifact.is_classifier != classes:
            what = "classes" if artifact.is_classifier else "numbers"
            maker = "MetaClassifier" if artifact.is_classifier else "MetaRegressor"
            raise ArtifactError(f"artifact: found one that predicts {what}; allowed: {maker}")
        x = X
        if _is_raw(artifact, X):
            validate_data(self, X, y, skip_check_array=True)
        else:
            x, y = validate_data(self, X, y, dtype=np.float64, y_numeric=not classes)
        if classes:
            check_classification_targets(y)
        self.learner_: Adapted = artifact.adapt(x, y)

    def _queries(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        if _is_raw(self.learner_.artifact, X):
            validate_data(self, X, reset=False, skip_check_array=True)
            return X
        return validate_data(self, X, reset=False, dtype=np.float64)

    def predict(self, X: Any) -> Array:  # noqa: N803
        """What is predicted for rows ``(N, F)``, as of ``Adapted.predict``."""
        queries = self._queries(X)
        return self.learner_.predict(queries)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        for own in (tags.classifier_tags, tags.regressor_tags):
            if own is not None:
                own.poor_score = True  # on data that are not its family's
        return tags


class MetaClassifier(ClassifierMixin, _MetaEstimator):
    """A classifier that is fitted by a strategy from an artifact.

    >>> MetaClassifier("artifact").fit(x, y).predict_proba(x_new)  # doctest: +SKIP
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn a task from its support set; see ``Artifact.adapt``."""
        self._learn(X, y, classes=True)
        self.classes_ = self.learner_.classes
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """``(N, classes)``: the probability of each of ``classes_``."""
        queries = self._queries(X)
        return self.learner_.predict_proba(queries)


class MetaRegressor(RegressorMixin, _MetaEstimator):
    """A regressor that is fitted by a strategy from an artifact.

    >>> MetaRegressor("artifact").fit(x, y).predict(x_new)  # doctest: +SKIP
    """

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn a task from its support set; see ``Artifact.adapt``."""
        self._learn(X, y, classes=False)
        return self

    def predict_interval(self, X: Any, level: float = 0.9) -> Array:  # noqa: N803
        """``(N, 2)``: the ends of an interval, as of ``Adapted.predict_interval``."""
        queries = self._queries(X)
        return self.learner_.predict_interval(queries, level)


def _is_raw(artifact: Artifact, X: Any) -> bool:  # noqa: N803
    """True of a frame that the artifact encodes itself, text and dates among it."""
    return hasattr(X, "columns") and bool(artifact.stored.plain.get("columns"))
