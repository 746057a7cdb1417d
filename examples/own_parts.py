"""A backbone, a rule of adaptation and a whole learner of one's own; ``own_parts.yaml`` names them.

Each is a class with the methods of ``metatune.learners.interface``; parameters are dictionaries of
tensors that the caller holds, and every call works on all tasks of a batch at once.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Fourier:
    """A backbone: sines and cosines of ``count`` learned frequencies (tables, any width)."""

    input_shape: tuple[int, ...]
    count: int = 16
    support_shapes_query: bool = False

    @property
    def features(self):
        return 2 * self.count

    def init(self, generator):
        return {"wave.weight": torch.randn(self.input_shape[0], self.count, generator=generator)}

    def __call__(self, params, x, n_support):
        angle = x.flatten(2) @ params["wave.weight"]
        return torch.cat([angle.sin(), angle.cos()], 2)


@dataclass(frozen=True)
class Smoother:
    """A rule of adaptation: the mean of support labels, weighted by closeness (Nadaraya-Watson)."""

    features: int
    outputs: int

    def init(self, generator):
        return {"log_width": torch.tensor(0.0)}

    def __call__(self, params, support, targets, query):
        far = torch.cdist(query.features, support.features).square() / self.features
        return (-far / params["log_width"].exp()).softmax(2) @ targets


@dataclass(frozen=True)
class Shrunk:
    """A whole learner: each task's support mean, drawn towards what all tasks have in common."""

    info: object
    outputs: int

    def init(self, seed):
        return {"common": torch.zeros(self.outputs), "log_strength": torch.tensor(0.0)}

    def predict(self, params, batch):
        strength, shots = params["log_strength"].exp(), batch.support_y.shape[1]
        total = batch.support_y.sum(1, keepdim=True) + strength * params["common"]
        return (total / (shots + strength)).expand(-1, batch.query_x.shape[1], -1)

    def meta_loss(self, params, batch, progress):
        return (self.predict(params, batch) - batch.query_y).square().mean()
