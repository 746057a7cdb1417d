"""Methods that learn a task by gradient steps from a meta-learned start."""

from __future__ import annotations

from metatune.presets.registry import backbone, has_images, register
from metatune.strategy import Linear, Meta, Outer, Steps, Strategy
from metatune.tasks.base import FamilyInfo


def _maml(info: FamilyInfo, **meta: object) -> Strategy:
    """MAML's settings, on which its relatives differ in what they name."""
    if has_images(info):
        inner = Steps(steps=5, lr=0.1, scope="all")
        outer = Outer(kind="adam", lr=1e-3, schedule="constant", tasks_per_batch=16)
    else:
        inner = Steps(steps=1, lr=0.01, scope="all")
        outer = Outer(kind="adam", lr=1e-3, schedule="constant", tasks_per_batch=25)
    return Strategy(
        backbone=backbone(info),
        head=Linear(start="learned"),
        inner=inner,
        meta=Meta.model_validate(meta),
        outer=outer,
    )


def _but(strategy: Strategy, part: str, **settings: object) -> Strategy:
    """The strategy with other settings in one part."""
    plain = strategy.model_dump()
    return Strategy.model_validate(plain | {part: plain[part] | settings})


@register
def maml(info: FamilyInfo) -> Strategy:
    """Model-agnostic meta-learning (Finn, Abbeel & Levine 2017, arXiv 1703.03400).

    theta' = theta - alpha grad L_support(theta), ``inner.steps`` times, on everything;
    theta <- theta - beta grad_theta sum over tasks of L_query(theta'), through the inner steps.

    alpha is ``inner.lr``, beta is ``outer.lr`` (Adam). Sinusoids as in the paper: one step,
    alpha 0.01, two layers of 40 ReLUs (25 tasks a batch and beta 0.001: the authors' code). Images
    as in its 20-way Omniglot: 5 steps, alpha 0.1, 16 tasks a batch (5-way there: 1 step at 0.4, 32
    tasks, and 3 steps when judged).

    Differs: the authors' code sums the cross-entropy over the N classes, so its alpha is N alpha on
    our mean loss: 2 in both Omniglot settings. It normalises query points by their own batch, which
    is transductive; here by the support set. It keeps the normalisation's shifts fixed within a
    task; here they adapt. Channels are 32, pooled, where the paper's Omniglot has 64 with strides.
    """
    return _maml(info, rule="second_order")


@register
def fomaml(info: FamilyInfo) -> Strategy:
    """First-order MAML (Finn, Abbeel & Levine 2017, section 5.2).

    As ``maml`` with grad_theta L_query(theta') taken as grad_theta' L_query(theta'): inner
    gradients are constants. The same settings.
    """
    return _maml(info, rule="first_order")


@register
def maml_plus_plus(info: FamilyInfo) -> Strategy:
    """MAML++ (Antoniou, Edwards & Storkey 2019, "How to train your MAML", arXiv 1810.09502).

    MAML with: alpha learned for each layer and step (LSLR: ``inner.rate``), the query loss after
    every step with annealed weights (MSL: ``meta.multi_step_until``), first order before second
    (DA: ``meta.first_order_until``) and a cosine-annealed beta (CA). 5 steps, alpha from 0.1 (0.01
    but for images), beta 0.001 and MSL over the first tenth, as in the authors' Omniglot settings
    of 100 epochs; second order starts at half of the resource (the paper: after 50 epochs).

    Differs: those settings have 8 tasks a batch, not 16, and leave DA off. Batch statistics are the
    support set's at every step, not running averages a step; gains and shifts are shared by the
    steps and adapt to the task, there each step has its own, the same for all tasks; rates are
    learned as logarithms, so no sign is.
    """
    strategy = _maml(info, rule="second_order", multi_step_until=0.1, first_order_until=0.5)
    steps = {"steps": 5, "rate": "per_layer_step"}
    return _but(_but(strategy, "inner", **steps), "outer", schedule="cosine")


@register
def anil(info: FamilyInfo) -> Strategy:
    """Almost no inner loop (Raghu, Raghu, Bengio & Vinyals 2020, arXiv 1909.09157).

    MAML whose inner steps change the head alone. MAML's settings.
    """
    return _but(_maml(info, rule="second_order"), "inner", scope="head")


@register
def boil(info: FamilyInfo) -> Strategy:
    """Body only update in the inner loop (Oh, Yoo, Kim & Yun 2021, arXiv 2008.08882).

    MAML whose inner steps change the body alone: the head's rate is zero. MAML's settings.

    Differs: the authors' code takes one step at 0.5, 4 tasks a batch and beta 0.001 for a network
    of four convolutions (0.3 and 0.0006 for ResNet-12).
    """
    return _but(_maml(info, rule="second_order"), "inner", scope="body")


@register
def meta_sgd(info: FamilyInfo) -> Strategy:
    """Meta-SGD (Li, Zhou, Chen & Li 2017, arXiv 1707.09835).

    theta' = theta - alpha o grad L(theta) in one step, with a learned alpha for every parameter.

    Differs: the logarithm of alpha is learned, so no sign is; it starts at one value, 0.01
    (regression) or 0.1, where the paper draws it from [0.005, 0.1].
    """
    strategy = _maml(info, rule="second_order")
    return _but(strategy, "inner", steps=1, rate="per_parameter")


@register
def cavia(info: FamilyInfo) -> Strategy:
    """Fast context adaptation (Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson 2019).

    arXiv 1810.03642. phi, a context vector given beside every input, starts at 0 and is all that
    inner steps change: phi <- phi - alpha grad_phi L(phi, theta). 5 numbers, alpha 1, one step and
    25 tasks a batch, as in the authors' sinusoids; on images 2 steps and 16 tasks, as there.

    Differs: on images the 5 numbers are further constant channels of the input, where the authors
    have 100 that scale and shift the channels of the third block; beta does not fall.
    """
    steps = 2 if has_images(info) else 1
    settings = {"scope": "context", "lr": 1.0, "steps": steps, "context": 5}
    return _but(_maml(info, rule="second_order"), "inner", **settings)


@register
def imaml(info: FamilyInfo) -> Strategy:
    """Implicit MAML (Rajeswaran, Finn, Kakade & Levine 2019, arXiv 1909.04630).

    phi = argmin L_support(phi) + lambda / 2 |phi - theta|^2, approached by gradient descent; the
    meta-gradient is (I + H / lambda)^-1 grad L_query(phi), by conjugate gradients.

    lambda is ``inner.proximal``, 2; 16 steps at 0.1 (0.02 but for images), 5 conjugate gradient
    steps (``meta.truncate``) and beta 0.001, as in the authors' 5-way Omniglot (20-way: 25 steps).

    Differs: 16 tasks a batch, not 32. The authors' code takes the steps without the pull and then
    one of the pull alone, and damps the linear system; here the pull is in every step.
    """
    lr = 0.1 if has_images(info) else 0.02
    strategy = _maml(info, rule="implicit", truncate=5)
    return _but(strategy, "inner", proximal=2.0, steps=16, lr=lr)


@register
def reptile(info: FamilyInfo) -> Strategy:
    """Reptile (Nichol, Achiam & Schulman 2018, arXiv 1803.02999).

    theta <- theta + epsilon (mean over tasks of phi - theta), phi from inner steps on all of a
    task's examples. epsilon is ``outer.lr``, 1 falling to 0; 5 tasks a batch; 5 steps of Adam
    (beta1 0) at 0.001 in training on 10 shots, 50 when judged, as in the paper's 5-way Omniglot.
    Without images as in the authors' sinusoids: plain steps at 0.02, 32 when judged, epsilon 0.1.

    Differs: steps use all examples of a task, query points too, not minibatches of 10; 10 steps on
    sinusoids, not 5; Adam's moments start anew in each task, where the authors' code carries them
    on; epsilon falls along a cosine, there linearly.
    """
    if has_images(info):
        inner = {"kind": "adam", "beta": 0.0, "lr": 1e-3, "steps": 5, "test_steps": 50}
        outer = {"kind": "sgd", "lr": 1.0, "schedule": "cosine", "tasks_per_batch": 5}
        return _but(
            _but(_but(_maml(info, rule="reptile"), "inner", **inner), "outer", **outer),
            "diet",
            shot=10,
        )
    inner = {"lr": 0.02, "steps": 10, "test_steps": 32}
    outer = {"kind": "sgd", "lr": 0.1, "schedule": "cosine", "tasks_per_batch": 1}
    return _but(_but(_maml(info, rule="reptile"), "inner", **inner), "outer", **outer)


@register
def proto_maml(info: FamilyInfo) -> Strategy:
    """Proto-MAML (Triantafillou et al. 2020, "Meta-Dataset", arXiv 1903.03096).

    MAML whose head starts, for each task, as the prototypical network's: weight 2 c_k, bias
    -|c_k|^2. First order, as in the paper's experiments; MAML's settings otherwise.

    Differs: the authors' code has settings from a search (ImageNet: 6 steps at 0.005, beta 0.0004),
    keeps gains and shifts fixed within a task, and trains on tasks of mixed way and shot.
    """
    return _but(_maml(info, rule="first_order"), "head", start="prototypes")
