"""The clip of foreign_clip.py as other programs' files, written by hand, and what is compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from foreign_clip import FRAMES, LABELS, POLYGON, SIZE, TRACKS, masks, write_pictures
from helpers import run_visolo
from visolo_core.cvat import encode_cvat
from visolo_core.masks import decode_rle, encode_rle
from visolo_train.data.annotations import Annotations, read_annotations

FOREIGN = Path(__file__).parent / "train/foreign"

FRAME_NAMES = tuple(f"frame_{number:06}.png" for number in range(FRAMES))


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


def youtube_vos(folder: Path) -> Path:
    palette_data(folder)
    objects = {str(number): {"category": label} for label, number in TRACKS}
    return written(folder / "meta.json", {"videos": {"clip": {"objects": objects}}})


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


def mots_lines() -> list[str]:
    return [
        f"{frame} {mots_values(track)} {mots_values(track) // 1000} {SIZE[0]} {SIZE[1]} "
        f"{encode_rle(masks()[frame, track])['counts']}"
        for frame in range(FRAMES)
        for track in range(len(TRACKS))
        if masks()[frame, track].any()
    ]


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
