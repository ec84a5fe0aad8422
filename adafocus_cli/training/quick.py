"""The quick recipe: own classes from a few clips, in minutes, by networks that stay as they are.

All that is expensive is what they see of each clip. It is calculated once and kept in the run's folder, by the hash of
the clip; a linear layer over it is then learnt in seconds (ridge regression). How the kinds of evidence are mixed, how
much the layer is held back and whether mirrored clips help is chosen by cross-validation on the training clips alone;
so are the scale of the scores and the score below which there is no answer.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from adafocus_cli.errors import AdaFocusError, UsageError
from adafocus_cli.evaluation.data import Sample
from adafocus_cli.evaluation.frames import WORLD
from adafocus_cli.files import replacing, sha256_of
from adafocus_cli.models import build
from adafocus_cli.models.taught import Taught, TaughtToLook
from adafocus_cli.nn.backbones import EfficientNetLite
from adafocus_cli.output.texts import percent
from adafocus_cli.requests import cores
from adafocus_cli.runtime import pytorch
from adafocus_cli.schema import VideoInfo
from adafocus_cli.spec import ModelSpec
from adafocus_cli.training.clips import (
    ClipSet,
    FileClips,
    PlannedFrames,
    SceneClips,
    begin_worker,
    seed_for,
    without_interrupts,
    worker_context,
)
from adafocus_cli.training.data import Split, TrainingData
from adafocus_cli.training.fit import TrainingObserver
from adafocus_cli.training.initial_model import load_network
from adafocus_cli.training.recipes import Resources, TrainingSettings
from adafocus_cli.training.run_folder import FINAL, RunFolder, RunProgress, TrainingRun
from adafocus_cli.training.tuning import Tuning
from adafocus_cli.video.limits import Limits
from adafocus_cli.video.sampling import Look
from adafocus_cli.weights_packages import PACKAGES, installed

_EVIDENCE = 2  # of which version what is kept is; another is calculated anew
_SECONDS_A_CLIP = 2.0  # of one core, at 224 pixels a side; decoding included
_SECONDS_TO_TUNE = 9.0
FOLDS = 5
_INNER_FOLDS = 4
_CLEARLY = 2.0  # standard errors
_SHARPER = 9  # times the pixels of the glance, from which on a source is looked into
_MANY = 400  # clips, from which on likenesses of all their boxes are not kept
_ENOUGH = 300  # clips to choose a mixture by

# What is chosen among: how much each kind of evidence counts. The first is taken unless another is clearly better: what
# changes and moves, for what a clip shows all the time is its scene.
_MOVEMENTS: tuple[Mapping[str, float], ...] = (
    {"centred": 1.0, "ways": 1.0},
    {"shares": 1.0, "centred": 1.0, "ways": 1.0, "anywhere": 0.5},
    {"shares": 0.2, "ways": 0.2, "anywhere": 1.0},
    {},
)
_MIXTURES = tuple(
    {name: weight for name, weight in {"things": things, "changes": changes, **movement}.items() if weight}
    for movement, changes, things in product(_MOVEMENTS, (1.0, 0.3, 0.0), (0.1, 0.5, 2.0))
)
_PENALTIES = (0.1, 0.03, 0.3, 1.0)
# What is seen in a box and learnt where to look by; how often that is done anew, and how much the layer that says where
# may be held back.
_IN_BOX = ("box changes", "box centred", "box ways")
_ROUNDS = 3
_HELD_BACK = (0.03, 0.3, 3.0, 30.0)


def spec_for(classes: int, *, looks: bool = False) -> ModelSpec:
    """The sizes of the model; its network comes from a package."""
    published = Taught.published
    network = replace(published.glance, package_sha256=PACKAGES[published.glance.arch].sha256)
    spec = replace(published, classes=classes, glance=network)
    return replace(spec, family=TaughtToLook.name, focus=TaughtToLook.published.focus) if looks else spec


def empty_model(spec: ModelSpec) -> Taught:
    """Without weights, for its sizes."""
    with torch.device("meta"):
        model = build(spec)
    assert isinstance(model, Taught), "the recipe's family"
    return model


def pretrained(spec: ModelSpec) -> Taught:
    """With the weights of the package; its layers have learnt nothing."""
    model = build(spec)
    assert isinstance(model, Taught), "the recipe's family"
    load_network(model, "glance", installed(spec.glance.arch))
    return model.eval()


# What is seen of the clips, kept by their hashes.


class EvidenceCache:
    """Files of what the networks see of a clip, and of the mirrored clip where it is learnt from: half precision
    (views, numbers). Beside one, others of what looks into the source see: half precision (boxes, numbers), and, to
    tune a network, of what its first blocks make of the frames: half precision (views, frames, c, h, w).

    With `any_size`, clips are looked into however small they are; their files have other names, so that what is learnt
    does not depend on what was tested before.
    """

    def __init__(self, folder: Path, spec: ModelSpec, *, any_size: bool = False) -> None:
        self.folder = folder
        self.any_size = any_size
        seen = {**asdict(spec), "classes": 0, "min_score": 0.0, **({"any_size": True} if any_size else {})}
        self._version = hashlib.sha256(repr((_EVIDENCE, sorted(seen.items()))).encode()).hexdigest()[:8]

    def path(self, clip: str, kind: Literal["", "-looks", "-maps"] = "") -> Path:
        return self.folder / f"{clip[:40]}-{self._version}{kind}.npy"

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, clip: str, views: int, *, maps: bool) -> bool:
        paths = [self.path(clip), *([self.path(clip, "-maps")] if maps else [])]
        return all(path.is_file() and len(np.load(path, mmap_mode="r")) >= views for path in paths)

    def put(
        self, clip: str, evidence: np.ndarray, *, looks: np.ndarray | None = None, maps: np.ndarray | None = None
    ) -> None:
        """What is looked for by `has` comes last."""
        if looks is not None:
            self._write(self.path(clip, "-looks"), looks)
        if maps is not None:
            self._write(self.path(clip, "-maps"), maps)
        self._write(self.path(clip), evidence)

    def _write(self, path: Path, evidence: np.ndarray) -> None:
        try:
            with replacing(path) as file:
                np.save(file, evidence)
        except OSError as error:
            raise AdaFocusError(
                f"cannot write {path}: {error.strerror or error}; make room, then resume the run"
            ) from error

    def get(self, clip: str) -> np.ndarray:
        evidence: np.ndarray = np.load(self.path(clip))
        return evidence

    def looks(self, clip: str) -> np.ndarray | None:
        """Of a clip that can be looked into."""
        path = self.path(clip, "-looks")
        return np.load(path) if path.is_file() else None


def hash_of(sample: Sample) -> str:
    """Of a video's file, or of all images of a folder."""
    path = Path(sample.path)
    if not path.is_dir():
        return sha256_of(path)
    images = sorted(entry for entry in path.iterdir() if entry.is_file())
    digest = hashlib.sha256(repr(sample.frames).encode())
    for image in images:
        digest.update(f"{image.name} {sha256_of(image)}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class AllLooks:
    """All looks into a video that are tried: into each box of the grid, in the frames that the network sees."""

    spec: ModelSpec
    any_size: bool = False
    """Also into one of which a glance sees most."""

    @cached_property
    def _model(self) -> TaughtToLook:
        model = empty_model(self.spec)
        assert isinstance(model, TaughtToLook), "others do not look"
        return model

    def __call__(self, info: VideoInfo) -> tuple[Look, ...]:
        return self.into(info.width, info.height, info.frames)

    def into(self, width: int, height: int, count: int) -> tuple[Look, ...]:
        """Of a video of so many frames of this size."""
        geometry = self.spec.framing.geometry(width, height)
        across, down = geometry.resized
        if not self.any_size and width * height < _SHARPER * across * down:
            return ()
        boxes = [geometry.to_source((*box,)) for box in self._model.grid(down, across).tolist()]
        numbers = self._model.plan(count).frames
        frames = [numbers[place] for place in self._model.seen_whole]
        return tuple(Look(frame, box, self.spec.patch_size) for box in boxes for frame in frames)


@dataclass(frozen=True)
class EvidenceJob:
    """Sees clips, in worker processes, and keeps what it has seen."""

    clips: ClipSet
    hashes: Sequence[str]
    spec: ModelSpec
    cache: EvidenceCache
    moment: tuple[int, ...]
    views: int
    """Two with the mirrored clip."""
    device: str
    maps: bool = False
    """Whether a network will be tuned, which needs what its first blocks have made of the clips."""

    @cached_property
    def _model(self) -> Taught:
        model = pretrained(self.spec)
        pytorch.fold(model.glance_net)
        if self.device == "cpu":
            model.glance_net.pixels_at_once = 1  # frame by frame, as a processor likes it
        return model.to(self.device)

    @torch.inference_mode()
    def see(self, index: int) -> str | None:
        """Why the clip cannot be read; None if it is done."""
        clip = self.clips.read(index, self.moment)
        if clip.pixels is None:
            return next(iter(clip.unreadable.values()))
        model, looks = self._model, None
        frames = model.normalised(torch.from_numpy(np.ascontiguousarray(clip.pixels))[None].to(self.device))
        if isinstance(model, TaughtToLook) and clip.cuts is not None:
            glance_maps = model.glance(frames)
            looks = _looked(model, glance_maps, clip.cuts).half().cpu().numpy()
            views = [model.found(glance_maps)[0]]
        else:
            views = [model.whole_evidence(frames)]
        shown = [frames] if self.views == 1 else [frames, frames.flip(4).contiguous()]
        views += map(model.whole_evidence, shown[1:])
        maps = torch.cat([*map(model.shallow, shown)]).half().cpu().numpy() if self.maps else None
        self.cache.put(self.hashes[index], torch.cat(views).half().cpu().numpy(), looks=looks, maps=maps)
        return None


def _looked(model: TaughtToLook, glance_maps: Tensor, cuts: np.ndarray) -> Tensor:
    """Of each box what the glance has of it, and what was seen there: (boxes, numbers)."""
    hints, grid = model.hints_of(glance_maps)[0], model.grid(*model.sides(glance_maps)).to(glance_maps.device)
    found = []
    for box, pixels in zip(grid, np.split(cuts, len(grid)), strict=True):
        focused = model.focus(model.normalised(torch.from_numpy(np.array(pixels))[None].to(grid.device)))
        found.append(model.box_evidence(glance_maps, focused, box.expand(1, len(pixels), 4)))
    return torch.cat((hints, torch.cat(found)), dim=1)


class _Jobs(TorchDataset[tuple[int, str | None]]):
    def __init__(self, job: EvidenceJob, indices: Sequence[int]) -> None:
        self._job, self._indices = job, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> tuple[int, str | None]:
        index = self._indices[place]
        return index, self._job.see(index)


@dataclass(frozen=True, eq=False)
class SeenLooks:
    """What looks into all boxes of clips have seen."""

    model: TaughtToLook
    """Without weights."""
    seen: tuple[np.ndarray, ...]
    """Of each clip, half precision (boxes, numbers): what the glance has of a box, and what was seen there."""

    def subset(self, indices: Sequence[int]) -> SeenLooks:
        some = replace(self, seen=tuple(self.seen[index] for index in indices))
        if len(self.seen) <= _MANY:
            rows = torch.cat([self.rows[index] for index in indices])
            vars(some)["likeness"] = self.likeness[rows][:, rows]
        return some

    @cached_property
    def rows(self) -> list[Tensor]:
        """The rows of each clip, of all boxes of all clips."""
        ends = np.cumsum([len(seen) for seen in self.seen]).tolist()
        return [torch.arange(end - len(seen), end) for end, seen in zip(ends, self.seen, strict=True)]

    @cached_property
    def hints(self) -> Tensor:
        """(rows, hints)."""
        return torch.from_numpy(np.concatenate([seen[:, : self.model.hints] for seen in self.seen])).double()

    @cached_property
    def likeness(self) -> Tensor:
        """How alike all boxes of all clips are in what changes and moves in them: (rows, rows)."""
        first, likeness = self.model.hints, torch.zeros(len(self.hints), len(self.hints))
        for name, count in self.model.kinds.items():
            if not name.startswith("box "):
                continue
            numbers = torch.from_numpy(np.concatenate([seen[:, first : first + count] for seen in self.seen])).float()
            first += count
            if name in _IN_BOX:
                numbers -= numbers.mean(dim=0)
                alike = numbers @ numbers.T
                likeness += alike / alike.diagonal().mean().clamp(min=1e-12)
        return likeness / len(_IN_BOX)

    def best(self, worth: Tensor) -> list[int]:
        """The box of each clip that is worth most."""
        return [int((self.hints[rows] @ worth).argmax()) for rows in self.rows]

    def evidence(self, boxes: Sequence[int], views: int) -> np.ndarray:
        """Of a box of each clip, and of the mirrored clip: half precision (clips, views, numbers)."""
        chosen = np.stack([seen[box, self.model.hints :] for seen, box in zip(self.seen, boxes, strict=True)])
        if views == 1:
            return chosen[:, None]
        mirrored = [self.model.mirrored(torch.from_numpy(some)[None].float()).half().numpy() for some in chosen]
        return np.stack((chosen, np.concatenate(mirrored)), axis=1)


@dataclass(frozen=True)
class SeenClips:
    """Labelled clips and what the networks have seen of them; those that cannot be read are left out."""

    evidence: np.ndarray
    """Half precision (clips, views, numbers); the second view is the mirrored clip."""
    targets: Tensor
    groups: tuple[str, ...]
    names: tuple[str, ...]
    unreadable: Mapping[str, str]
    looks: SeenLooks | None = None
    """Where all clips have more to show than a glance sees."""
    maps: tuple[Path, ...] = ()
    """Of each clip the file that a network is tuned on."""

    def __len__(self) -> int:
        return len(self.targets)

    def looking(self, boxes: Sequence[int]) -> SeenClips:
        """With the evidence of a box of each clip."""
        assert self.looks is not None, "somebody has looked"
        in_boxes = self.looks.evidence(boxes, self.evidence.shape[1])
        return replace(self, evidence=np.concatenate((self.evidence, in_boxes), axis=2))

    def without(self, indices: Sequence[int]) -> SeenClips:
        out = set(indices)
        return self.subset([index for index in range(len(self)) if index not in out])

    def subset(self, indices: Sequence[int]) -> SeenClips:
        return replace(
            self,
            looks=None if self.looks is None else self.looks.subset(indices),
            evidence=self.evidence[list(indices)],
            targets=self.targets[list(indices)],
            groups=tuple(self.groups[index] for index in indices),
            names=tuple(self.names[index] for index in indices),
            maps=tuple(self.maps[index] for index in indices) if self.maps else (),
        )


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """How clips are seen: by which model, and on what machine."""

    spec: ModelSpec
    settings: TrainingSettings
    resources: Resources
    cache: EvidenceCache
    observer: TrainingObserver

    def see(self, split: Split, labels: Sequence[str], *, training: bool) -> SeenClips:
        """All clips of a split; what is kept of earlier runs is not decoded again."""
        job, targets, groups, names = self.job(split, labels, training)
        failed = self.do(job)
        left = [index for index, clip in enumerate(job.hashes) if clip not in failed]
        if not left:
            first = next(iter(failed.values()))
            raise AdaFocusError(f"none of the {len(targets)} videos can be read; such as: {first}")
        return SeenClips(
            evidence=self.evidence([job.hashes[index] for index in left], job.views),
            targets=torch.tensor([targets[index] for index in left]),
            groups=tuple(groups[index] for index in left),
            names=tuple(names[index] for index in left),
            unreadable={names[i]: failed[clip] for i, clip in enumerate(job.hashes) if clip in failed},
            looks=self.looks([job.hashes[index] for index in left]),
            maps=tuple(self.cache.path(job.hashes[index], "-maps") for index in left) if job.maps else (),
        )

    def looks(self, clips: Sequence[str]) -> SeenLooks | None:
        """What looks into clips have seen, by their hashes; None unless all were looked into."""
        model = empty_model(self.spec)
        if not isinstance(model, TaughtToLook):
            return None
        seen = tuple(looks for looks in map(self.cache.looks, clips) if looks is not None)
        return SeenLooks(model, seen) if len(seen) == len(clips) else None

    def evidence(self, clips: Sequence[str], views: int) -> np.ndarray:
        """All of it, of clips by their hashes: half precision (clips, views, numbers)."""
        model = empty_model(self.spec)
        kept = (torch.from_numpy(self.cache.get(clip)[:views]).float() for clip in clips)
        return np.stack([model.all_evidence(seen).half().numpy() for seen in kept])

    def do(self, job: EvidenceJob) -> dict[str, str]:
        """Sees the clips of which nothing is kept; those that cannot be read, by their hashes, and why."""
        due = [i for i, clip in enumerate(job.hashes) if not self.cache.has(clip, job.views, maps=job.maps)]
        due = list({job.hashes[index]: index for index in reversed(due)}.values())[::-1]  # a copy is the same clip
        failed: dict[str, str] = {}
        for done, (index, reason) in enumerate(self._seen(job, due), 1):
            if reason is not None:
                failed[job.hashes[index]] = reason
            self.observer.progressed("looking at clips", done, len(due))
        return failed

    def job(
        self, split: Split, labels: Sequence[str], training: bool
    ) -> tuple[EvidenceJob, list[int], Sequence[str], list[str]]:
        """What is to be seen of a split, and of each clip its class, group and name."""
        planned, moment = PlannedFrames(self.spec), (0, 0) if training else ()
        views = 2 if training and self.settings.flip else 1
        if split.dataset is None:
            name, count = split.source.removeprefix(WORLD), split.scenes
            clips = SceneClips(name, not training, count, planned, self.settings.seed, balanced=True)
            targets = [index % len(labels) for index in range(count)]
            names = [f"{split.source}#{index}" for index in range(count)]
            hashes = [hashlib.sha256(repr((scene, moment, self.settings.seed)).encode()).hexdigest() for scene in names]
            job = EvidenceJob(clips, hashes, self.spec, self.cache, moment, views, self.device, self.settings.tune)
            return job, targets, names, names
        samples = split.dataset.samples
        shown = split.dataset.indices(labels)
        targets = [classes[0] for classes in shown]
        files = FileClips(
            samples,
            shown,
            planned,
            decoder=self.resources.decoder,
            limits=Limits(seconds=self.resources.decode_timeout),
            looks=AllLooks(self.spec, self.cache.any_size) if self.spec.family == TaughtToLook.name else None,
        )
        hashes = [*map(_hash_or_path, samples)]
        job = EvidenceJob(files, hashes, self.spec, self.cache, (), views, self.device, self.settings.tune)
        return job, targets, split.groups or [sample.path for sample in samples], [s.path for s in samples]

    @property
    def device(self) -> str:
        return str(pytorch.resolve_device(self.resources.device))

    def _seen(self, job: EvidenceJob, due: Sequence[int]) -> Iterator[tuple[int, str | None]]:
        workers = cores() if self.resources.workers is None else self.resources.workers
        workers = min(workers, len(due) // 4)  # one that starts costs as much as a few clips
        loader = DataLoader(
            _Jobs(job, due),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=begin_worker,
            multiprocessing_context=worker_context() if workers else None,
            generator=torch.Generator(),
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker, so that the last bit is the same
        try:
            with without_interrupts():
                seen = iter(loader)
            yield from seen
        finally:
            torch.set_num_threads(threads)
            job.clips.close()


def _hash_or_path(sample: Sample) -> str:
    """What cannot be read has no hash; whoever decodes it says why."""
    try:
        return hash_of(sample)
    except OSError:
        return hashlib.sha256(f"unreadable {sample.path}".encode()).hexdigest()


# What is learnt.


@dataclass(frozen=True)
class Choice:
    """What cross-validation decides."""

    mixture: Mapping[str, float]
    penalty: float
    mirrored: bool


@dataclass(frozen=True)
class LearntLayer:
    """The layer that was learnt: logits = evidence @ weights + bias; and what is known of them."""

    weights: Tensor
    bias: Tensor
    choice: Choice
    min_score: float
    accuracy: float
    """Of the answers to clips that the layer had not seen, by the inner cross-validation."""
    worth: Tensor | None = None
    """What each hint about a box counts for looking there; None: it has no looks."""

    def __call__(self, clips: SeenClips) -> Tensor:
        """Logits (clips, classes)."""
        if self.worth is not None:
            assert clips.looks is not None, "it has learnt from clips that were looked into"
            clips = clips.looking(clips.looks.best(self.worth))
        first = torch.from_numpy(clips.evidence[:, 0])
        return torch.cat([part.double() @ self.weights + self.bias for part in torch.split(first, 256)])


class _Likenesses:
    """How alike clips are in each kind of evidence: matrices of training rows, and of others with them.

    Rows are all training clips, then all mirrored ones.
    """

    def __init__(self, clips: SeenClips, kinds: Mapping[str, int], *, mirrored: bool) -> None:
        views = clips.evidence.shape[1] if mirrored else 1
        self._evidence = np.concatenate([clips.evidence[:, view] for view in range(views)])
        self._kinds = kinds
        self.views = views
        self.middle, self.scale = torch.zeros(sum(kinds.values())).double(), torch.ones(sum(kinds.values())).double()
        self.matrices = {name: self._likeness(name) for name in kinds}

    def _likeness(self, name: str) -> Tensor:
        where = self.slice(name)
        rows = torch.from_numpy(self._evidence[:, where])
        middle = rows.double().mean(dim=0)
        spread = rows.double().std(dim=0)
        spread = spread + 1e-3 * spread.square().mean().sqrt() + 1e-8
        likeness = sum(part @ part.T for part in _standardised(rows, middle, spread))
        assert isinstance(likeness, Tensor), "every kind has numbers"
        size = likeness.diagonal().mean().clamp(min=1e-12)
        self.middle[where], self.scale[where] = middle, spread * size.sqrt()
        return likeness / size

    def slice(self, name: str) -> slice:
        start = 0
        for kind, count in self._kinds.items():
            if kind == name:
                return slice(start, start + count)
            start += count
        raise KeyError(name)

    def weights(self, mixture: Mapping[str, float], duals: Tensor) -> Tensor:
        """What each number of the evidence counts for each class (numbers, classes), from what each row does."""
        weights = torch.zeros(len(self.scale), duals.shape[1], dtype=torch.double)
        total = sum(mixture.values())
        for name, share in mixture.items():
            where = self.slice(name)
            rows = torch.from_numpy(self._evidence[:, where])
            parts = _standardised(rows, self.middle[where], self.scale[where])
            weights[where] = torch.cat([part.T @ duals for part in parts]) * (share / total)
        return weights / self.scale[:, None]


def _standardised(rows: Tensor, middle: Tensor, scale: Tensor) -> Iterator[Tensor]:
    """Some columns at a time, in double precision."""
    at_once = max(1, (1 << 22) // len(rows))
    for start in range(0, rows.shape[1], at_once):
        some = slice(start, start + at_once)
        yield (rows[:, some].double() - middle[some]) / scale[some]


def learn(clips: SeenClips, kinds: Mapping[str, int], classes: int, *, flip: bool, seed: int) -> LearntLayer:
    """Chooses by cross-validation within these clips, then learns from all of them."""
    few = clips if len(clips) <= _ENOUGH else clips.subset(_spread_over_classes(clips, _ENOUGH, seed))
    mirrored = (True, False) if flip else (False,)
    choice, answers = _chosen(few, kinds, classes, _MIXTURES, _PENALTIES, mirrored, seed, _CLEARLY)
    worth = None
    if few.looks is not None:
        learnt, boxes = learn_to_look(few, few.looks, kinds, classes, choice, seed)
        box_kinds = few.looks.model.kinds
        mixtures = (choice.mixture, *_with_boxes(choice.mixture))
        penalties = (choice.penalty, *(penalty for penalty in _PENALTIES if penalty != choice.penalty))
        looking, seen = _chosen(
            few.looking(boxes), box_kinds, classes, mixtures, penalties, (choice.mirrored,), seed, 0.0
        )
        if looking.mixture is not choice.mixture:
            choice, answers, worth, kinds = looking, seen, learnt, box_kinds
            assert clips.looks is not None, "some of them have looks"
            clips = clips.looking(boxes if few is clips else clips.looks.best(learnt))
    return _calibrated(layer(clips, kinds, classes, choice), choice, answers, few.targets, worth)


def _calibrated(
    learnt: tuple[Tensor, Tensor], choice: Choice, answers: Tensor, targets: Tensor, worth: Tensor | None = None
) -> LearntLayer:
    """A layer (weights and bias) whose scores are right as often as they say, by answers to held-out clips."""
    right = answers.argmax(dim=1) == targets
    temperature = _temperature(answers, targets)
    scores = (answers * temperature).softmax(dim=1).amax(dim=1)
    weights, bias = learnt
    return LearntLayer(
        weights=weights * temperature,
        bias=bias * temperature,
        choice=choice,
        min_score=max(_least_score(scores, right), round(1 / len(bias), 4)),  # what is no likelier than chance is none
        accuracy=float(right.double().mean()),
        worth=worth,
    )


def _with_boxes(mixture: Mapping[str, float]) -> Iterator[Mapping[str, float]]:
    """Mixtures of what was seen at a glance, all of which counts for 1, and in a box."""
    total = sum(mixture.values())
    for things, weight in product((0.1, 1.0), (1.0, 3.0, None)):
        in_box = {"box things": things, **dict.fromkeys(_IN_BOX, 1.0)}
        if weight is None:
            yield in_box
            continue
        at_a_glance = {name: share / total for name, share in mixture.items()}
        yield {**at_a_glance, **{name: weight * share / sum(in_box.values()) for name, share in in_box.items()}}


def learn_to_look(
    clips: SeenClips, looks: SeenLooks, kinds: Mapping[str, int], classes: int, choice: Choice, seed: int
) -> tuple[Tensor, list[int]]:
    """What each hint about a box counts, and of each clip the box that is chosen by what the others have taught.

    The reward of a look is the probability of the right class after it, by a layer that has not seen the clip, beside
    that of the clip's other boxes; all other clips are looked at where they were before. At first that is everywhere.
    """
    held_out = _inner_folds(clips, seed)
    whole = _mixed(_Likenesses(clips, kinds, mirrored=False).matrices, choice.mixture)
    boxes: list[int] | None = None
    worth = torch.zeros(looks.model.hints, dtype=torch.double)
    for _ in range(_ROUNDS):
        rewards = _rewards(whole, looks, boxes, clips.targets, classes, held_out)
        worth, boxes = _most_rewarding(looks, rewards, held_out)
    assert boxes is not None, "there are rounds"
    return worth, boxes


def _rewards(
    whole: Tensor,
    looks: SeenLooks,
    boxes: Sequence[int] | None,
    targets: Tensor,
    classes: int,
    held_out: Sequence[Sequence[int]],
) -> Tensor:
    """Of each box of each clip (rows), beyond the mean of the clip's boxes."""
    likeness = looks.likeness.double()
    # What is seen of a clip: one of its boxes, or the mean of all.
    parts = [rows if boxes is None else rows[[boxes[clip]]] for clip, rows in enumerate(looks.rows)]
    to_clips = torch.stack([likeness[:, part].mean(dim=1) for part in parts], dim=1)
    clip_of_row = torch.cat([torch.full_like(rows, clip) for clip, rows in enumerate(looks.rows)])
    among = torch.stack([to_clips[part].mean(dim=0) for part in parts])
    matrix = whole + among / among.diagonal().mean()
    to_clips = whole[clip_of_row] + to_clips / among.diagonal().mean()
    wanted = F.one_hot(targets, classes).double()
    answers, with_look = torch.zeros_like(wanted), torch.zeros(len(to_clips), classes, dtype=torch.double)
    for fold in held_out:
        rest = [clip for clip in range(len(targets)) if clip not in set(fold)]
        middle = wanted[rest].mean(dim=0)
        duals = _solved(matrix[rest][:, rest] / 2, wanted[rest] - middle, _PENALTIES[:1])[0]
        answers[list(fold)] = matrix[list(fold)][:, rest] @ duals / 2 + middle
        rows = torch.cat([looks.rows[clip] for clip in fold])
        with_look[rows] = to_clips[rows][:, rest] @ duals / 2 + middle
    scores = (with_look * _temperature(answers, targets)).softmax(dim=1)
    right = scores[torch.arange(len(scores)), targets[clip_of_row]]
    return torch.cat([right[rows] - right[rows].mean() for rows in looks.rows])


def _most_rewarding(looks: SeenLooks, rewards: Tensor, held_out: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """Ridge regression of rewards on hints: what each hint counts, and the box of each clip by what the other folds
    teach; held back so that these boxes are worth most."""
    scale = looks.hints.std(dim=0) + 1e-6
    hints = looks.hints / scale / math.sqrt(looks.hints.shape[1])
    likeness = hints @ hints.T
    best: tuple[float, float, list[int]] | None = None
    for penalty in _HELD_BACK:
        boxes = [0] * len(looks.rows)
        for fold in held_out:
            out = set(fold)
            rest = torch.cat([rows for clip, rows in enumerate(looks.rows) if clip not in out])
            duals = _solved(likeness[rest][:, rest], rewards[rest][:, None], (penalty,))[0]
            for clip in fold:
                boxes[clip] = int((likeness[looks.rows[clip]][:, rest] @ duals)[:, 0].argmax())
        gained = float(torch.stack([rewards[rows[box]] for rows, box in zip(looks.rows, boxes, strict=True)]).mean())
        if best is None or gained > best[0]:
            best = gained, penalty, boxes
    assert best is not None, "there are penalties"
    duals = _solved(likeness, rewards[:, None], (best[1],))[0][:, 0]
    return hints.T @ duals / scale, best[2]


def layer(clips: SeenClips, kinds: Mapping[str, int], classes: int, choice: Choice) -> tuple[Tensor, Tensor]:
    """Weights (numbers, classes) and bias (classes) of the layer that such a choice learns from all clips."""
    likenesses = _Likenesses(clips, kinds, mirrored=choice.mirrored)
    wanted = F.one_hot(clips.targets, classes).double().repeat(likenesses.views, 1)
    middle = wanted.mean(dim=0)
    duals = _solved(_mixed(likenesses.matrices, choice.mixture), wanted - middle, (choice.penalty,))[0]
    weights = likenesses.weights(choice.mixture, duals)
    return weights, middle - likenesses.middle @ weights


def _inner_folds(clips: SeenClips, seed: int) -> list[list[int]]:
    groups = clips.groups if len(set(clips.groups)) > 1 else clips.names  # of a single group, each clip by itself
    return folds_of(groups, clips.targets.tolist(), _INNER_FOLDS, seed)


def _chosen(
    clips: SeenClips,
    kinds: Mapping[str, int],
    classes: int,
    mixtures: Sequence[Mapping[str, float]],
    penalties: Sequence[float],
    mirrorings: Sequence[bool],
    seed: int,
    clearly: float,
) -> tuple[Choice, Tensor]:
    """The choice with the best answers to clips that were held out, and these answers (clips, classes).

    The first that was listed stays unless another is better by so many standard errors of the difference.
    """
    held_out = _inner_folds(clips, seed)
    likenesses = _Likenesses(clips, kinds, mirrored=any(mirrorings))
    best: tuple[Choice, Tensor, Tensor] | None = None
    first: tuple[Choice, Tensor, Tensor] | None = None
    for mirrored, mixture in product(mirrorings, mixtures):
        rows = len(clips) * (2 if mirrored else 1)
        matrix = _mixed({name: m[:rows, :rows] for name, m in likenesses.matrices.items()}, mixture)
        learnt = _held_out_answers(matrix, clips, classes, penalties, held_out)
        for penalty, answers in zip(penalties, learnt, strict=True):
            logits = answers * _temperature(answers, clips.targets)
            losses = F.cross_entropy(logits, clips.targets, reduction="none")
            found = Choice(mixture, penalty, mirrored), answers, losses
            first = first or found
            if best is None or losses.mean() < best[2].mean():
                best = found
    assert best is not None, "there are choices"
    assert first is not None, "so there is a first one"
    gain = first[2] - best[2]
    better = gain.mean() > clearly * gain.std() / math.sqrt(len(gain))
    choice, answers, _ = best if better else first
    return choice, answers


def _held_out_answers(
    matrix: Tensor, clips: SeenClips, classes: int, penalties: Sequence[float], held_out: Sequence[Sequence[int]]
) -> list[Tensor]:
    """For each penalty the answers to every clip (clips, classes), by what was learnt without its fold."""
    count = len(clips)
    views = len(matrix) // count
    answers = [torch.zeros(count, classes, dtype=torch.double) for _ in penalties]
    wanted = F.one_hot(clips.targets, classes).double().repeat(views, 1)
    for fold_clips in held_out:
        out = set(fold_clips)
        rows = [view * count + index for view in range(views) for index in range(count) if index not in out]
        middle = wanted[rows].mean(dim=0)
        learnt = _solved(matrix[rows][:, rows], wanted[rows] - middle, penalties)
        for answer, duals in zip(answers, learnt, strict=True):
            answer[list(fold_clips)] = matrix[list(fold_clips)][:, rows] @ duals + middle
    return answers


def _mixed(matrices: Mapping[str, Tensor], mixture: Mapping[str, float]) -> Tensor:
    mixed = sum(matrices[name] * share for name, share in mixture.items())
    assert isinstance(mixed, Tensor), "a mixture is of something"
    return mixed / sum(mixture.values())


def _solved(matrix: Tensor, wanted: Tensor, penalties: Sequence[float]) -> list[Tensor]:
    """Ridge regression for each penalty, in the dual form."""
    unit = torch.eye(len(matrix), dtype=matrix.dtype)
    return [torch.linalg.solve(matrix + penalty * unit, wanted) for penalty in penalties]


def _temperature(answers: Tensor, targets: Tensor) -> float:
    """By what answers are multiplied so that the softmax is right as often as it says."""
    candidates = torch.logspace(-1, 2, 61, dtype=torch.double)
    logits = (candidates[:, None, None] * answers).flatten(0, 1)
    losses = F.cross_entropy(logits, targets.repeat(len(candidates)), reduction="none").view(len(candidates), -1)
    means = losses.mean(dim=1).tolist()
    return float(candidates[means.index(min(means))])


def _least_score(scores: Tensor, right: Tensor) -> float:
    """The score below which answers are wrong more often than right; 0 if they never are.

    >>> _least_score(torch.tensor([0.2, 0.3, 0.6, 0.9]), torch.tensor([False, False, True, True]))
    0.45
    """
    order = scores.argsort()
    worth = (right[order].double() - 0.5).cumsum(dim=0)
    least, place = (float(worth.min()), int(worth.argmin()))
    if least >= 0 or place + 1 == len(order):
        return 0.0
    return round(float(scores[order[place]] + scores[order[place + 1]]) / 2, 4)


# Folds.


def folds_of(groups: Sequence[str], targets: Sequence[int], count: int, seed: int) -> list[list[int]]:
    """Clips in `count` folds; those of a group stay together, and every fold gets its share of each class."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    if len(members) < 2:
        raise UsageError(f"all clips are of the group {groups[0]!r}; cross-validation needs two groups at least")
    order = sorted(members)
    random.Random(seed_for("folds", seed)).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))
    folds: list[list[int]] = [[] for _ in range(min(count, len(members)))]
    have = [defaultdict[int, int](int) for _ in folds]

    def crowded(fold: int, group: str) -> tuple[int, int]:
        return sum(have[fold][targets[index]] for index in members[group]), len(folds[fold])

    for group in order:
        fold = min(range(len(folds)), key=lambda number: crowded(number, group))
        folds[fold] += members[group]
        for index in members[group]:
            have[fold][targets[index]] += 1
    return [sorted(fold) for fold in folds]


def _spread_over_classes(clips: SeenClips, count: int, seed: int) -> list[int]:
    """So many clips, the same share of each class."""
    order = list(range(len(clips)))
    random.Random(seed_for("few", seed)).shuffle(order)
    seen: defaultdict[int, int] = defaultdict(int)
    rank = {}
    for index in order:
        target = int(clips.targets[index])
        rank[index] = seen[target]
        seen[target] += 1
    return sorted(sorted(order, key=lambda index: (rank[index], index))[:count])


# The run.


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """LearntLayer of each clip by a model that was made without its fold."""

    clips: SeenClips
    folds: Sequence[Sequence[int]]
    logits: Tensor

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(dim=1) == self.clips.targets).double().mean())


def cross_validate(
    clips: SeenClips, kinds: Mapping[str, int], classes: int, count: int, *, flip: bool, seed: int
) -> Iterator[tuple[int, CrossValidation]]:
    """After every fold what is known so far; each chooses its own mixture."""
    folds = folds_of(clips.groups, clips.targets.tolist(), count, seed)
    logits = torch.zeros(len(clips), classes, dtype=torch.double)
    for number, held_out in enumerate(folds, 1):
        answers = learn(clips.without(held_out), kinds, classes, flip=flip, seed=seed)
        logits[held_out] = answers(clips.subset(held_out))
        yield number, CrossValidation(clips=clips, folds=folds[:number], logits=logits)


@dataclass(frozen=True, kw_only=True)
class CrossTuning:
    """Tunes the network and learns the layer on top of it.

    A network that has learnt from clips says more of them than of others. So another is tuned for each fold, without
    its clips, and the answers to these say what scores are worth. How evidence is mixed is chosen where no network has
    learnt; looks, whose network would be the old one, are left out.
    """

    clips: SeenClips
    folds: Sequence[Sequence[int]]
    kinds: Mapping[str, int]
    labels: Sequence[str]
    settings: TrainingSettings
    seeing: Seeing

    @cached_property
    def _tuning(self) -> Tuning:
        sizes = [len(self.clips) - len(fold) for fold in self.folds] + [len(self.clips)]
        total = sum(map(Tuning.steps, sizes))
        done = iter(range(1, total + 1))
        return Tuning(
            model=pretrained(self.seeing.spec),
            device=self.seeing.device,
            seed=self.settings.seed,
            step_done=lambda: self.seeing.observer.progressed("tuning", next(done), total),
        )

    def cross_validate(self) -> CrossValidation:
        logits = torch.zeros(len(self.clips), len(self.labels), dtype=torch.double)
        for fold in self.folds:
            rest = self.clips.without(fold)
            (weights, bias), network = self._learnt(rest, self._choice(rest))
            held_out = self.seen_by(network, self.clips.subset(fold))
            logits[list(fold)] = torch.from_numpy(held_out.evidence[:, 0]).double() @ weights + bias
        return CrossValidation(clips=self.clips, folds=self.folds, logits=logits)

    def learn(self, crossed: CrossValidation) -> TunedAnswers:
        """From all clips."""
        choice = self._choice(self.clips)
        learnt, network = self._learnt(self.clips, choice)
        calibrated = _calibrated(learnt, choice, crossed.logits, self.clips.targets)
        return TunedAnswers(tuning=self, crossed=crossed, network=network, layer=calibrated)

    def seen_by(self, network: EfficientNetLite, clips: SeenClips) -> SeenClips:
        return replace(clips, evidence=self._tuning.evidence(network, clips.maps, clips.evidence), looks=None)

    def _choice(self, clips: SeenClips) -> Choice:
        settings, without_looks = self.settings, replace(clips, looks=None)
        return learn(without_looks, self.kinds, len(self.labels), flip=settings.flip, seed=settings.seed).choice

    def _learnt(self, clips: SeenClips, choice: Choice) -> tuple[tuple[Tensor, Tensor], EfficientNetLite]:
        network = self._tuning.tuned(clips.maps, clips.targets, len(self.labels))
        return layer(self.seen_by(network, clips), self.kinds, len(self.labels), choice), network


@dataclass(frozen=True, kw_only=True)
class TunedAnswers:
    """What tuning has made of all clips, and the answers to those that were held out."""

    tuning: CrossTuning
    crossed: CrossValidation
    network: EfficientNetLite
    layer: LearntLayer


@dataclass(frozen=True, kw_only=True)
class QuickRun:
    """A run from clips to the file of a model."""

    run: TrainingRun
    data: TrainingData
    folder: RunFolder
    resources: Resources
    observer: TrainingObserver
    notify: Callable[[str], None]

    def teach(self) -> RunProgress:
        settings, spec, labels = self.run.settings, self.run.spec, self.run.labels
        cache = EvidenceCache(self.folder.path / "evidence", spec)
        cache.create()
        seeing = Seeing(spec=spec, settings=settings, resources=self.resources, cache=cache, observer=self.observer)
        clips = seeing.see(self.data.training, labels, training=True)
        self.data.check(clips.unreadable)
        held_out = None
        if len(self.data.validation):
            held_out = self._validating(seeing, clips).see(self.data.validation, labels, training=False)
            if held_out.looks is None:  # as of scenes of a world: a model that looks could not be tested on them
                clips = replace(clips, looks=None)
        kinds = empty_model(spec).whole_kinds
        crossed = self._cross_validate(clips, kinds)
        answers = learn(clips, kinds, len(labels), flip=settings.flip, seed=settings.seed)
        network, tuned = None, self._tuned(clips, crossed, kinds, seeing) if settings.tune else None
        if tuned is not None:
            crossed, network, answers = tuned.crossed, tuned.network, tuned.layer
            if held_out is not None:
                held_out = tuned.tuning.seen_by(network, held_out)
        self._write_answers(crossed)
        facts: dict[str, Any] = {
            "clips": len(clips),
            "cross-validation": {"folds": len(crossed.folds), "groups": settings.group, "accuracy": crossed.accuracy},
            "mixture": dict(answers.choice.mixture),
            "penalty": answers.choice.penalty,
            "mirrored": answers.choice.mirrored,
            "looks": answers.worth is not None,
            "tuned": network is not None,
        }
        accuracy, unreadable = crossed.accuracy, dict(clips.unreadable)
        if held_out is not None:
            right = answers(held_out).argmax(dim=1) == held_out.targets
            accuracy = facts["accuracy"] = float(right.double().mean())
            unreadable |= held_out.unreadable
        progress = RunProgress(best=accuracy, unreadable=unreadable)
        self.folder.log(facts)
        tensors = {"answer.weight": answers.weights.T.float().contiguous(), "answer.bias": answers.bias.float()}
        if answers.worth is None:
            spec = spec_for(len(labels))
        else:
            tensors |= {"worth.weight": answers.worth.float()[None], "worth.bias": torch.zeros(1)}
        if network is not None:  # which no package has
            spec = replace(spec, glance=replace(spec.glance, package_sha256=None))
            tensors |= {f"glance_net.{name}": tensor.cpu() for name, tensor in network.state_dict().items()}
        run = replace(self.run, spec=replace(spec, min_score=answers.min_score))
        self.folder.write_weights(FINAL, run, tensors, facts)
        self.folder.save_checkpoint(self.run, progress, {})
        return progress

    @staticmethod
    def _validating(seeing: Seeing, clips: SeenClips) -> Seeing:
        """A model that has learnt to look does so when it tags, whatever the size of the video."""
        if clips.looks is None:
            return seeing
        return replace(seeing, cache=EvidenceCache(seeing.cache.folder, seeing.spec, any_size=True))

    def _tuned(
        self, clips: SeenClips, crossed: CrossValidation, kinds: Mapping[str, int], seeing: Seeing
    ) -> TunedAnswers | None:
        """If more of the clips that are held out are right then."""
        settings, labels = self.run.settings, self.run.labels
        tuning = CrossTuning(
            clips=clips, folds=crossed.folds, kinds=kinds, labels=labels, settings=settings, seeing=seeing
        )
        found = tuning.cross_validate()
        self.folder.log({"tuned": found.accuracy, "as it was": crossed.accuracy})
        pays = found.accuracy > crossed.accuracy
        self.notify(
            f"with a tuned network {percent(found.accuracy)} of the held-out clips are right, as it was "
            f"{percent(crossed.accuracy)}; the model takes {'the tuned one' if pays else 'it as it was'}"
        )
        return tuning.learn(found) if pays else None

    def _cross_validate(self, clips: SeenClips, kinds: Mapping[str, int]) -> CrossValidation:
        settings, labels = self.run.settings, self.run.labels
        crossed = None
        groups = len(set(clips.groups))
        if settings.folds is not None and settings.folds > groups:
            wanted = f"{settings.folds} folds need {settings.folds} groups of clips"
            self.notify(f"{wanted}, and there are {groups}; making {groups} folds")
        steps = cross_validate(
            clips, kinds, len(labels), settings.folds or FOLDS, flip=settings.flip, seed=settings.seed
        )
        for number, crossed in steps:
            fold = list(crossed.folds[-1])
            right = crossed.logits[fold].argmax(dim=1) == clips.targets[fold]
            self.folder.log({"fold": number, "clips": len(fold), "accuracy": float(right.double().mean())})
            self.observer.fold_done(number, float(right.double().mean()), len(fold))
        assert crossed is not None, "there are two folds at least"
        return crossed

    def _write_answers(self, crossed: CrossValidation) -> None:
        """`folds.csv`: what each clip was taken for by the model that had not seen it."""
        labels, scores = self.run.labels, crossed.logits.softmax(dim=1)
        rows = []
        for number, fold in enumerate(crossed.folds, 1):
            for index in fold:
                answer = int(scores[index].argmax())
                label = labels[int(crossed.clips.targets[index])]
                rows.append((crossed.clips.names[index], number, label, labels[answer], f"{scores[index].max():.3f}"))
        self.folder.write_table("folds.csv", ("path", "fold", "label", "answer", "score"), sorted(rows))


def about_time(clips: int, *, tune: bool) -> str:
    """How long a run takes, if nothing is kept of an earlier one."""
    minutes = clips * (_SECONDS_A_CLIP + tune * _SECONDS_TO_TUNE) / cores() / 60
    return "less than a minute" if minutes < 1 else f"about {math.ceil(minutes)} minutes"
