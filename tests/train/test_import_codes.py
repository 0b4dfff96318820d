"""Properties of the codes for masks, and what importers do with any damage."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from foreign_clip import FRAMES, masks, write_pictures
from visolo_core.cvat import CvatMask, decode_cvat, encode_cvat
from visolo_core.errors import VisoloError
from visolo_core.masks import decode_rle, encode_rle, run_lengths
from visolo_train.data.segmentations import to_rle
from visolo_train.importers.assembling import assemble
from visolo_train.importers.brush_rle import decode_brush
from visolo_train.importers.frames import ImportOptions
from visolo_train.importers.kinds import KINDS, read_source
from visolo_train.importers.rasters import placed_mask

FOREIGN = Path(__file__).parent / "foreign"
SIDES = st.tuples(st.integers(1, 17), st.integers(1, 17))
MASKS = SIDES.flatmap(lambda size: arrays(np.bool_, size))
Mask = NDArray[np.bool_]

# ------------------------------------------------------------------------------------- CVAT


@given(MASKS)
def test_cvat_code(mask: Mask) -> None:
    code = encode_cvat(mask)
    if code is None:
        assert not mask.any()
        return
    assert sum(code.counts) == code.width * code.height
    assert all(count > 0 for count in code.counts[1:])
    whole = placed_mask(decode_cvat(code), code.left, code.top, (mask.shape[0], mask.shape[1]))
    assert np.array_equal(decode_rle(whole), mask)


@given(st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 9)), SIDES)
def test_cvat_code_of_anything(counts: list[int], size: tuple[int, int]) -> None:
    try:
        decode_cvat(CvatMask(tuple(counts), 0, 0, *size))
    except (ValueError, OverflowError):
        assert sum(counts) != size[0] * size[1] or min(counts, default=0) < 0
    else:
        assert sum(counts) == size[0] * size[1]


# ------------------------------------------------------------------------------------- COCO


@given(MASKS)
def test_coco_codes(mask: Mask) -> None:
    """Compressed, as MOTS has it too, and as a list of lengths, as CVAT writes them."""
    rle = encode_rle(mask)
    lengths = run_lengths(rle["counts"]).tolist()
    assert sum(lengths) == mask.size
    for counts in (rle["counts"], lengths):
        again = to_rle({"size": list(mask.shape), "counts": counts}, *mask.shape)
        assert np.array_equal(decode_rle(again), mask)


# ----------------------------------------------------------------------------- Label Studio


def encode_brush(values: NDArray[np.uint8], sizes: list[int], repeat: list[bool]) -> bytes:
    """A code of values uint8 [N], by the form that brush_rle.py describes.

    Args:
        values: of all channels.
        sizes: bits of the four lengths.
        repeat: for runs one after another, again and again, whether one of a single value may be
            written as repeated.
    """
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at, number = 0, 0
    while at < len(values):
        same = 1
        while at + same < len(values) and values[at + same] == values[at]:
            same += 1
        chosen = number % 4
        longest = 1 << sizes[chosen]
        if repeat[number % len(repeat)]:
            length = min(same, longest)
            bits += f"1{chosen:02b}{length - 1:0{sizes[chosen]}b}{values[at]:08b}"
        else:
            length = min(len(values) - at, longest, 5)
            bits += f"0{chosen:02b}{length - 1:0{sizes[chosen]}b}"
            bits += "".join(f"{value:08b}" for value in values[at : at + length])
        at, number = at + length, number + 1
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@given(
    MASKS,
    st.lists(st.integers(1, 16), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.integers(0, 255),
)
def test_brush_code(mask: Mask, sizes: list[int], repeat: list[bool], colour: int) -> None:
    pixels = np.full((*mask.shape, 4), colour, np.uint8)
    pixels[..., 3] = np.where(mask, 128 + colour % 128, colour % 128)
    code = encode_brush(pixels.ravel(), sizes, repeat)
    assert np.array_equal(decode_brush(list(code), (mask.shape[0], mask.shape[1])), mask)


@given(st.binary(max_size=40), SIDES)
def test_brush_code_of_anything(code: bytes, size: tuple[int, int]) -> None:
    header = (size[0] * size[1] * 4).to_bytes(4, "big")
    for given_code in (code, header + code):
        try:
            shape = decode_brush(list(given_code), size).shape
        except ValueError:
            continue
        assert shape == size


def test_brush_code_of_label_studio() -> None:
    """Its own encoder's output, for every mask of the clip."""
    tasks = json.loads((FOREIGN / "label_studio.json").read_text())
    compared = 0
    for frame, task in enumerate(tasks):
        for result in task["annotations"][0]["result"]:
            if result["type"] == "brushlabels":
                track = int(result["id"][1:]) - 1
                mask = decode_brush(result["value"]["rle"], masks().shape[2:])
                assert np.array_equal(mask, masks()[frame, track])
                compared += 1
    assert compared == 7


# ------------------------------------------------------------------------------- any damage


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a json value."""
    found = [path]
    if isinstance(value, dict):
        for name, each in value.items():
            found += places(each, (*path, name))
    elif isinstance(value, list):
        for number, each in enumerate(value[:3]):
            found += places(each, (*path, number))
    return found


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return changed


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "..", "/etc/passwd", "frame_000001.png", "\x00", "ÿ", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "size", "counts", "name"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "pictures"
    write_pictures(folder, tuple(f"frame_{number:06}.png" for number in range(FRAMES)))
    return folder


def read_or_refuse(source: Path, kind: str, images: Path) -> None:
    """Import; only a sentence may be raised, and the document has nothing that json has not."""
    options = ImportOptions(images, boxes=True, crowd_objects=True, empty_frames=True)
    try:
        document = assemble(read_source(source, kind, options), source).document
    except VisoloError:
        return
    json.dumps(document, allow_nan=False)


FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("datumaro_coco.json", "coco"),
        ("label_studio.json", "label-studio"),
        ("labelme/frame_000002.json", "labelme"),
    ],
)
@FUZZ
@given(data=st.data())
def test_json_with_any_value_anywhere(
    pictures: Path, tmp_path: Path, name: str, kind: str, data: st.DataObject
) -> None:
    document = json.loads((FOREIGN / name).read_text())
    path = data.draw(st.sampled_from(places(document)))
    source = tmp_path / "damaged.json"
    source.write_text(json.dumps(with_value(document, path, data.draw(VALUES))))
    read_or_refuse(source, kind, pictures)


@FUZZ
@given(data=st.data())
def test_xml_with_any_words_anywhere(pictures: Path, tmp_path: Path, data: st.DataObject) -> None:
    text = (FOREIGN / "datumaro_cvat.xml").read_text()
    words = text.split('"')
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(
        st.text(max_size=3) | st.sampled_from(["-1", "9" * 30, "nan", "1e999", "1,2;3", "<b/>"])
    )
    source = tmp_path / "damaged.xml"
    source.write_bytes('"'.join(words).encode("utf-8", "surrogatepass"))
    read_or_refuse(source, "cvat", pictures)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("datumaro_cvat.xml", "cvat"),
        ("datumaro_coco.json", "coco"),
        ("label_studio.json", "label-studio"),
    ],
)
@FUZZ
@given(at=st.integers(0, 2000), what=st.binary(max_size=4))
def test_bytes_changed_anywhere(
    pictures: Path, tmp_path: Path, name: str, kind: str, at: int, what: bytes
) -> None:
    content = (FOREIGN / name).read_bytes()
    source = tmp_path / f"damaged{Path(name).suffix}"
    source.write_bytes(content[:at] + what + content[at + len(what) :])
    read_or_refuse(source, kind, pictures)


@FUZZ
@given(words=st.lists(st.sampled_from(["0", "1", "-1", "1001", "24", "40", "x", "\n", "10000"])))
def test_mots_lines_of_anything(pictures: Path, tmp_path: Path, words: list[str]) -> None:
    source = tmp_path / "damaged.txt"
    source.write_text(" ".join(words))
    read_or_refuse(source, "mots-txt", pictures)


@pytest.mark.parametrize("kind", ["davis", "mots"])
@FUZZ
@given(at=st.integers(0, 300), what=st.binary(min_size=1, max_size=4))
def test_damaged_index_pictures(
    pictures: Path, tmp_path: Path, kind: str, at: int, what: bytes
) -> None:
    source = tmp_path / "instances"
    source.mkdir(exist_ok=True)
    image = source / "frame_000001.png"
    if kind == "mots":
        content = (FOREIGN / "datumaro_mots/instances/frame_000001.png").read_bytes()
    else:
        palette = Image.fromarray(masks()[0, 0].astype(np.uint8) * 3).convert("P")
        palette.save(image)
        content = image.read_bytes()
    image.write_bytes(content[:at] + what + content[at + len(what) :])
    read_or_refuse(source, kind, pictures)


def test_every_kind_is_damaged() -> None:
    assert set(KINDS) == {
        "coco",
        "label-studio",
        "labelme",
        "cvat",
        "mots-txt",
        "davis",
        "mots",
        "youtube-vos",
    }  # fmt: skip  the last is read as davis is
