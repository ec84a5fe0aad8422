"""Servers of live video on this machine: HTTP that comes in pieces and breaks off, and RTSP, to which ffmpeg sends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def ffmpeg(*arguments: object) -> subprocess.Popen[bytes]:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveServer:
    """Streams bytes without saying how many; each connection gets what `answers` has for it, the last one again.

    An answer is what is sent, and what then: "close" the connection, or say nothing more ("hang"). None refuses.
    """

    def __init__(self, answers: list[tuple[bytes, str] | None]) -> None:
        self._answers = answers
        self.connections = 0
        self.ending = threading.Event()

    def answer(self) -> tuple[bytes, str] | None:
        place = min(self.connections, len(self._answers) - 1)
        self.connections += 1
        return self._answers[place]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        live: LiveServer = self.server.live  # type: ignore[attr-defined]
        answer = live.answer()
        if answer is None:
            self.send_error(503)
            return
        self.send_response(200)
        self.end_headers()
        content, then = answer
        with suppress(OSError):
            self.wfile.write(content)
            if then == "hang":
                live.ending.wait(60)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def streamed(*answers: tuple[bytes, str] | None) -> Iterator[tuple[str, LiveServer]]:
    """The address of a stream over HTTP, and its server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        live = server.live = LiveServer(list(answers))  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/live.ts", live
        finally:
            live.ending.set()
            server.shutdown()


class _Rtsp:
    """One side of an RTSP connection: requests with their headers and bodies."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file = connection.makefile("rb")

    def request(self) -> tuple[str, dict[str, str], bytes]:
        first = self.file.readline().decode()
        if not first:
            raise EOFError
        headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return first.split()[0], headers, self.file.read(int(headers.get("content-length", 0)))

    def reply(self, headers: dict[str, str], body: bytes = b"", **more: str) -> None:
        lines = {"CSeq": headers["cseq"], "Session": "1", **more}
        if body:
            lines |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.connection.sendall(f"RTSP/1.0 200 OK\r\n{text}\r\n".encode() + body)


@contextmanager
def rtsp_served(clip: Path) -> Iterator[str]:
    """The address of a clip that ffmpeg sends, twice as fast as it is shown, from the moment that someone plays it."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    sender: list[subprocess.Popen[bytes]] = []
    sender_is_there = threading.Event()  # a player that came before would be taken for it

    def serve() -> None:
        with suppress(OSError, EOFError):
            sender.append(
                ffmpeg(
                    "-readrate",
                    2,
                    "-i",
                    clip,
                    "-c",
                    "copy",
                    "-f",
                    "rtsp",
                    "-rtsp_transport",
                    "tcp",
                    f"rtsp://127.0.0.1:{port}/in",
                )
            )
            source = _Rtsp(listener.accept()[0])
            sender_is_there.set()
            description, ready = b"", False
            while not ready:
                method, headers, body = source.request()
                description = body or description
                if method == "RECORD":
                    ready, record = True, headers
                else:
                    source.reply(headers, Transport=headers.get("transport", ""))
            player = _Rtsp(listener.accept()[0])
            playing = False
            while not playing:
                method, headers, _ = player.request()
                playing = method == "PLAY"
                body = description if method == "DESCRIBE" else b""
                player.reply(headers, body, Transport=headers.get("transport", ""))
            source.reply(record)
            while (piece := source.file.read1(1 << 16)) and not piece.startswith(b"TEARDOWN"):
                player.connection.sendall(piece)
            player.connection.close()
            source.connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        assert sender_is_there.wait(60)
        yield f"rtsp://127.0.0.1:{port}/live"
    finally:
        listener.close()
        for process in sender:
            process.kill()
            process.wait()


@contextmanager
def udp_sent(clip: Path, *, rate: float) -> Iterator[str]:
    """The address to which a clip is sent, so many times as fast as it is shown, a moment after it was given."""
    port = free_port(socket.SOCK_DGRAM)
    sender: list[subprocess.Popen[bytes]] = []

    def send() -> None:
        time.sleep(2.0)  # until somebody listens
        address = f"udp://127.0.0.1:{port}?pkt_size=1316"
        sender.append(ffmpeg("-readrate", rate, "-i", clip, "-c", "copy", "-f", "mpegts", address))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield f"udp://127.0.0.1:{port}"
    finally:
        thread.join()
        for process in sender:
            process.kill()
            process.wait()
