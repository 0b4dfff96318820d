"""Several servers behind nginx, as docker/serve/nginx-router.conf has it: a stream is found by its
name, stays where it is, and goes on in another server when its own goes away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count, islice
from pathlib import Path

import httpx
import pytest

import skips
from helpers import LIMIT_S
from serving import Serving, serving, until
from visolo_runtime.serving.client import watch
from visolo_runtime.serving.service import ServiceOptions
from visolo_runtime.serving.states import StateFolder
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.video.sample_clip import sample_frames

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docker/serve/nginx-router.conf"
KEEPER = ROOT / "docker/serve/keep_streams.py"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
NAMES = [f"gate-{number}" for number in range(16)]
_MAIN = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/router.conf;
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason=skips.NO_NGINX)


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime")


@pytest.fixture(autouse=True)
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sources are cameras with frames without an end."""
    pictures = list(sample_frames(60, 96, 160))

    def play() -> Iterator[SourceFrame]:
        for number in count():
            time.sleep(0.1)
            yield SourceFrame(pictures[number % 60], number / 10)

    def open_source(_: str) -> list[Clip]:
        return [Clip(1, "camera", play, live=True)]

    monkeypatch.setattr("visolo_runtime.serving.service.open_source", open_source)


@contextmanager
def router(folder: Path, *servers: int) -> Iterator[str]:
    """nginx in front of servers; its address."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    text = CONFIGURATION.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    for shown, ours in zip((8765, 8766), servers, strict=True):
        assert f"server 127.0.0.1:{shown} " in text
        text = text.replace(f"127.0.0.1:{shown} ", f"127.0.0.1:{ours} ")
    (folder / "router.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    with subprocess.Popen(
        [str(NGINX), "-e", folder / "errors", "-c", folder / "nginx.conf"]
    ) as nginx:
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: _answers(address), "nginx did not begin")
            yield address
        finally:
            nginx.terminate()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 404
    except httpx.TransportError:
        return False


def ask_for_all(address: str, folder: Path) -> str:
    """One round of the keeper; what it complains of."""
    (folder / "cameras.txt").write_text("".join(f"{name} rtsp://{name}/\n" for name in NAMES))
    command: list[str | Path] = [sys.executable, KEEPER, address, folder / "cameras.txt"]
    command += ["--rounds", "1"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return outcome.stderr


def names_at(server: Serving) -> set[str]:
    return {each.name for each in server.hub.streams() if not each.over}


def test_streams_stay_and_move(model: Model, tmp_path: Path) -> None:
    states = StateFolder(tmp_path / "states")
    states.folder.mkdir()
    options = ServiceOptions(allowed_sources=("rtsp://*",), states=states)
    with ExitStack() as stack:
        first_stack = stack.enter_context(ExitStack())
        first = first_stack.enter_context(serving(model, options=options, capacity=16))
        second = stack.enter_context(serving(model, options=options, capacity=16))
        address = stack.enter_context(router(tmp_path, first.port, second.port))
        assert ask_for_all(address, tmp_path) == ""
        at_first, at_second = names_at(first), names_at(second)
        assert at_first | at_second == set(NAMES)
        assert at_first
        assert at_second
        assert not at_first & at_second
        assert ask_for_all(address, tmp_path) == ""  # they are there already
        assert (names_at(first), names_at(second)) == (at_first, at_second)
        moved, stays = min(at_first), min(at_second)
        assert "visolo" in httpx.get(f"{address}/s/{moved}/").text
        told = httpx.get(f"{address}/s/{moved}/api/streams/{moved}").json()
        assert told.get("name") == moved, told
        with closing(watch(f"{address}/s/{moved}", moved)) as frames:
            last = [each.frame for each in islice(frames, 3)][-1]
        before = second.hub.find(second.service.number_of(stays))
        first_stack.close()  # with its states
        assert ask_for_all(address, tmp_path) == ""
        assert names_at(second) == set(NAMES)
        with closing(watch(f"{address}/s/{moved}", moved)) as frames:
            assert next(frames).frame > last
        assert second.hub.find(second.service.number_of(stays)) is before
        assert httpx.get(f"{address}/api/streams").status_code == 404


def test_a_stream_that_nobody_asks_for_ends(model: Model, tmp_path: Path) -> None:
    options = ServiceOptions(allowed_sources=("rtsp://*",), states=StateFolder(tmp_path))
    with serving(model, options=options) as served:
        body = {"source": "rtsp://a/", "name": "gate", "lease_s": 1}
        begin = time.monotonic()
        assert httpx.post(f"{served.address}/api/streams", json=body).status_code == 201
        stream = served.hub.find(served.service.number_of("gate"))
        assert stream is not None
        time.sleep(0.6)
        assert httpx.post(f"{served.address}/api/streams", json=body).status_code == 200
        until(lambda: stream.over, "it goes on")
        assert time.monotonic() - begin > 1.5
        assert stream.reason == "nobody asked for it any longer"
        assert len(list(tmp_path.iterdir())) == 1
        body["lease_s"] = 0
        assert httpx.post(f"{served.address}/api/streams", json=body).status_code == 422
