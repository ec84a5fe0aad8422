"""Who tags the videos of a batch: this process, or workers on a Ray cluster.

Knows of either only what to give it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adafocus_cli.cli.options import ModelChoice
from adafocus_cli.errors import UsageError

if TYPE_CHECKING:
    from adafocus_cli.engine.local import Options
    from adafocus_cli.engine.windows import Watch
    from adafocus_cli.schema import Result
    from adafocus_cli.tagger import Tagger

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

    def load(self, choice: ModelChoice) -> Tagger:
        """The tagger; for a cluster, one that only says what it is."""
        if self.name == "local":
            return choice.load()
        return replace(choice, device="cpu", precision="auto", runtime="torch").load()

    def precision(self, choice: ModelChoice, tagger: Tagger) -> str:
        """What will be calculated with; `auto` is the same everywhere."""
        if self.name == "local" or choice.precision == "auto":
            return tagger.runtime.precision
        return choice.precision

    def tag(
        self,
        paths: Iterable[str],
        tagger: Tagger,
        choice: ModelChoice,
        options: Options,
        stop: threading.Event,
        *,
        watch: Watch | None = None,
    ) -> Generator[Result]:
        """Results as they come; `watch` hears of windows that are done here, not of those on a cluster."""
        if self.name == "local":
            from adafocus_cli.engine.local import tag_as_they_come

            return tag_as_they_come(paths, tagger, options, stop=stop, watch=watch)
        from adafocus_cli.engine.cluster import tag_on_cluster
        from adafocus_cli.engine.worker import Setup
        from adafocus_cli.library.store import find_model
        from adafocus_cli.runtime.pytorch import ACCELERATOR_LANES

        file = find_model(choice.source)
        setup = Setup(
            file_name=file.name,
            sha256=tagger.model.sha256,
            patch_size=choice.patch_size,
            views=choice.views,
            labels=tuple(tagger.labels.names),
            device=choice.device,
            precision=choice.precision,
            batch_size=choice.batch_size,
            runtime=choice.runtime,
            options=replace(options, exits=None, max_gmacs=None),
            rule=tagger.exit_rule(options.exits, options.max_gmacs),
        )
        lanes = None if choice.device in ("cpu", "mps") else choice.batch_size or ACCELERATOR_LANES
        return tag_on_cluster(paths, setup, file, address=self.address, workers=self.workers, lanes=lanes, stop=stop)
