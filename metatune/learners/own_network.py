"""A network of the user's own, a ``torch.nn.Module``, as a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metatune.errors import SpaceError
from metatune.learners.interface import Backbone, Params
from metatune.own import load_own
from metatune.strategy import OwnBackbone


def own_backbone(part: OwnBackbone, input_shape: tuple[int, ...]) -> Backbone:
    """What ``part.use`` makes: a backbone as it is, a ``torch.nn.Module`` as an ``OwnNetwork``.

    Random numbers that it draws are the same each time, so that all processes have one network.

    Raises:
        SpaceError: it makes something else, or a network that does not take such inputs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = load_own(part, "backbones")(input_shape=input_shape, **part.options)
    if isinstance(made, nn.Module):
        return OwnNetwork(made.eval(), _features(made, part.use, input_shape))
    if not all(hasattr(made, name) for name in ("features", "init", "support_shapes_query")):
        raise SpaceError(
            f"backbone.use: found {part.use}, which makes a {type(made).__name__}; allowed: a "
            "torch.nn.Module, or what has the methods of metatune.learners.interface.Backbone"
        )
    own: Backbone = made
    return own


def _features(network: nn.Module, use: str, input_shape: tuple[int, ...]) -> int:
    """Numbers that the network makes of an example."""
    try:
        with torch.no_grad():
            found = network(torch.zeros(2, *input_shape))
    except Exception as error:
        shape = "x".join(str(size) for size in input_shape)
        said = f"{type(error).__name__}: {error}"
        raise SpaceError(f"backbone.use: {use} fails on inputs of {shape} with {said}") from error
    if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != 2:
        raise SpaceError(
            f"backbone.use: {use} makes no tensor of features; allowed: (N, ...) from (N, inputs)"
        )
    return prod(found.shape[1:])


@dataclass(frozen=True)
class OwnNetwork:
    """A network whose weights are where meta-training starts, or where it stays if ``frozen``.

    It is in evaluation mode: batch normalisation takes the statistics that it has, so no example
    is judged by its neighbours, and dropout is off.

    Attributes:
        network: with its weights, which are never changed: those in use are parameters.
        features: numbers an example.
    """

    network: nn.Module
    features: int
    support_shapes_query: bool = False
    masks: ClassVar[bool] = True  # for nothing is taken over examples

    def init(self, generator: torch.Generator) -> Params:
        """The network's own weights, whatever the seed."""
        return {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def __call__(
        self, params: Params, x: Tensor, n_support: int, mask: Tensor | None = None
    ) -> Tensor:
        tasks, examples = x.shape[:2]
        shapes = {name: p.ndim for name, p in self.network.named_parameters()}
        if all(params[name].ndim == ndim for name, ndim in shapes.items()):
            return self._call(params, x.flatten(0, 1)).reshape(tasks, examples, -1)
        # A loop rather than vmap, which not every network stands.
        each = [
            self._call({n: p[task] for n, p in params.items()}, x[task]) for task in range(tasks)
        ]
        return torch.stack(each)

    def _call(self, params: Params, x: Tensor) -> Tensor:
        """``(N, features)`` of ``(N, *input_shape)``."""
        buffers = self.network.named_buffers()  # such as the statistics of batch normalisation
        fitting = {n: b.to(x.dtype) if b.is_floating_point() else b for n, b in buffers}
        found: Tensor = functional_call(self.network, {**fitting, **params}, (x,))
        return found.flatten(1)
