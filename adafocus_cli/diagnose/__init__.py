"""Checks what works on this machine. Nothing here raises: what is missing or broken is part of the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from adafocus_cli.diagnose.checks import (
    OPTIONAL,
    REQUIRED,
    Accelerator,
    CodecCheck,
    Machine,
    check_codecs,
    describe_machine,
    find_accelerators,
    has_nvidia_driver,
    import_problem,
    installed_versions,
)
from adafocus_cli.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """`advice` is what to do, the most urgent first; `ready` is whether videos can be tagged at all."""

    versions: dict[str, str | None]
    machine: Machine
    accelerators: tuple[Accelerator, ...]
    codecs: tuple[CodecCheck, ...]
    advice: tuple[str, ...]
    ready: bool

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "adafocus-doctor/1", **asdict(self)}


def diagnose() -> DoctorReport:
    versions = installed_versions()
    problems = {name: problem for name in REQUIRED if (problem := import_problem(name)) is not None}
    torch_works = "torch" not in problems
    accelerators = find_accelerators() if torch_works else ()
    codecs = () if "av" in problems else check_codecs()
    readable = any(result == "ok" for check in codecs for result in check.decoders.values())
    return DoctorReport(
        versions=versions,
        machine=describe_machine(),
        accelerators=accelerators,
        codecs=codecs,
        advice=(
            *(
                f"{name} cannot be loaded ({problem}): pip install --force-reinstall {name}"
                for name, problem in problems.items()
            ),
            *(_advice_on_torchvision() if torch_works else ()),
            *_advice_on_devices(accelerators, torch_works=torch_works),
            *_advice_on_decoding(codecs, versions),
        ),
        ready=not problems and readable,
    )


def _advice_on_torchvision() -> list[str]:
    """Few models need it, so videos can be tagged without."""
    from adafocus_cli.nn.clip_networks import torchvision_models

    try:
        torchvision_models()
    except ModelError as error:
        return [f"{error} (for the networks that it builds, such as r3d-18)"]
    return []


def _advice_on_devices(accelerators: tuple[Accelerator, ...], *, torch_works: bool) -> list[str]:
    if torch_works and not accelerators and has_nvidia_driver():
        return [
            "an NVIDIA driver is installed, but torch finds no GPU: install a CUDA build, see https://pytorch.org/get-started"
        ]
    return []


def _advice_on_decoding(codecs: tuple[CodecCheck, ...], versions: dict[str, str | None]) -> list[str]:
    advice = []
    unreadable = [check.codec for check in codecs if check.tested and "ok" not in check.decoders.values()]
    if unreadable:
        advice.append(f"no decoder reads {', '.join(unreadable)}: pip install --upgrade av")
    wrong = [check.codec for check in codecs if check.decoders.get("pyav") == "wrong frames"]
    if wrong:
        advice.append(
            f"PyAV returns wrong frames of {', '.join(wrong)}: use --decoder decord, and pip install --upgrade av"
        )
    if versions["decord"] is None:
        advice.append(
            "decord, the second decoder, is not installed; it is optional, and on x86-64 pip install decord adds it"
        )
    return advice


__all__ = ["OPTIONAL", "Accelerator", "CodecCheck", "DoctorReport", "Machine", "diagnose"]
