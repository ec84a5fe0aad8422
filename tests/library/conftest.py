"""A home of its own for every test, a server on this machine that misbehaves as told, and a tiny model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adafocus_cli.cli.app import run
from adafocus_cli.library import download
from adafocus_cli.library.store import ModelStore
from adafocus_cli.spec import ModelSpec, Network

Answer = Callable[[BaseHTTPRequestHandler], None]

TINY = ModelSpec(
    family="adafocus-v1",
    classes=5,
    frame_size=64,
    glance_frames=2,
    focus_frames=2,
    glance=Network("mobilenet_v2", 64, 0.25),
    focus=Network("resnet18", 32, 0.125),
    policy_channels=4,
    policy_width=8,
    classifier_width=8,
)


class Server:
    """Answers by path, and keeps what was asked: (path, Range header)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range")))
                self.close_connection = True
                with suppress(ConnectionError):  # the client may have seen enough
                    server.answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}{path}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """A whole answer; `headers` are given with _ for -, and may lie about the length."""
    handler.send_response(status)
    values = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
    for key, value in values.items():
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(body)


def file(content: bytes, *, etag: str = '"1"', break_after: int | None = None, ranges: bool = True) -> Answer:
    """A well-behaved file; the first request may break off."""
    requests = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal requests
        requests += 1
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        body = content[start:]
        headers = {"Content_Length": str(len(body)), "ETag": etag}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if requests == 1 and break_after is not None:
            body = body[:break_after]
        reply(handler, 206 if start else 200, body, **headers)

    return answer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAFOCUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> ModelStore:
    return ModelStore(home)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of our own, of a tiny model with weights that mean nothing."""
    import torch

    from adafocus_cli import weights_file
    from adafocus_cli.models import build

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    about = weights_file.About(spec=TINY, labels=("a", "b", "c", "d", "e"), labels_source="made up")
    with path.open("wb") as target:
        weights_file.write(target, about, build(TINY).state_dict())
    return path


@pytest.fixture
def catalogue_file(tmp_path: Path, server: Server) -> Path:
    """A list with one model, `tiny`, on the server at /tiny.safetensors."""
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "groups:\n"
        "  - family: adafocus-v1\n"
        "    page: https://example.org/models\n"
        "    models:\n"
        f"      - {{name: tiny, file: tiny.safetensors, url: '{server.url('/tiny.safetensors')}'}}\n"
    )
    return path


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        (line,) = [line for line in self.err.splitlines() if line]
        assert line.startswith("adafocus: error: ")
        return line.removeprefix("adafocus: error: ")


@pytest.fixture
def adafocus(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def invoke(*arguments: object) -> Outcome:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return invoke


@pytest.fixture
def pull(adafocus: Callable[..., Outcome], catalogue_file: Path) -> Callable[..., Outcome]:
    return lambda *options: adafocus("models", "pull", "tiny", "--catalogue", catalogue_file, *options)
