"""How the authors' checkpoints name the tensors of backbones, where several families share a dialect."""

from __future__ import annotations

import re

# A nested block of two (conv, bn) and two single layers; older MobileNetV2 code kept all layers in one flat list,
# activations included, so that unit i begins at 3·i.
_INVERTED_RESIDUAL = re.compile(
    r"(?P<before>.*)features\.(?P<block>\d+)\.conv\.(?P<unit>\d+)(\.(?P<layer>[01]))?\.(?P<leaf>\w+)"
)

_SHIFTED_BLOCKS = frozenset({3, 5, 6, 8, 9, 10, 12, 13, 15, 16})  # those with an expansion and a residual


def flat_mobilenet(name: str, *, shifted: bool = False) -> str:
    """Our MobileNetV2 name → that of the flat layout; `shifted` networks wrap the expanding convolution.

    >>> flat_mobilenet("features.3.conv.1.0.weight"), flat_mobilenet("features.1.conv.2.bias")
    ('features.3.conv.3.weight', 'features.1.conv.4.bias')
    >>> flat_mobilenet("features.3.conv.0.0.weight", shifted=True)
    'features.3.conv.0.net.weight'
    """
    match = _INVERTED_RESIDUAL.fullmatch(name)
    if match is None:
        return name
    block, unit = int(match["block"]), int(match["unit"])
    if match["layer"] is not None:
        index = 3 * unit + int(match["layer"])
    else:
        last_unit = 1 if block == 1 else 2  # the first block has no expansion
        index = 3 * last_unit + (unit - last_unit)
    wrapper = "net." if shifted and block in _SHIFTED_BLOCKS and index == 0 else ""
    return f"{match['before']}features.{block}.conv.{index}.{wrapper}{match['leaf']}"


_RESNET_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered_resnet(name: str) -> str:
    """Our ResNet name → that of a plain list of its children.

    >>> numbered_resnet("layer1.0.conv2.weight")
    '4.0.conv2.weight'
    """
    child, _, rest = name.partition(".")
    return f"{_RESNET_CHILDREN[child]}.{rest}"


def shifted_resnet(name: str) -> str:
    """Our ResNet name → that of a network whose first convolutions of blocks are wrapped.

    >>> shifted_resnet("layer1.0.conv1.weight"), shifted_resnet("conv1.weight")
    ('layer1.0.conv1.net.weight', 'conv1.weight')
    """
    return re.sub(r"^(layer\d\.\d+\.conv1)\.", r"\1.net.", name)


def with_prefixes(name: str, prefixes: dict[str, str]) -> str:
    """Replaces the one of our prefixes that the name has.

    >>> with_prefixes("policy.gru.bias_ih_l0", {"policy.": "module.policy_stn."})
    'module.policy_stn.gru.bias_ih_l0'
    """
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)
