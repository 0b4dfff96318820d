"""Writes the files of this folder with the programs' own code, from tests/foreign_clip.py.

In an environment of their own, since they need much:

    python -m venv venv && venv/bin/pip install datumaro==1.13.12 label-studio-sdk==2.1.2
    venv/bin/pip install labelme==6.3.1
    QT_QPA_PLATFORM=offscreen PYTHONPATH=tests venv/bin/python tests/train/foreign/make_files.py

Datumaro is the library with which CVAT exports COCO and MOTS.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from foreign_clip import FRAMES, LABELS, POLYGON, SIZE, TRACKS, masks, write_pictures

HERE = Path(__file__).parent
NAMES = tuple(f"frame_{number:06}" for number in range(FRAMES))


def main() -> None:
    """Write everything."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_pictures(work / "pictures", tuple(f"{stem}.png" for stem in NAMES))
        datumaro_files(work)
        label_studio(work)
    labelme()


def datumaro_files(work: Path) -> None:
    """COCO and MOTS as CVAT exports them, and Datumaro's own CVAT writer."""
    import datumaro as dm

    def mask(frame: int, track: int, **attributes: Any) -> Any:
        label, number = TRACKS[track]
        return dm.Mask(
            masks()[frame, track],
            label=LABELS.index(label),
            id=10 * frame + number,
            group=number,
            attributes={"track_id": number, "occluded": False, **attributes},
        )

    def dataset(**attributes: Any) -> Any:
        items = [
            dm.DatasetItem(
                id=stem,
                subset="default",
                media=dm.Image.from_file(path=str(work / "pictures" / f"{stem}.png")),
                attributes={"frame": frame},
                annotations=[
                    mask(frame, track, **attributes)
                    for track in range(len(TRACKS))
                    if masks()[frame, track].any()
                ],
            )
            for frame, stem in enumerate(NAMES)
        ]
        return dm.Dataset.from_iterable(items, categories=list(LABELS))

    dataset(is_crowd=True).export(str(work / "coco"), "coco_instances", save_media=False)
    place(work / "coco/annotations/instances_default.json", HERE / "datumaro_coco.json")
    dataset().export(str(work / "mots"), "mots_png", save_media=False)
    for file in sorted((work / "mots/default/instances").iterdir()):
        place(file, HERE / "datumaro_mots/instances" / file.name)
    dataset().export(str(work / "cvat"), "cvat", save_media=False)
    (file,) = (work / "cvat").glob("*.xml")
    place(file, HERE / "datumaro_cvat.xml")


def label_studio(work: Path) -> None:
    """Brush masks by Label Studio's encoder, in an export of its form."""
    from label_studio_sdk.converter.brush import mask2rle

    tasks = []
    for frame, stem in enumerate(NAMES):
        result = []
        for track, (label, number) in enumerate(TRACKS):
            if not masks()[frame, track].any():
                continue
            region = {
                "id": f"r{number}",
                "to_name": "image",
                "origin": "manual",
                "image_rotation": 0,
                "original_width": SIZE[1],
                "original_height": SIZE[0],
            }
            pixels = masks()[frame, track].astype(np.uint8) * 255
            code = [int(byte) for byte in mask2rle(pixels)]
            brush = {"format": "rle", "rle": code, "brushlabels": [label]}
            result.append({**region, "type": "brushlabels", "from_name": "brush", "value": brush})
            result.append(
                {**region, "type": "number", "from_name": "track_id", "value": {"number": number}}
            )
        tasks.append(
            {
                "id": frame + 1,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{stem}.png"},
                "annotations": [{"id": 1, "was_cancelled": False, "result": result}],
            }
        )
    (HERE / "label_studio.json").write_text(json.dumps(tasks))


def labelme() -> None:
    """Masks and a polygon by LabelMe's writer."""
    import labelme.utils
    from labelme._label_file import write_label_file

    (HERE / "labelme").mkdir(exist_ok=True)
    for frame, stem in enumerate(NAMES):
        shapes: list[dict[str, Any]] = []
        for track, (label, number) in enumerate(TRACKS):
            pixels = masks()[frame, track]
            if not pixels.any():
                continue
            rows, columns = np.nonzero(pixels)
            top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
            part = pixels[top : bottom + 1, left : right + 1]
            shapes.append(
                {
                    "label": label,
                    "points": [[float(left), float(top)], [float(right), float(bottom)]],
                    "group_id": number,
                    "description": "",
                    "shape_type": "mask",
                    "flags": {},
                    "mask": labelme.utils.img_arr_to_b64(part.astype(np.uint8) * 255),
                }
            )
        shapes.append(
            {
                "label": "square",
                "points": [list(point) for point in POLYGON],
                "group_id": 4,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
        )
        write_label_file(
            str(HERE / "labelme" / f"{stem}.json"),
            shapes=shapes,
            image_path=f"{stem}.png",
            image_height=SIZE[0],
            image_width=SIZE[1],
        )


def place(source: Path, target: Path) -> None:
    """Copy a file to where it is kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


if __name__ == "__main__":
    main()
