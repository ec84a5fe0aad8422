"""The package as an index has it: what is in the wheel and the source archive, how it installs, what its page shows."""

from __future__ import annotations

import email
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import adafocus_cli

ROOT = Path(__file__).parents[1]
RELATIVE = re.compile(r"\]\((?!https?://|mailto:|#)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both archives, built without isolation from a copy of what git knows."""
    pytest.importorskip("hatchling")
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    known = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "adafocus_cli",
            "weights",
            "docs/adafocus.1",
            "*.py",
            "*.md",
            "*.toml",
            "LICENSE",
            "NOTICE",
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    ).stdout.decode()
    if not known:
        pytest.skip("not a checkout of git")
    for name in filter(None, known.split("\0")):
        if not name.startswith(("tests/", "bench/", "docs/")) or name == "docs/adafocus.1":
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(output)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    return output


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_has_all_that_is_needed_to_run(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "adafocus_cli").rglob("*.py")}
    needed = {"adafocus_cli/py.typed", "adafocus_cli/data/catalogue.yaml", "adafocus_cli/report/page/page.html"}
    assert code | needed | {"adafocus_cli/weights/motion.safetensors"} <= names
    assert any(name.endswith(".data/data/share/man/man1/adafocus.1") for name in names)
    assert not any(name.startswith(("tests/", "bench/", "hatch_build")) for name in names)


def test_the_source_archive_can_be_built_again(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "docs/adafocus.1"} <= names
    assert "weights/motion.safetensors" in names


def test_the_page_of_the_index_has_no_link_into_nowhere(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    about = email.message_from_bytes(zipfile.ZipFile(wheel).read(name))
    assert about["Version"] == adafocus_cli.__version__
    assert "adafocus classify" in about.get_payload()
    assert not RELATIVE.search(about.get_payload())


def test_links_lead_to_the_repository_where_it_has_an_address() -> None:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.with_absolute_links((ROOT / "README.md").read_text("utf-8"), "https://example.org/adafocus/")
    assert "(https://example.org/adafocus/blob/HEAD/docs/objects.md)" in text
    assert "(https://example.org/adafocus/raw/HEAD/docs/render.gif)" in text
    assert not RELATIVE.search(text)


def test_what_is_installed_from_the_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", tmp_path, wheel]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from adafocus_cli.cli.app import run; "
    script += "import adafocus_cli; print(adafocus_cli.__file__); run(['--version'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script] if sys.version_info >= (3, 11) else [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "adafocus_cli/__init__.py"),
        f"adafocus {adafocus_cli.__version__}",
    ]
    assert (tmp_path / "bin/adafocus").exists() or sys.platform == "win32"


def test_the_package_lists_its_names() -> None:
    assert {"Tagger", "VideoResult", "__version__"} <= set(dir(adafocus_cli))
