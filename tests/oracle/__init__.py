"""Reference data, and where it is: here, or in a folder of the same layout that ADAFOCUS_ORACLE names."""

import os
from pathlib import Path

FOLDER: Path = Path(os.environ.get("ADAFOCUS_ORACLE") or Path(__file__).parent)
