"""Processes of `adafocus` that need not load torch or decoders again: each is forked from one that has loaded them.

They have a session, signals, streams, a folder and an environment of their own, and end as any process does. What
depends on loading is not seen so: that takes a process that is started as users start it.

Their children that decode are forked, too, unless they have a session of their own, in which these can be found.

`python -m tests.forked SOCKET MODULES` is the process that has loaded modules and forks the others.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[1]
_SERVER = "ADAFOCUS_TESTS_FORK"
_MESSAGE = 1 << 18
_NUMBER = struct.Struct("=q")

TAGGING = ",".join(
    (
        *("tests.tiny", "adafocus_cli.cli.batch", "adafocus_cli.cli.classify", "adafocus_cli.cli.train"),
        *("adafocus_cli.cli.app", "adafocus_cli.cli.command", "adafocus_cli.output.table", "pydantic.type_adapter"),
        "adafocus_cli.runtime.openvino",
    )
)
"""Load what the command line, tagging and training load."""
DECODING = "adafocus_cli.video.pyav_reader"
"""Loads what a child that decodes does; without torch, for the memory of such children is bounded."""
_PARENT = "the parent"
_STREAMS = 3


class Forked:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[object],
        *,
        cwd: Path | str = ROOT,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        start_new_session: bool = False,
        loaded: str = TAGGING,
        server: socket.socket | None = None,
    ) -> None:
        """What `python -m module arguments` does."""
        ours: list[BinaryIO | None] = []
        theirs = []
        for number, wanted in enumerate((stdin, stdout, stderr)):
            if wanted == subprocess.PIPE:
                read, write = os.pipe()
                theirs.append(write if number else read)
                ours.append(os.fdopen(read, "rb") if number else os.fdopen(write, "wb"))
            else:
                nobody = wanted == subprocess.DEVNULL
                theirs.append(
                    os.open(os.devnull, os.O_RDWR) if nobody else os.dup(number if wanted is None else wanted)
                )
                ours.append(None)
        self.stdin, self.stdout, self.stderr = ours
        self.returncode: int | None = None
        self._status, status = os.pipe()
        weakref.finalize(self, os.close, self._status)  # not sooner: several threads may wait
        self._reading = threading.Lock()
        decoders = [] if loaded == DECODING or start_new_session else [_server(DECODING).fileno()]
        request = {
            "module": module,
            "arguments": [*map(str, arguments)],
            "folder": str(cwd),
            "environment": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        try:
            socket.send_fds(server or _server(loaded), [json.dumps(request).encode()], [*theirs, status, *decoders])
        finally:
            for each in (*theirs, status):
                os.close(each)
        self.pid = self._next_number()

    def _next_number(self) -> int:
        content = os.read(self._status, _NUMBER.size)
        if not content:
            raise ChildProcessError("the process that forks the others is gone")
        return int(_NUMBER.unpack(content)[0])

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            with self._reading:
                if self.returncode is None:
                    self.returncode = os.waitstatus_to_exitcode(self._next_number())
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: bytes = b"", *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What is left to be read; of a process that does not end in time, nothing is."""
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(stream.read) if stream else None for stream in (self.stdout, self.stderr)]
            if self.stdin is not None:
                with contextlib.suppress(BrokenPipeError), self.stdin:
                    self.stdin.write(given)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, err = (each.result() if each else b"" for each in reading)
        return out, err


def start_child(
    command: Sequence[str], *, server: socket.socket | None = None, **options: Any
) -> Forked | subprocess.Popen[bytes]:
    """Stands in for `subprocess.Popen` where a child that decodes is started."""
    python, *rest = command
    if (python, rest[0]) != (sys.executable, "-m") or options["pass_fds"]:
        return subprocess.Popen(command, **options)
    _, module, parent, *more = rest
    assert parent == str(os.getpid())
    del options["pass_fds"]
    return Forked(module, [_PARENT, *more], loaded=DECODING, server=server, **options)


@cache
def _server(loaded: str) -> socket.socket:
    """The way to the process that forks the others, which ends with this one."""
    if _SERVER in os.environ:  # in a command of a shell
        return socket.socket(fileno=int(os.environ[_SERVER].split(",")[loaded == DECODING]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked", str(theirs.fileno()), loaded],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
    atexit.register(process.wait, 10)
    atexit.register(ours.close)
    return ours


def shell(script: str, *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a script of bash in which `adafocus` is forked, too."""
    servers = [_server(loaded).fileno() for loaded in (TAGGING, DECODING)]
    environment = {**os.environ, _SERVER: ",".join(map(str, servers))}
    environment["PATH"] = f"{_command_folder()}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", script],
        env=environment,
        pass_fds=servers,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


@cache
def _command_folder() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    command = folder / "adafocus"
    command.write_text(f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.forked import Forked
code = Forked("adafocus_cli", sys.argv[1:], cwd=os.getcwd()).wait()
sys.exit(code if code >= 0 else 128 - code)
""")
    command.chmod(0o755)
    return folder


# Below: in the process that forks the others.


def _serve(connection: socket.socket) -> None:
    """Returns in each process that it forked, which has only to run what it was told to."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 5)
        if not message:
            os._exit(0)
        if not os.fork():
            connection.close()
            child = os.fork()
            if not child:
                return _become(json.loads(message), descriptors)
            status = descriptors.pop(_STREAMS)
            for each in descriptors:
                os.close(each)
            os.write(status, _NUMBER.pack(child))
            with contextlib.suppress(BrokenPipeError):
                os.write(status, _NUMBER.pack(os.waitpid(child, 0)[1]))
            os._exit(0)
        for each in descriptors:
            os.close(each)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _become(request: dict[str, object], descriptors: list[int]) -> None:
    streams, (status, *decoders) = descriptors[:_STREAMS], descriptors[_STREAMS:]
    os.close(status)
    if decoders:
        _server_of_decoders(decoders[0])
    if request["session"]:
        os.setsid()
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [str(request["module"]), *request["arguments"]]
    if _PARENT in sys.argv:
        sys.argv[sys.argv.index(_PARENT)] = str(os.getppid())


def _server_of_decoders(descriptor: int) -> None:
    """Has this process fork its children that decode, too."""
    from adafocus_cli.video.process import VideoProcess

    connection = socket.socket(fileno=descriptor)
    VideoProcess._start_child = staticmethod(partial(start_child, server=connection))


def _end(code: int) -> None:
    """What the end of a process does, but for clearing away every module, which takes longer than most commands do."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    for name in sys.argv[2].split(","):
        importlib.import_module(name)
    gc.freeze()  # else each of the others copies what is collected in it
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            _end(end.code)
        raise
