"""Streams that go on in another server: their states, and the names by which they are found."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from helpers import LIMIT_S, run_visolo
from loopback_servers import mjpeg_server
from serving import serving, until
from visolo_core.instances import Instances
from visolo_runtime.serving.client import watch
from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.service import ServiceOptions
from visolo_runtime.serving.states import StateFolder, keep_in
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.clip import Clip, SourceFrame
from visolo_runtime.video.frames import Picture
from visolo_runtime.video.sample_clip import sample_frames


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime")


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path)


def track(
    model: Model, pictures: list[Picture], folder: StateFolder, saved: bytes | None = None
) -> tuple[list[Instances], list[str]]:
    """What a hub finds in a live stream that stands still at the end, and its notices."""
    goes_on = threading.Event()

    def play() -> Iterator[SourceFrame]:
        for number, picture in enumerate(pictures):
            yield SourceFrame(picture, number / 25)
        goes_on.wait(LIMIT_S)

    found: list[Instances] = []
    with Hub(model, 2, keep=keep_in(folder, pytest.fail)) as hub:
        clip = Clip(1, "camera", play, live=True)
        stream = hub.add(clip, policy="all", source="rtsp://camera/", saved=saved)
        hub.listen(stream, lambda _, frame: found.append(frame.instances) if frame else None)
        until(lambda: stream.frames == len(pictures), "frames are missing")
    goes_on.set()
    return found, list(stream.notices)


def test_tracks_go_on_in_the_next_server(model: Model, folder: StateFolder) -> None:
    pictures = list(sample_frames(24, 96, 160))
    session = model.session()
    expected = [session.step(picture) for picture in pictures]
    assert sum(map(len, expected)) > 24
    first, _ = track(model, pictures[:11], folder)
    saved = folder.take("rtsp://camera/")
    second, notices = track(model, pictures[11:], folder, saved)
    assert notices == []
    for ours, theirs in zip([*first, *second], expected, strict=True):
        assert ours.frame == theirs.frame
        for name in ("tracker_id", "class_id", "confidence", "track_confidence", "masks"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("wrong", ["size", "bytes"])
def test_a_state_that_does_not_fit(model: Model, folder: StateFolder, wrong: str) -> None:
    height = 96 if wrong == "bytes" else 120
    track(model, list(sample_frames(5, 96, 160)), folder)
    saved = folder.take("rtsp://camera/") if wrong == "size" else b"PK\3\4"
    found, notices = track(model, list(sample_frames(5, height, 160)), folder, saved)
    (notice,) = notices
    assert notice.startswith("tracks begin anew, their state cannot be taken up: ")
    assert [each.frame for each in found] == list(range(5))


def test_a_state_is_taken_once_and_not_too_late(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, longest_s=60)
    folder.keep("gate", b"state")
    taken: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: taken.append(folder.take("gate"))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert taken.count(b"state") == 1
    assert taken.count(None) == 7
    folder.keep("gate", b"old")
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time() - 61, time.time() - 61))
    assert folder.take("gate") is None
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_cannot_be_written_is_reported(model: Model, tmp_path: Path) -> None:
    said: list[str] = []
    with Hub(model, 1) as hub:
        stream = hub.add(Clip(1, "gate", lambda: iter(()), live=True), source="rtsp://cam/1")
    keep_in(StateFolder(tmp_path / "gone"), said.append)(stream, b"")
    (text,) = said
    assert text.startswith("gate: its tracks are not kept, cannot write")


# -------------------------------------------------------------------------------------- names


def endless() -> Clip:
    def play() -> Iterator[SourceFrame]:
        (picture,) = sample_frames(1, 96, 160)
        for number in count():
            time.sleep(0.02)
            yield SourceFrame(picture, number / 50)

    return Clip(1, "camera", play, live=True)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that were opened; all of them are cameras."""
    sources: list[str] = []

    def open_source(source: str) -> list[Clip]:
        sources.append(source)
        return [endless()]

    monkeypatch.setattr("visolo_runtime.serving.service.open_source", open_source)
    return sources


def test_a_name_is_begun_once(model: Model, opened: list[str]) -> None:
    options = ServiceOptions(allowed_sources=("rtsp://*@cam/*", "rtsp://cam/*"))
    gate = {"source": "rtsp://user:secret@cam/1", "name": "gate"}
    with (
        serving(model, options=options) as served,
        httpx.Client(base_url=served.address) as client,
    ):
        first = client.post("/api/streams", json=gate)
        again = client.post("/api/streams", json={**gate, "source": "rtsp://other:words@cam/1"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["stream"] == again.json()["stream"]
        assert first.json()["name"] == "gate"
        other = client.post("/api/streams", json={**gate, "source": "rtsp://cam/2"})
        assert other.status_code == 409
        assert "has another source" in other.json()["error"]
        for wrong in ("7", "-gate", "a/b", "a" * 65):
            assert client.post("/api/streams", json={**gate, "name": wrong}).status_code == 422
        assert opened == [gate["source"]]
        assert client.get("/api/streams/gate").json()["stream"] == first.json()["stream"]
        assert client.get("/api/streams/gate1").status_code == 404
        with closing(watch(served.address, "gate")) as frames:
            assert len(list(islice(frames, 2))) == 2
        assert client.delete("/api/streams/gate").status_code == 204
        assert client.post("/api/streams", json=gate).status_code == 201
        assert len(opened) == 2


def test_a_server_takes_up_what_it_is_told_to_track(
    model: Model, opened: list[str], folder: StateFolder
) -> None:
    session = model.session(record=False)
    for picture in sample_frames(7, 96, 160):
        session.step(picture)
    folder.keep("gate", session.save())
    options = ServiceOptions(allowed_sources=("rtsp://*",), states=folder)
    with serving(model, options=options) as served:
        body = {"source": "rtsp://cam/1", "name": "gate"}
        assert httpx.post(f"{served.address}/api/streams", json=body).status_code == 201
        with closing(watch(served.address, "gate")) as frames:
            assert next(frames).frame >= 7
        assert list(folder.folder.iterdir()) == []
    assert len(list(folder.folder.iterdir())) == 1  # for the next one


def test_a_server_that_is_full_leaves_the_state_to_others(
    model: Model, opened: list[str], folder: StateFolder
) -> None:
    folder.keep("gate", b"state")
    options = ServiceOptions(allowed_sources=("rtsp://*",), states=folder)
    with serving(model, options=options, capacity=1) as served:
        served.hub.add(endless())
        body = {"source": "rtsp://cam/1", "name": "gate"}
        assert httpx.post(f"{served.address}/api/streams", json=body).status_code == 503
        assert folder.take("gate") == b"state"
    assert opened == ["rtsp://cam/1"]


# ------------------------------------------------------------------------------- the command


def serve(bundle: Path, states: Path, source: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "visolo", "serve", bundle, source),
            *("--port", "0", "--states", states, "--backend", "onnxruntime"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip().rstrip("/")


def test_a_server_that_is_ended_leaves_its_tracks(lite_bundle: Path, tmp_path: Path) -> None:
    pictures, states = tmp_path / "pictures", tmp_path / "states"
    pictures.mkdir()
    states.mkdir()
    for number, picture in enumerate(sample_frames(50, 96, 160)):
        Image.fromarray(picture).save(pictures / f"{number:03d}.jpg")
    with mjpeg_server(pictures, 25, 100_000) as camera:
        last = -1
        for _ in range(2):
            process, address = serve(lite_bundle, states, f"http://127.0.0.1:{camera.port}/")
            with process:
                with closing(watch(address, 1)) as frames:
                    numbers = [each.frame for each in islice(frames, 5)]
                assert numbers[0] > last
                last = numbers[-1]
                process.send_signal(signal.SIGTERM)
                assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
            (state,) = states.iterdir()
            assert re.fullmatch(r"stream-[0-9a-f]{32}\.state", state.name)


def test_a_folder_that_is_not_there(lite_bundle: Path, tmp_path: Path) -> None:
    outcome = run_visolo("serve", lite_bundle, "--states", tmp_path / "gone")
    assert outcome.status == 2
    assert "there is no folder" in outcome.err
