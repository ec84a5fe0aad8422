"""The shape of the code: who may import whom, who may name a device, one class for a name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from adafocus_cli.output.journal import record_file
from tests.output.made_up import tagged

PACKAGE = Path(__file__).parents[1] / "adafocus_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
VIDEO = PACKAGE.parent / "examples" / "espresso.mp4"

# From the top down; a layer may import those below it and the floor.
LAYERS = [
    {"__main__", "cli"},
    {"api", "training"},
    {"benchmark", "diagnose", "engine", "evaluation", "output", "render", "report"},
    {"tagger", "loop", "exits", "timeline"},
    {"runtime", "library"},
    {"checkpoint", "flops"},
    {"models", "weights_file", "weights_packages"},
    {"nn"},
    {"worlds"},
    {"errors", "schema", "scores", "spec", "labels", "requests", "video", "files", "drawing"},
]
# Public classes with the name of another one. Every name here is a debt: rename the class, then remove the name.
NAMED_TWICE: set[str] = set()
# Modules of ours that tagging one video may import.
MAIN_PATH = 70
HEAVY = ("torch", "torchvision", "av", "decord", "PIL", "numpy", "adafocus_cli.tagger")


def part_of(module: str) -> str:
    """'adafocus_cli.models.v1' → 'models'"""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, *, for_types: bool = True) -> set[str]:
    """Every module of ours that a file imports, also inside functions, and for types if wanted."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adafocus_cli"):
            assert node.level == 0, f"{path}: imports are absolute"
            candidates = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(c if exists(c) else str(node.module) for c in candidates)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("adafocus_cli"))
        elif for_types or not is_for_types(node):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text()))
    return found - {name_of(path)}


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
        # A request carries a rule of exits, of which it only names the type.
        if there == "" or (here, there) == ("requests", "exits"):
            continue
        assert level_of(there) >= level_of(here), f"{name_of(path)} imports {module}, which is above it"


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def circles_of(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which leads to all others of its group (and no further ones to it)."""

    def reached(start: str) -> set[str]:
        seen, due = set(), [start]
        while due:
            for module in imports.get(due.pop(), set()) - seen:
                seen.add(module)
                due.append(module)
        return seen

    below = {module: reached(module) for module in imports}
    groups = {
        frozenset(other for other in below[module] if module in below.get(other, set()))
        for module in imports
        if module in below[module]
    }
    return sorted(sorted(group) for group in groups)


def test_a_circle_is_found():
    imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}
    assert circles_of(imports) == [["a", "b", "c"]]


def test_no_modules_import_one_another_in_a_circle():
    imports = {name_of(path): imports_of(path, for_types=False) for path in MODULES}
    del imports["adafocus_cli"]  # gives out names lazily
    assert circles_of(imports) == []


def test_tagging_one_video_imports_few_modules_and_an_adafocus_family_no_torchvision():
    script = (
        "import sys; from contextlib import suppress; from adafocus_cli.__main__ import main\n"
        f"sys.argv = ['adafocus', 'classify', {str(VIDEO)!r}]\n"
        "with suppress(SystemExit): main()\n"
        "print(*(name for name in sys.modules if name.startswith('adafocus_cli')))\n"
        "sys.argv += ['-m', 'motion']\n"
        "with suppress(SystemExit): main()\n"
        "print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    record, modules, of_adafocus, has_torchvision = done.stdout.splitlines()
    assert '"status": "ok"' in record
    assert len(modules.split()) <= MAIN_PATH, modules
    assert '"family": "adafocus-v1-tsm"' in of_adafocus
    assert has_torchvision == "False"


def test_no_public_class_has_the_name_of_another():
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == NAMED_TWICE


def test_families_do_not_import_one_another():
    shared = {f"adafocus_cli.models.{name}" for name in ("base", "shared")}
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


@pytest.mark.parametrize(
    "command", [["--help"], ["classify", "--help"], ["--version"], ["find", "sumo", "tags.sqlite"], ["models", "list"]]
)
def test_help_find_and_the_list_of_models_load_nothing_heavy(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    record_file(tmp_path / "tags.sqlite").build([tagged().to_dict()])
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
