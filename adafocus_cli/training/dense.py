"""The stage of networks over whole clips: all of the network learns new classes, but for parts that are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from adafocus_cli.errors import UsageError
from adafocus_cli.models.base import Family
from adafocus_cli.nn.clip_networks import ClipNet
from adafocus_cli.training.forward_pass import answers
from adafocus_cli.training.learner import Learner, Part, StepResult, cross_entropy

NOTHING = "none"
"""The value of `freeze` with which everything learns."""


class FineTuning(Learner):
    """Minimises the cross-entropy of the answers. Frozen are the parts up to that of the name `freeze`; None: on a
    processor the stem, whose maps are the largest."""

    def __init__(self, model: Family, freeze: str | None = None) -> None:
        super().__init__(model)
        net = model.get_submodule("net")
        assert isinstance(net, ClipNet), "the network of a family that sees whole clips"
        names = list(net.widths)
        if freeze is None:
            freeze = names[0] if next(net.parameters()).device.type == "cpu" else NOTHING
        if freeze not in (NOTHING, *names):
            raise UsageError(f"--freeze {freeze} is not a part of the network; give none, {', '.join(names)}")
        frozen = names[: names.index(freeze) + 1] if freeze != NOTHING else []
        self._frozen = [module for name in frozen for module in net.parts()[name]]
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        logits = answers(self.model, frames)[:, -1].float()
        return StepResult(cross_entropy(logits, targets), logits, {})

    def train(self, mode: bool = True) -> FineTuning:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        """Without what is frozen in it."""
        return {"focus": (self.model,)}
