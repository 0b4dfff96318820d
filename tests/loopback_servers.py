"""Servers of video on this machine, each a process that can be killed, frozen and begun again."""

from __future__ import annotations

import functools
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LIMIT_S = 30.0
_RTSP_SCRIPT = Path(__file__).parent / "rtsp_server.py"
_DEBIAN_PYTHON = "/usr/bin/python3"  # GStreamer's Python modules are Debian's


class Server:
    """A server at a port of its own. Use it in a ``with`` block.

    Args:
        command: runs it; the port follows.
    """

    def __init__(self, *command: object) -> None:
        self.port = _free_port()
        self._command = [str(each) for each in command]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, or begin again, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            [*self._command, str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        limit = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"the server did not begin: {self._command}")

    def freeze(self) -> None:
        """Let it stand still, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_LIMIT_S)
            self._process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def file_server(folder: Path, bytes_per_s: int = 0, ranges: bool = True) -> Server:
    """Files by HTTP, at full speed or slowly, in parts or only from their beginnings."""
    return Server(sys.executable, __file__, "files", folder, bytes_per_s, int(ranges))


def mjpeg_server(folder: Path, fps: float, frames: int) -> Server:
    """Pictures of a folder as an endless multipart answer that ends after some frames."""
    return Server(sys.executable, __file__, "mjpeg", folder, fps, frames)


def hls_server(folder: Path, ends_after: int) -> Server:
    """A playlist of the last three segments; complete and finished after some seconds; 0 never."""
    return Server(sys.executable, __file__, "hls", folder, ends_after)


def rtsp_server(
    fps: int = 10, width: int = 160, height: int = 96, transport: str = "any"
) -> Server:
    """A camera at ``/cam``, of Debian's GStreamer."""
    return Server(_DEBIAN_PYTHON, _RTSP_SCRIPT, fps, width, height, transport)


def has_rtsp_server() -> bool:
    """Whether :func:`rtsp_server` works here."""
    if shutil.which(_DEBIAN_PYTHON) is None:
        return False
    answer = subprocess.run(
        [_DEBIAN_PYTHON, str(_RTSP_SCRIPT), "--check"], capture_output=True, check=False
    )
    return answer.returncode == 0


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


# ------------------------------------------------------------------ inside the servers' processes


class _Files(SimpleHTTPRequestHandler):
    """Files with byte ranges, as web servers have them and Python's own has not."""

    def __init__(self, *given: object, bytes_per_s: int, ranges: bool, **named: object) -> None:
        self._bytes_per_s, self._ranges = bytes_per_s, ranges
        super().__init__(*given, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range") if self._ranges else None
        begin = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if self._ranges:
            self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        step = max(1, self._bytes_per_s // 20) if self._bytes_per_s else len(content)
        for at in range(begin, len(content), step):
            self.wfile.write(content[at : at + step])
            if self._bytes_per_s:
                time.sleep(1 / 20)

    def log_message(self, *_: object) -> None:
        pass


class _Mjpeg(BaseHTTPRequestHandler):
    def __init__(self, *given: object, pictures: Sequence[bytes], fps: float, frames: int) -> None:
        self._pictures, self._fps, self._frames = pictures, fps, frames
        super().__init__(*given)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self._frames):
            picture = self._pictures[min(number, len(self._pictures) - 1)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")
            time.sleep(1 / self._fps)

    def log_message(self, *_: object) -> None:
        pass


class _Hls(SimpleHTTPRequestHandler):
    """``live.m3u8`` grows with the time since the server began."""

    def __init__(self, *given: object, began: float, ends_after: int, **named: object) -> None:
        self._began, self._ends_after = began, ends_after
        super().__init__(*given, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if not self.path.startswith("/live.m3u8"):
            super().do_GET()
            return
        lengths: dict[str, float] = json.loads((Path(self.directory) / "segments.json").read_text())
        passed, done = time.monotonic() - self._began, []
        begins = 0.0
        for name, length in lengths.items():
            # The first three are there from the beginning.
            if begins - sum(list(lengths.values())[:2]) <= passed:
                done.append(name)
            begins += length
        over = self._ends_after and passed > self._ends_after
        shown = done[-3:]
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{len(done) - len(shown)}"]
        for name in shown:
            lines += [f"#EXTINF:{lengths[name]:.6f},", name]
        lines += ["#EXT-X-ENDLIST"] if over else []
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _serve(kind: str, folder: Path, *settings: str) -> None:
    *settings_before, port = settings
    handler: Callable[..., BaseHTTPRequestHandler]
    if kind == "files":
        bytes_per_s, ranges = map(int, settings_before)
        handler = functools.partial(
            _Files, directory=str(folder), bytes_per_s=bytes_per_s, ranges=bool(ranges)
        )
    elif kind == "hls":
        handler = functools.partial(
            _Hls, directory=str(folder), began=time.monotonic(), ends_after=int(settings_before[0])
        )
    else:
        pictures = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        fps, frames = float(settings_before[0]), int(settings_before[1])
        handler = functools.partial(_Mjpeg, pictures=pictures, fps=fps, frames=frames)
    threading.stack_size(1 << 20)
    ThreadingHTTPServer(("127.0.0.1", int(port)), handler).serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
