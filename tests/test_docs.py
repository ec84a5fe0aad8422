"""The documentation is true: its commands and examples run, its tables are complete, its links lead somewhere.

Commands run as they are printed, page by page, in a folder that has the files they name. The models there are tiny and
made up, but carry the published names, so that nothing needs the network. Where a page shows output, the lines shown
come out in that order; `…` stands for lines left out, and what depends on weights or time is not compared. Of a block
that is marked with what it `needs=`, such as data, only the options of our commands are checked.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from adafocus_cli import labels as label_lists
from adafocus_cli.cli.app import app, run
from adafocus_cli.library import catalogue
from adafocus_cli.library.catalogue import INCLUDED
from adafocus_cli.output.records import ORIGIN_COLUMNS
from adafocus_cli.output.writers import PATCH_COLUMNS, VIDEO_COLUMNS
from adafocus_cli.schema import SkippedFrame, Tag
from tests import forked
from tests.clips import cut_off, numbered_clip
from tests.output.made_up import failed, in_windows, tagged

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tests/oracle/README.md"])
MODEL = "v2-activitynet-p128-mbv2"

# Commands that are not run, and why; of those that are ours, the options are checked.
NOT_RUN = {
    r"python3 -m venv venv && .*": "makes an environment, and needs the network",
    r"source venv/bin/activate": "needs that environment",
    r"make test": "runs these tests",
    r"adafocus models pull \S+ --accept-changed": "downloads what is installed already",
    r"adafocus models pull sports-p128 --catalogue company.yaml": "downloads from a server that does not exist",
    r"sbatch .*": "needs Slurm",
    r"pip install .*": "needs the network",
    r"(pipx|uv tool) install .*": "makes an environment, and needs the network",
    r"adafocus bench (?!-m motion --rounds 1).*": "takes a minute or more",
    r"adafocus .* --device cuda:.*": "needs accelerators",
    r"adafocus .* --address .*": "needs a cluster",
    r"adafocus classify https://.*": "needs the network",
    r"adafocus batch '?(s3|gs)://(?!.*--address).*": "needs the network and credentials",
    r"adafocus models quantize .*": "takes half a minute; its own tests run it",
    r"adafocus .* --precision int8": "needs what that wrote",
    **({} if find_spec("ray") else {r"adafocus batch videos/ -o tags.jsonl --engine ray": "Ray is not installed"}),
    **(
        {}
        if shutil.which("ffmpeg")
        else {
            r"ffmpeg .*": "ffmpeg is not installed",
            r"adafocus evaluate two.txt --root frames/ .*": "needs the images that it writes",
        }
    ),
    **({} if shutil.which("jq") else {r".*\| jq .*": "jq is not installed"}),
}

# Commands that are run for the first of the pages that have them.
ONLY_PRINT = ("adafocus doctor", "adafocus evaluate examples/answers.csv")

_FENCE = re.compile(r"^```(\w*)(?: file=(\S+)| needs=(\w+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DETAILS = ("cost", "looked", "sure", "frames", "seconds")


@dataclass(frozen=True)
class Block:
    language: str
    file: str
    needs: str
    text: str


@dataclass
class Step:
    """A command, the output that the page shows for it, and the exit status."""

    command: str
    shown: list[str]
    status: int = 0


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    return [Block(*match) for match in _FENCE.findall(page.read_text("utf-8"))]


def steps_of(page: Path) -> list[Step]:
    steps: list[Step] = []
    for block in blocks_of(page):
        if block.needs:
            continue
        if block.language == "bash":
            steps += [Step(line, []) for line in block.text.splitlines() if line]
        elif block.language == "console":
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    steps.append(Step(line[2:], []))
                else:
                    steps[-1].shown.append(line)
    return with_statuses(steps)


def with_statuses(steps: list[Step]) -> list[Step]:
    """`echo $?` after a command shows its exit status."""
    for before, after in pairwise(steps):
        if after.command == "echo $?":
            before.status = int(after.shown[0])
    return [step for step in steps if step.command != "echo $?"]


# The folder that the commands run in.


def tiny_file(family: str, path: Path, **about: Any) -> None:
    """A model with the frames, patches and classes of the published one, and networks that are quick."""
    from adafocus_cli import weights_file
    from adafocus_cli.models import build, default_spec
    from adafocus_cli.spec import Network
    from tests.tiny import tiny_spec

    spec = replace(
        tiny_spec(family),
        classes=default_spec(family).classes,
        frame_size=224,
        glance=Network("resnet18", 224, width=0.1),
        focus=Network("resnet18", 128, width=0.125),
        smallest_patch=96,
    )
    with path.open("wb") as file:
        weights_file.write(file, weights_file.About(spec=spec, **about), build(spec).state_dict())


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Everything that the pages name, and two installed models."""
    from adafocus_cli.library import install
    from adafocus_cli.library.store import ModelStore

    top = tmp_path_factory.mktemp("docs")
    numbered_clip(top / "video.mp4", frames=280, size=(340, 256), fps=28, options={"preset": "ultrafast"})
    (top / "videos/sub").mkdir(parents=True)
    for name in ("videos/a.mp4", "videos/sub/b.mp4", "broken.mp4"):
        shutil.copy(top / "video.mp4", top / name)
    cut_off(top / "broken.mp4", 0.01)
    (top / "list.txt").write_text("video.mp4\nvideos/a.mp4\n")
    (top / "names.txt").write_text("".join(f"name {i}\n" for i in range(200)))
    shutil.copytree(ROOT / "examples", top / "examples")
    tiny_file("adafocus-v1", top / "128s3_checkpoint.pth.tar")
    tiny_file("adafocus-v2", top / "best.pth.tar")
    store = ModelStore(top / "home")
    for name in (MODEL, "sports-p128"):
        install.add(store, top / "best.pth.tar", name, None, labels="activitynet")
    shutil.copy(store.path_of(MODEL), top / "best.safetensors")
    return top


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """A fresh copy for every page, with the files whose text the page shows."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("adafocus_cli.benchmark.measure._MADE_TIMES", 2)  # files that `bench` makes
    monkeypatch.setattr("adafocus_cli.benchmark.peak._SECONDS", 0.0)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def write_shown_files(page: Path, folder: Path) -> None:
    from adafocus_cli.library.store import ModelStore

    for block in blocks_of(page):
        if block.file:
            record = ModelStore().record_of(MODEL)
            (folder / block.file).write_text(block.text.replace("0" * 64, record.source_sha256))


# Commands.


@pytest.mark.parametrize("page", [page for page in PAGES if steps_of(page)], ids=name_of)
def test_commands_run_as_printed(page, folder, capfd):
    write_shown_files(page, folder)
    for step in steps_of(page):
        if any(re.fullmatch(pattern, step.command) for pattern in NOT_RUN) or is_repeated(step, page):
            if step.command.startswith("adafocus "):
                check_options(step.command)
            continue
        status, out, err = execute(step, capfd)
        assert status == step.status, f"{step.command}\n{out}\n{err}"
        assert "Traceback" not in err
        assert_shown(step, out)


def is_repeated(step: Step, page: Path) -> bool:
    """Whether it has run for an earlier page, and does nothing but print what no page shows."""
    return step.command in ONLY_PRINT and page != next(p for p in PAGES if step in steps_of(p))


def execute(step: Step, capfd) -> tuple[int, str, str]:
    """In this process where it is a plain call of ours, for that is quicker; else by a shell."""
    words = shlex.split(step.command)
    words, into = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
    if words[0] == "adafocus" and not {"|", ">", "<"} & set(words):
        if step.shown and words[1] == "classify" and "--format" not in words:
            words += ["--format", "table"]  # as on a terminal
        capfd.readouterr()
        status = run(words[1:])
        out, err = capfd.readouterr()
        if into is not None:
            Path(into).write_text(out)
        return status, "" if into is not None else out, err
    done = forked.shell(step.command, timeout=60)
    return done.returncode, done.stdout, done.stderr


def assert_shown(step: Step, out: str) -> None:
    of_weights = step.command.startswith("adafocus classify")
    lines = iter([comparable(line, of_weights=of_weights) for line in out.splitlines()])
    for shown in step.shown:
        if shown.strip() and shown.strip() != "…" and not re.search("[━╸░▒▓█]|··", shown):
            assert comparable(shown, of_weights=of_weights) in lines, f"{step.command} does not print\n{shown}\n{out}"


def comparable(line: str, *, of_weights: bool) -> str:
    """A line without what depends on the width of the window and, as told, on weights and time."""
    words = line.split()
    if not of_weights:
        return " ".join(words)
    if words and words[0] in _DETAILS:
        return words[0]
    return re.sub(r"\d+(\.\d+)?", "0", " ".join(words))


def check_options(command: str) -> None:
    """Parses the command line without doing anything."""
    words = shlex.split(command)[1:]
    parser: Any = get_command(app)
    while hasattr(parser, "commands"):
        parser = parser.commands[words.pop(0)]
    parser.make_context(parser.name, words)


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.needs for b in blocks_of(page))], ids=name_of)
def test_commands_that_need_what_is_not_here_have_options_that_exist(page):
    commands = [line for block in blocks_of(page) if block.needs for line in block.text.splitlines()]
    assert commands
    for command in (command for command in commands if command.startswith("adafocus ")):
        check_options(command)


def test_every_published_number_has_its_commands():
    page = ROOT / "docs/reproduce.md"
    text, blocks = page.read_text("utf-8"), "".join(block.text for block in blocks_of(page))
    published = [entry for entry in catalogue.packaged().entries if entry.accuracy is not None]
    assert published
    for entry in published:
        assert re.search(rf"^\| `{entry.name}` \| (about )?{entry.accuracy} \|", text, re.MULTILINE), entry.name
        entry, name = entry.resolved(), re.escape(entry.name)
        assert re.search(rf"^adafocus evaluate \S+ .*-m {name}( |$)", blocks, re.MULTILINE), name
        get = re.search(rf"^adafocus models (pull|add (\S+) --name) {name}$", blocks, re.MULTILINE)
        if entry.name not in INCLUDED:
            assert get is not None, entry.name
            assert (get[1] == "pull") == (entry.url is not None)
            assert get[2] in (None, entry.file)


def test_commands_that_are_not_run_are_in_the_documentation():
    commands = [step.command for page in PAGES for step in steps_of(page)]
    for pattern in NOT_RUN:
        assert any(re.fullmatch(pattern, command) for command in commands), pattern


# Python.


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language == "python" for b in blocks_of(p))], ids=name_of)
def test_python_examples_run_one_after_the_other(page, folder):
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.language == "python":
            exec(compile(block.text, name_of(page), "exec"), names)


# Completeness.


def commands_below(command: Any, path: str) -> dict[str, Any]:
    found = {path: command}
    for name, member in getattr(command, "commands", {}).items():
        found |= commands_below(member, f"{path} {name}")
    return found


WITH_EXAMPLES = [file for file in sorted((ROOT / "adafocus_cli").rglob("*.py")) if ">>> " in file.read_text("utf-8")]


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=name_of)
def test_examples_in_docstrings_give_what_they_show(file):
    module = import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed


COMMANDS = commands_below(get_command(app), "adafocus")


def sections_of(page: Path) -> dict[str, str]:
    """Heading → the text up to the next one of any level."""
    parts = re.split(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_described(path):
    page = ROOT / "docs/usage.md"
    section = sections_of(page).get(f"`{path}`")
    assert section is not None, f"docs/usage.md has no section `{path}`"
    for option in (name for parameter in COMMANDS[path].params for name in parameter.opts if name.startswith("-")):
        where = section if option.startswith("--") else page.read_text("utf-8")
        if option not in ("--help", "-h") or path == "adafocus":
            assert f"`{option}`" in where, f"{path} {option} is not in its section"


def test_every_option_that_is_described_exists():
    sections = sections_of(ROOT / "docs/usage.md")
    for path, command in COMMANDS.items():
        known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
        mentioned = re.findall(r"`(--?[a-z0-9][a-z-]*)`", sections.get(f"`{path}`", ""))
        members = {n for p, c in COMMANDS.items() if p.startswith(f"{path} ") for q in c.params for n in q.opts}
        assert set(mentioned) <= known | members, path


def fields_of(record: dict[str, Any], prefix: str = "") -> set[str]:
    """'labels', 'labels[].score', 'video.path', …"""
    found = set()
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= fields_of(value, f"{name}.")
        else:
            found.add(name)
            if isinstance(value, list) and value and isinstance(value[0], dict):
                found |= fields_of(value[0], f"{name}[].")
    return found


def with_every_field() -> dict[str, Any]:
    """As no one record is: with a label and a best guess, and the label with all it may have."""
    label = Tag("pug", 254, 0.9, parent="dog", looks=(1,))
    also = {"best_guess": replace(label, looks=None), "skipped": (SkippedFrame(3, 0.12),)}
    return tagged("a\udcff.mp4", labels=(label,), **also).to_dict(logits=True)


@pytest.mark.parametrize(
    ("heading", "record"), [("A result", with_every_field()), ("A failure", failed("a\udcff.mp4").to_dict())]
)
def test_every_field_of_the_record_is_described_and_no_other(heading, record):
    section = sections_of(ROOT / "docs/record.md")[heading]
    described = set(re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))))
    # Only records of names that are not UTF-8 have the exact bytes.
    assert described == fields_of(record) | {"video.path_bytes"}


def test_every_field_that_windows_add_is_described():
    section = sections_of(ROOT / "docs/record.md")["With windows"]
    described = set(re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))))
    skipped = (SkippedFrame(3, 0.12),)
    windows = tuple(replace(window, skipped=skipped) for window in in_windows().windows)
    added = fields_of(in_windows(windows=windows).to_dict()) - fields_of(tagged().to_dict())
    # What is in a window is in a result, too.
    assert described - {"labels[].score"} == {re.sub(r"^(windows\[\]\.\w+).*", r"\1", name) for name in added}


def test_every_column_is_described():
    section = sections_of(ROOT / "docs/record.md")["CSV"]
    for column in (*VIDEO_COLUMNS, *PATCH_COLUMNS, *ORIGIN_COLUMNS):
        assert f"`{column}`" in section, column


def test_label_lists_families_and_recipes_are_described():
    from adafocus_cli.models import FAMILIES
    from adafocus_cli.training.recipes import RECIPES

    text = (ROOT / "docs/models.md").read_text("utf-8")
    for name in label_lists.packaged_names():
        count, sureness = len(label_lists.packaged(name)), label_lists.origin(name).sureness
        assert re.search(rf"^\| `{name}` \| {count} \| .* \| {sureness} \|$", text, re.MULTILINE), name
    for family in FAMILIES:
        assert f"| `{family}` |" in text, family
    for recipe in RECIPES:
        assert f"| `{recipe}` |" in sections_of(ROOT / "docs/training.md")["Recipes"], recipe
    keys = sections_of(ROOT / "docs/models.md")["A catalogue of your own"]
    for key in asdict(catalogue.packaged().entries[0]):
        assert f"`{key}`" in keys, key


def test_the_table_of_models_is_that_of_the_catalogue():
    """All but the costs, which take long to count."""
    from bench import catalogue as offers

    text = (ROOT / "docs/models.md").read_text("utf-8").partition("![")[0]
    rows = re.findall(r"^\| `(\S+)` \| .* \| ([\d.]+) \| .* \| .* \| .* \|$", text, re.MULTILINE)
    assert {"objects", "motion", "x3d-m-k400"} <= {name for name, _ in rows}
    for name, gmacs in rows:
        assert offers.row(catalogue.packaged()[name], gmacs) in text.splitlines(), name
    released = {entry.name for entry in catalogue.packaged().entries if offers.released(entry)}
    assert {name for name, _ in rows} <= released


def test_costs_are_those_of_the_catalogue_and_of_the_layers():
    from adafocus_cli.flops import cost_of
    from adafocus_cli.models import default_spec
    from adafocus_cli.spec import ModelSpec

    rows = re.findall(r"^\| `(\S+)` \| ([\d.]+) \| ([\d.]+) \|", (ROOT / "docs/cost.md").read_text(), re.MULTILINE)
    assert rows
    for name, published, counted in rows:
        entry = catalogue.packaged()[name]
        sizes = asdict(default_spec(entry.family, patch_size=entry.patch_size))
        spec = ModelSpec.from_dict(sizes | entry.changes | {"classes": len(entry.label_set())})
        assert (float(published), counted) == (entry.gmacs, f"{cost_of(spec).gmacs:.2f}"), name


# Form.


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors_of(there), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "oracle"], ids=name_of)
def test_lines_are_short(page):
    assert [line for line in page.read_text("utf-8").splitlines() if len(line) > 120] == []
