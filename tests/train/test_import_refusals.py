"""Broken files and wrong uses are one sentence, and nothing is written."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from foreign_clip import SIZE, masks
from foreign_files import (
    FRAME_NAMES,
    PERCENT,
    POLYGON_REGION,
    changed,
    coco,
    cvat_xml,
    imported,
    labelme,
    mots_data,
    polygon,
    region,
    same_objects,
    tasks,
    truth,
    write_palette,
    written,
    youtube_vos,
)
from helpers import Outcome, run_visolo
from visolo_core.masks import encode_rle
from visolo_train.importers.kinds import KINDS


def png_text(mask: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    "<annotations><version>&b;</version></annotations>"
)

ONE_MASK = '<track id="0" label="disc"><mask frame="0" {}/></track>'

IMAGE = f'<image id="0" name="frame_000000.png" width="{SIZE[1]}" height="{SIZE[0]}"/>'

BRUSH = [0, 0, 0, 8, 7, 0, 0]

BROKEN: list[tuple[str, str, Any, list[str]]] = [
    ("empty", "a.json", "", ["is not json"]),
    ("cut short", "a.json", json.dumps(coco())[:200], ["is not json"]),
    ("of no kind", "a.json", {"a": 1}, ["cannot tell what kind", "--kind"]),
    ("already there", "a.json", {"videos": []}, ["YouTube-VIS format already"]),
    ("an archive", "a.zip", "PK", ["is an archive", "unpack"]),
    ("of another suffix", "a.docx", "x", ["cannot tell"]),
    ("coco list", "a.json", {"images": []}, ["no list 'annotations'"]),
    ("coco id", "a.json", coco(images=[{"id": "x"}]), ["images[0]", "no 'file_name'"]),
    (
        "coco size",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(width=41)),
        ["frame_000001.png' is 40x24, the annotations say 41x24"],
    ),
    (
        "coco frame",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(file_name="no.png")),
        ["there is no picture 'no.png'", "--images"],
    ),
    (
        "coco way out",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(file_name="../a.png")),
        ["'../a.png' leads out of"],
    ),
    (
        "coco absolute",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(file_name="/etc/passwd")),
        ["'/etc/passwd' leads out of"],
    ),
    (
        "coco long",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(file_name="9" * 5000 + ".png")),
        ["999...' in", "is not a usable path: file name too long"],
    ),
    (
        "coco twice",
        "a.json",
        changed(coco(), lambda d: d["images"][1].update(file_name="x/frame_000000.png")),
        ["are both"],
    ),
    (
        "coco image",
        "a.json",
        changed(coco(), lambda d: d["annotations"][2].update(image_id=99)),
        ["annotations[2]", "no image 99"],
    ),
    (
        "coco category",
        "a.json",
        changed(coco(), lambda d: d["annotations"][2].update(category_id=99)),
        ["annotations[2]", "no category 99"],
    ),
    (
        "coco mask",
        "a.json",
        changed(
            coco(),
            lambda d: d["annotations"][2].update(segmentation={"size": [2, 2], "counts": [4]}),
        ),
        ["annotations[2]", "mask is 2x2"],
    ),
    ("coco nothing", "a.json", coco(annotations=[]), ["has no mask to import"]),
    ("labelme type", "a.json", labelme(shape_type="blob"), ["shapes[0]", "'blob' is unknown"]),
    ("labelme points", "a.json", labelme(points=[[1, 2]]), ["shapes[0]", "three points"]),
    ("labelme nan", "a.json", json.dumps(labelme(points=[[float("nan"), 1]] * 3)), ["shapes[0]"]),
    (
        "labelme label",
        "a.json",
        changed(labelme(), lambda d: d["shapes"][0].pop("label")),
        ["label"],
    ),
    (
        "labelme mask",
        "a.json",
        labelme(shape_type="mask", points=[[0, 0], [1, 1]], mask="AAAA"),
        ["shapes[0]", "mask is not a picture"],
    ),
    (
        "labelme place",
        "a.json",
        labelme(shape_type="mask", points=[[39, 0]], mask=png_text(np.ones((2, 2), np.uint8))),
        ["reaches out of the frame"],
    ),
    (
        "labelme way out",
        "a.json",
        changed(labelme(), lambda d: d.update(imagePath="..\\..\\a.png")),
        ["leads out of"],
    ),
    ("cvat bomb", "a.xml", BOMB, ["document type declaration"]),
    ("cvat encoding", "a.xml", '<?xml version="1.0" encoding="x-no"?><a/>', ["unknown encoding"]),
    ("cvat no xml", "a.xml", "annotations", ["cannot tell"]),
    ("cvat twice", "a.xml", cvat_xml(IMAGE * 2), ["image[1]", "is there twice"]),
    (
        "cvat nan",
        "a.xml",
        cvat_xml(ONE_MASK.replace("mask", "ellipse").format('cx="nan" cy="1" rx="1" ry="1"')),
        ["its cx is nan"],
    ),
    ("cvat cut", "a.xml", cvat_xml("<track>")[:-30], ["not XML, or cut short"]),
    ("cvat deep", "a.xml", cvat_xml("<a>" * 40), ["nests more than"]),
    ("cvat element", "a.xml", cvat_xml("<blob/>"), ["no element 'blob'"]),
    ("cvat no meta", "a.xml", "<annotations></annotations>", ["no element 'meta'"]),
    (
        "cvat shape",
        "a.xml",
        cvat_xml('<track id="0" label="disc"><blob frame="0"/></track>'),
        ["track[0]", "no shape 'blob'"],
    ),
    (
        "cvat label",
        "a.xml",
        cvat_xml(f'<track id="0" label="x">{polygon(0)}</track>'),
        ["label 'x' is not one"],
    ),
    (
        "cvat frame",
        "a.xml",
        cvat_xml(f'<track id="0" label="disc">{polygon(7)}</track>'),
        ["no picture 'frame_000007'"],
    ),
    (
        "cvat project",
        "a.xml",
        cvat_xml(f'<track id="0" label="disc" task_id="4">{polygon(0)}</track>'),
        ["belongs to a project"],
    ),
    (
        "cvat rle",
        "a.xml",
        cvat_xml(ONE_MASK.format('rle="1, 2" left="0" top="0" width="2" height="2"')),
        ["do not cover its box"],
    ),
    (
        "cvat huge rle",
        "a.xml",
        cvat_xml(ONE_MASK.format(f'rle="{10**30}" left="0" top="0" width="2" height="2"')),
        ["track[0]"],
    ),
    (
        "cvat place",
        "a.xml",
        cvat_xml(ONE_MASK.format('rle="0, 4" left="39" top="0" width="2" height="2"')),
        ["reaches out of the frame"],
    ),
    (
        "cvat huge box",
        "a.xml",
        cvat_xml(ONE_MASK.format('rle="0, 4" left="0" top="0" width="99999999" height="2"')),
        ["is not in a frame"],
    ),
    (
        "cvat steps",
        "a.xml",
        cvat_xml("", "<stop_frame>5</stop_frame><frame_filter>step=0</frame_filter>"),
        ["meta[0]", "steps of 0"],
    ),
    ("studio data", "a.json", tasks(POLYGON_REGION, image="x"), ["task[0]", "name no picture"]),
    ("labelme no text", "a.json", labelme(label=None), ["shapes[0]", "label is not text"]),
    (
        "studio labels",
        "a.json",
        tasks(region("polygonlabels", {"points": PERCENT, "polygonlabels": "disc"})),
        ["result[0]", "not a list of names"],
    ),
    ("studio label", "a.json", tasks(region("polygon", {"points": PERCENT})), ["has no label"]),
    (
        "studio rotation",
        "a.json",
        tasks({**POLYGON_REGION, "image_rotation": 90}),
        ["result[0]", "turned"],
    ),
    (
        "studio size",
        "a.json",
        tasks({**POLYGON_REGION, "original_width": 9}),
        ["result[0]", "9x24"],
    ),
    (
        "studio brush",
        "a.json",
        tasks(region("brushlabels", {"rle": BRUSH, "brushlabels": ["disc"]})),
        ["result[0]", "8 values", "3840"],
    ),
    (
        "studio bytes",
        "a.json",
        tasks(region("brushlabels", {"rle": [999], "brushlabels": ["disc"]})),
        ["result[0]", "range"],
    ),
    ("mots words", "a.txt", "0 1001 1 24\n", ["line 1", "six words"]),
    ("mots class", "a.txt", "0 5001 5 24 40 abc\n", ["line 1"]),
    ("mots number", "a.txt", f"0 2001 1 24 40 {encode_rle(masks()[0, 0])['counts']}", ["class 1"]),
    ("mots frame", "a.txt", "77 1001 1 24 40 abc\n", ["line 1", "no picture of frame 77"]),
    ("mots mask", "a.txt", "0 1001 1 24 40 abc\n", ["line 1"]),
]


@pytest.mark.parametrize(
    ("name", "content", "words"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_broken_files_are_one_sentence(
    pictures: Path, tmp_path: Path, name: str, content: Any, words: list[str]
) -> None:
    source, output = written(tmp_path / "in" / name, content), tmp_path / "out" / "o.json"
    output.parent.mkdir()
    outcome = run_visolo("data", "import", source, "-o", output, "--images", pictures)
    outcome.refused(*words)
    assert list(output.parent.iterdir()) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def rgb(path: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(path)


def small(path: Path) -> None:
    with Image.open(path) as image:
        cropped = image.crop((0, 0, 20, 20))
    cropped.save(path)


def coloured(path: Path) -> None:
    with Image.open(path) as image:
        values = np.array(image)
    values[0, 0] = 9
    write_palette(path, values)


@pytest.mark.parametrize(
    ("damage", "place", "words"),
    [
        (cut, "Annotations/clip/00001.png", ["cannot read", "00001.png"]),
        (rgb, "Annotations/clip/00001.png", ["not a picture of object numbers", "RGB"]),
        (small, "Annotations/clip/00001.png", ["40x24, the annotations say 20x20"]),
        (coloured, "Annotations/clip/00001.png", ["00001.png", "no object 9 of video 'clip'"]),
        (Path.unlink, "JPEGImages/clip/00001.jpg", ["no picture 'clip/00001.png'"]),
        (cut, "JPEGImages/clip/00001.jpg", ["cannot read the picture", "00001.jpg"]),
        (shutil.rmtree, "Annotations/clip", ["no pictures with object numbers"]),
        (shutil.rmtree, "Annotations", ["no folder", "Annotations"]),
        (shutil.rmtree, "JPEGImages", ["no folder", "JPEGImages", "--images"]),
        (lambda path: path.write_text('{"videos": {"a": 1}}'), "meta.json", ["video 'a'"]),
        (lambda path: path.write_text('{"videos": {"a": {"objects": {}}}}'), "meta.json", ["clip"]),
    ],
)
def test_broken_palette_folders(
    tmp_path: Path, damage: Callable[[Path], object], place: str, words: list[str]
) -> None:
    folder, output = tmp_path / "train", tmp_path / "out" / "o.json"
    youtube_vos(folder)
    output.parent.mkdir()
    damage(folder / place)
    arguments = ("data", "import", folder, "-o", output, "--kind", "youtube-vos")
    run_visolo(*arguments).refused(*words)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "place", "words"),
    [
        (cut, "instances/0003/000001.png", ["cannot read"]),
        (rgb, "instances/0003/000001.png", ["16 bits"]),
        (small, "instances/0003/000001.png", ["40x24, the annotations say 20x20"]),
        (
            lambda path: path.write_text("car\n"), "instances/labels.txt", ["no class 2"],
        ),
        (lambda path: path.write_text("car\ncar\n"), "instances/labels.txt", ["each once"]),
        (Path.unlink, "image_02/0003/000001.png", ["no picture '0003/000001.png'"]),
    ],
)  # fmt: skip
def test_broken_mots_folders(
    tmp_path: Path, damage: Callable[[Path], object], place: str, words: list[str]
) -> None:
    folder, output = mots_data(tmp_path / "kitti"), tmp_path / "o.json"
    damage(folder / place)
    run_visolo("data", "import", folder, "-o", output).refused(*words)
    assert not output.exists()


def test_other_wrong_uses(pictures: Path, tmp_path: Path) -> None:
    source = written(pictures / "coco.json", coco())

    def refused(*options: object, named: Path = source) -> Outcome:
        return run_visolo("data", "import", named, "-o", tmp_path / "o.json", *options)

    refused("--kind", "blob").refused("kind 'blob' is unknown", ", ".join(KINDS))
    refused("--as", "blob").refused("--as blob")
    refused("--images", tmp_path / "no").refused("no folder")
    refused(named=tmp_path / "no.json").refused("no file or folder")
    refused("--kind", "label-studio").refused("not a json export of Label Studio")
    refused("--kind", "labelme").refused("not a file of LabelMe")
    refused("--kind", "youtube-vos").refused("not YouTube-VOS's meta.json")
    refused("--kind", "cvat").refused("not XML")
    refused("--kind", "davis").refused("is not a folder")
    (tmp_path / "empty").mkdir()
    refused(named=tmp_path / "empty").refused("cannot tell")
    for kind in KINDS:
        refused("--kind", kind, named=tmp_path / "empty").refused()


def test_categories_of_a_label_set(pictures: Path, tmp_path: Path) -> None:
    """For a model that has these labels: found by name, whatever the case."""
    document = coco()
    document["categories"][0]["name"] = "Square"
    document["categories"][1]["name"] = "disc"
    source = written(pictures / "coco.json", document)
    annotations = imported(tmp_path, source, "--labels", "shapes")
    assert annotations.labels.ids == (1, 2, 3, 4, 5, 6)
    assert [track.category_id for track in annotations.tracks] == [2, 1, 2]
    arguments = ("data", "import", source, "-o", tmp_path / "o.json", "--labels", "everyday")
    run_visolo(*arguments).refused("category 'Square' is not one of the labels 'everyday'")


def test_a_byte_order_mark_is_read(pictures: Path, tmp_path: Path) -> None:
    source = pictures / "coco.json"
    source.write_text(json.dumps(coco()), encoding="utf-8-sig")
    same_objects(imported(tmp_path, source), list(truth().values()))


def test_frames_of_a_video_have_one_size(pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 30)).save(pictures / FRAME_NAMES[1])
    document = coco()
    document["images"][1] |= {"height": 30, "width": 20}
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] != 11]
    source = written(pictures / "coco.json", document)
    arguments = ("data", "import", source, "-o", tmp_path / "o.json", "--empty-frames")
    run_visolo(*arguments).refused("40x24 and 20x30", "--as images")
    run_visolo(*arguments, "--as", "images").succeeded()
