"""CVAT's XML: tracks, groups, frames by number and layers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from foreign_clip import FRAMES, SIZE, TRACKS, masks, write_pictures
from foreign_files import (
    FRAME_NAMES,
    boxes_at,
    cvat_mask,
    cvat_xml,
    imported,
    polygon,
    same_objects,
    truth,
    written,
)
from helpers import run_visolo


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
