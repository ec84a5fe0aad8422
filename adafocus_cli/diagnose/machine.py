"""The machine: processor, memory, and what torch can calculate on besides."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Those that make a difference to a convolution or a matrix product.
_TELLING_FEATURES = (
    *("avx2", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
_GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    system: str
    cpu: str
    cores: int
    memory_gib: float | None
    cpu_features: tuple[str, ...]
    torch_kernels: str | None


@dataclass(frozen=True)
class Accelerator:
    """`device` is what --device takes."""

    device: str
    name: str
    memory_gib: float | None
    bf16: bool


def look_at_machine() -> Machine:
    cpu, features = _cpu_on_mac() if platform.system() == "Darwin" else _cpu_on_linux()
    return Machine(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=cpu or platform.processor() or "unknown",
        cores=_usable_cores(),
        memory_gib=_memory_gib(),
        cpu_features=tuple(feature for feature in _TELLING_FEATURES if feature in features),
        torch_kernels=_torch_kernels(),
    )


def find_accelerators() -> tuple[Accelerator, ...]:
    import torch

    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = round(properties.total_memory / _GIB, 1)
            found.append(Accelerator(f"cuda:{index}", properties.name, memory, properties.major >= 8))
    if torch.backends.mps.is_available():
        found.append(Accelerator("mps", "Apple GPU", None, True))
    return tuple(found)


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _cpu_on_linux() -> tuple[str, set[str]]:
    """Its name and features; Arm machines call them `Features` and give no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return "", set()
    entries: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        entries.setdefault(key.strip(), value.strip())
    return entries.get("model name", ""), set((entries.get("flags") or entries.get("Features") or "").split())


def _cpu_on_mac() -> tuple[str, set[str]]:
    features = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower().split()
    arm = {"bf16": "hw.optional.arm.FEAT_BF16", "i8mm": "hw.optional.arm.FEAT_I8MM"}
    return _sysctl("machdep.cpu.brand_string"), {*features, *(name for name, key in arm.items() if _sysctl(key) == "1")}


def _sysctl(key: str) -> str:
    try:
        done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _torch_kernels() -> str | None:
    """The instructions that torch's own kernels were chosen for."""
    try:
        import torch
    except Exception:  # a broken native library raises whatever it likes
        return None
    return str(torch.backends.cpu.get_cpu_capability())
