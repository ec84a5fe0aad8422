"""Quantises a model: sees which numbers its networks are given, chooses ranges for eight bits, and what they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.errors import DeviceError, UsageError
from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.evaluation.scoring import Scorer
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.labels import scores_of
from adafocus_cli.library.install import convert
from adafocus_cli.library.store import find_model
from adafocus_cli.requests import ModelRequest
from adafocus_cli.runtime.openvino import CompiledNetwork, OpenVinoRuntime
from adafocus_cli.runtime.quantising import ChosenRanges, choose_ranges, noting_pictures
from adafocus_cli.schema import Result, VideoResult
from adafocus_cli.tagger import ClipTagger

logger = logging.getLogger("adafocus")

SCHEMA = "adafocus-quantisation/1"

Results = Mapping[int, Result]
"""By the index of the sample."""
_MOVED = 1.0  # pixels of the video, of any side of a box


@dataclass(frozen=True, kw_only=True)
class QuantisationReport:
    """What eight bits change in the answers to the same videos; shares are from 0 to 1.

    `moved` is the share of the patches that are of another frame, or of which a side is more than a pixel elsewhere;
    None for a model without any. `accuracy` is top-1 before and afterwards, where labels are given.
    """

    videos: int
    same_first: float
    score: float
    moved: float | None
    accuracy: tuple[float, float] | None
    networks: Mapping[str, ChosenRanges]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "videos": self.videos,
            "same_first_label": round(self.same_first, 4),
            "mean_score_difference": round(self.score, 6),
            "patches_moved": None if self.moved is None else round(self.moved, 4),
            "top1": self.accuracy and {"fp32": round(self.accuracy[0], 4), "int8": round(self.accuracy[1], 4)},
            "networks": {
                name: {
                    "error": round(chosen.error, 4),
                    "layers": chosen.layers,
                    "in_eight_bits": chosen.rounded,
                    "kept_in_full_precision": list(chosen.kept),
                }
                for name, chosen in self.networks.items()
            },
        }


def quantise_model(
    request: ModelRequest,
    dataset: Dataset,
    output: Path,
    tag: Callable[[ClipTagger], Results],
    *,
    labelled: bool,
) -> QuantisationReport:
    """Writes the model with ranges chosen by these videos, and compares its answers with those in full precision."""
    request = replace(request, source=find_model(request.name_or_file), device="cpu", runtime="openvino")
    exact = ClipTagger.of(replace(request, precision="fp32"))
    runtime = exact.runtime
    assert isinstance(runtime, OpenVinoRuntime)
    if not all(isinstance(network, CompiledNetwork) for network in runtime.networks):
        raise DeviceError(f"{request.name_or_file} sees clips whole, which int8 is not for; name another model")
    with noting_pictures(runtime, len(dataset)) as seen:
        before = tag(exact)
    networks = {"glance": runtime.model.glance_net, "focus": runtime.model.focus_net}
    chosen = {}
    for name, network in networks.items():
        assert isinstance(network, CompiledNetwork)
        if not seen[f"{name}_net"].calls:
            raise DeviceError(f"the {name} network saw nothing of these videos; give more, or other ones")
        chosen[name] = choose_ranges(network.network, seen[f"{name}_net"])
    write(request, output, chosen)
    for name, network in networks.items():
        network.round_by_hand(chosen[name].ranges)
    return compared(before, tag(exact), chosen, exact, dataset if labelled and _fits(dataset, exact) else None)


def _fits(dataset: Dataset, tagger: ClipTagger) -> bool:
    """Whether its labels are classes of the model: folders may be called anything."""
    try:
        dataset.indices(tagger.labels.names)
    except UsageError as error:
        logger.warning("accuracy is not measured: %s", error)
        return False
    return True


def write(request: ModelRequest, output: Path, chosen: Mapping[str, ChosenRanges]) -> None:
    """The model's file, and the ranges; of a file of our own all else stays as it is."""
    path = find_model(request.name_or_file)
    int8 = {f"{name}_net.{layer}": bounds for name, of in chosen.items() for layer, bounds in of.ranges.items()}
    if weights_file.is_one(path):
        about, tensors = weights_file.read(path)
    else:
        labels = None if request.labels is None else str(request.labels)
        converted = convert(path, patch_size=request.patch_size, labels=labels, source_sha256=sha256_of(path))
        about, tensors = converted.about, dict(converted.tensors)
    with replacing(output) as file:
        weights_file.write(file, about, checkpoint.with_ranges(tensors, int8))


def compared(
    before: Results, after: Results, chosen: Mapping[str, ChosenRanges], tagger: ClipTagger, labelled: Dataset | None
) -> QuantisationReport:
    pairs = [
        (ours, theirs)
        for index in sorted(before)
        if isinstance(ours := before[index], VideoResult) and isinstance(theirs := after[index], VideoResult)
    ]
    boxes = [moved for ours, theirs in pairs for moved in _moved(ours, theirs)]
    return QuantisationReport(
        videos=len(pairs),
        same_first=fmean(_first(ours) == _first(theirs) for ours, theirs in pairs),
        score=fmean(float(np.abs(_scores(ours) - _scores(theirs)).mean()) for ours, theirs in pairs),
        moved=fmean(boxes) if boxes else None,
        accuracy=(_accuracy(before, tagger, labelled), _accuracy(after, tagger, labelled)) if labelled else None,
        networks=chosen,
    )


def _moved(ours: VideoResult, theirs: VideoResult) -> list[bool]:
    return [
        a.frame != b.frame or max(abs(x - y) for x, y in zip(a.box, b.box, strict=True)) > _MOVED
        for a, b in zip(ours.trajectory, theirs.trajectory, strict=False)
    ]


def _first(result: VideoResult) -> int | None:
    return result.labels[0].index if result.labels else None


def _scores(result: VideoResult) -> np.ndarray:
    scores: np.ndarray = scores_of(result.logits[None], result.model.family)[0]
    return scores


def _accuracy(results: Results, tagger: ClipTagger, dataset: Dataset) -> float:
    scorer = Scorer(dataset, tagger.labels, min_score=tagger.min_score(None))
    for index, result in results.items():
        scorer.add(index, result)
    report = scorer.report()
    assert report is not None, "at least one video was tagged"
    return report.top1
