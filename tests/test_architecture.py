"""The shape of the code: who may import whom, who may name a device."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "adafocus_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down; a layer may import those below it and the floor.
LAYERS = [
    {"__main__", "cli"},
    {"training"},
    {"benchmark", "diagnose", "engine", "evaluation", "output", "render", "report"},
    {"tagger", "loop", "exits", "timeline"},
    {"runtime", "library"},
    {"checkpoint", "flops"},
    {"models", "weights_file"},
    {"nn"},
    {"worlds"},
    {"errors", "schema", "scores", "spec", "labels", "video", "files", "drawing"},
]
HEAVY = ("torch", "torchvision", "av", "decord", "PIL", "numpy", "adafocus_cli.tagger")


def part_of(module: str) -> str:
    """'adafocus_cli.models.v1' → 'models'"""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Every module of ours that a file imports, also inside functions and for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adafocus_cli"):
            assert node.level == 0, f"{path}: imports are absolute"
            candidates = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {c if exists(c) else str(node.module) for c in candidates}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("adafocus_cli")}
    return found


def exists(module: str) -> bool:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def level_of(part: str) -> int:
    (level,) = [i for i, layer in enumerate(LAYERS) if part in layer]
    return level


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path):
    here = part_of(name_of(path))
    if here == "":
        return  # the package itself gives out names lazily
    for module in imports_of(path):
        there = part_of(module)
        # The API object reaches files through the engine, when called and not before.
        if there == "" or (here, there) in {("tagger", "engine"), ("engine", "tagger")}:
            continue
        assert level_of(there) >= level_of(here), f"{name_of(path)} imports {module}, which is above it"


def test_families_do_not_import_one_another():
    shared = {f"adafocus_cli.models.{name}" for name in ("base", "clip_wise", "published", "step_wise", "whole_clip")}
    families = [p for p in (PACKAGE / "models").glob("*.py") if f"adafocus_cli.models.{p.stem}" not in shared]
    families.remove(PACKAGE / "models" / "__init__.py")
    assert families
    for path in families:
        assert {m for m in imports_of(path) if part_of(m) == "models"} <= shared, path


def test_only_the_runtimes_name_a_device():
    device = re.compile(r"""\.cuda\(|["']cuda|["']mps["']|is_available\(""")
    allowed = {"runtime", "training", "diagnose"}
    for path in MODULES:
        if part_of(name_of(path)) not in allowed | {"cli"}:
            assert not device.search(path.read_text()), f"{path} names a device"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_do(path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("command", [["--help"], ["classify", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(command):
    script = (
        "import sys; sys.argv = ['adafocus', *sys.argv[1:]]\n"
        "from adafocus_cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
