"""The decoding child: answers requests on its standard input with messages on its standard output.

Run as `python -m adafocus_cli.video.server PARENT_PID MEMORY_BYTES`. Whatever a decoder does here (crash, hang, print,
eat memory), the program that started it goes on. Knows nothing of models; loads decoders when the first file comes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import asdict
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO

from adafocus_cli.video import wire

if TYPE_CHECKING:
    import numpy as np

    from adafocus_cli.video import Decoder
    from adafocus_cli.video.decode import KeptSources, Video
    from adafocus_cli.video.limits import Limits

_Key = tuple[str, "Decoder"]

# Open videos kept for further requests.
KEPT = 8
_PR_SET_PDEATHSIG = 1


def main() -> None:
    serve(DecodeServer())


def serve(server: DecodeServer) -> None:
    """Answers the requests of the process that started this one, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    requests, answers = _take_protocol()
    parent, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)
    _bound(memory_bytes)
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(requests, inbox), daemon=True).start()
    wire.send(answers, {"ready": True})
    while True:
        header, payload = server.answer(inbox.get())
        wire.send(answers, header, payload)


class DecodeServer:
    """Answers requests; keeps the videos last used open."""

    def __init__(self) -> None:
        self._videos: OrderedDict[_Key, Video] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        from adafocus_cli.errors import AdaFocusError
        from adafocus_cli.video.limits import Limits, problem, stage_of, too_much_memory

        started = time.monotonic()
        stage, limits = stage_of(request["do"]), Limits(**request["limits"])
        try:
            header, payload = self._answer(request, limits)
        except AdaFocusError as error:
            return _reported(error, stage), b""
        except MemoryError:
            self._forget_all()
            return _reported(too_much_memory(request["name"], limits, stage), stage), b""
        except Exception as error:  # a decoder may raise anything
            self._forget(_key(request))
            if "failed to map segment" in str(error):  # a library did not fit into what is allowed
                return _reported(too_much_memory(request["name"], limits, stage), stage), b""
            text = (
                f"the decoder failed ({type(error).__name__}: {str(error)[:200]}); re-encode it, for instance as H.264"
            )
            return _reported(problem(request["name"], text, stage), stage), b""
        return {**header, "seconds": time.monotonic() - started}, payload

    def _answer(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        answers = {"open": self._open, "times": self._times, "frames": self._frames}
        answers |= {"keyframes": self._keyframes, "cuts": self._cuts, "clip": self._clip}
        answer = answers[request["do"]]
        try:
            return answer(request, limits)
        except MemoryError:
            others = len(self._videos) > 1
            self._forget_all()
            if not others:
                raise
        return answer(request, limits)  # now that it is alone

    def _open(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        self._forget(_key(request))
        video = self._video(request, limits, "open")
        return {"info": asdict(video.info), "warnings": list(video.warnings)}, b""

    def _times(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        return {}, self._video(request, limits, "decode").times().tobytes()

    def _frames(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        from adafocus_cli.video.framing import Framing
        from adafocus_cli.video.limits import Deadline

        deadline = Deadline(request["name"], limits, "decode")
        video = self._video(request, limits, "decode")
        pictures = video.frames(
            request["indices"],
            framing=Framing(**request["framing"]),
            deadline=deadline,
            later=request["later"],
            keep=partial(self._sources.add, _key(request)) if request["keep_source"] else None,
        )
        header = {
            "times": pictures.times,
            "replaced": pictures.replaced,
            "damaged": sorted(pictures.damaged),
            "decoder": pictures.decoder,
        }
        return header, pictures.pixels.tobytes()

    def _keyframes(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        return {"keyframes": self._video(request, limits, "decode").keyframes_near(request["near"])}, b""

    def _cuts(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        from adafocus_cli.video.limits import Deadline
        from adafocus_cli.video.pictures import cut_looks
        from adafocus_cli.video.sampling import Look

        key, deadline = _key(request), Deadline(request["name"], limits, "decode")

        def source(frame: int) -> np.ndarray:
            """What was kept, even of a video that is no longer open; else it is decoded again."""
            kept = self._sources.get(key, frame)
            return self._video(request, limits, "decode").source(frame, deadline=deadline) if kept is None else kept

        looks = [Look(frame, (*box,), request["size"]) for frame, *box in request["looks"]]
        return {}, cut_looks(looks, source).tobytes()

    def _clip(self, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
        from adafocus_cli.video.clips import write_clip
        from adafocus_cli.video.limits import Deadline

        times = {name: request[name] for name in ("start", "end")}
        deadline = Deadline(request["name"], limits, "decode")
        ending = write_clip(request["path"], request["target"], name=request["name"], **times, deadline=deadline)
        return {"ending": ending}, b""

    def _video(self, request: dict[str, Any], limits: Limits, stage: Any) -> Video:
        from adafocus_cli.video.decode import open_video
        from adafocus_cli.video.limits import Deadline

        key, name = _key(request), request["name"]
        if key not in self._videos:
            while len(self._videos) >= KEPT:
                self._videos.popitem(last=False)[1].close()
            deadline = Deadline(name, limits, stage)
            how = {"decoder": key[1], "threads": request["threads"]}
            self._videos[key] = open_video(key[0], name=name, **how, limits=limits, deadline=deadline)
        self._videos.move_to_end(key)
        return self._videos[key]

    @cached_property
    def _sources(self) -> KeptSources:
        from adafocus_cli.video.decode import KeptSources

        return KeptSources()

    def _forget(self, key: _Key) -> None:
        self._sources.forget(key)
        video = self._videos.pop(key, None)
        if video is not None:
            video.close()

    def _forget_all(self) -> None:
        for key in list(self._videos):
            self._forget(key)
        self._sources.clear()


def _key(request: dict[str, Any]) -> _Key:
    return request["path"], request["decoder"]


def _reported(error: Exception, stage: str) -> dict[str, Any]:
    return {"error": str(error), "stage": getattr(error, "stage", stage), "type": type(error).__name__}


def _take_protocol() -> tuple[BinaryIO, BinaryIO]:
    """Moves the protocol away from where libraries print, and silences them unless they are asked for."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    if os.environ.get(wire.LOG_VARIABLE) == "1":
        os.dup2(2, 1)
    else:
        os.dup2(silence, 1)
        os.dup2(silence, 2)
    os.close(silence)
    return requests, answers


def _listen(requests: BinaryIO, inbox: queue.Queue[dict[str, Any]]) -> None:
    """Ends the process as soon as the parent has gone, even in the middle of a frame."""
    with contextlib.suppress(Exception):
        while True:
            inbox.put(wire.receive(requests)[0])
    os._exit(0)


def _die_with(parent: int) -> None:
    """Linux kills this process when its parent dies; elsewhere the closed pipe ends it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that took effect
        os._exit(0)


def _bound(memory_bytes: int) -> None:
    """Bounds the address space, and leaves no core files behind."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    main()
