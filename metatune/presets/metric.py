"""Methods that compare a query with the support set."""

from __future__ import annotations

from metatune.presets.registry import backbone, register
from metatune.strategy import Meta, NearestNeighbour, NoBackbone, Outer, Prototypes, Strategy
from metatune.tasks.base import FamilyInfo


@register
def protonet(info: FamilyInfo) -> Strategy:
    """Prototypical networks (Snell, Swersky & Zemel 2017, arXiv 1703.05175).

    c_k = mean of f(x) over the support set of class k; p(y = k | x) = softmax of -|f(x) - c_k|^2.

    f is the backbone; ``head.scale``, 1 here, multiplies the squared distance. Adam at 0.001.

    Differs: the paper trains Omniglot on 60-way episodes of 5 query points a class, one a step, and
    halves the rate every 2000; here training tasks have the test's shape (see ``diet.way``), 4 a
    step, with a cosine. Channels are 32, there 64.
    """
    return Strategy(
        backbone=backbone(info),
        head=Prototypes(distance="euclidean", scale=1.0),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=4),
    )


@register
def cosine_protonet(info: FamilyInfo) -> Strategy:
    """Prototypes compared by their cosine, times a learned scale.

    Gidaris & Komodakis 2018 (arXiv 1804.09458) and Chen et al. 2021 ("Meta-Baseline", arXiv
    2003.04390): p(y = k | x) = softmax of tau cos(f(x), c_k). tau is ``head.scale``, learned from
    10, as in both; c_k is the mean of plain features, as in the latter (the former: unit vectors).

    Differs: Adam at 0.001 on episodes from the start; both train a classifier before, by SGD.
    """
    return Strategy(
        backbone=backbone(info),
        head=Prototypes(distance="cosine", scale=10.0, learn=True),
        meta=Meta(rule="first_order"),
        outer=Outer(kind="adam", lr=1e-3, schedule="cosine", tasks_per_batch=4),
    )


@register
def tanimoto_neighbours(info: FamilyInfo) -> Strategy:
    """The mean potency of the five most similar molecules: k nearest neighbours by Tanimoto.

    Similarity is shared bits over bits in either, of the family's view ``fingerprint``; classes
    are voted for. Nothing is learned. Families without such a view refuse it.
    """
    del info  # refused where there are no fingerprints
    return Strategy(
        backbone=NoBackbone(),
        head=NearestNeighbour(distance="tanimoto", neighbours=5, view="fingerprint"),
        meta=Meta(rule="none"),
    )


@register
def nearest_neighbour(info: FamilyInfo) -> Strategy:
    """The label of the closest support example, by Euclidean distance between raw inputs.

    Nothing is learned: the "pixels" row of Matching Networks (Vinyals et al. 2016). The same for
    every family; in a regression the nearest point's target.
    """
    del info  # the same for all
    return Strategy(
        backbone=NoBackbone(),
        head=NearestNeighbour(distance="euclidean"),
        meta=Meta(rule="none"),
    )
