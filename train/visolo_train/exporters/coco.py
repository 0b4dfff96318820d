"""A data set as COCO's json with track numbers, which CVAT imports as "COCO 1.0".

CVAT reads a mask from run lengths that are not compressed. It keeps an object's number if the label
has an attribute ``track_id``. With an attribute ``keyframe``, it would build tracks of masks, which
it cannot show.
"""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_mask

from visolo_core.masks import run_lengths
from visolo_train.data.annotations import Annotations


def coco_document(annotations: Annotations) -> dict[str, Any]:
    """The json document. Images keep the numbers of their video and their position in it."""
    labels = annotations.labels
    document: dict[str, Any] = {
        "info": {},
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in zip(labels.ids, labels.names, strict=True)
        ],
        "videos": [{"id": video.video_id} for video in annotations.videos],
        "images": [],
        "annotations": [],
    }
    first_image: dict[int, int] = {}
    for video in annotations.videos:
        first_image[video.video_id] = len(document["images"]) + 1
        for position, name in enumerate(video.file_names):
            document["images"].append(
                {
                    "id": len(document["images"]) + 1,
                    "file_name": name,
                    "height": video.height,
                    "width": video.width,
                    "video_id": video.video_id,
                    "frame_id": position,
                }
            )
    for number, track in enumerate(annotations.tracks, start=1):
        for position, rle in enumerate(track.segmentations):
            if rle is None:
                continue
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": first_image[track.video_id] + position,
                    "category_id": track.category_id,
                    "segmentation": {
                        "counts": run_lengths(rle["counts"]).tolist(),
                        "size": rle["size"],
                    },
                    "area": float(coco_mask.area(rle)),
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "iscrowd": int(track.crowd),
                    "attributes": {"occluded": False, "track_id": number},
                }
            )
    return document
