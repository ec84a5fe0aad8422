"""One thread: models as small as these are quicker so, above all on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.cli.conftest import adafocus  # noqa: F401 (a fixture)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
