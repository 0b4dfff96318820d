"""Sources of all kinds from real servers on this machine, which come to their normal end.

Each test is one run of several sources side by side, as a user would run them. The table of
docs/reliability.md is what these tests and those of ``test_lost_sources.py`` check.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import loopback_servers as servers
from live_runs import LENGTH, Visolo, fifo, needs_rtsp, run
from visolo_runtime.sources.clip import SourceFrame
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.reconnecting import SourceLost
from visolo_runtime.sources.source_options import SourceOptions


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
