"""COCO, LabelMe and Label Studio: files of these programs and by hand, read to the pixel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from foreign_clip import FRAMES, LABELS, POLYGON, SIZE, TRACKS, masks
from foreign_files import (
    FOREIGN,
    FRAME_NAMES,
    PERCENT,
    POLYGON_REGION,
    boxes_at,
    coco,
    imported,
    labelme,
    region,
    same_objects,
    tasks,
    truth,
    written,
)
from helpers import run_visolo
from visolo_train.data.annotations import read_annotations
from visolo_train.importers.kinds import recognise


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


def test_labelme_rectangles_circles_and_shapes_without_area(pictures: Path, tmp_path: Path) -> None:
    document = labelme(shape_type="rectangle", points=[[10, 9], [2, 3]])
    document["shapes"] += labelme(shape_type="circle", points=[[20, 12], [20, 18]])["shapes"]
    document["shapes"] += labelme(shape_type="point", points=[[1, 1]])["shapes"]
    source = written(pictures / "a.json", document)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    circle = (np.hypot(rows - 12, columns - 20) <= 6)[None]
    rectangle = np.zeros((1, *SIZE), bool)
    rectangle[0, 3:9, 2:10] = True
    arguments = ("data", "import", source, "-o", tmp_path / "o.json")
    outcome = run_visolo(*arguments).succeeded()
    assert "1 rectangles are left out: --boxes" in outcome.err
    assert "1 shapes of type point are left out: they have no area" in outcome.err
    same_objects(read_annotations(tmp_path / "o.json"), [circle])
    same_objects(imported(tmp_path, source, "--boxes"), [rectangle, circle])


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


def test_label_studio_labels_and_numbers_may_be_results_of_their_own(
    pictures: Path, tmp_path: Path
) -> None:
    """As with the tags Polygon and Labels, and with a text or a choice for the number."""
    document = []
    for place, name in enumerate(FRAME_NAMES[:2]):
        number = {"text": ["7"]} if place else {"choices": ["7"]}
        results = [
            region("polygon", {"points": PERCENT}),
            region("labels", {"points": PERCENT, "labels": ["disc"]}),
            region("textarea", number, from_name="track_id"),
            region("choices", {"choices": ["x"]}, id="other"),
        ]
        document += tasks(*results, image=name)
    document += [{"data": {"image": FRAME_NAMES[2]}, "annotations": []}]
    source = written(tmp_path / "export.json", document)
    arguments = ("data", "import", source, "-o", tmp_path / "o.json", "--images", pictures)
    outcome = run_visolo(*arguments).succeeded()
    assert "1 tasks without an annotation are left out" in outcome.err
    assert "results of type choices are left out" in outcome.err
    same_objects(read_annotations(tmp_path / "o.json"), [boxes_at((0, 0), (1, 0))[:2]])
