"""Networks of a user's own, for tests: named in strategies as ``own_networks:...``."""

from __future__ import annotations

from math import prod

import torch
from torch import nn


def pretrained(input_shape: tuple[int, ...], width: int = 4) -> nn.Module:
    """A small convolutional network with fixed weights and statistics, as if it was trained."""
    network = nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
    )
    weights = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for tensor in (*network.parameters(), network[1].running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=weights) / 2)
    return network


def untrained(input_shape: tuple[int, ...]) -> nn.Module:
    """A linear layer with the weights that PyTorch draws."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), 3))


def wrong_inputs(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.Conv2d(input_shape[0] + 1, 2, 3)


def two_outputs(input_shape: tuple[int, ...]) -> nn.Module:
    return nn.LSTM(input_shape[-1], 2, batch_first=True)


def no_network(input_shape: tuple[int, ...]) -> int:
    return 5
