"""Sources of all kinds from real servers on this machine, which are lost, and some come back.

Each test is one run of several sources side by side, as a user would run them.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Any

import av
import pytest

import loopback_servers as servers
import visolo
from helpers import LIMIT_S, ended
from live_runs import LENGTH, Visolo, fifo, has_frames, needs_rtsp, run
from loopback_servers import Server
from visolo_core.errors import VisoloError
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.sources.clip import Notice, SourceFrame, at_constant_rate
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.source_options import SourceOptions
from visolo_runtime.video.sample_clip import sample_frames


@dataclass(frozen=True)
class Servers:
    """One of each kind."""

    by_name: dict[str, Server]
    addresses: dict[str, str]

    def each(self, call: Callable[[Server], None]) -> Callable[[], None]:
        def all_of_them() -> None:
            for server in self.by_name.values():
                call(server)

        return all_of_them


@pytest.fixture
def kinds(media: Path) -> Iterator[Servers]:
    """Servers that never come to an end by themselves, and a recording that is sent slowly."""
    size = (media / "long.mp4").stat().st_size
    with (
        servers.rtsp_server() as tcp,
        servers.rtsp_server() as udp,
        servers.mjpeg_server(media / "same", fps=10, frames=1000) as pictures,
        servers.hls_server(media / "live", ends_after=0) as hls,
        servers.file_server(media, bytes_per_s=size // 6) as slow,
    ):
        yield Servers(
            {"tcp": tcp, "udp": udp, "mjpeg": pictures, "hls": hls, "recording": slow},
            {
                "tcp": f"rtsp://user:secret@127.0.0.1:{tcp.port}/cam",
                "udp": f"rtsp://user:secret@127.0.0.1:{udp.port}/cam?token=secret&channel=1",
                "mjpeg": f"http://user:secret@127.0.0.1:{pictures.port}/?password=secret",
                "hls": f"http://user:secret@127.0.0.1:{hls.port}/live.m3u8",
                "recording": f"http://user:secret@127.0.0.1:{slow.port}/long.mp4",
            },
        )


def shown(address: str) -> str:
    return address.replace("user:secret@", "").replace("secret", "***")


@needs_rtsp
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("kill", "was lost"),
        pytest.param("freeze", "was lost: no frame for", marks=pytest.mark.slow),
    ],
)
def test_what_is_lost_for_good_is_named_and_the_rest_is_kept(
    media: Path, tmp_path: Path, visolo: Visolo, kinds: Servers, end: str, reason: str
) -> None:
    content = (media / "a.ts").read_bytes()
    with fifo(tmp_path / "fifo", content[: len(content) // 2]) as pipe:
        ran = run(
            visolo, tmp_path, [*kinds.addresses.values(), pipe, str(media / "a.ts")],
            "--timeout", 2, "--retry", 1,
            events=((2.0, kinds.each(lambda server: getattr(server, end)())),),
        )  # fmt: skip
    assert ran.outcome.status == 1
    reasons = ran.reasons()
    for kind, address in kinds.addresses.items():
        name = shown(address)
        assert len(ran.lines[name]) > 0, (kind, ran.outcome.err)
        expected = "breaks off" if kind == "recording" else reason
        assert expected in reasons[name], (kind, reasons)
    assert set(reasons) == {shown(address) for address in kinds.addresses.values()}
    assert len(ran.lines["a"]) == LENGTH
    assert 0 < len(ran.lines["fifo"]) < LENGTH
    for text in (ran.outcome.err, ran.outcome.out, (tmp_path / "frames.jsonl").read_text()):
        assert "secret" not in text


@needs_rtsp
def test_a_server_that_stands_still_is_lost(kinds: Servers) -> None:
    """The same as below at once, without a network."""
    reasons: dict[str, str] = {}
    reading = threading.Barrier(len(kinds.addresses) + 1)

    def read(kind: str, transport: Any) -> None:
        options = SourceOptions(timeout_s=1, retry_s=0, rtsp_transport=transport)
        (clip,) = open_source(kinds.addresses[kind], options=options)
        frames = clip.frames()
        try:
            next(frames)
            reading.wait(30)
            for _ in frames:
                pass
        except VisoloError as error:
            reasons[kind] = str(error)

    ways = {"tcp": "tcp", "udp": "udp"}
    threads = [
        threading.Thread(target=read, args=(kind, ways.get(kind, "auto")))
        for kind in kinds.addresses
    ]
    for thread in threads:
        thread.start()
    reading.wait(30)
    kinds.each(lambda server: server.freeze())()
    for thread in threads:
        ended(thread)
    for kind, address in kinds.addresses.items():
        seconds = 3 if kind == "hls" else 1
        ending = "breaks off: no data for" if kind == "recording" else "was lost: no frame for"
        assert reasons[kind] == f"'{shown(address)}' {ending} {seconds} s"


@needs_rtsp
@pytest.mark.parametrize(
    ("end", "back"),
    [("kill", "start"), pytest.param("freeze", "thaw", marks=pytest.mark.slow)],
)
def test_what_comes_back_goes_on_with_a_gap(
    tmp_path: Path, visolo: Visolo, kinds: Servers, end: str, back: str
) -> None:
    live = {kind: address for kind, address in kinds.addresses.items() if kind != "recording"}
    ran = run(
        visolo, tmp_path, list(live.values()), "--timeout", 1, "--retry", 30, "--max-frames", 60,
        events=(
            (1.0, kinds.each(lambda server: getattr(server, end)())),
            (5.5, kinds.each(lambda server: getattr(server, back)())),
        ),
    )  # fmt: skip
    assert ran.outcome.status == 0, ran.outcome.err
    assert ran.summary["failed"] == []
    for kind, address in live.items():
        name = shown(address)
        counts, steps = (
            ran.counts(name),
            [
                after - before
                for before, after in zip(ran.times(name), ran.times(name)[1:], strict=False)
            ],
        )
        assert counts["gap_s"] > 2.5, (kind, counts, ran.outcome.err)
        assert max(steps) > 2.5, kind
        assert min(steps) > 0, kind
        assert counts["frames"] + counts["dropped"] >= 60, kind
    lost = [line for line in ran.outcome.err.splitlines() if "is lost" in line]
    assert len(lost) >= len(live)
    assert "secret" not in ran.outcome.err + ran.outcome.out


# ------------------------------------------------------------------------------- other ends


@needs_rtsp
def test_another_size_begins_another_clip(media: Path, tmp_path: Path, visolo: Visolo) -> None:
    before = servers.rtsp_server(width=160, height=96)
    after = servers.rtsp_server(width=320, height=192)
    after.port = before.port
    with before, servers.mjpeg_server(media / "change", fps=10, frames=1000) as pictures:
        camera, mjpeg = f"rtsp://127.0.0.1:{before.port}/cam", f"http://127.0.0.1:{pictures.port}/"

        def change() -> None:
            before.kill()
            after.start()

        try:
            ran = run(
                visolo, tmp_path, [camera, mjpeg], "--max-frames", 40, "--live", "all",
                events=((1.5, change),),
            )  # fmt: skip
        finally:
            after.kill()
    assert ran.outcome.status == 0, ran.outcome.err
    for name in (camera, mjpeg):
        assert len(ran.lines[name]) + len(ran.lines[f"{name} (2)"]) == 40
        assert ran.times(f"{name} (2)")[0] == 0
    assert len(ran.lines[mjpeg]) == 10


def test_a_source_that_is_offline_at_the_start_does_not_stop_the_others(
    media: Path, tmp_path: Path, visolo: Visolo
) -> None:
    late = servers.mjpeg_server(media / "same", fps=20, frames=1000)
    address, nowhere = f"http://127.0.0.1:{late.port}/", "rtsp://user:secret@127.0.0.1:9/cam"
    try:
        ran = run(
            visolo, tmp_path, [str(media / "a.ts"), address, nowhere, "97"],
            "--retry", 3, "--max-frames", 50, events=((0.5, late.start),),
        )  # fmt: skip
    finally:
        late.kill()
    assert ran.outcome.status == 1
    assert len(ran.lines["a"]) == LENGTH
    assert ran.counts(address)["frames"] > 0
    assert set(ran.reasons()) == {"rtsp://127.0.0.1:9/cam", "camera 97"}
    assert "there is no /dev/video97" in ran.reasons()["camera 97"]


@pytest.mark.parametrize("times", ["keep", "new"])
def test_a_camera_that_is_unplugged_and_plugged_in_again(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: str
) -> None:
    """FFmpeg's test picture stands for the camera: no machine of CI has one."""
    from visolo_runtime.sources import live, opening

    opened = []
    size = iter(["160x96", "160x96", "320x192"])

    def stand_in(device: str, driver: str, *_: object) -> Any:
        assert (device, driver) == ("/dev/video3", "v4l2")
        opened.append(device)
        return av.open(f"testsrc=size={next(size)}:rate=25:duration=0.2", format="lavfi")

    monkeypatch.setattr(live, "open_container", stand_in)
    monkeypatch.setattr(opening, "require_camera", lambda _: None)
    (clip,) = open_source("3", options=SourceOptions(after_gap=times))  # type: ignore[arg-type]
    assert (clip.name, clip.live, clip.fps) == ("camera 3", True, Fraction(30))
    events = []
    with contextlib.suppress(StopIteration, RuntimeError):
        for event in clip.frames():
            events.append(type(event).__name__)
            if len([each for each in events if each == "SourceFrame"]) == 15:
                break
    gap = ["Notice", "Notice"] + (["Cut"] if times == "new" else [])
    frames = ["SourceFrame"] * 5
    assert events == [*frames, *gap, *frames, "Notice", "Notice", "Cut", *frames]


def test_a_camera_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of a device cannot be told to end: it is left alone until it does, and the device is
    opened again when it is free."""
    from visolo_runtime.sources import live, opening

    moves, free, opened = threading.Event(), threading.Event(), count()

    def open_device(*_: object) -> Any:
        if next(opened) and not free.is_set():
            raise VisoloError("cannot open it") from OSError(errno.EBUSY, "Device or resource busy")
        return av.open("testsrc=size=160x96:rate=25:duration=0.2", format="lavfi")

    def decode(*_: object, **__: object) -> Iterator[SourceFrame]:
        try:
            yield from at_constant_rate(sample_frames(3, 96, 160))  # type: ignore[misc]
            moves.wait(LIMIT_S)
        finally:
            free.set()

    monkeypatch.setattr(live, "open_container", open_device)
    monkeypatch.setattr(live, "decode", decode)
    monkeypatch.setattr(opening, "require_camera", lambda _: None)
    (clip,) = open_source("3", options=SourceOptions(timeout_s=0.3, retry_s=60))
    frames = clip.frames()
    events = list(islice(frames, 4))
    assert [type(each) for each in events] == [SourceFrame] * 3 + [Notice]
    assert "is lost (no frame for 0.3 s)" in str(events[3])
    threading.Timer(0.5, moves.set).start()
    events = list(islice(frames, 4))
    assert [type(each) for each in events] == [Notice] + [SourceFrame] * 3
    assert "is back after a gap of" in str(events[0])
    assert next(opened) > 2  # it was busy at first
    frames.close()  # type: ignore[attr-defined]
    (clip,) = open_source("3", options=SourceOptions(timeout_s=0.3, retry_s=0))
    moves.clear()
    with pytest.raises(VisoloError, match=r"'camera 3' was lost: no frame for 0\.3 s"):
        list(clip.frames())
    moves.set()


def test_track_reports_what_is_lost_and_begins_anew_at_another_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from visolo_runtime.sources import live, opening

    size = chain(["160x96"], repeat("320x192"))

    def stand_in(*_: object) -> Any:
        picture = f"testsrc=size={next(size)}:rate=5:duration=2,realtime"
        return av.open(picture, format="lavfi")

    monkeypatch.setattr(live, "open_container", stand_in)
    monkeypatch.setattr(opening, "require_camera", lambda _: None)
    sizes, frames = [], []
    for picture, instances in visolo.track(shipped_model(), 3, backend="onnxruntime"):
        sizes.append(picture.shape[:2])
        frames.append(instances.frame)
        if picture.shape[0] == 192:
            break
    assert set(sizes) == {(96, 160), (192, 320)}
    assert frames[-1] == 0
    texts = [record.getMessage() for record in caplog.records if record.name == "visolo"]
    assert texts[0].startswith("camera 3: is lost (the connection was closed)")
    assert any(text.startswith("camera 3: is back after a gap of") for text in texts)


def test_a_recording_goes_on_when_its_connection_breaks_for_a_moment(media: Path) -> None:
    size = (media / "a.ts").stat().st_size
    with servers.file_server(media, bytes_per_s=size) as server:
        (clip,) = open_source(f"http://127.0.0.1:{server.port}/a.ts")
        frames = clip.frames()
        first = next(frames)
        server.kill()
        server.start()
        rest = list(frames)
    assert [type(each) for each in (first, *rest)] == [SourceFrame] * LENGTH


def test_ten_reconnections_leave_no_thread_and_no_descriptor(media: Path) -> None:
    with servers.mjpeg_server(media / "same", fps=50, frames=4) as server:
        (clip,) = open_source(f"http://127.0.0.1:{server.port}/", options=SourceOptions(retry_s=5))
        frames = clip.frames()
        frames._wait = lambda seconds: None  # type: ignore[attr-defined]  # not what is tested
        before: tuple[int, int] | None = None
        gaps = 0
        for event in frames:
            if isinstance(event, Notice) and event.gap_s:
                gaps += 1
                held = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
                before = before or held
                assert held == before
                if gaps == 11:
                    break
        frames.close()  # type: ignore[attr-defined]


@needs_rtsp
def test_a_run_ends_at_once_while_a_server_stands_still(media: Path, tmp_path: Path) -> None:
    import signal
    import subprocess
    import sys

    with servers.rtsp_server() as server:
        out = tmp_path / "frames.jsonl"
        command = [sys.executable, "-m", "visolo.cli", "run", str(shipped_model())]
        command += [f"rtsp://127.0.0.1:{server.port}/cam", "--frames", str(out), "--timeout", "60"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            limit = time.monotonic() + 60
            while not has_frames(tmp_path) and time.monotonic() < limit:
                time.sleep(0.05)
            server.freeze()
            time.sleep(0.5)
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
            took_s = time.monotonic() - asked
    assert process.returncode == 130, err
    assert took_s < 3, "a machine that is busy may need a second"
    assert "Traceback" not in err
