"""The stage of SFC: only the compression between head and tail of the network learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from adafocus_cli.models.base import Family
from adafocus_cli.training.forward_pass import answers
from adafocus_cli.training.learner import Learner, Part, StepResult, cross_entropy


class CompressionLearner(Learner):
    """Minimises the cross-entropy of the answers of the whole network."""

    def __init__(self, model: Family) -> None:
        super().__init__(model)
        self.freeze_the_rest()

    def forward(self, frames: Tensor, targets: Tensor) -> StepResult:
        logits = answers(self.model, frames)[:, -1].float()
        return StepResult(cross_entropy(logits, targets), logits, {})

    def parts(self) -> Mapping[Part, Iterable[nn.Module]]:
        return {"focus": (self.model.get_submodule("compress"),)}
