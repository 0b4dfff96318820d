"""The server: streams, viewers, visitors, recordings, and who is let in."""

from __future__ import annotations

import asyncio
import io
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets import Origin
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import visolo_runtime.serving.running as running
from clips import write_video
from helpers import LIMIT_S
from serving import Serving, serving, until
from visolo_core.errors import VisoloError
from visolo_runtime.serving.app import until_first
from visolo_runtime.serving.client import watch
from visolo_runtime.serving.guard import Guard
from visolo_runtime.serving.service import ServiceOptions
from visolo_runtime.serving.visitor import HEADER, IN_FLIGHT
from visolo_runtime.serving.wire import decode_frame
from visolo_runtime.session.loading import Model, load
from visolo_runtime.sources.clip import Clip, SourceFrame, at_constant_rate
from visolo_runtime.sources.opening import open_source
from visolo_runtime.video.sample_clip import sample_frames


@pytest.fixture(scope="module")
def model(lite_bundle: Path) -> Model:
    return load(lite_bundle, "onnxruntime")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("served") / "film.mp4", frames=12)


def camera(frames: int, pause: float = 0.02) -> Clip:
    def play() -> Iterator[SourceFrame]:
        for number, picture in enumerate(sample_frames(frames, 96, 160)):
            time.sleep(pause)
            yield SourceFrame(picture, number * pause)

    return Clip(1, "camera", play, live=True)


def socket_to(served: Serving, path: str, origin: str | None = None) -> ClientConnection:
    address = f"ws://127.0.0.1:{served.port}{path}"
    return connect(address, origin=None if origin is None else Origin(origin), max_queue=1000)


def drain(connection: ClientConnection) -> None:
    """Read until it is closed."""
    while True:
        connection.recv(timeout=LIMIT_S)


def test_a_viewer_sees_what_a_session_finds(model: Model, film: Path) -> None:
    """The same numbers, classes and pixels, for every frame that is shown."""
    session = model.session(record=False)
    expected = {
        found.frame: found for found in map(session.step, open_source(str(film))[0].pictures())
    }
    with serving(model) as served:
        # Paused before its first frame, so that the viewer misses none; all frames are run.
        (clip,) = open_source(str(film))
        stream = served.hub.add(clip, policy="all")
        shown = list(watch(served.address, stream.number))
    assert shown
    assert sum(len(frame.instances) for frame in shown) > 0
    for frame in shown:
        found = expected[frame.frame]
        assert frame.size == found.size
        assert abs(frame.time_s - frame.frame / 25) < 1e-6
        assert [each.track_id for each in frame.instances] == found.tracker_id.tolist()
        for each, mask, score in zip(frame.instances, found.masks, found.confidence, strict=True):
            left, top, right, bottom = each.box
            assert np.array_equal(each.mask, mask[top:bottom, left:right])
            assert np.count_nonzero(mask) == np.count_nonzero(each.mask)
            assert abs(each.score - score) < 1e-6
        with Image.open(io.BytesIO(frame.picture)) as picture:
            assert picture.size == (160, 96)


def test_a_viewer_that_stops_reading_costs_nothing(model: Model) -> None:
    """The engines go on, another viewer sees the newest frames, and nothing piles up."""
    with serving(model) as served:
        stream = served.hub.add(camera(10_000, pause=0.002))
        with socket_to(served, f"/api/watch?stream={stream.number}") as stuck:
            stuck.recv()  # and no answer, ever
            seen = list(islice(watch(served.address, stream.number), 8))
            latest = stream.latest
            assert latest is not None
            assert latest.number - seen[-1].frame < 200
            assert [each.frame for each in seen] == sorted({each.frame for each in seen})
            waiting = 0
            while True:
                try:
                    stuck.recv(timeout=0.2)
                    waiting += 1
                except TimeoutError:
                    break
            assert waiting <= 1  # the window is two messages, of which one was read
        assert stream.dropped > 0


def test_viewers_that_vanish_are_no_error(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    """Whether they close, are cut off, or leave in the middle of a message."""
    with serving(model) as served:
        stream = served.hub.add(camera(10_000, pause=0.002))
        for path in (f"/api/watch?stream={stream.number}", "/api/visit", "/api/watch?stream=99"):
            for _ in range(5):
                connection = socket_to(served, path)
                with suppress(ConnectionClosed, OSError):
                    connection.recv(timeout=LIMIT_S)
                    connection.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: "visolo_viewers 0" in httpx.get(f"{served.address}/metrics").text, "viewers")
        until(lambda: len(served.hub.streams()) == 1, "the visitors' streams stayed")
    assert "Traceback" not in capfd.readouterr().err


def test_work_that_swallows_its_cancellation_is_cancelled_again() -> None:
    """As ``asyncio.wait_for`` does before Python 3.12, now and then."""
    swallowed = []

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(10 * LIMIT_S)
            except asyncio.CancelledError:
                swallowed.append(True)
        await asyncio.sleep(10 * LIMIT_S)

    async def both() -> None:
        await asyncio.wait_for(until_first(stubborn(), asyncio.sleep(0.01)), LIMIT_S)

    asyncio.run(both())
    assert len(swallowed) == 2


def test_the_last_frame_of_a_stream_is_sent(model: Model, film: Path) -> None:
    """Also to a viewer who comes when the stream is over, and to one who is slow."""
    with serving(model) as served:
        stream = served.hub.add(open_source(str(film))[0], policy="all")
        slow = []
        for frame in watch(served.address, stream.number):
            slow.append(frame.frame)
            time.sleep(0.2)
        assert slow[-1] == 11
        assert [each.frame for each in watch(served.address, stream.number)] == [11]


def test_a_visitor_gets_its_own_frames_back(model: Model) -> None:
    session = model.session(record=False)
    with serving(model) as served, socket_to(served, "/api/visit") as visit:
        assert '"in_flight"' in str(visit.recv())
        for number, picture in enumerate(sample_frames(5, 96, 160)):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=95)
            visit.send(HEADER.pack(number / 10) + file.getvalue())
            message = visit.recv(timeout=LIMIT_S)
            assert isinstance(message, bytes)
            frame = decode_frame(message)
            with Image.open(file) as seen:
                found = session.step(np.asarray(seen.convert("RGB")))
            assert (frame.frame, frame.time_s, frame.picture) == (number, number / 10, b"")
            assert [each.track_id for each in frame.instances] == found.tracker_id.tolist()
        (described,) = httpx.get(f"{served.address}/api/streams").json()
        assert described["frames"] == 5
        visit.close()
        until(lambda: not served.hub.streams(), "the visitor's stream stayed")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "cut short"),
        (HEADER.pack(0.0) + b"no jpeg", "not a JPEG"),
        (HEADER.pack(float("nan")) + b"x", "time"),
        (HEADER.pack(0.0) + b"\x89PNG\r\n\x1a\n", "not a JPEG"),
    ],
)
def test_a_visitor_that_sends_no_frame_is_refused(
    model: Model, message: bytes, reason: str
) -> None:
    with serving(model) as served, socket_to(served, "/api/visit") as visit:
        visit.recv()
        visit.send(message)
        with pytest.raises(ConnectionClosed, match=reason):
            visit.recv(timeout=LIMIT_S)


def test_a_visitor_may_not_flood(model: Model) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "JPEG")
    with serving(model) as served, socket_to(served, "/api/visit") as visit:
        with suppress(ConnectionClosed):
            for number in range(2000):
                visit.send(HEADER.pack(number / 10) + file.getvalue())
        with pytest.raises(ConnectionClosed, match=f"more than {IN_FLIGHT}"):
            drain(visit)


def test_a_message_larger_than_any_frame_is_refused(model: Model) -> None:
    with serving(model) as served, socket_to(served, "/api/visit") as visit:
        visit.recv()
        with suppress(ConnectionClosed):  # already while it is sent, or after
            visit.send(b"\0" * (running._LARGEST_MESSAGE + 1))
        with pytest.raises(ConnectionClosed):
            visit.recv(timeout=LIMIT_S)
        until(lambda: not served.hub.streams(), "the visitor's stream stayed")


def test_all_streams_in_use(model: Model) -> None:
    with serving(model, capacity=1) as served:
        with socket_to(served, "/api/visit") as first, socket_to(served, "/api/visit") as second:
            first.recv()
            with pytest.raises(ConnectionClosed, match="in use"):
                second.recv(timeout=LIMIT_S)
        until(lambda: not served.hub.streams(), "the visitor's stream stayed")
        with socket_to(served, "/api/visit") as third:
            assert '"stream"' in str(third.recv())


def test_settings_and_snapshots(model: Model) -> None:
    with serving(model) as served, httpx.Client(base_url=served.address) as client:
        stream = served.hub.add(camera(10_000))
        until(lambda: stream.latest is not None, "no frame came")
        place = f"/api/streams/{stream.number}"
        changed = client.patch(place, json={"least_score": 1.0, "classes": ["square"]})
        assert changed.json()["settings"] == {"paused": False, "least_score": 1.0, "classes": [1]}
        frames = stream.frames
        until(lambda: stream.frames > frames + 1, "no further frame came")
        assert stream.latest is not None
        assert len(stream.latest.instances) == 0
        for overlay in ("0", "1"):
            answer = client.get(f"{place}/snapshot", params={"overlay": overlay})
            assert answer.headers["content-type"] == "image/jpeg"
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert picture.size == (160, 96)
        client.patch(place, json={"paused": True})
        until(lambda: stream.state == "paused", "it was not paused")
        frames = stream.frames
        time.sleep(0.3)
        assert stream.frames <= frames + 1
        assert client.delete(place).status_code == 204
        assert client.get(place).status_code == 404
        assert client.get(f"{place}/snapshot").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 422, "JSON"),
        ('{"least_score": 2}', 422, "least_score"),
        ('{"least_score": NaN}', 422, "least_score"),
        ('{"classes": ["nothing"]}', 400, "'nothing'"),
        ('{"other": 1}', 422, "other"),
        ('{"paused": "yes"}', 422, "paused"),
        (" " * 100_000, 413, "bytes"),
    ],
)
def test_settings_that_are_wrong(model: Model, body: str, status: int, says: str) -> None:
    with serving(model) as served:
        stream = served.hub.add(camera(10_000))
        answer = httpx.patch(f"{served.address}/api/streams/{stream.number}", content=body)
        assert (answer.status_code, says in answer.json()["error"]) == (status, True)


def test_only_allowed_sources_are_opened(model: Model, film: Path) -> None:
    options = ServiceOptions(allowed_sources=(f"{film.parent}/*.mp4",))
    with serving(model, options=options) as served, httpx.Client(base_url=served.address) as client:
        for source in ("/etc/passwd", f"{film.parent}/../x.mp4", "rtsp://camera/", "0", "-"):
            assert client.post("/api/streams", json={"source": source}).status_code == 403
        added = client.post("/api/streams", json={"source": str(film)})
        assert (added.status_code, added.json()["name"]) == (201, "film")
        missing = client.post("/api/streams", json={"source": f"{film.parent}/no.mp4"})
        assert (missing.status_code, "no video" in missing.json()["error"]) == (400, True)
    cameras = ServiceOptions(allowed_sources=("rtsp://10.0.0.*/*",))
    with serving(model, options=cameras) as served:
        disguised = {"source": "rtsp://10.0.0.1@elsewhere.example/stream"}
        answer = httpx.post(f"{served.address}/api/streams", json=disguised)
        assert answer.status_code == 403
    with serving(model) as served:  # none by default
        answer = httpx.post(f"{served.address}/api/streams", json={"source": str(film)})
        assert answer.status_code == 403


def test_a_recording(model: Model, tmp_path: Path) -> None:
    with (
        serving(model, options=ServiceOptions(recordings=tmp_path)) as served,
        httpx.Client(base_url=served.address, timeout=LIMIT_S) as client,
    ):
        stream = served.hub.add(camera(10_000))
        place = f"/api/streams/{stream.number}/recording"
        assert client.get(place).status_code == 404
        assert client.post(place).status_code == 201
        assert client.post(place).status_code == 409
        until(lambda: client.get(place).json()["frames"] > 4, "nothing was recorded")
        done = client.delete(place).json()
        assert (done["active"], done["failure"]) == (False, "")
    video, lines = (tmp_path / name for name in done["files"])
    assert sum(1 for _ in open_source(str(video))[0].frames()) == done["frames"]
    assert len(lines.read_text().splitlines()) == done["frames"]
    assert sorted(tmp_path.iterdir()) == sorted((video, lines))


def test_a_short_video_is_tracked(model: Model, film: Path, tmp_path: Path) -> None:
    with serving(model) as served, httpx.Client(timeout=LIMIT_S) as client:
        place = f"{served.address}/api/videos"
        answer = client.post(place, content=film.read_bytes())
        assert answer.status_code == 200
        assert [each["frame"] for each in answer.json()["frames"]] == [*range(12)]
        assert answer.json()["tracks"]
        for content in (b"no video", b""):
            refused = client.post(place, content=content)
            assert refused.status_code == 400
            assert "cannot open it as a video" in refused.json()["error"]
        # FFmpeg reads more than is taken from strangers: formats that name other files.
        rare = write_video(tmp_path / "rare.nut", frames=6)
        assert client.post(place, content=rare.read_bytes()).status_code == 400
        hidden = write_video(tmp_path / "hidden.ts", frames=6)
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{hidden}\n#EXT-X-ENDLIST\n"
        assert client.post(place, content=playlist.encode()).status_code == 400
    options = ServiceOptions(largest_upload=100, longest_upload=3)
    with serving(model, options=options) as served:
        assert httpx.post(f"{served.address}/api/videos", content=b"x" * 101).status_code == 413


def test_health_metrics_and_schema(model: Model) -> None:
    with serving(model) as served, httpx.Client(base_url=served.address) as client:
        stream = served.hub.add(camera(10_000))
        until(lambda: stream.frames > 2, "no frame came")
        assert client.get("/api/health").json() == {"healthy": True}
        assert client.get("/api/ready").json() == {"ready": True}
        text = client.get("/metrics").text
        assert "visolo_up 1" in text
        assert f'visolo_stream_latency_ms{{stream="{stream.number}",quantile="0.99"}}' in text
        described = client.get("/openapi.json").json()
        allowed = client.options(f"/api/streams/{stream.number}").headers["allow"]
        assert set(allowed.split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}
        for path, methods in described["paths"].items():
            for method in methods:
                place = path.replace("{stream}", str(stream.number))
                assert client.request(method, place).status_code not in (405, 500), (method, path)


# ------------------------------------------------------------------------------- who is let in


def test_a_server_with_a_token(model: Model) -> None:
    with serving(model, guard=Guard("secret")) as served:
        stream = served.hub.add(camera(10_000))
        with httpx.Client(base_url=served.address) as client:
            assert client.get("/api/streams").status_code == 401
            assert client.get("/api/streams?token=wrong").status_code == 401
            assert client.get("/api/health").status_code == 200
            bearer = {"Authorization": "Bearer secret"}
            assert client.get("/api/streams", headers=bearer).status_code == 200
            entered = client.get("/?token=secret")
            assert "SameSite=Strict" in entered.headers["set-cookie"]
            assert "HttpOnly" in entered.headers["set-cookie"]
            assert client.get("/api/streams").status_code == 200  # by the cookie
        with pytest.raises(VisoloError):
            next(watch(served.address, stream.number))
        assert next(watch(served.address, stream.number, token="secret")).picture


def test_pages_of_others_are_refused(model: Model) -> None:
    with serving(model, guard=Guard(hosts=frozenset(("camera.example",)))) as served:
        with httpx.Client(base_url=served.address) as client:
            for headers, status in (
                ({"Host": "evil.example"}, 403),
                ({"Host": "camera.example"}, 200),
                ({"Origin": "https://evil.example"}, 403),
                ({"Origin": "null"}, 403),
                ({"Origin": served.address}, 200),
            ):
                assert client.get("/api/streams", headers=headers).status_code == status, headers
        with pytest.raises(InvalidStatus):
            socket_to(served, "/api/visit", origin="https://evil.example")


@pytest.mark.parametrize(
    "path",
    ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page/", "/app.py", "//etc"],
)
def test_nothing_but_the_page_is_served(model: Model, path: str) -> None:
    with serving(model) as served, socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in raw.recv(1000).splitlines()[0]


def test_idle_and_slow_visitors_are_let_go(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_HEADERS_S", 2.0)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # both ends of each are in this process
    with serving(model) as served:
        idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(1000)]
        idle[0].sendall(b"GET / HTTP/1.1\r\nHost: loc")  # headers that never end
        for each in idle:
            each.settimeout(LIMIT_S)
            with suppress(ConnectionResetError):
                assert each.recv(1) == b""
            each.close()
        assert httpx.get(f"{served.address}/api/health").status_code == 200


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"GET\r\n\r\n", struct.pack("<I", 1) * 1000])
def test_garbage_is_no_request(model: Model, garbage: bytes) -> None:
    """It is refused at once, without a word about the server, which goes on."""
    with serving(model) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.settimeout(LIMIT_S)
            raw.sendall(garbage)
            answer = b"".join(iter(lambda: raw.recv(1000), b""))
        headers, _, body = answer.partition(b"\r\n\r\n")
        assert headers.splitlines()[0] == b"HTTP/1.1 400 Bad Request"
        assert b"server:" not in headers.lower()
        assert body == b"Invalid HTTP request received."
        assert httpx.get(f"{served.address}/api/health").status_code == 200


def test_fifty_viewers_share_one_encoding(model: Model) -> None:
    with serving(model) as served:
        stream = served.hub.add(camera(10_000))
        until(lambda: stream.frames > 0, "no frame came")
        counts: list[int] = []

        def look() -> None:
            counts.append(len(list(islice(watch(served.address, stream.number), 3))))

        viewers = [threading.Thread(target=look) for _ in range(50)]
        for each in viewers:
            each.start()
        for each in viewers:
            each.join(LIMIT_S)
        assert counts == [3] * 50


def test_a_recording_plays_at_its_own_speed(model: Model, film: Path) -> None:
    """Twelve frames at 25 a second take .44 s from the first to the last."""
    with serving(model) as served:
        begin = time.monotonic()
        stream = served.hub.add(open_source(str(film))[0])
        until(lambda: stream.over, "it did not end")
        assert time.monotonic() - begin >= 0.43
        assert (stream.state, stream.frames + stream.dropped) == ("ended", 12)


def test_a_stream_that_fails_leaves_the_others(model: Model) -> None:
    def broken() -> Iterator[SourceFrame]:
        yield from at_constant_rate(sample_frames(2, 96, 160))  # type: ignore[misc]
        raise VisoloError("the camera is gone")

    with serving(model) as served:
        other = served.hub.add(camera(10_000))
        stream = served.hub.add(Clip(1, "broken", broken, live=True))
        until(lambda: stream.over, "it did not end")
        assert (stream.state, stream.reason) == ("failed", "the camera is gone")
        frames = other.frames
        until(lambda: other.frames > frames + 1, "the other stream stopped")


def test_frames_of_another_size_begin_anew(model: Model) -> None:
    def growing() -> Iterator[SourceFrame]:
        for size in ((96, 160), (120, 160)):
            for number, picture in enumerate(sample_frames(3, *size)):
                yield SourceFrame(picture, number / 10)

    with serving(model) as served:
        stream = served.hub.add(Clip(1, "growing", growing, live=True), policy="all")
        until(lambda: stream.over, "it did not end")
        assert (stream.state, stream.frames) == ("ended", 6)
        assert any("160x120" in each for each in stream.notices)
