"""Published strategies by name: each one a few lines over the parts of ``strategy.py``.

A preset is the method, not the experiment: backbones are this project's (four convolution blocks
for images, a small MLP otherwise), batch statistics come from the support set alone, and the
meta-learning rate follows a schedule over the run's resource. Each docstring says what else
differs from the paper.
"""

from __future__ import annotations

from collections.abc import Callable

from metatune.errors import SpaceError
from metatune.strategy import (
    MLP,
    SGD,
    Conv4,
    Linear,
    Meta,
    NearestNeighbour,
    NoBackbone,
    NoInner,
    Outer,
    Prototypes,
    Ridge,
    Strategy,
)
from metatune.tasks.base import Episode, FamilyInfo

Preset = Callable[[FamilyInfo], Strategy]

PRESETS: dict[str, Preset] = {}
"""Every preset by its name."""


def _register(function: Preset) -> Preset:
    PRESETS[function.__name__] = function
    return function


def preset(name: str, info: FamilyInfo) -> Strategy:
    """The strategy of a preset's name for a family.

    Raises:
        SpaceError: there is no such preset, or it makes no sense for the family.
    """
    allowed = presets_for(info)
    if name not in allowed:
        known = f"{name} (senseless for {info.name}: a {info.kind})" if name in PRESETS else name
        raise SpaceError(f"preset: found {known}; allowed: {', '.join(allowed)}")
    return PRESETS[name](info)


def presets_for(info: FamilyInfo) -> tuple[str, ...]:
    """The names of the presets that make sense for a family."""
    episode = Episode(way=1 if info.kind == "regression" else 2, shot=1, query=1)
    return tuple(name for name, build in PRESETS.items() if not build(info).problems(info, episode))


def _has_images(info: FamilyInfo) -> bool:
    return len(info.input_shape) == 3


def _backbone(info: FamilyInfo) -> Conv4 | MLP:
    """Four convolution blocks for images (fewer for tiny ones), else the MLP of MAML's sinusoid."""
    if not _has_images(info):
        return MLP(width=40, depth=2)
    halvings = min(info.input_shape[1:]).bit_length() - 1
    return Conv4(depth=max(1, min(4, halvings)))


def _maml(info: FamilyInfo, meta: Meta) -> Strategy:
    if _has_images(info):
        inner = SGD(steps=5, lr=0.1, scope="all")
        outer = Outer(kind="adam", lr=1e-3, schedule="constant", tasks_per_batch=16)
    else:
        inner = SGD(steps=1, lr=0.01, scope="all")
        outer = Outer(kind="adam", lr=1e-3, schedule="constant", tasks_per_batch=25)
    return Strategy(
        backbone=_backbone(info),
        head=Linear(start="learned"),
        inner=inner,
        meta=meta,
        outer=outer,
    )


@_register
def maml(info: FamilyInfo) -> Strategy:
    """Model-agnostic meta-learning (Finn, Abbeel & Levine 2017, arXiv 1703.03400).

    theta' = theta - alpha grad L_support(theta), ``inner.steps`` times, on everything;
    theta <- theta - beta grad_theta sum over tasks of L_query(theta'), through the inner steps.

    alpha is ``inner.lr``, beta is ``outer.lr`` (Adam). Sinusoids as in the paper: one step,
    alpha 0.01, beta 0.001, 25 tasks a batch, two layers of 40 ReLUs. Images as in its 20-way
    Omniglot: 5 steps, alpha 0.1, 16 tasks a batch (5-way there: 1 step at 0.4, 32 tasks, and 3
    steps when judged).

    Differs: the paper's code normalises query points by their own batch, which is transductive;
    here by the support set. Channels are 32 where the paper's Omniglot has 64.
    """
    return _maml(info, Meta(rule="second_order"))


@_register
def fomaml(info: FamilyInfo) -> Strategy:
    """First-order MAML (Finn, Abbeel & Levine 2017, section 5.2).

    As ``maml`` with grad_theta L_query(theta') taken as grad_theta' L_query(theta'): inner
    gradients are constants. The same settings.
    """
    return _maml(info, Meta(rule="first_order"))


@_register
def protonet(info: FamilyInfo) -> Strategy:
    """Prototypical networks (Snell, Swersky & Zemel 2017, arXiv 1703.05175).

    c_k = mean of f(x) over the support set of class k; p(y = k | x) = softmax of -|f(x) - c_k|^2.

    f is the backbone; ``head.scale``, 1 here, multiplies the squared distance. Adam at 0.001.

    Differs: the paper trains Omniglot on 60-way episodes, one a step, and halves the rate every
    2000; here training tasks have the test's shape (see ``diet.way``), 4 a step, with a cosine.
    """
    return Strategy(
        backbone=_backbone(info),
        head=Prototypes(distance="euclidean", scale=1.0),
        inner=NoInner(),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=4),
    )


@_register
def r2d2(info: FamilyInfo) -> Strategy:
    """R2-D2: ridge regression as the last layer (Bertinetto et al. 2019, arXiv 1805.08136).

    W = X^T (X X^T + lambda I)^-1 Y over the support features X and one-hot labels Y; the query
    predictions are a X' W + b.

    lambda is ``head.penalty`` (its start; lambda, a and b are meta-learned with ``head.learn``).
    Adam at 0.005, as in the paper.

    Differs: the paper concatenates the last two blocks of a wider network (96 to 512 channels),
    trains on tasks of mixed way and shot, and halves the rate; here a cosine.
    """
    return Strategy(
        backbone=_backbone(info),
        head=Ridge(penalty=1.0, learn=True),
        inner=NoInner(),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=5e-3, schedule="cosine", tasks_per_batch=4),
    )


@_register
def baseline(info: FamilyInfo) -> Strategy:
    """Joint pre-training, then gradient steps on the new task.

    Classification: "Baseline" of Chen et al. 2019 (arXiv 1904.04232): a classifier over all train
    classes, whose last layer is replaced by a new one (from zero), fitted to the support set with
    the backbone fixed. Adam at 0.001 as there. Differs: 50 full-batch steps at 0.1 where the
    paper takes 100 epochs of batches of 4 at 0.01 with momentum 0.9 and decay 0.001.

    Regression: "pretrained" of MAML's sinusoids (Finn et al. 2017, section 5.1): one network
    fitted to all train tasks together, then fine-tuned on everything, 10 steps at 0.02.
    """
    if info.kind == "regression":
        head, inner = Linear(start="learned"), SGD(steps=10, lr=0.02, scope="all")
    else:
        head, inner = Linear(start="zero"), SGD(steps=50, lr=0.1, scope="head")
    return Strategy(
        backbone=_backbone(info),
        head=head,
        inner=inner,
        meta=Meta(rule="joint"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine"),
    )


@_register
def scratch(info: FamilyInfo) -> Strategy:
    """No meta-learning: each task is fitted from a random start by gradient steps on everything.

    The naive baseline of most papers. 50 full-batch steps, at 0.1 (classification) or 0.02
    (regression, where larger rates diverge on targets of size 5).
    """
    return Strategy(
        backbone=_backbone(info),
        head=Linear(start="zero"),
        inner=SGD(steps=50, lr=0.02 if info.kind == "regression" else 0.1, scope="all"),
        meta=Meta(rule="none"),
    )


@_register
def nearest_neighbour(info: FamilyInfo) -> Strategy:
    """The label of the closest support example, by Euclidean distance between raw inputs.

    Nothing is learned: the "pixels" row of Matching Networks (Vinyals et al. 2016). The same for
    every family with classes.
    """
    del info  # the same for all
    return Strategy(
        backbone=NoBackbone(),
        head=NearestNeighbour(distance="euclidean"),
        inner=NoInner(),
        meta=Meta(rule="none"),
    )
