"""Annotations of other programs become data sets, to the pixel."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from foreign_clip import FRAMES, LABELS, POLYGON, SIZE, TRACKS, masks, write_pictures
from helpers import Outcome, run_visolo
from visolo_core.cvat import encode_cvat
from visolo_core.masks import decode_rle, encode_rle
from visolo_train.data.annotations import Annotations, read_annotations
from visolo_train.importers.kinds import KINDS, recognise

FOREIGN = Path(__file__).parent / "foreign"
FRAME_NAMES = tuple(f"frame_{number:06}.png" for number in range(FRAMES))
Tracks = dict[str, list[NDArray[np.bool_] | None]]


def truth() -> dict[tuple[str, int], NDArray[np.bool_]]:
    """Label and number of each object, and its masks bool [frames, H, W]."""
    return {track: masks()[:, place] for place, track in enumerate(TRACKS)}


def same_objects(annotations: Annotations, expected: list[NDArray[np.bool_]]) -> None:
    """The one video of a data set has these objects bool [frames, H, W], and no other."""
    (video,) = annotations.videos
    assert (video.height, video.width) == SIZE
    found = [
        np.array([np.zeros(SIZE, bool) if rle is None else decode_rle(rle) for rle in each])
        for each in (track.segmentations for track in annotations.tracks)
    ]
    assert len(found) == len(expected)
    for wanted in expected:
        assert sum(np.array_equal(wanted, each) for each in found) == 1


def imported(folder: Path, source: Path, *options: object) -> Annotations:
    """Import into a folder, and read the result."""
    output = folder / "imported.json"
    run_visolo("data", "import", source, "-o", output, *options).succeeded()
    return read_annotations(output)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The frames, named as CVAT names them."""
    folder = tmp_path / "pictures"
    write_pictures(folder, FRAME_NAMES)
    return folder


# ------------------------------------------------------------- files of the programs themselves


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("datumaro_coco.json", "coco", ["--crowd-objects"]),
        ("datumaro_cvat.xml", "cvat", []),
        ("datumaro_mots", "mots", []),
        ("label_studio.json", "label-studio", []),
    ],
)
def test_files_of_other_programs(
    pictures: Path, tmp_path: Path, name: str, kind: str, options: list[str]
) -> None:
    """Written by the programs' own code: see tests/train/foreign/make_files.py."""
    assert recognise(FOREIGN / name) == kind
    annotations = imported(tmp_path, FOREIGN / name, "--images", pictures, *options)
    same_objects(annotations, list(truth().values()))
    assert annotations.videos[0].file_names == FRAME_NAMES
    assert sorted(annotations.labels.names) == sorted(LABELS)
    labels = [annotations.labels.names[track.category_id - 1] for track in annotations.tracks]
    assert sorted(labels) == sorted(label for label, _ in TRACKS)


def test_labelme(pictures: Path, tmp_path: Path) -> None:
    """Its masks to the pixel, and its polygons as COCO fills them."""
    for file in (FOREIGN / "labelme").iterdir():
        shutil.copy(file, pictures)
    assert recognise(pictures) == "labelme"
    filled = np.zeros((FRAMES, *SIZE), bool)
    filled[:, 15:22, 4:12] = True
    assert POLYGON[0] == (4, 15)
    same_objects(imported(tmp_path, pictures), [*truth().values(), filled])


def test_a_picture_is_annotated_once(pictures: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        shutil.copy(FOREIGN / "labelme/frame_000000.json", pictures / name)
    outcome = run_visolo("data", "import", pictures, "-o", tmp_path / "o.json")
    outcome.refused("annotates picture 'frame_000000.png' twice")


def test_labelme_one_file(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(FOREIGN / "labelme/frame_000000.json", pictures)
    annotations = imported(tmp_path, pictures / "frame_000000.json", "--as", "images")
    assert [track.segmentations.count(None) for track in annotations.tracks] == [0, 0, 0]


# ---------------------------------------------------------------------------- files by hand


def written(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(**changes: Any) -> dict[str, Any]:
    """The clip as COCO, with track numbers."""
    document: dict[str, Any] = {
        "categories": [{"id": 5, "name": "disc"}, {"id": 9, "name": "square"}],
        "images": [
            {"id": 10 + n, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for n, name in enumerate(FRAME_NAMES)
        ],
        "annotations": [],
    }
    for (label, number), each in truth().items():
        for frame, mask in enumerate(each):
            if mask.any():
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1,
                        "image_id": 10 + frame,
                        "category_id": {"disc": 5, "square": 9}[label],
                        "track_id": number,
                        "segmentation": encode_rle(mask),
                        "iscrowd": 0,
                    }
                )
    return {**document, **changes}


def test_coco_with_track_numbers(pictures: Path, tmp_path: Path) -> None:
    annotations = imported(tmp_path, written(pictures / "coco.json", coco()))
    same_objects(annotations, list(truth().values()))
    assert annotations.labels.ids == (5, 9)


def test_coco_without_track_numbers_is_images(pictures: Path, tmp_path: Path) -> None:
    document = coco()
    for entry in document["annotations"]:
        del entry["track_id"]
    source = written(pictures / "coco.json", document)
    annotations = imported(tmp_path, source)
    assert [video.file_names for video in annotations.videos] == [(n,) for n in FRAME_NAMES]
    assert len(annotations.tracks) == len(document["annotations"])
    for track, entry in zip(annotations.tracks, document["annotations"], strict=False):
        assert len(track.segmentations) == 1
        assert entry["segmentation"] is not None
    refused = run_visolo("data", "import", source, "-o", tmp_path / "o.json", "--as", "video")
    refused.refused("which shapes are the same object")


def test_coco_videos_by_number_keep_the_order_of_their_frames(
    pictures: Path, tmp_path: Path
) -> None:
    document = coco(videos=[{"id": 7, "name": "clip"}])
    for place, image in enumerate(document["images"]):
        image |= {"video_id": 7, "frame_id": FRAMES - place}
    annotations = imported(tmp_path, written(pictures / "coco.json", document))
    assert annotations.videos[0].file_names == FRAME_NAMES[::-1]
    same_objects(annotations, [each[::-1] for each in truth().values()])


def test_two_shapes_of_one_track_in_a_frame_are_one_mask(pictures: Path, tmp_path: Path) -> None:
    document = coco()
    for entry in document["annotations"]:
        entry["category_id"] = entry["track_id"] = 5
    annotations = imported(tmp_path, written(pictures / "coco.json", document))
    same_objects(annotations, [np.logical_or.reduce(masks(), axis=1)])


def test_images_without_annotations_are_kept_on_demand(pictures: Path, tmp_path: Path) -> None:
    document = coco()
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] != 11]
    source = written(pictures / "coco.json", document)
    output = tmp_path / "o.json"
    outcome = run_visolo("data", "import", source, "-o", output).succeeded()
    assert "1 images without an annotation are left out: --empty-frames" in outcome.err
    assert len(read_annotations(output).videos[0].file_names) == FRAMES - 1
    annotations = imported(tmp_path, source, "--empty-frames")
    assert len(annotations.videos[0].file_names) == FRAMES


def test_boxes_become_masks_on_demand(pictures: Path, tmp_path: Path) -> None:
    document = coco()
    entry = document["annotations"][0]
    del entry["segmentation"]
    entry["bbox"] = [4, 5, 10, 6]
    document["annotations"] = [entry]
    source = written(pictures / "coco.json", document)
    run_visolo("data", "import", source, "-o", tmp_path / "o.json").refused("--boxes")
    box = np.zeros((1, *SIZE), bool)
    box[0, 5:11, 4:14] = True
    same_objects(imported(tmp_path, source, "--boxes"), [box])


# ------------------------------------------------------------------------------------- CVAT


def cvat_mask(mask: NDArray[np.bool_], more: str = "") -> str:
    code = encode_cvat(mask)
    assert code is not None
    return (
        f'<mask rle="{", ".join(map(str, code.counts))}" left="{code.left}" top="{code.top}" '
        f'width="{code.width}" height="{code.height}" occluded="0" {more}/>'
    )


def cvat_xml(content: str, task: str = "<size>3</size>") -> str:
    labels = "".join(f"<label><name>{label}</name></label>" for label in LABELS)
    size = f"<original_size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></original_size>"
    meta = f"<meta><task>{task}<labels>{labels}</labels>{size}</task><dumped/></meta>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}'
        f"{content}</annotations>"
    )


def polygon(frame: int, shift: float = 0, **more: object) -> str:
    points = ";".join(f"{x + shift:.2f},{y:.2f}" for x, y in POLYGON)
    given = {"outside": 0, "keyframe": 1, "occluded": 0, "z_order": 0} | more
    words = " ".join(f'{name}="{value}"' for name, value in given.items())
    return f'<polygon frame="{frame}" points="{points}" {words}/>'


def boxes_at(*places: tuple[int, int]) -> NDArray[np.bool_]:
    """The polygon as a mask in three frames: pairs of a frame and a shift."""
    filled = np.zeros((FRAMES, *SIZE), bool)
    for frame, shift in places:
        filled[frame, 15:22, 4 + shift : 12 + shift] = True
    return filled


def test_cvat_tracks(pictures: Path, tmp_path: Path) -> None:
    """Every frame that CVAT wrote is read, key frame or not; outside means nothing is there."""
    tracks = (
        f'<track id="0" label="square">{polygon(0)}{polygon(1, 2, keyframe=0)}{polygon(2, 4)}'
        f'</track><track id="1" label="disc">{polygon(0, 20, occluded=1)}'
        f"{polygon(1, 20, outside=1)}{polygon(2, 22)}</track>"
    )
    source = written(tmp_path / "annotations.xml", cvat_xml(tracks))
    annotations = imported(tmp_path, source, "--images", pictures)
    same_objects(annotations, [boxes_at((0, 0), (1, 2), (2, 4)), boxes_at((0, 20), (2, 22))])


def test_cvat_masks_of_a_group_are_one_object(pictures: Path, tmp_path: Path) -> None:
    """CVAT for video writes masks as tracks of one frame."""
    tracks = "".join(
        f'<track id="{3 * frame + place}" label="{label}" group_id="{number}">'
        + cvat_mask(masks()[frame, place], f'frame="{frame}" outside="0" keyframe="1"')
        + "</track>"
        for frame in range(FRAMES)
        for place, (label, number) in enumerate(TRACKS)
        if masks()[frame, place].any()
    )
    source = written(tmp_path / "annotations.xml", cvat_xml(tracks))
    annotations = imported(tmp_path, source, "--images", pictures)
    same_objects(annotations, list(truth().values()))
    ungrouped = written(tmp_path / "a.xml", cvat_xml(tracks).replace("group_id", "no"))
    annotations = imported(tmp_path, ungrouped, "--images", pictures)
    assert len(annotations.videos) == FRAMES  # nothing says which are the same object


def test_cvat_images_with_an_attribute_for_the_number(pictures: Path, tmp_path: Path) -> None:
    images = "".join(
        f'<image id="{frame}" name="{name}" width="{SIZE[1]}" height="{SIZE[0]}">'
        + "".join(
            cvat_mask(masks()[frame, place], f'label="{label}" z_order="0"').replace(
                "/>", f'><attribute name="track_id">{number}</attribute></mask>'
            )
            for place, (label, number) in enumerate(TRACKS)
            if masks()[frame, place].any()
        )
        + "</image>"
        for frame, name in enumerate(FRAME_NAMES)
    )
    folder = tmp_path / "task"
    written(folder / "annotations.xml", cvat_xml(images))
    shutil.copytree(pictures, folder / "images")
    same_objects(imported(tmp_path, folder), list(truth().values()))


def test_cvat_frame_step(tmp_path: Path) -> None:
    """Frames have their numbers in the video, in the export's pictures and in its XML."""
    names = tuple(f"frame_{number:06}.png" for number in (10, 15, 20))
    write_pictures(tmp_path / "images", names)
    task = (
        "<start_frame>10</start_frame><stop_frame>20</stop_frame>"
        "<frame_filter>step=5</frame_filter>"
    )
    track = f'<track id="0" label="disc">{polygon(10)}{polygon(20)}</track>'
    source = written(tmp_path / "annotations.xml", cvat_xml(track, task))
    annotations = imported(tmp_path, source)
    assert annotations.videos[0].file_names == (names[0], names[2])
    annotations = imported(tmp_path, source, "--empty-frames")
    assert annotations.videos[0].file_names == names
    same_objects(annotations, [boxes_at((0, 0), (2, 0))])
    outside = cvat_xml(track.replace('"20"', '"12"'), task)
    written(source, outside)
    run_visolo("data", "import", source, "-o", tmp_path / "o.json").refused("frame 12 is not one")


def test_cvat_task_of_pictures_numbers_them_in_their_order(tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png")
    write_pictures(tmp_path / "images", names)
    track = f'<track id="0" label="disc">{polygon(1)}{polygon(2)}</track>'
    source = written(tmp_path / "annotations.xml", cvat_xml(track))
    assert imported(tmp_path, source).videos[0].file_names == names[1:]
    write_pictures(tmp_path / "images", ("2.png", "10.png"))
    outcome = run_visolo("data", "import", source, "-o", tmp_path / "o.json")
    outcome.refused("numbers of different length")


def test_cvat_layers_are_cut_on_demand(pictures: Path, tmp_path: Path) -> None:
    track = (
        f'<track id="0" label="disc">{polygon(0, z_order=1)}{polygon(1)}</track>'
        f'<track id="1" label="square">{polygon(0, 4)}{polygon(1, 4)}</track>'
    )
    source = written(tmp_path / "annotations.xml", cvat_xml(track))
    whole = imported(tmp_path, source, "--images", pictures)
    cut = imported(tmp_path, source, "--images", pictures, "--cut-covered")
    front, behind = boxes_at((0, 0), (1, 0))[:2], boxes_at((0, 4), (1, 4))[:2]
    same_objects(cut, [front, behind & ~boxes_at((0, 0))[:2]])
    areas = [track.areas for track in whole.tracks]
    assert areas == [(56, 56), (56, 56)]


def test_cvat_boxes_ellipses_and_shapes_without_area(pictures: Path, tmp_path: Path) -> None:
    track = (
        '<track id="0" label="disc">'
        '<ellipse frame="0" cx="20" cy="12" rx="6" ry="6" rotation="30" outside="0"/>'
        '<ellipse frame="1" cx="20" cy="12" rx="8" ry="4" rotation="90" outside="0"/></track>'
        '<track id="1" label="disc"><box frame="0" xtl="2" ytl="3" xbr="10" ybr="9" outside="0"/>'
        '<box frame="1" xtl="2" ytl="3" xbr="10" ybr="9" rotation="90" outside="0"/></track>'
        '<track id="2" label="disc"><points frame="0" points="1,1" outside="0"/></track>'
    )
    source = written(tmp_path / "annotations.xml", cvat_xml(track))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    round_one = np.hypot(rows - 12, columns - 20) <= 6
    turned = ((rows - 12) / 8) ** 2 + ((columns - 20) / 4) ** 2 <= 1
    flat, upright = np.zeros((2, *SIZE), bool)
    flat[3:9, 2:10] = True
    upright[2:10, 3:9] = True
    arguments = ("data", "import", source, "-o", tmp_path / "o.json", "--images", pictures)
    outcome = run_visolo(*arguments).succeeded()
    assert "2 boxes are left out: --boxes" in outcome.err
    assert "1 shapes of type points are left out" in outcome.err
    annotations = imported(tmp_path, source, "--images", pictures, "--boxes")
    same_objects(annotations, [np.array([round_one, turned]), np.array([flat, upright])])


# ----------------------------------------------------------------------------- Label Studio


def region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "type": kind,
        "from_name": "label",
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "image_rotation": 0,
        "value": value,
        **more,
    }


def tasks(*results: dict[str, Any], image: str = FRAME_NAMES[0]) -> list[dict[str, Any]]:
    return [{"data": {"image": image}, "annotations": [{"result": list(results)}]}]


PERCENT = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in POLYGON]
POLYGON_REGION = region("polygonlabels", {"points": PERCENT, "polygonlabels": ["disc"]})


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/3/0a1b2c3d-frame_000000.png",
        "/data/local-files/?d=shots/frame_000000.png",
        "s3://bucket/folder/frame_000000.png",
        "https://example.org/frame%5F000000.png?size=big",
    ],
)
def test_label_studio_polygons_and_addresses(pictures: Path, tmp_path: Path, image: str) -> None:
    source = written(tmp_path / "export.json", tasks(POLYGON_REGION, image=image))
    annotations = imported(tmp_path, source, "--images", pictures)
    same_objects(annotations, [boxes_at((0, 0))[:1]])


def test_label_studio_rectangles_turn_around_their_corner(pictures: Path, tmp_path: Path) -> None:
    value = {"x": 50, "y": 25, "width": 20, "height": 25, "rotation": 90}
    result = region("rectanglelabels", {**value, "rectanglelabels": ["disc"]})
    source = written(tmp_path / "export.json", tasks(result))
    arguments = ("data", "import", source, "-o", tmp_path / "o.json", "--images", pictures)
    run_visolo(*arguments).refused("1 rectangles are left out: --boxes")
    turned = np.zeros((1, *SIZE), bool)
    turned[0, 6:14, 14:20] = True  # 8 wide and 6 high, from x 20 and y 6
    same_objects(imported(tmp_path, source, "--images", pictures, "--boxes"), [turned])


def test_label_studio_ground_truth_goes_before_others(pictures: Path, tmp_path: Path) -> None:
    document = tasks(POLYGON_REGION)
    other = region("ellipselabels", {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9})
    other["value"]["ellipselabels"] = ["square"]
    document[0]["annotations"][0]["ground_truth"] = True
    document[0]["annotations"] += [{"result": [other]}, {"was_cancelled": True, "result": []}]
    source = written(tmp_path / "export.json", document)
    same_objects(imported(tmp_path, source, "--images", pictures), [boxes_at((0, 0))[:1]])


# -------------------------------------------------------------------- DAVIS and YouTube-VOS


def write_palette(path: Path, indices: NDArray[Any], mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices.astype(np.uint8))
    if mode == "P":
        image.putpalette([channel for color in range(256) for channel in (color, 0, 0)])
    image.save(path)


def palette_frames() -> NDArray[np.uint8]:
    """uint8 [frames, H, W]: the objects' numbers, and a piece of void."""
    indices = np.zeros((FRAMES, *SIZE), np.uint8)
    for place, (_, number) in enumerate(TRACKS):
        indices[masks()[:, place]] = number
    indices[:, 23, 30:] = 255
    return indices


def palette_data(folder: Path, inner: str = "") -> None:
    for frame, indices in enumerate(palette_frames()):
        write_palette(folder / "Annotations" / inner / f"clip/{frame:05}.png", indices)
    names = tuple(f"clip/{frame:05}.jpg" for frame in range(FRAMES + 1))
    write_pictures(folder / "JPEGImages" / inner, names)


@pytest.mark.parametrize("inner", ["", "480p"])
def test_davis(tmp_path: Path, inner: str) -> None:
    """255 is of no object, and a frame without a palette picture is left out."""
    palette_data(tmp_path / "DAVIS", inner)
    assert recognise(tmp_path / "DAVIS") == "davis"
    annotations = imported(tmp_path, tmp_path / "DAVIS", "--category", "thing")
    same_objects(annotations, list(truth().values()))
    assert annotations.labels.names == ("thing",)
    assert len(annotations.videos[0].file_names) == FRAMES
    named = imported(tmp_path, tmp_path / "DAVIS" / "Annotations" / inner)
    same_objects(named, list(truth().values()))


def test_davis_2016_has_one_object_of_255(tmp_path: Path) -> None:
    folder = tmp_path / "DAVIS"
    for frame in range(FRAMES):
        indices = np.where(masks()[frame, 0], 255, 0)
        write_palette(folder / "Annotations/clip" / f"{frame:05}.png", indices, "L")
    names = tuple(f"clip/{frame:05}.jpg" for frame in range(FRAMES))
    write_pictures(folder / "JPEGImages", names)
    same_objects(imported(tmp_path, folder), [masks()[:, 0]])


def youtube_vos(folder: Path) -> Path:
    palette_data(folder)
    objects = {str(number): {"category": label} for label, number in TRACKS}
    return written(folder / "meta.json", {"videos": {"clip": {"objects": objects}}})


def test_youtube_vos(tmp_path: Path) -> None:
    meta = youtube_vos(tmp_path / "train")
    assert recognise(meta) == recognise(meta.parent) == "youtube-vos"
    annotations = imported(tmp_path, meta.parent)
    same_objects(annotations, list(truth().values()))
    names = [annotations.labels.names[track.category_id - 1] for track in annotations.tracks]
    assert names == ["disc", "square", "disc"]


# ------------------------------------------------------------------------------------- MOTS


def mots_values(track: int) -> int:
    label, number = TRACKS[track]
    return 1000 * (LABELS.index(label) + 1) + number


def mots_data(folder: Path) -> Path:
    """KITTI's layout, with a region to be ignored in the last frame."""
    names = tuple(f"0003/{frame:06}.png" for frame in range(FRAMES))
    write_pictures(folder / "image_02", names)
    for frame in range(FRAMES):
        pixels = np.zeros(SIZE, np.uint16)
        for track in range(len(TRACKS)):
            pixels[masks()[frame, track]] = mots_values(track)
        if frame == 2:
            pixels[22:, 30:] = 10000
        (folder / "instances/0003").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "instances" / names[frame])
    return folder


def ignored() -> NDArray[np.bool_]:
    region = np.zeros((FRAMES, *SIZE), bool)
    region[2, 22:, 30:] = True
    return region


def test_kitti_mots(tmp_path: Path) -> None:
    """A region to be ignored is a crowd of every class."""
    source = mots_data(tmp_path / "kitti")
    assert recognise(source) == recognise(source / "instances") == "mots"
    annotations = imported(tmp_path, source)
    assert annotations.labels.names == ("car", "pedestrian")
    objects = tuple(track for track in annotations.tracks if not track.crowd)
    same_objects(replace(annotations, tracks=objects), list(truth().values()))
    crowds = [track for track in annotations.tracks if track.crowd]
    assert sorted(track.category_id for track in crowds) == [1, 2]
    for crowd in crowds:
        same_objects(replace(annotations, tracks=(crowd,)), [ignored()])


def mots_lines() -> list[str]:
    return [
        f"{frame} {mots_values(track)} {mots_values(track) // 1000} {SIZE[0]} {SIZE[1]} "
        f"{encode_rle(masks()[frame, track])['counts']}"
        for frame in range(FRAMES)
        for track in range(len(TRACKS))
        if masks()[frame, track].any()
    ]


def test_mots_text(tmp_path: Path) -> None:
    """A picture without a line is a frame without an object."""
    write_pictures(
        tmp_path / "image_02", tuple(f"0003/{frame:06}.png" for frame in range(FRAMES + 1))
    )
    source = written(tmp_path / "instances_txt/0003.txt", "\n".join(mots_lines()) + "\n")
    assert recognise(source) == recognise(source.parent) == "mots-txt"
    expected = [np.concatenate([each, np.zeros((1, *SIZE), bool)]) for each in truth().values()]
    for named in (source, source.parent):
        same_objects(imported(tmp_path, named), expected)


def test_mots_challenge_calls_every_text_gt(tmp_path: Path) -> None:
    names = tuple(f"{frame:06}.jpg" for frame in range(FRAMES))
    write_pictures(tmp_path / "MOTS20-02/img1", names)
    source = written(tmp_path / "MOTS20-02/gt/gt.txt", "\n".join(mots_lines()))
    same_objects(imported(tmp_path, source), list(truth().values()))


# -------------------------------------------------------------------------- what is refused


def png_text(mask: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme(**shape: Any) -> dict[str, Any]:
    entry = {"label": "disc", "points": [list(p) for p in POLYGON], "shape_type": "polygon"}
    return {
        "imagePath": FRAME_NAMES[0],
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "shapes": [{**entry, **shape}],
    }


def changed(document: Any, change: Callable[[Any], object]) -> Any:
    change(document)
    return document


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    "<annotations><version>&b;</version></annotations>"
)
ONE_MASK = '<track id="0" label="disc"><mask frame="0" {}/></track>'
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
        ["images[1]", "name too long"],
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
