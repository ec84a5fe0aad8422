"""Fewer layers for the same answer: a batch norm behind a convolution becomes part of its weights.

For inference only; the folded network has other tensor names. Knows nothing of devices.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(network: nn.Module) -> None:
    """Folds every batch norm that is declared right behind its convolution, as in all our backbones."""
    for part in network.modules():
        for (_, conv), (name, norm) in pairwise(list(part.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
                setattr(part, name, nn.Identity())
