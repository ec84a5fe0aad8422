"""The model that a run starts from: its sizes, and weights from where they were asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adafocus_cli import checkpoint, weights_file
from adafocus_cli import labels as label_lists
from adafocus_cli.checkpoint import Checkpoint
from adafocus_cli.errors import ModelError, UsageError
from adafocus_cli.files import sha256_of
from adafocus_cli.library import download
from adafocus_cli.library.store import ModelStore, find_model
from adafocus_cli.models import build, default_spec, dense, family_named
from adafocus_cli.models.base import Family
from adafocus_cli.models.sfc import LONG, SFC, around
from adafocus_cli.models.shared import ClipWise, StepWise
from adafocus_cli.models.uni_x3d import UniAdaFocusX3D, copy_classifier, slowfast_name
from adafocus_cli.nn.pixels import renormalise
from adafocus_cli.nn.x3d import SHAPES, X3D, initialise
from adafocus_cli.spec import Arch, ModelSpec, Network, Normalisation, normalisation_of
from adafocus_cli.training.clips import seed_for
from adafocus_cli.training.recipes import DENSE, IMAGENET, SCRATCH, SKIP, TrainingSettings
from adafocus_cli.training.run_folder import OWN_FILES
from adafocus_cli.training.v2 import TSM_STD
from adafocus_cli.weights_packages import PACKAGES, installed, torchvision_weights

# torchvision's, of the kind that the papers began with.
_TORCHVISION: Mapping[str, str] = {
    "mobilenet_v2": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
}


IMAGENET_ARCHS = (*_TORCHVISION, *PACKAGES)
"""The networks that there are public ImageNet weights of, all of width 1."""
_NETWORK = re.compile(r"(\w+)(?::(\d*\.?\d+))?(?:@(\d+))?")

Notify = Callable[[str], None]


def begin(settings: TrainingSettings, labels: tuple[str, ...], notify: Notify) -> Family:
    """The model, with the weights that --init and its like name; the others are random, from the seed."""
    if settings.the_recipe.family == SFC.name:
        return _begin_sfc(settings, labels)
    if settings.recipe == SKIP:
        return _begin_skip(settings, labels)
    if settings.insertion is not None or settings.compression is not None:
        raise UsageError(f"--insertion and --compression are for recipe sfc, not {settings.recipe}; leave them out")
    if settings.recipe == DENSE:
        return _begin_dense(settings, labels, notify)
    source = None if settings.init in (SCRATCH, IMAGENET) else _model_of_init(settings)[1]
    spec = _spec(settings, len(labels), None if source is None else source.spec)
    if settings.init == IMAGENET:
        _check_imagenet_has(spec, settings)
    torch.manual_seed(seed_for("weights", settings.seed))
    model = empty(spec, settings)
    if source is not None:
        _load_fitting(model, source, labels, settings.init, notify)
    _load_networks(model, settings, notify)
    if isinstance(model, UniAdaFocusX3D) and (source is None or settings.glance_weights is not None):
        copy_classifier(model.glance_net, model.exit_head)
    return model


def empty(spec: ModelSpec, settings: TrainingSettings) -> Family:
    """A model of these sizes, with random weights."""
    try:
        model = build(spec)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"a {spec.family} model cannot have these sizes ({error}); give others") from error
    if not model.cuts_patches:  # its weights come from a file
        return model
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and part.bias is None:  # as torchvision does
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(model, ClipWise):
        for part in model.children():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=TSM_STD)
                nn.init.zeros_(part.bias)
    for network in (model.glance_net, model.focus_net):
        if isinstance(network, X3D):
            initialise(network)
    return _channels_last(model)


def _channels_last(model: Family) -> Family:
    """As it is trained: in another layout sums would be added up in another order."""
    for network in (model.glance_net, model.focus_net):
        if not isinstance(network, X3D):
            network.to(memory_format=torch.channels_last)
    return model


# Sizes.


def _spec(settings: TrainingSettings, classes: int, source: ModelSpec | None) -> ModelSpec:
    """The recipe's published sizes, or those of the --init model, changed by the options."""
    family = settings.the_recipe.family
    spec = default_spec(family)
    if source is not None and source.family == family:
        spec = source
    elif source is not None:
        spec = replace(
            spec,
            glance=source.glance,
            focus=source.focus,
            frame_size=source.frame_size,
            mean=source.mean,
            std=source.std,
        )
    clip_wise = family_named(family).clip_wise
    if settings.focus_frames and not (clip_wise or spec.candidate_frames):
        raise UsageError(
            f"--focus-frames is for uni and recipes with TSM or X3D; {settings.recipe} looks at every frame (--frames)"
        )
    asked = {
        "glance": _network(settings.glance, spec.glance, "--glance"),
        "focus": _network(settings.focus, spec.focus, "--focus"),
        "glance_frames": settings.frames,
        "focus_frames": settings.focus_frames or (None if clip_wise else settings.frames),
        "short_videos": "evenly" if clip_wise else None,
        "frame_size": settings.frame_size,
        "policy_channels": settings.policy_channels,
        "policy_width": settings.policy_width,
        "classifier_width": settings.classifier_width,
    }
    changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    spec = replace(spec, classes=classes, dataset=None, skips=False, **changes)
    if spec.candidate_frames:
        spec = _with_choice(spec, default_spec(family))
        if spec.focus_frames > spec.candidate_frames:
            raise UsageError(
                f"--focus-frames {spec.focus_frames} is more than the {spec.candidate_frames} frames that "
                f"{settings.recipe} chooses among; give {spec.candidate_frames} or fewer, or more --frames"
            )
    if source is None:
        mean, std = _normalisation(spec.glance, spec.focus)
        spec = replace(spec, mean=mean, std=std)
    return spec.with_patch_size(spec.patch_size)


def _with_choice(spec: ModelSpec, usual: ModelSpec) -> ModelSpec:
    """With as many candidates for each frame that is seen, and boxes of the same smallest share, as the usual model."""
    seen = "focus_frames" if family_named(spec.family).clip_wise else "glance_frames"
    return replace(
        spec,
        candidate_frames=usual.candidate_frames * getattr(spec, seen) // getattr(usual, seen),
        smallest_patch=round(usual.smallest_patch * spec.frame_size / usual.frame_size),
    )


def _normalisation(glance: Network, focus: Network) -> Normalisation:
    """Pixels are normalised once, for both networks: as the public weights of both want it, or as most networks do.

    In the second case the weights of one that wants it otherwise are changed when they are read (`renormalise`).
    """
    wanted = {normalisation_of(network.arch) for network in (glance, focus)}
    return wanted.pop() if len(wanted) == 1 else Normalisation()


def _network(text: str | None, usual: Network, option: str) -> Network | None:
    """
    >>> _network("resnet18:0.25@96", Network("resnet50", 128), "--focus")
    Network(arch='resnet18', size=96, width=0.25, package_sha256=None)
    """
    if text is None:
        return None
    match = _NETWORK.fullmatch(text)
    archs = tuple(SHAPES) if usual.arch in SHAPES else get_args(Arch)
    if match is None or match[1] not in archs or not 0 < float(match[2] or 1) < 16 or int(match[3] or 1) < 1:
        raise UsageError(
            f"{option} {text} is not a network for this recipe; give one of {', '.join(archs)}, optionally with a "
            f"width and a picture size, as in {archs[0]}:0.5@112"
        )
    return Network(match[1], int(match[3] or usual.size), float(match[2] or 1.0))  # type: ignore[arg-type]


def _check_imagenet_has(spec: ModelSpec, settings: TrainingSettings) -> None:
    for name, file in (("glance", settings.glance_weights), ("focus", settings.focus_weights)):
        network: Network = getattr(spec, name)
        if file is None and (network.arch not in IMAGENET_ARCHS or network.width != 1.0):
            raise UsageError(
                f"--init imagenet has no {network.arch} of width {network.width:g}; give --init scratch, or your own "
                f"weights with --{name}-weights FILE"
            )


# Weights.


def _load_fitting(model: Family, source: Checkpoint, labels: tuple[str, ...], init: str, notify: Notify) -> None:
    """Loads all tensors that fit; for other classes, without those of the classifier."""
    wanted = model.state_dict()
    fitting = {n: t for n, t in source.tensors.items() if n in wanted and t.shape == wanted[n].shape}
    if source.about is None or source.about.labels != labels:
        for name in _answers(model.spec):
            fitting.pop(name, None)
    if not fitting:
        raise UsageError(f"no tensor of {init} ({source.spec.family}) fits a {model.name} model; give another --init")
    model.load_state_dict(fitting, strict=False)
    new = sorted({name.partition(".")[0] if model.cuts_patches else name for name in wanted if name not in fitting})
    notify(f"{len(fitting)} of {len(wanted)} tensors are from {init}; new: {', '.join(new) or 'none'}")


def _model_of_init(settings: TrainingSettings) -> tuple[Path, Checkpoint]:
    """The file of --init, and what is in it."""
    path = find_model(settings.init)
    try:
        return path, checkpoint.load(path)
    except checkpoint.UnknownPatchSizeError as error:
        raise ModelError(
            f"neither {path.name} nor its tensors tell the patch size; give --init a file that does, made by adafocus "
            f"models convert {settings.init} --patch-size N -o FILE"
        ) from error


def _answers(spec: ModelSpec) -> set[str]:
    """The tensors whose shape follows from the number of classes."""
    with torch.device("meta"):
        these, others = (build(replace(spec, classes=spec.classes + more)).state_dict() for more in (0, 1))
    return {name for name, tensor in these.items() if tensor.shape != others[name].shape}


def _load_networks(model: Family, settings: TrainingSettings, notify: Notify) -> None:
    for name, file in (("glance", settings.glance_weights), ("focus", settings.focus_weights)):
        if file is not None:
            load_network(model, name, Path(file))
        elif settings.init == IMAGENET:
            load_network(model, name, imagenet_file(getattr(model.spec, name).arch, notify))


def load_network(model: Family, name: str, path: Path) -> None:
    """Loads a whole network from a file that names and normalises as its public weights do: of ImageNet or, for X3D, of
    Kinetics-400."""
    network = model.get_submodule(f"{name}_net")
    tensors, wanted = _tensors(path), network.state_dict()
    if isinstance(network, X3D):
        tensors = _of_x3d(tensors, wanted)
    for key, tensor in wanted.items():
        if not key.endswith("num_batches_tracked") and getattr(tensors.get(key), "shape", None) != tensor.shape:
            raise ModelError(
                f"{path} has no {key} of shape {'×'.join(map(str, tensor.shape))}; give weights of this "
                f"network with the names of its public weights, or describe the network of the file with --{name}"
            )
    network.load_state_dict({key: tensors.get(key, tensor) for key, tensor in wanted.items()})
    arch = getattr(model.spec, name).arch
    if arch in IMAGENET_ARCHS:
        renormalise(network, normalisation_of(arch), model.spec.normalisation)


def _of_x3d(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By our names, of a file of pytorchvideo or SlowFast.

    pytorchvideo's have no norm in the first shortcut, and answers for other classes do not fit: these stay as they are.
    """
    names = {key: slowfast_name(f"net.{key}").removeprefix("net.") for key in wanted}
    found = {key: tensors[name] for key, theirs in names.items() for name in (key, theirs) if name in tensors}
    optional = ("blocks.1.res_blocks.0.branch1_norm.", "blocks.5.proj.")
    for key, tensor in wanted.items():
        if key.startswith(optional) and getattr(found.get(key), "shape", None) != tensor.shape:
            found[key] = tensor
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    if weights_file.is_one(path):
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read weights {path}: {error}; check the file") from error
    root = checkpoint.read(path)
    tensors = root.get("state_dict", root.get("model_state", root))
    return {str(name).removeprefix("module."): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def imagenet_file(arch: str, notify: Notify) -> Path:
    """The file with a network's weights; a download is said."""
    return installed(arch) if arch in PACKAGES else _downloaded(_TORCHVISION[arch], notify)


def _downloaded(name: str, notify: Notify) -> Path:
    """The file of torchvision's weights of that name, downloaded once."""
    weights, store = torchvision_weights(name), ModelStore()
    path = store.home / "imagenet" / weights.file
    if not path.is_file():
        with store.writable():
            path.parent.mkdir(parents=True, exist_ok=True)
        notify(f"downloading {weights.url}")
        otherwise = "give --init scratch, or a file with --init FILE"
        download.fetch(weights.url, path, sha256=weights.sha256, otherwise=otherwise)
    return path


_STEP_WISE = "adafocus-v1, adafocus-v2"

# Options that describe networks.
_OF_NETWORKS = (
    *("glance", "focus", "glance_weights", "focus_weights"),
    *("focus_frames", "frame_size", "policy_channels", "policy_width", "classifier_width"),
)


def _network_over_clips(settings: TrainingSettings, refused: Iterable[str], why: str) -> tuple[Path, Checkpoint]:
    """The file of --init, and what is in it; raises where an option is given that does not apply."""
    _refuse(settings, refused, why)
    networks = ", ".join(family.name for family in dense.FAMILIES)
    needs = f"recipe {settings.recipe} needs a network over whole clips"
    if settings.init in (SCRATCH, IMAGENET):
        raise UsageError(f"{needs}; give one after --init: {networks}")
    path, source = _model_of_init(settings)
    if source.spec.family not in {family.name for family in dense.FAMILIES}:
        raise UsageError(f"--init {settings.init} is a {source.spec.family} model; {needs} ({networks})")
    return path, source


def _begin_dense(settings: TrainingSettings, labels: tuple[str, ...], notify: Notify) -> Family:
    """The network of --init; for other classes than its own, the layer that answers is new."""
    _, source = _network_over_clips(settings, _OF_NETWORKS, "which takes the network of --init as it is")
    frames = settings.frames or source.spec.glance_frames
    spec = replace(source.spec, classes=len(labels), dataset=None, views=1, glance_frames=frames, focus_frames=frames)
    torch.manual_seed(seed_for("weights", settings.seed))
    model = empty(spec, settings)
    _load_fitting(model, source, labels, settings.init, notify)
    return model


def _begin_sfc(settings: TrainingSettings, labels: tuple[str, ...]) -> SFC:
    """A new compression module in the network of --init, which must have exactly the classes of the data."""
    path, source = _network_over_clips(settings, (*_OF_NETWORKS, "dropout"), "whose network does not change")
    _check_same_classes(source, settings, labels)
    spec = around(
        source.spec,
        insertion=settings.insertion or str(SFC.published.insertion),
        compression=settings.compression or SFC.published.compression,
        frames=settings.frames or LONG,
    )
    torch.manual_seed(seed_for("weights", settings.seed))
    backbone_name = f"network-{path.name}" if path.name in OWN_FILES else path.name
    model = build(replace(spec, backbone=backbone_name, backbone_sha256=sha256_of(path)))
    assert isinstance(model, SFC), "the recipe's family"
    if model.compress is None:
        raise UsageError(f"--compression {spec.compression:g} compresses nothing, so there is nothing to train")
    model.load_state_dict(dict(source.tensors), strict=False)
    return model


def _begin_skip(settings: TrainingSettings, labels: tuple[str, ...]) -> Family:
    """The model of --init, which must have exactly the classes of the data, with a head that skips frames."""
    _refuse(settings, (*_OF_NETWORKS, "frames", "insertion", "compression"), "whose networks do not change")
    if settings.init in (SCRATCH, IMAGENET):
        raise UsageError(f"recipe {SKIP} needs a model that looks step by step; give one after --init ({_STEP_WISE})")
    _, source = _model_of_init(settings)
    family = family_named(source.spec.family)
    if not issubclass(family, StepWise):
        raise UsageError(
            f"--init {settings.init} is a {family.name} model, which does not look step by step; give a model of one "
            f"of these families: {_STEP_WISE}"
        )
    _check_same_classes(source, settings, labels)
    torch.manual_seed(seed_for("weights", settings.seed))
    model = build(replace(source.spec, skips=True))
    model.load_state_dict(dict(source.tensors), strict=False)
    return _channels_last(model)


def _refuse(settings: TrainingSettings, options: Iterable[str], why: str) -> None:
    for name in options:
        if getattr(settings, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} does not apply to recipe {settings.recipe}, {why}; leave it out")


def _check_same_classes(source: Checkpoint, settings: TrainingSettings, labels: tuple[str, ...]) -> None:
    if source.spec.classes != len(labels) or _labels_of(source) not in (None, labels):
        differ = " with other names or in another order" if source.spec.classes == len(labels) else ""
        raise UsageError(
            f"--init {settings.init} answers {source.spec.classes} classes and does not change, but "
            f"{settings.data} has {len(labels)}{differ}; name all of its classes, in its order, with --labels"
        )


def _labels_of(source: Checkpoint) -> tuple[str, ...] | None:
    if source.about is not None:
        return source.about.labels
    dataset = source.spec.dataset
    return label_lists.packaged(dataset).names if dataset in label_lists.packaged_names() else None
