"""From a checkpoint file to a spec and the tensors of one of our models; nothing in the file is executed.

Tolerant: extra tensors, missing duplicates, CUDA storages, training leftovers. Strict: every tensor that the model
needs is there with the right shape, or the error names it as the file would. Knows nothing of devices or labels.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from adafocus_cli import weights_file
from adafocus_cli.errors import ModelError
from adafocus_cli.files import sha256_of
from adafocus_cli.models import FAMILIES, build, with_patches, with_views
from adafocus_cli.models.base import Family
from adafocus_cli.spec import ModelSpec, Network
from adafocus_cli.weights_file import About
from adafocus_cli.weights_packages import PACKAGES, installed

logger = logging.getLogger("adafocus")

# V1 files keep their parts in sections beside a full copy; a section's names lack this beginning.
_SECTIONS = {"glancer": "glancer.", "focuser": "focuser.", "fc": "classifier.", "policy": "focuser.policy.policy."}

# Full copies, the one to prefer first; a file may also be nothing but its tensors.
_WHOLE = ("state_dict", "model_state_dict", "model_state", "")

# How tensors begin that are ranges for eight bits.
_INT8 = "int8."

# How the authors write the patch size into file names: 128s3_checkpoint, 144x144, actnet_p96_mbv2.
_PATCH_IN_NAME = re.compile(r"(?<!\d)(?:(\d{2,3})s3(?=_)|(\d{2,3})x\2(?!\d)|(?<![A-Za-z0-9])p(\d{2,3})(?=[_.-]|$))")

# How they write the frames of Uni-AdaFocus on TSM: sthv1_p128_8and12 glances at 8 and looks at 12 of 36.
_FRAMES_IN_NAME = re.compile(r"(?<!\d)(\d{1,2})(?:and|x)(\d{1,2})(?!\d)")


@dataclass(frozen=True)
class Checkpoint:
    """What a model is and the tensors that it needs, by our names; `int8` are the ranges of `Family.int8`."""

    spec: ModelSpec
    tensors: Mapping[str, Tensor]
    skeleton: Family = field(repr=False, compare=False)
    about: About | None = None  # what a file of our own says of itself
    int8: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def stored(self) -> dict[str, Tensor]:
        """All that a file of our own holds of it."""
        return with_ranges(self.tensors, self.int8)

    def build(self) -> Family:
        """The model with these tensors; always the same one, for half of loading is to build it."""
        self.skeleton.load_state_dict(dict(self.tensors), assign=True)
        self.skeleton.int8 = self.int8
        return self.skeleton.eval()


class UnknownPatchSizeError(ModelError):
    """Of a published checkpoint; not every command takes a --patch-size."""


def load(
    path: Path,
    *,
    patch_size: int | None = None,
    views: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """A file of our own, or a published checkpoint, told by its tensors and its name.

    `changes` are values of the spec that the caller knows and the file may not tell.
    """
    if weights_file.is_one(path):
        return _load_own(path, patch_size, views, changes or {})
    published = _published_tensors(read(path))
    family = _family(path, published, (changes or {}).get("family"))
    try:
        spec = family.spec_of(published)
    except KeyError as error:
        raise _missing(path, family, [error.args[0]], published) from error
    except ModelError as error:
        raise ModelError(f"{path} {error}") from error
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has tensors of shapes that no {family.name} model has; check the file") from error
    changes = changes or {}
    spec = _changed(path, spec, changes if "focus_frames" in changes else {**changes, **_frames(path, spec)})
    if patch_size or family.cuts_patches:
        spec = with_patches(spec, patch_size or patch_size_in(path) or _ask_for_patch_size(path))
    spec = with_views(spec, views) if views else spec
    if spec.classes < 1:
        raise ModelError(f"{path} has a classifier of no classes; check the file")
    skeleton = _skeleton(path, spec)
    return Checkpoint(spec, _select(path, skeleton, published), skeleton)


def _family(path: Path, published: Mapping[str, Tensor], expected: str | None) -> type[Family]:
    """That of a published checkpoint; of several with the same tensors, the expected one or that of the name."""
    fitting = {family.name: family for family in FAMILIES.values() if family.recognises(published)}
    if not fitting:
        known = ", ".join(FAMILIES)
        raise ModelError(f"{path} has {len(published)} tensors, but is not a checkpoint of {known}; check the file")
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    name = path.name.lower().replace("_", "-")
    told = [family for family in fitting if family == expected] or [family for family in fitting if family in name]
    if len(told) == 1:
        return fitting[told[0]]
    last = list(fitting)[-1]
    logger.warning(
        "%s has the tensors of %s alike, and its name does not tell which it is; %s is taken",
        path.name, " and ".join(fitting), last,
    )  # fmt: skip
    return fitting[last]


def _load_own(path: Path, patch_size: int | None, views: int | None, changes: Mapping[str, Any]) -> Checkpoint:
    about, tensors = weights_file.read(path)
    if about.spec.backbone is not None:
        tensors = {**_backbone(path, about.spec), **tensors}
    tensors = {**_of_packages(path, about.spec), **tensors}
    spec = replace(_changed(path, about.spec, changes), backbone=None, backbone_sha256=None)
    spec = replace(spec, **{name: replace(getattr(spec, name), package_sha256=None) for name in ("glance", "focus")})
    if spec.family not in FAMILIES:
        raise ModelError(f"{path} holds a model of family {spec.family!r}, which this version does not know; update it")
    spec = with_patches(spec, patch_size) if patch_size else spec.with_patch_size(spec.patch_size)
    skeleton = _skeleton(path, with_views(spec, views) if views else spec)
    selected, int8 = _select(path, skeleton, tensors, own=True), _ranges(path, tensors)
    return Checkpoint(skeleton.spec, selected, skeleton, about, int8)


def _ranges(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those for eight bits: each a lower and a higher number, and what is added to the channels."""
    found = {name.removeprefix(_INT8): tensor for name, tensor in tensors.items() if name.startswith(_INT8)}
    for name, chosen in found.items():
        numbers = chosen.ndim == 1 and len(chosen) > 2 and chosen.dtype == torch.float32 and chosen.isfinite().all()
        if not numbers or not chosen[0] < chosen[1]:
            raise ModelError(f"{path} has a range for int8, {name}, that is not one; quantize the model again")
    return found


def with_ranges(tensors: Mapping[str, Tensor], int8: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of our own, with these ranges for eight bits instead of those that it may have."""
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith(_INT8)}
    return {**others, **{_INT8 + name: bounds for name, bounds in int8.items()}}


def files_of(path: Path) -> list[Path]:
    """All that a model is loaded from: its file, and that of the network beside it where it only compresses."""
    spec = weights_file.read_about(path).spec if weights_file.is_one(path) else None
    return [path] if spec is None or spec.backbone is None else [path, _beside(path, spec)]


def _beside(path: Path, spec: ModelSpec) -> Path:
    beside = path.parent / Path(str(spec.backbone)).name
    if not beside.is_file():
        raise ModelError(f"{path} needs the network that it was taught in; put {beside.name} into the same folder")
    return beside


def _backbone(path: Path, spec: ModelSpec) -> Mapping[str, Tensor]:
    """What a file that only compresses lacks, from the file of its network."""
    beside = _beside(path, spec)
    if sha256_of(beside) != spec.backbone_sha256:
        raise ModelError(
            f"{beside} is not the network that {path.name} was taught in; get that of sha256 {spec.backbone_sha256}"
        )
    return load(beside).tensors


def _of_packages(path: Path, spec: ModelSpec) -> dict[str, Tensor]:
    """The networks that a file leaves to pip packages, with their classifiers."""
    tensors: dict[str, Tensor] = {}
    for name in ("glance", "focus"):
        network: Network = getattr(spec, name)
        if network.package_sha256 is None:
            continue
        package = PACKAGES.get(network.arch)
        if package is None or package.sha256 != network.package_sha256:
            raise ModelError(f"{path} needs weights of {network.arch} that this version does not know; update adafocus")
        for key, tensor in read(installed(network.arch)).items():
            part = f"{name}_fc." + key.removeprefix("_fc.") if key.startswith("_fc.") else f"{name}_net.{key}"
            tensors[part] = tensor
    return tensors


def _changed(path: Path, spec: ModelSpec, changes: Mapping[str, Any]) -> ModelSpec:
    family = changes.get("family", spec.family)
    if family != spec.family:
        raise ModelError(f"{path} is a checkpoint of {spec.family}, but {family} is expected; take the right file")
    known = {name: value for name, value in changes.items() if value is not None}
    glance = known.get("glance")
    if glance is not None and glance["arch"] != spec.glance.arch:
        raise ModelError(
            f"{path} has a {spec.glance.arch} glance network, but {glance['arch']} is expected; take the right file"
        )
    return ModelSpec.from_dict(asdict(spec) | known)


def read(path: Path) -> Mapping[str, Any]:
    """The nested dict that a `.pth` file holds, tensors on the CPU, without running anything from the file."""
    try:
        with path.open("rb") as file:
            zipped = zipfile.is_zipfile(file)
            packed = zipped and _has_packed_entries(file)
    except OSError as error:
        raise ModelError(f"cannot read model {path}: {error.strerror or error}; check the path") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _damaged(path) from error
    if packed:
        raise _damaged(path)
    try:
        with _harmless_extras(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how a file was saved help nobody here
            root = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise _damaged(path) from error
        raise ModelError(
            f"{path} asks to run {code[1]} when it is opened; refused, and nothing of it was run. "
            "A checkpoint of plain tensors is needed (save its state dict)"
        ) from error
    except Exception as error:  # whatever a damaged archive makes torch raise; its own text helps nobody
        raise _damaged(path) from error
    if not isinstance(root, Mapping):
        raise ModelError(f"{path} holds a {type(root).__name__}, not the tensors of a model; check the file")
    return root


def _has_packed_entries(file: IO[bytes]) -> bool:
    """torch packs nothing; a small file may unpack to more than the memory holds."""
    with zipfile.ZipFile(file) as archive:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())


def patch_size_in(path: Path) -> int | None:
    """The patch size that a published file name tells, if it tells exactly one.

    >>> patch_size_in(Path("128s3_checkpoint.pth.tar")), patch_size_in(Path("best.pth"))
    (128, None)
    """
    sizes = {int(size) for match in _PATCH_IN_NAME.findall(path.name) for size in match if size}
    return sizes.pop() if len(sizes) == 1 else None


def frames_in(path: Path) -> tuple[int, int] | None:
    """How many frames a published file name says are glanced at and looked at, if it does.

    >>> frames_in(Path("sthv1_p96_8and8.pth.tar")), frames_in(Path("best.pth"))
    ((8, 8), None)
    """
    match = _FRAMES_IN_NAME.search(path.name)
    return (int(match[1]), int(match[2])) if match else None


def _frames(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """What only the file's name tells of a family that chooses its focus frames and has no layer for each."""
    if spec.family not in ("uni-adafocus-tsm", "uni-adafocus-x3d"):
        return {}
    frames = frames_in(path)
    if frames is None or frames[0] != spec.glance_frames:
        logger.warning(
            "%s does not tell how many frames it looks at; %d of %d are taken, as in the published %dand%d files",
            path.name, spec.focus_frames, spec.candidate_frames, spec.glance_frames, spec.focus_frames,
        )  # fmt: skip
        return {}
    return {"focus_frames": frames[1], "candidate_frames": 3 * frames[1]}


@contextmanager
def _harmless_extras() -> Iterator[None]:
    """Lets numpy's plain numbers pass: training code stores its best accuracy as one."""
    core = getattr(np, "_core", None) or np.core
    scalar, encode = core.multiarray.scalar, __import__("_codecs").encode
    allowed = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.float64)),
        type(np.dtype(np.float32)),
        type(np.dtype(np.int64)),
        encode,
    ]
    with torch.serialization.safe_globals(allowed):
        yield


def _published_tensors(root: Mapping[str, Any]) -> dict[str, Tensor]:
    """All tensors under the names of the full model, from whichever copy the file has."""
    found: dict[str, Tensor] = {}
    for section, prefix in [*((whole, "") for whole in _WHOLE), *_SECTIONS.items()]:
        entries = root.get(section) if section else root
        if isinstance(entries, Mapping):
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    found.setdefault(prefix + str(name).removeprefix("module."), value)
    for name in [n for n in found if ".policy_old." in n]:  # an equal copy, in some files the only one
        found.setdefault(name.replace(".policy_old.", ".policy."), found[name])
    return found


def _select(path: Path, skeleton: Family, published: Mapping[str, Tensor], *, own: bool = False) -> dict[str, Tensor]:
    """The tensors that the model needs, checked and in full precision.

    Copied out of the file, but for one of our own: nobody writes into those, they are only ever replaced.
    """
    family, wanted = type(skeleton), skeleton.state_dict()
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]  # of no use here; often missing
    theirs = {name: name if own else family.published_name(name) for name in wanted if name not in counters}
    missing = [name for name in theirs.values() if name not in published]
    if missing and own:
        raise ModelError(
            f"{path} lacks {_named(missing)}, which {family.name} needs now; "
            "convert the published checkpoint again, or remove and pull the model"
        )
    if missing:
        raise _missing(path, family, missing, published)
    selected = {}
    for name, their_name in theirs.items():
        tensor = published[their_name]
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{path}: tensor {their_name} is {_shape(tensor)}, but this {family.name} model needs "
                f"{_shape(wanted[name])}; the file does not fit together"
            )
        if not (_is_plain(tensor) and tensor.is_floating_point()):
            raise ModelError(
                f"{path}: tensor {their_name} is not stored as plain numbers, one for each place; "
                "save the state dict anew"
            )
        selected[name] = tensor.to(wanted[name].dtype, copy=not own)
    return selected | {name: torch.zeros(wanted[name].shape, dtype=wanted[name].dtype) for name in counters}


def _is_plain(tensor: Tensor) -> bool:
    """A copy of it takes no more memory than the file has numbers for."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.nbytes <= tensor.untyped_storage().nbytes()


def _skeleton(path: Path, spec: ModelSpec) -> Family:
    """The model, whose tensors have no values yet."""
    try:
        with torch.device("meta"):
            return build(spec)
    except (ValueError, TypeError, KeyError, ArithmeticError, RuntimeError) as error:
        raise ModelError(
            f"{path} tells sizes of which no {spec.family} model can be made; get the file again"
        ) from error


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def _missing(path: Path, family: type[Family], names: list[str], published: Mapping[str, Tensor]) -> ModelError:
    if "policy" in names[0] and not any("policy" in name for name in published):
        return ModelError(
            f"{path} has only the first training stage's weights: {family.name} without its policy ({names[0]}); "
            "use the file of the last stage"
        )
    return ModelError(f"{path} lacks {_named(names)}, which {family.name} needs; the file is incomplete")


def _named(names: list[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} is damaged, cut short or not a checkpoint; get it again")


def _ask_for_patch_size(path: Path) -> int:
    raise UnknownPatchSizeError(
        f"neither {path.name} nor its tensors tell the patch size; say it with --patch-size, as in 128"
    )
