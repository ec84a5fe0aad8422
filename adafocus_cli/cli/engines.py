"""Who tags the videos of a batch: this process, or workers on a Ray cluster.

Knows of either only what to give it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.errors import UsageError
from adafocus_cli.requests import ModelRequest, TagRequest

if TYPE_CHECKING:
    from adafocus_cli.engine.windows import Watch
    from adafocus_cli.schema import Result
    from adafocus_cli.tagger import ClipTagger

PANEL = "Engine"

Name = Literal["local", "ray"]
NameOption = Annotated[
    Name,
    typer.Option("--engine", rich_help_panel=PANEL, help="Who tags: this process, or workers on a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        rich_help_panel=PANEL,
        help="The Ray cluster to join, auto for the one that this machine is in; else one is started here.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        show_default="as many as cores",
        rich_help_panel=PANEL,
        help="How many videos are decoded at a time; with Ray, how many workers, else one for each GPU or core.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Engine:
    name: Name
    address: str | None
    workers: int | None

    def __post_init__(self) -> None:
        if self.address is not None and self.name != "ray":
            raise UsageError(f"--address {self.address} is of a Ray cluster; add --engine ray")
        if self.name == "ray":
            from adafocus_cli.engine.cluster import library

            library()  # before anything is done, and waited for

    def load(self, model: ModelRequest) -> ClipTagger:
        """The tagger; for a cluster, one that only says what it is."""
        from adafocus_cli.tagger import ClipTagger

        if self.name == "local":
            return ClipTagger.of(model)
        return ClipTagger.of(replace(model, device="cpu", precision="auto", runtime="torch"))

    def precision(self, model: ModelRequest, tagger: ClipTagger) -> str:
        """What will be calculated with; `auto` is the same everywhere."""
        if self.name == "local" or model.precision == "auto":
            return tagger.runtime.precision
        return model.precision

    def tag(
        self,
        paths: Iterable[str],
        tagger: ClipTagger,
        model: ModelRequest,
        request: TagRequest,
        stop: threading.Event,
        *,
        watch: Watch | None = None,
    ) -> Generator[Result]:
        """Results as they come; `watch` hears of windows that are done here, not of those on a cluster."""
        if self.name == "local":
            from adafocus_cli.engine.local import tag_as_they_come

            return tag_as_they_come(paths, tagger, request, stop=stop, watch=watch)
        from adafocus_cli.engine.cluster import tag_on_cluster
        from adafocus_cli.engine.worker import Setup
        from adafocus_cli.library.store import find_model
        from adafocus_cli.runtime.pytorch import ACCELERATOR_LANES

        file = find_model(model.name_or_file)
        setup = Setup(
            model=replace(model, source=file.name, labels=tuple(tagger.labels.names)),
            sha256=tagger.model.sha256,
            request=replace(request, exits=tagger.exit_rule(request), max_gmacs=None),
        )
        lanes = None if model.device in ("cpu", "mps") else model.batch_size or ACCELERATOR_LANES
        return tag_on_cluster(paths, setup, file, address=self.address, workers=self.workers, lanes=lanes, stop=stop)
