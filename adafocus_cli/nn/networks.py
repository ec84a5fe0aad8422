"""The backbone of a spec, by its kind."""

from __future__ import annotations

from typing import get_args

from adafocus_cli.errors import ModelError
from adafocus_cli.nn.backbones import Backbone, BasicBlock, Bottleneck, EfficientNetLite, MobileNetV2, ResNet
from adafocus_cli.nn.matching import MatchingNet
from adafocus_cli.spec import Arch, Network

# Width and depth of each, as multiples of Lite0's.
_LITE = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}


def build_backbone(network: Network, *, shift_over: int = 0) -> Backbone:
    """`shift_over` is the clip length for networks that see a clip together, 0 for those that see single frames."""
    if network.arch == "mobilenet_v2":
        return MobileNetV2(network.width, shift_over)
    if network.arch == "resnet18":
        return ResNet(BasicBlock, (2, 2, 2, 2), network.width, shift_over)
    if network.arch == "resnet50":
        return ResNet(Bottleneck, (3, 4, 6, 3), network.width, shift_over)
    if network.arch in _LITE:
        width, depth = _LITE[network.arch]
        return EfficientNetLite(width * network.width, depth, shift_over)
    if network.arch == "matching":
        return _matching(network, shift_over)
    raise ModelError(f"{network.arch!r} is not a network; give one of {', '.join(get_args(Arch))}")


def _matching(network: Network, frames: int) -> MatchingNet:
    if frames < MatchingNet.least:
        raise ModelError(
            f"the network `matching` compares frames: it needs a family that sees a clip together (…-tsm), and "
            f"{MatchingNet.least} frames or more"
        )
    if network.size % MatchingNet.stride:
        raise ModelError(
            f"the network `matching` takes pictures of multiples of {MatchingNet.stride} px, not {network.size}"
        )
    return MatchingNet(network.width, frames)
