"""Sources of all kinds from real servers on this machine, through all the ends that they can have.

Each test is one run of several sources side by side, as a user would run them. The table of
docs/reliability.md is what these tests check.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import loopback_servers as servers
import skips
import visolo
from clips import write_video
from helpers import Outcome, ended
from loopback_servers import Server
from visolo_core.errors import VisoloError
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.sources.clip import Notice, SourceFrame
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.reconnecting import SourceLost
from visolo_runtime.sources.source_options import SourceOptions
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]
LENGTH = 12
"""Frames of each recording."""
needs_rtsp = pytest.mark.skipif(not servers.has_rtsp_server(), reason=skips.NO_RTSP_SERVER)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, an HLS playlist with its segments, and pictures that change their size."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "index last.mp4", frames=LENGTH)
    write_video(folder / "a.ts", frames=LENGTH)
    _write_index_first(folder / "long.mp4", frames=150)
    for name, frames in (("recording", LENGTH), ("live", 250)):
        (folder / name).mkdir()
        _write_segments(folder / name, frames)
    for name, size in (("same", (160, 96)), ("change", (320, 192))):
        (folder / name).mkdir()
        for number, frame in enumerate(sample_frames(20, 96, 160)):
            picture = Image.fromarray(frame)
            picture = picture.resize(size) if number >= 10 else picture
            picture.save(folder / name / f"{number:02}.jpg")
    return folder


def _write_index_first(path: Path, frames: int) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for frame in sample_frames(frames, 96, 160):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _write_segments(folder: Path, frames: int) -> None:
    options = {"hls_time": "0.4", "hls_list_size": "0"}
    with av.open(str(folder / "index.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"g": "10", "preset": "ultrafast"}
        for frame in sample_frames(frames, 96, 160):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    lines = (folder / "index.m3u8").read_text().splitlines()
    lengths = [float(line[8:].rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    names = [line for line in lines if line.endswith(".ts")]
    (folder / "segments.json").write_text(json.dumps(dict(zip(names, lengths, strict=True))))


@dataclass(frozen=True)
class Ran:
    """What a run wrote and said."""

    outcome: Outcome
    summary: dict[str, Any]
    lines: dict[str, list[dict[str, Any]]]
    """of ``--frames``, by stream"""

    def times(self, stream: str) -> list[float]:
        return [line["time_s"] for line in self.lines.get(stream, [])]

    def counts(self, stream: str) -> dict[str, Any]:
        (found,) = [each for each in self.summary["streams"] if each["name"] == stream]
        return dict(found)

    def reasons(self) -> dict[str, str]:
        return {each["name"]: each["reason"] for each in self.summary["failed"]}


def has_frames(folder: Path) -> bool:
    """Whether a run into this folder has had its first frame."""
    # Under a name of its own until the run is over.
    with contextlib.suppress(FileNotFoundError):
        return any(each.stat().st_size for each in folder.glob("*.jsonl"))
    return False


def run(
    visolo: Visolo,
    folder: Path,
    sources: list[str],
    *options: object,
    events: tuple[tuple[float, Callable[[], object]], ...] = (),
) -> Ran:
    """Run sources side by side, with events so many seconds after the first frame."""
    out = folder / "frames.jsonl"
    stop = threading.Event()

    def happen() -> None:
        began = None
        for after_s, event in events:
            while began is None and not stop.wait(0.02):
                began = time.monotonic() if has_frames(folder) else None
            if stop.wait(max(0.0, after_s - (time.monotonic() - (began or 0)))):
                return
            event()

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        outcome = visolo(
            "run", shipped_model(), *sources, "--backend", "onnxruntime", "--threads", 1,
            "--frames", out, "--json", *options,
        )  # fmt: skip
    finally:
        stop.set()
        thread.join()
    assert outcome.status in (0, 1), outcome.err
    lines: dict[str, list[dict[str, Any]]] = {}
    for text in out.read_text().splitlines():
        line = json.loads(text)
        lines.setdefault(line["stream"], []).append(line)
    return Ran(outcome, outcome.json(), lines)


@contextlib.contextmanager
def fifo(path: Path, content: bytes, stays_s: float = 0.0) -> Iterator[str]:
    """A named pipe into which a thread writes, and which it leaves open for a while."""
    os.mkfifo(path)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
            pipe.write(content)
            time.sleep(stays_s)

    writer = threading.Thread(target=write)
    writer.start()
    yield str(path)
    writer.join()


# ------------------------------------------------------------------------------ the normal end


def test_recordings_run_whole_whatever_their_address(
    media: Path, tmp_path: Path, visolo: Visolo
) -> None:
    film, stream = media / "index last.mp4", media / "a.ts"
    with (
        servers.file_server(media) as parts,
        servers.file_server(media, ranges=False) as whole,
        servers.hls_server(media / "live", ends_after=3) as live,
        fifo(tmp_path / "fifo", stream.read_bytes()) as pipe,
    ):
        at, only = f"http://127.0.0.1:{parts.port}", f"http://127.0.0.1:{whole.port}"
        recordings = [
            str(film),
            f"file://{media}/index%20last.mp4",
            f"{at}/index%20last.mp4",
            f"{only}/index%20last.mp4",
            f"{at}/a.ts",
            f"{only}/a.ts",
            f"{at}/recording/index.m3u8",
            pipe,
        ]
        broadcast = f"http://127.0.0.1:{live.port}/live.m3u8"
        ran = run(visolo, tmp_path, [*recordings, broadcast], "--timeout", 5)
    assert ran.outcome.status == 0, ran.outcome.err
    assert ran.summary["frames"] >= len(recordings) * LENGTH
    names = ["index last", *recordings[2:7], "fifo"]
    for name in names:
        count = 2 if name == "index last" else 1
        expected = [number / 25 for number in range(LENGTH) for _ in range(count)]
        assert sorted(ran.times(name)) == pytest.approx(expected, abs=1e-5), name
    # A broadcast that ends is over. It is live until then: frames that came too fast are counted.
    counts = ran.counts(broadcast)
    assert counts["frames"] > 0
    assert 60 <= counts["frames"] + counts["dropped"] <= 130
    assert ran.summary["failed"] == []


@needs_rtsp
def test_live_sources_keep_their_times(media: Path, tmp_path: Path, visolo: Visolo) -> None:
    with (
        servers.rtsp_server(fps=10) as any_way,
        servers.rtsp_server(fps=10, transport="udp") as by_udp,
        servers.mjpeg_server(media / "same", fps=10, frames=1000) as pictures,
    ):
        addresses = [
            f"rtsp://127.0.0.1:{any_way.port}/cam",
            f"rtsp://127.0.0.1:{by_udp.port}/cam",
            f"http://127.0.0.1:{pictures.port}/",
        ]
        ran = run(visolo, tmp_path, addresses, "--max-frames", 25)
    assert ran.outcome.status == 0, ran.outcome.err
    for address in addresses:
        counts = ran.counts(address)
        assert counts["frames"] + counts["dropped"] >= 25
        for line in ran.lines[address]:
            # The first frames may come late, and pictures without times when the machine is busy.
            assert line["time_s"] == pytest.approx(line["frame"] / 10, abs=0.5), address


@needs_rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_transport_can_be_chosen(transport: str) -> None:
    other = {"tcp": "udp", "udp": "tcp"}[transport]
    with servers.rtsp_server(transport=transport) as server:
        address = f"rtsp://127.0.0.1:{server.port}/cam"
        (clip,) = open_source(address, options=SourceOptions(rtsp_transport=transport))  # type: ignore[arg-type]
        frames = clip.frames()
        assert isinstance(next(frames), SourceFrame)
        frames.close()  # type: ignore[attr-defined]
        refused = SourceOptions(rtsp_transport=other, retry_s=0)  # type: ignore[arg-type]
        (clip,) = open_source(address, options=refused)
        with pytest.raises(SourceLost, match="protocol not supported"):
            next(clip.frames())


# ------------------------------------------------------------------------- killed and frozen


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


def test_an_option_says_what_a_source_is(media: Path) -> None:
    with servers.mjpeg_server(media / "same", fps=100, frames=30) as server:
        address = f"http://127.0.0.1:{server.port}/"
        (live,) = open_source(address)
        (recording,) = open_source(address, options=SourceOptions(source_type="recording"))
    assert live.live
    assert not recording.live
    with servers.file_server(media) as server:
        address = f"http://127.0.0.1:{server.port}/a.ts"
        (recording,) = open_source(address)
        (live,) = open_source(address, options=SourceOptions(source_type="live"))
    assert not recording.live
    assert live.live


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
