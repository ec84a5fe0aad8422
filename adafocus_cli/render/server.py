"""The child's side of rendering: one video, a part of it for each request.

Run as `python -m adafocus_cli.render.server PARENT_PID MEMORY_BYTES`, with the limits and the protocol of the child
that decodes; but it also writes files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adafocus_cli.video.server import DecodeServer, serve

if TYPE_CHECKING:
    from adafocus_cli.render.rendering import Rendering
    from adafocus_cli.video.limits import Limits


class RenderServer(DecodeServer):
    def __init__(self) -> None:
        super().__init__()
        self._rendering: Rendering | None = None

    def _answer(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        from adafocus_cli.render.rendering import Rendering, RenderJob
        from adafocus_cli.video.limits import Deadline, stage_of

        deadline = Deadline(request["name"], limits, stage_of(request["do"]))
        if self._rendering is None:
            self._rendering = Rendering(RenderJob(**request["job"]), request["path"], request["name"], limits, deadline)
        else:
            self._rendering.go_on(deadline)
        return {"done": self._rendering.done, "total": self._rendering.total, "over": self._rendering.over}, b""


if __name__ == "__main__":
    serve(RenderServer())
