"""A strategy: a complete way of learning, as plain data.

A strategy is a composition of parts. Known methods are points in it; the three classical ones
differ in two settings:

========================  ==========  ============  ==============
method                    head        inner         meta.rule
========================  ==========  ============  ==============
fine-tuning (Baseline)    linear      sgd on head   joint
first-order MAML          linear      sgd on all    first_order
MAML                      linear      sgd on all    second_order
prototypical networks     prototypes  none          first_order
R2-D2                     ridge       none          first_order
========================  ==========  ============  ==============

A strategy says nothing of data, resource or seed: those are the run's. It is hashed, written
down, read back and run again; ``problems`` refuses compositions that make no sense.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from metatune.tasks.base import Episode, FamilyInfo


class Part(BaseModel):
    """A part of a strategy: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- backbone: inputs -> features ---------------------------------------------------------------


class NoBackbone(Part):
    """Raw inputs, flattened."""

    kind: Literal["none"] = "none"


class MLP(Part):
    """``depth`` hidden layers of ``width`` units (images are flattened)."""

    kind: Literal["mlp"] = "mlp"
    width: int = Field(40, ge=1, le=4096)
    depth: int = Field(2, ge=1, le=16)
    activation: Literal["relu", "tanh"] = "relu"


class Conv4(Part):
    """``depth`` blocks of 3x3 convolution, normalisation, ReLU and 2x2 max-pooling.

    ``norm`` says where the batch statistics come from: ``support`` (of the task's support set
    alone), ``transductive`` (support and query together: query points then inform each other,
    and every score says so), ``layer`` (no batch statistics) or ``none``.
    """

    kind: Literal["conv4"] = "conv4"
    width: int = Field(32, ge=1, le=1024)
    depth: int = Field(4, ge=1, le=8)
    norm: Literal["support", "transductive", "layer", "none"] = "support"


Backbone = Annotated[NoBackbone | MLP | Conv4, Field(discriminator="kind")]


# --- head: features -> predictions --------------------------------------------------------------


class Linear(Part):
    """A linear layer that the inner optimiser adapts, started at zero or from learned weights."""

    kind: Literal["linear"] = "linear"
    start: Literal["zero", "learned"] = "learned"


class Ridge(Part):
    """Ridge regression on the support features, in closed form (Bertinetto et al. 2019).

    Classes are one-hot targets. With ``learn``, penalty, scale and offset of the outputs are
    meta-learned from ``penalty``, 1 and 0.
    """

    kind: Literal["ridge"] = "ridge"
    penalty: float = Field(1.0, gt=0, le=1e6)
    learn: bool = True


class Prototypes(Part):
    """Minus the distance to the class means of the support features (Snell et al. 2017).

    ``scale`` multiplies the squared Euclidean distance (1: the paper) or the cosine.
    """

    kind: Literal["prototypes"] = "prototypes"
    distance: Literal["euclidean", "cosine"] = "euclidean"
    scale: float = Field(1.0, gt=0, le=1e4)


class NearestNeighbour(Part):
    """The label of the closest support example."""

    kind: Literal["nearest_neighbour"] = "nearest_neighbour"
    distance: Literal["euclidean", "cosine"] = "euclidean"


Head = Annotated[Linear | Ridge | Prototypes | NearestNeighbour, Field(discriminator="kind")]


# --- inner optimiser, meta rule, meta-optimiser, diet --------------------------------------------


class NoInner(Part):
    """No gradient steps on the support set."""

    kind: Literal["none"] = "none"


class SGD(Part):
    """``steps`` gradient steps of rate ``lr`` on the support loss, on everything or the head."""

    kind: Literal["sgd"] = "sgd"
    steps: int = Field(1, ge=1, le=1000)
    lr: float = Field(0.1, gt=0, le=1e9)
    scope: Literal["all", "head"] = "all"


Inner = Annotated[NoInner | SGD, Field(discriminator="kind")]


class Meta(Part):
    """What the meta-parameters follow.

    ``second_order``: the query loss, differentiated through the inner steps. ``first_order``:
    the query loss, inner gradients taken as constants (closed-form heads are differentiated
    exactly). ``joint``: one supervised problem over all train classes or tasks. ``none``: random
    start, nothing is trained.
    """

    rule: Literal["second_order", "first_order", "joint", "none"] = "first_order"


class Outer(Part):
    """The meta-optimiser. ``schedule`` runs over the full resource; ``clip`` is a norm, 0 = off."""

    kind: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0, le=1e9)
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(0.0, ge=0, le=1)
    clip: float = Field(0.0, ge=0, le=1e6)
    tasks_per_batch: int = Field(4, ge=1, le=1024)


class Diet(Part):
    """The shape of training tasks where it differs from the test's; None keeps the test's."""

    way: int | None = Field(None, ge=1, le=1024)
    shot: int | None = Field(None, ge=1, le=1024)
    query: int | None = Field(None, ge=1, le=1024)

    def episode(self, test: Episode) -> Episode:
        """The training episode for tasks judged as ``test``."""
        return Episode(self.way or test.way, self.shot or test.shot, self.query or test.query)


class Strategy(Part):
    """A complete way of learning; ``start`` is ``none`` or the hash of weights to start from."""

    backbone: Backbone
    head: Head
    inner: Inner = NoInner()
    meta: Meta = Meta()
    outer: Outer = Outer()
    diet: Diet = Diet()
    start: Literal["none"] = "none"

    def digest(self) -> str:
        """12 hexadecimal digits that name the strategy's content."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def structure(self) -> str:
        """The structural family: the choices that change the program, not its numbers."""
        inner = self.inner.kind if isinstance(self.inner, NoInner) else f"sgd-{self.inner.scope}"
        return f"{self.backbone.kind}/{self.head.kind}/{inner}/{self.meta.rule}"

    @property
    def trains(self) -> bool:
        """False where there is nothing to meta-train."""
        return self.meta.rule != "none"

    def last_rung(self, rungs: int) -> int:
        """The rung of a trial's end: what needs no training is done at the first."""
        return rungs if self.trains else 1

    @property
    def transductive(self) -> bool:
        """True where query points are scored jointly."""
        return isinstance(self.backbone, Conv4) and self.backbone.norm == "transductive"

    def problems(self, info: FamilyInfo, episode: Episode) -> list[str]:
        """Why this composition makes no sense for a family, one sentence each; empty if it does."""
        return [*self._data_problems(info, episode), *self._composition_problems()]

    def _data_problems(self, info: FamilyInfo, episode: Episode) -> list[str]:
        found = []
        shape = info.input_shape
        if isinstance(self.backbone, Conv4):
            if len(shape) != 3:
                found.append(
                    f"backbone conv4 needs images, {info.name} has inputs of shape {shape}"
                )
            elif min(shape[1:]) < 2**self.backbone.depth:
                found.append(
                    f"backbone.depth {self.backbone.depth} halves images of {shape[1]}x{shape[2]} "
                    "to nothing"
                )
        if info.kind == "regression":
            if isinstance(self.head, Prototypes | NearestNeighbour):
                found.append(f"head {self.head.kind} needs classes, {info.name} is a regression")
            if self.diet.way not in (None, 1):
                found.append(f"diet.way {self.diet.way} needs classes, {info.name} is a regression")
        way = self.diet.way or episode.way
        learned_head = isinstance(self.head, Linear) and self.head.start == "learned"
        classes = info.kind == "classification"
        if classes and learned_head and way != episode.way and self.meta.rule != "joint":
            found.append(
                f"head.start learned fixes the number of classes: diet.way {way} differs from the "
                f"test's {episode.way}"
            )
        if self.meta.rule == "joint" and classes and learned_head:
            found.append(
                "meta.rule joint learns one layer over all train classes, which no new task can "
                "start from: set head.start to zero"
            )
        if self.meta.rule == "joint" and not classes and not learned_head:
            found.append(
                "meta.rule joint on a regression trains the layer that new tasks start from: take "
                "head linear with start learned"
            )
        return found

    def _composition_problems(self) -> list[str]:
        found = []
        rule, steps = self.meta.rule, isinstance(self.inner, SGD)
        if isinstance(self.head, Linear) and not steps:
            found.append("head linear is adapted by gradient steps: inner none leaves it unadapted")
        if not isinstance(self.head, Linear) and steps:
            found.append(f"head {self.head.kind} adapts in closed form: it takes inner none")
        if rule == "second_order" and not steps:
            found.append("meta.rule second_order has no inner steps to differentiate through")
        if isinstance(self.head, NearestNeighbour) and rule in ("first_order", "second_order"):
            found.append("head nearest_neighbour has no gradient: meta.rule takes joint or none")
        if isinstance(self.backbone, NoBackbone):
            learns = (isinstance(self.head, Linear) and self.head.start == "learned") or (
                isinstance(self.head, Ridge) and self.head.learn
            )
            if rule == "joint" or (rule != "none" and not learns):
                found.append(f"backbone none leaves meta.rule {rule} nothing to learn: take none")
        return found
