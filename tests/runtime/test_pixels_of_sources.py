"""Pictures are seen as they were meant: upright, in their colours, at their brightness."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph
from PIL import Image

from helpers import Outcome
from timed_videos import at_rate, write_at
from visolo_core.errors import VisoloError
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame
from visolo_runtime.sources.deinterlacing import deinterlaced
from visolo_runtime.sources.opening import open_source
from visolo_runtime.sources.pictures import read_image, upright_size
from visolo_runtime.sources.upright import Upright
from visolo_runtime.video.sample_clip import sample_frames

Visolo = Callable[..., Outcome]
Turn = Callable[[Any], Any]

TURNS: dict[int, Turn] = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
    8: lambda picture: np.rot90(picture, 1),
}
"""What EXIF's orientations do to the pixels that are stored."""


def first_frame(source: Path) -> SourceFrame:
    (clip,) = open_source(str(source))
    return next(frame for frame in clip.frames() if isinstance(frame, SourceFrame))


def differs(one: Any, other: Any) -> float:
    """Mean absolute difference of two pictures of the same size."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


# ------------------------------------------------------------------------------------- videos

DISPLAY_MATRICES = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""By what ffmpeg 5.1 shows for each."""


@pytest.mark.parametrize(("matrix", "orientation"), DISPLAY_MATRICES.items())
def test_display_matrices(
    tmp_path: Path, matrix: tuple[int, int, int, int], orientation: int
) -> None:
    path = write_at(tmp_path / "a.mp4", at_rate(25, 2), aspect=Fraction(4, 3))
    content = path.read_bytes()
    at = content.index(b"tkhd") + 4 + 40  # the track header's 3x3 matrix, 16.16 fixed point
    a, b, c, d = ((number << 16).to_bytes(4, "big", signed=True) for number in matrix)
    path.write_bytes(content[:at] + a + b + bytes(4) + c + d + bytes(4) + content[at + 24 :])
    stored = next(sample_frames(1, 48, 64))
    shown = first_frame(path)
    assert differs(shown.picture, TURNS[orientation](stored)) < 8
    others = [turn(stored) for number, turn in TURNS.items() if number != orientation]
    same_size = [other for other in others if other.shape == shown.picture.shape]
    assert min(differs(shown.picture, other) for other in same_size) > 15
    assert shown.pixel_aspect == (Fraction(3, 4) if orientation > 4 else Fraction(4, 3))


def test_no_frame_is_kept(tmp_path: Path) -> None:
    """A frame that PyAV keeps holds its decoder's threads, once for each connection to a camera."""
    write_at(tmp_path / "a.mp4", at_rate(25, 4))
    (clip,) = open_source(str(tmp_path / "a.mp4"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert len(list(clip.frames())) == 4
        kept = [each for each in gc.get_objects() if type(each) is av.VideoFrame]
    finally:
        gc.enable()
    assert len(kept) == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_cover_picture_is_not_the_video(tmp_path: Path, place: str) -> None:
    path = write_at(tmp_path / "a.mp4", at_rate(25, 6), cover=True)
    if place == "before":
        path.write_bytes(with_metadata_first(path.read_bytes()))
    with av.open(str(path)) as container:
        streams = [stream.codec_context.name for stream in container.streams.video]
    assert streams == (["mjpeg", "h264"] if place == "before" else ["h264", "mjpeg"])
    (clip,) = open_source(str(path))
    assert [frame.shape for frame in clip.pictures()] == [(48, 64, 3)] * 6
    assert clip.length == 6


def with_metadata_first(content: bytes) -> bytes:
    """An mp4 whose metadata, with the cover, come before its tracks, as some programs write it."""
    at = content.rindex(b"moov") - 4
    moov = content[at : at + int.from_bytes(content[at : at + 4], "big")]
    meta = moov.rindex(b"udta") - 4
    size = int.from_bytes(moov[meta : meta + 4], "big")
    track = moov.index(b"trak") - 4
    udta = moov[meta : meta + size]
    moved = moov[:track] + udta + moov[track:meta] + moov[meta + size :]
    return content[:at] + moved + content[at + len(moov) :]


def test_a_cover_picture_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 40, 40, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame(40, 40, "yuvj420p")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(VisoloError, match="has no video stream but a cover picture"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("colorspace", "color_range", "expected"),
    [
        (1, 1, (191, 78, 18)),  # BT.709, limited range
        (1, 2, (182, 83, 29)),  # BT.709, full range
        (5, 1, (181, 70, 21)),  # BT.601
        (6, 2, (173, 76, 33)),
        (9, 1, (185, 71, 16)),  # BT.2020
        (2, 0, (181, 70, 21)),  # unknown: FFmpeg takes BT.601
    ],
)
def test_colours(colorspace: int, color_range: int, expected: tuple[int, int, int]) -> None:
    """Of Y 100, U 90, V 180, by the equations of the standards."""
    frame = av.VideoFrame(16, 16, "yuv444p")
    for plane, value in zip(frame.planes, (100, 90, 180), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.colorspace, frame.color_range = colorspace, color_range
    picture, _ = Upright().picture(frame)
    assert picture[8, 8].tolist() == pytest.approx(expected, abs=1)


def interlaced(luma: Any, red: Any) -> Any:
    """A frame of FFmpeg whose two fields are from different moments.

    Args:
        luma: uint8 [H, W].
        red: uint8 [H/2, W/2], the V plane.
    """
    height, width = luma.shape
    planes = [luma, np.full((height // 4, width), 128, np.uint8), red.reshape(-1, width)]
    frame = av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = Graph()
    source = graph.add_buffer(
        width=width, height=height, format=frame.format, time_base=frame.time_base
    )
    first, sink = graph.add("setfield", "tff"), graph.add("buffersink")
    source.link_to(first)
    first.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


def test_the_colour_of_a_field_stays_in_it() -> None:
    """One field is red, the other is not: its lines alternate."""
    red = np.full((32, 32), 60, np.uint8)
    red[0::2] = 200  # lines of the first field
    picture, _ = Upright().picture(interlaced(np.full((64, 64), 128, np.uint8), red))
    assert (picture[8:56:2, :, 0] > 230).all()
    assert (picture[9:56:2, :, 0] < 40).all()


def test_deinterlacing_removes_the_comb() -> None:
    """A bar moves by 16 pixels from field to field."""
    frames = []
    for number in range(5):
        luma = np.full((64, 192), 40, np.uint8)
        luma[0::2, 32 * number :][:, :16] = luma[1::2, 32 * number + 16 :][:, :16] = 220
        frames.append(interlaced(luma, np.full((32, 96), 128, np.uint8)))
        frames[-1].pts = number

    def comb(frame: Any) -> float:
        picture, _ = Upright().picture(frame)
        lines = picture[8:56, :, 1].astype(int)
        return float(np.abs(lines[1:] - lines[:-1]).mean())

    before = comb(frames[2])
    smooth = list(deinterlaced(iter(frames), Fraction(1, 25)))
    assert [frame.pts for frame in smooth] == [0, 1, 2, 3, 4]
    assert comb(smooth[2]) < before / 4


# ----------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 100, "subsampling": 0}),
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
    ],
)
def test_exif_orientations(
    tmp_path: Path, name: str, options: dict[str, Any], orientation: int
) -> None:
    stored = next(sample_frames(1, 40, 56))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    Image.fromarray(stored).save(path, exif=exif, **options)
    shown = TURNS[orientation](stored)
    assert differs(read_image(path), shown) < 3
    with Image.open(path) as image:
        assert upright_size(image) == shown.shape[:2]


SIZES = [(1, 1), (3, 5), (64, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "mode", "value", "expected"),
    [
        ("a.png", "1", 1, (255, 255, 255)),
        ("a.png", "L", 99, (99, 99, 99)),
        ("a.png", "LA", (99, 3), (99, 99, 99)),
        ("a.png", "P", 0, (0, 0, 0)),
        ("a.png", "RGB", (1, 2, 3), (1, 2, 3)),
        ("a.png", "RGBA", (1, 2, 3, 4), (1, 2, 3)),
        ("a.webp", "RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("a.tif", "CMYK", (255, 0, 255, 0), (0, 255, 0)),
        ("a.jpg", "CMYK", (255, 0, 255, 0), (0, 255, 0)),
        ("a.png", "I;16", 25700, (100, 100, 100)),
        ("a.tif", "I;16", 65535, (255, 255, 255)),
        ("a.tif", "I", 25700, (100, 100, 100)),
        ("a.tif", "F", 0.4, (102, 102, 102)),
        ("a.tif", "F", 1.0, (255, 255, 255)),
    ],
)
def test_modes_of_pictures(
    tmp_path: Path, name: str, mode: str, value: Any, expected: Any, size: tuple[int, int]
) -> None:
    """16 bits and floating point by the range of the type, whatever a picture's extremes are."""
    path = tmp_path / name
    options: dict[str, Any] = {"lossless": True} if "webp" in name else {}
    Image.new(mode, size, value).save(path, **options)
    picture = read_image(path)
    assert not isinstance(picture, Skipped)
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - expected).max() <= (2 if name == "a.jpg" else 0)


@pytest.mark.parametrize(
    ("mode", "value"), [("F", 1.5), ("F", -0.1), ("F", float("nan")), ("I", 65536), ("I", -1)]
)
def test_grey_values_of_an_unknown_range_are_refused(
    tmp_path: Path, mode: str, value: float
) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (4, 4), value).save(path)
    refused = read_image(path)
    assert isinstance(refused, Skipped)
    assert "its grey values are from" in refused.reason


# ------------------------------------------------------------------------ sizes of a data set


def data_set(tmp_path: Path, size: tuple[int, int], orientation: int = 1) -> Path:
    """Two frames of 48x64, the second as given."""
    folder = tmp_path / "JPEGImages" / "a"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number, (height, width) in enumerate([(48, 64), size]):
        picture = next(sample_frames(1, height, width))
        Image.fromarray(picture).save(folder / f"{number}.jpg", exif=exif if number else b"")
    video = {"id": 1, "height": 48, "width": 64, "file_names": ["a/0.jpg", "a/1.jpg"]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"videos": [video]}))
    return path


def events_of(clip: Clip) -> list[Any]:
    return list(clip.frames())


def test_a_frame_that_is_annotated_as_it_is_seen(tmp_path: Path) -> None:
    (clip,) = open_source(str(data_set(tmp_path, (64, 48), orientation=6)))
    assert [frame.picture.shape for frame in events_of(clip)] == [(48, 64, 3)] * 2


def test_a_frame_of_another_size(tmp_path: Path, lite_bundle: Path, visolo: Visolo) -> None:
    path = data_set(tmp_path, (40, 64))
    with pytest.raises(VisoloError, match=r"1\.jpg' is 64x40, its annotation says 64x48"):
        events_of(open_source(str(path))[0])
    results = tmp_path / "r.json"
    outcome = visolo("run", lite_bundle, path, "--results", results)
    assert outcome.status != 0
    assert "is 64x40, its annotation says 64x48" in outcome.err


def test_an_annotation_of_the_size_that_is_stored(tmp_path: Path) -> None:
    path = data_set(tmp_path, (48, 64), orientation=6)
    with pytest.raises(VisoloError, match="before its EXIF orientation is applied"):
        events_of(open_source(str(path))[0])
