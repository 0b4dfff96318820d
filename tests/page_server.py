"""A server of a page's folder on the loopback, and of the frames of clips for its worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = Sequence[NDArray[np.uint8]]
_CLIP, _RESULT = "/clip/", "/result/"


class PageServer(ThreadingHTTPServer):
    """Serves a folder, ``/clip/N`` (frame N as RGBA), and keeps what is posted to ``/result/N``."""

    def __init__(self, folder: Path) -> None:
        handler: Callable[..., Any] = partial(_Handler, directory=str(folder))
        super().__init__(("127.0.0.1", 0), handler)
        self.clip: Frames = ()
        self.results: dict[int, bytes] = {}

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(SimpleHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        if not self.path.startswith(_CLIP):
            super().do_GET()
            return
        frame = self.server.clip[int(self.path.removeprefix(_CLIP))]
        opaque = np.full((*frame.shape[:2], 1), 255, np.uint8)
        self._answer(np.concatenate([frame, opaque], axis=2).tobytes())

    def do_POST(self) -> None:
        number = int(self.path.removeprefix(_RESULT))
        self.server.results[number] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test's output is its own."""


@contextmanager
def served(folder: Path) -> Iterator[PageServer]:
    """The folder, served until the end of the block."""
    server = PageServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
