"""What the authors' own code computes, and where tests read it: here, or first where `ADAFOCUS_ORACLE` says.

What a folder of other cases lacks is taken from here, for tests of other things need some model, whichever.
"""

import json
import os
from pathlib import Path

OWN = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("ADAFOCUS_ORACLE") or OWN).resolve()


def file_of(name):
    """The path of `golden/CASE.npz`, `layouts/CASE.json`, `sampling.json`."""
    return next((folder / name for folder in (FOLDER, OWN) if (folder / name).exists()), FOLDER / name)


def layout(case):
    """The settings and tensors of the model that a golden file was computed with.

    Several may come from one model: the layout's name is then the beginning of theirs, as in CASE-exit or e2e-CASE-CLIP.
    """
    case = case.removeprefix("e2e-")
    while not file_of(f"layouts/{case}.json").exists():
        case, dash, _ = case.rpartition("-")
        if not dash:
            raise FileNotFoundError(f"no layout in {FOLDER / 'layouts'} is of {case}")
    return json.loads(file_of(f"layouts/{case}.json").read_text())


def goldens(*, whole_path=False):
    """The names of all golden files of `FOLDER`: from frames to answers, or the whole path from a video file."""
    names = sorted(path.stem for path in (FOLDER / "golden").glob("*.npz"))
    return [name for name in names if name.startswith("e2e-") == whole_path]


def training_steps():
    """The paths of all files of one training step, of `FOLDER` or, if it has none, those here."""
    return next((found for folder in (FOLDER, OWN) if (found := sorted((folder / "training").glob("*.npz")))), [])
