"""Makes a network that only answers, and no longer learns, quick: fewer layers, and weights in one number format.

Knows nothing of families; norms are told by where they are declared.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(network: nn.Module) -> None:
    """Every norm that is declared right after a convolution becomes part of its weights."""
    for (name, layer), (norm_name, norm) in pairwise(list(network.named_children())):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(layer, norm))
            setattr(network, norm_name, nn.Identity())
    for child in network.children():
        fold(child)


def cast_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Convolutions calculate in `dtype`, with weights that are cast once; what they are given is cast as needed.

    What lies between them keeps the format that it comes in, so that a layer may stay in full precision.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(dtype)
            layer.register_forward_pre_hook(_like_weights)


def _like_weights(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> Tensor:
    return inputs[0].to(layer.weight.dtype)
