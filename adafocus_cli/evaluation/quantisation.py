"""Quantises a model: sees which numbers its networks are given, chooses ranges for eight bits, and what they change.

Which networks are rounded, the answers decide: both; if that changes more of the first labels than it may, only the one
that has more work to do; if need be, only the other.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from adafocus_cli import checkpoint, weights_file
from adafocus_cli.errors import DeviceError, ModelError, UsageError
from adafocus_cli.evaluation.data import Dataset
from adafocus_cli.evaluation.scoring import Scorer
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.labels import scores_of
from adafocus_cli.library.install import convert
from adafocus_cli.library.store import find_model
from adafocus_cli.output.texts import percent
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
_LEAST_SAME = 0.97  # of the first labels, for a choice of networks to be taken


@dataclass(frozen=True, kw_only=True)
class QuantisationReport:
    """What eight bits change in the answers to the same videos; shares are from 0 to 1.

    `networks` are those that are rounded, and `same_first` the share of the same first label, of the videos to which
    either gives one. `moved` is the share of the patches that are of another frame, or of which a side is more than a
    pixel elsewhere; None for a model without any. `accuracy` is top-1 before and afterwards, where labels are given.
    `refused` are the networks that, rounded together, changed too many answers, with their `same_first`.
    """

    videos: int
    same_first: float
    score: float
    moved: float | None
    accuracy: tuple[float, float] | None
    networks: Mapping[str, ChosenRanges]
    refused: tuple[tuple[tuple[str, ...], float], ...] = ()

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
                    "layers_in_eight_bits": len(chosen.ranges),
                    "layers_in_full_precision": list(chosen.kept),
                }
                for name, chosen in self.networks.items()
            },
            "refused": [{"networks": list(names), "same_first_label": round(same, 4)} for names, same in self.refused],
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
    path = find_model(request.name_or_file)
    exact = ClipTagger.of(replace(request, source=path, device="cpu", precision="fp32"))
    runtime = exact.runtime
    compiled = runtime.networks if isinstance(runtime, OpenVinoRuntime) else ()
    of_pictures = [network for network in compiled if isinstance(network, CompiledNetwork)]
    networks = dict(zip(("glance", "focus"), of_pictures, strict=False))
    if len(networks) < 2:
        raise DeviceError(
            f"{request.name_or_file} is of family {exact.spec.family}, and int8 is for those that glance and look at "
            "pictures by OpenVINO; name another model"
        )
    with noting_pictures(runtime, len(dataset)) as seen:
        before = tag(exact)
    chosen = {}
    for name, network in networks.items():
        if not seen[name].calls:
            raise DeviceError(f"the {name} network saw nothing of these videos; give more, or other ones")
        chosen[name] = choose_ranges(network.network, seen[name])
    labels = dataset if labelled and _fits(dataset, exact) else None
    refused: list[tuple[tuple[str, ...], float]] = []
    for names in (tuple(networks), *((name,) for name in by_work(before))):
        for name, network in networks.items():
            network.round_by_hand(chosen[name].ranges if name in names else {})
        report = compared(before, tag(exact), {name: chosen[name] for name in names}, exact, labels)
        if report.same_first >= _LEAST_SAME:
            write(path, request, output, report.networks)
            return replace(report, refused=tuple(refused))
        refused.append((names, report.same_first))
    best = max(same for _, same in refused)
    raise ModelError(
        f"in eight bits {request.name_or_file} gives the same first label to {percent(best)} of these videos at most, "
        f"and {percent(_LEAST_SAME, digits=0)} are asked for; use --precision bf16 or fp32"
    )


def by_work(results: Results) -> list[str]:
    """The two networks, the one first that has more to do in these videos."""
    work = Counter[str]()
    for result in results.values():
        if isinstance(result, VideoResult):
            work.update({name: result.cost.stages[name] for name in ("glance", "focus")})
    return [name for name, _ in work.most_common()]


def _fits(dataset: Dataset, tagger: ClipTagger) -> bool:
    """Whether its labels are classes of the model: folders may be called anything."""
    try:
        dataset.indices(tagger.labels.names)
    except UsageError as error:
        logger.warning("accuracy is not measured: %s", error)
        return False
    return True


def write(path: Path, request: ModelRequest, output: Path, chosen: Mapping[str, ChosenRanges]) -> None:
    """The model's file, and the ranges; of a file of our own all else stays as it is."""
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
    firsts = [(_first(ours), _first(theirs)) for ours, theirs in pairs]
    told = [ours == theirs for ours, theirs in firsts if (ours, theirs) != (None, None)]
    if not told:
        raise UsageError("the model gives no label to any of these videos; give videos of what it knows")
    return QuantisationReport(
        videos=len(pairs),
        same_first=fmean(told),
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
