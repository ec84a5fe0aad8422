"""What the authors' own code computes. `FOLDER` is where it is read from: here, or where `ADAFOCUS_ORACLE` says."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("ADAFOCUS_ORACLE") or Path(__file__).parent).resolve()
