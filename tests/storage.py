"""A web server on this machine that serves a folder, and now and then misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    """A name with "cut" in it is cut off in the middle, "closed" needs a password, "slow" never comes to its end."""

    def do_GET(self) -> None:
        if "closed" in self.path:
            self.send_error(403)
        elif "cut" in self.path or "slow" in self.path:
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            if "slow" in self.path:
                self.wfile.flush()
                self.server.ending.wait(60)  # type: ignore[attr-defined]
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if "closed" in self.path:
            self.send_error(403)
        else:
            super().do_HEAD()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        server.daemon_threads = True
        server.ending = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.ending.set()  # type: ignore[attr-defined]
            server.shutdown()
