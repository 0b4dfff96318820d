"""Every reader of files that come from outside, with valid files to damage.

A reader may refuse a file with a ``VisoloError``. Whatever else it raises is a fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from foreign_clip import FRAMES, SIZE, masks, write_pictures
from foreign_files import (
    FOREIGN,
    FRAME_NAMES,
    POLYGON_REGION,
    coco,
    cvat_mask,
    cvat_xml,
    labelme,
    mots_data,
    mots_lines,
    palette_data,
    polygon,
    tasks,
    youtube_vos,
)
from mutations import (
    Mutation,
    bytes_changed,
    json_changed,
    safetensors_changed,
    text_changed,
    zip_changed,
)
from visolo_core.categories import find_labels
from visolo_core.errors import VisoloError
from visolo_core.masks import encode_rle

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file."""

    name: str
    """Of the file, inside a folder of its own."""
    seeds: Callable[[], list[bytes]]
    """Valid files."""
    read: Callable[[Path], object]
    """Reads the file at a path as commands do."""
    mutations: tuple[Mutation, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    """Writes what belongs beside the file into the folder."""


def _tried(read: Callable[..., object], *arguments: object) -> None:
    """Call a reader that may refuse the file, among others that read it too."""
    try:
        read(*arguments)
    except VisoloError as error:
        if too_much(error):
            raise


def too_much(error: VisoloError) -> bool:
    """Whether a file was refused because of an allocation that failed."""
    cause = error.__cause__
    return isinstance(cause, MemoryError) or "allocate" in str(cause)


# --------------------------------------------------------------------- annotations, results


def _video_document() -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for place, each in enumerate(masks().transpose(1, 0, 2, 3)):
        rles = [encode_rle(mask) if mask.any() else None for mask in each]
        annotations.append(
            {
                "id": place + 1,
                "video_id": 1,
                "category_id": 5,
                "iscrowd": int(place == 2),
                "height": SIZE[0],
                "width": SIZE[1],
                "length": FRAMES,
                "segmentations": rles,
                "areas": [int(mask.sum()) or None for mask in each],
                "bboxes": [[1.0, 2.0, 3.0, 4.0]] * FRAMES,
            }
        )
    annotations[0]["segmentations"][0] = [[4.0, 15.0, 12.0, 15.0, 12.0, 22.0, 4.0, 22.0]]
    annotations[0]["segmentations"][1] = {"size": list(SIZE), "counts": [100, 60, 800]}
    video = {"height": SIZE[0], "width": SIZE[1], "length": FRAMES}
    return {
        "info": {"fps": 25.0},
        "categories": [{"id": 5, "name": "disc"}, {"id": 9, "name": "square"}],
        "videos": [
            {"id": 1, "file_names": list(FRAME_NAMES), **video},
            {"id": 2, "file_names": [f"b/{name}" for name in FRAME_NAMES], **video},
        ],
        "annotations": annotations,
    }


def _annotation_seeds() -> list[bytes]:
    images = coco()
    images["annotations"][0]["segmentation"] = {"size": list(SIZE), "counts": [100, 60, 800]}
    images["annotations"][1] |= {"bbox": [1, 2, 3.5, 4], "area": 12.5, "iscrowd": 1}
    return [json.dumps(each).encode() for each in (_video_document(), images)]


def _read_annotations(path: Path) -> None:
    from visolo_train.data.annotations import read_annotations
    from visolo_train.data.category_maps import as_everyday
    from visolo_train.data.data_check import check_data
    from visolo_train.data.own_data import as_document, read_own_data
    from visolo_train.data.split import split_annotations

    _tried(lambda: json.dumps(check_data(path, path.parent).as_dict(), allow_nan=False))
    _tried(find_labels, str(path))
    _tried(lambda: json.dumps(split_annotations(path, 0.5).training, allow_nan=False))
    annotations = read_annotations(path, crowd_objects=True)
    json.dumps(as_document(annotations), allow_nan=False)
    as_everyday(annotations)
    read_own_data(path, path.parent)


def _result_seeds() -> list[bytes]:
    entries = [
        {"video_id": 1, "category_id": 5, "score": 0.5 + place / 10, "segmentations": segmentations}
        for place, segmentations in enumerate(
            each["segmentations"] for each in _video_document()["annotations"]
        )
    ]
    return [json.dumps(entries).encode()]


def _read_results(path: Path) -> None:
    from visolo_train.data.annotations import read_annotations, read_results
    from visolo_train.evaluation.scoring import score_tracks

    annotations = read_annotations(path.parent / "instances.json")
    score = score_tracks(annotations, read_results(path, annotations))
    json.dumps(score.as_dict(), allow_nan=False)


def _beside_results(folder: Path) -> None:
    (folder / "instances.json").write_bytes(_annotation_seeds()[0])


# ---------------------------------------------------------------------- bundles, checkpoints


def _read_bundle(path: Path) -> None:
    from visolo_runtime.bundle import Bundle

    bundle = Bundle(path.parent)
    bundle.manifest.write(path.parent)
    bundle.check_files()


def _manifests() -> list[bytes]:
    models = ROOT / "runtime/visolo_runtime/models"
    return [
        (models / name / "manifest.json").read_bytes()
        for name in ("everyday.visolo", "lite.visolo")
    ]


@cache
def _checkpoints(suffix: str) -> tuple[bytes, ...]:
    import tempfile

    import torch

    from helpers import TINY
    from untrained import untrained
    from visolo_core.categories import unnamed
    from visolo_core.checkpoint_header import CheckpointHeader
    from visolo_core.nn.checkpoint import Checkpoint, save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"weights{suffix}"
        config = replace(TINY, backbone_width=4)
        header = CheckpointHeader(config, unnamed(config.classes))
        checkpoint = Checkpoint(header, untrained(config).state_dict())
        save_checkpoint(path, checkpoint)
        seeds = [path.read_bytes()]
        if suffix == ".pth":
            name = "model.Category_branch_post.pred.weight"
            official = {"model": {name: torch.ones(3, 4, 3, 3)}, "ema": {"module": {name: 1}}}
            for document in (official, {"state_dict": official["model"], "epoch": 3}):
                for is_zip in (True, False):
                    torch.save(document, path, _use_new_zipfile_serialization=is_zip)
                    seeds.append(path.read_bytes())
    return tuple(seeds)


def _read_checkpoint(path: Path) -> None:
    from visolo_core.checkpoint_header import SAFETENSORS, read_header
    from visolo_core.nn.checkpoint import load_checkpoint
    from visolo_core.nn.official_checkpoint import is_official, load_official

    for read in (
        *([read_header] if path.suffix == SAFETENSORS else [is_official]),
        load_checkpoint,
        lambda path: load_official(path, None, choice="model"),
    ):
        _tried(read, path)


def _programs() -> list[bytes]:
    """An exported program as far as it is checked before PyTorch opens it."""
    import torch

    tensors = io.BytesIO()
    torch.save([torch.ones(2)], tensors)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        model = {"graph": {"as_expr": {"expr_str": "Symbol('s0', integer=True) + 1"}}}
        archive.writestr("frame/models/model.json", json.dumps(model))
        archive.writestr("frame/data/weights/weight_0", b"0123")
        config = {"config": {"weight": {"path_name": "weight_0", "use_pickle": False}}}
        archive.writestr("frame/data/weights/model_weights_config.json", json.dumps(config))
        archive.writestr("frame/data/sample_inputs/model.pt", tensors.getvalue())
    return [written.getvalue()]


def _read_program(path: Path) -> None:
    from visolo_runtime.engines.torch.archive import plain_program

    with contextlib.suppress(ValueError, OSError):  # which its caller expects
        plain_program(path)


# --------------------------------------------------------------------------------- recipes


def _recipes() -> list[bytes]:
    folder = ROOT / "train/visolo_train/learning/recipes"
    return [path.read_bytes() for path in sorted(folder.glob("*.toml"))]


def _read_recipe(path: Path) -> None:
    from visolo_train.learning.data_sets import build_clips
    from visolo_train.learning.recipe import read_recipe

    recipe = read_recipe(str(path), [])
    json.dumps(recipe.fixed(), allow_nan=False)
    recipe.network.config()
    build_clips(recipe, recipe.network.label_set())


def _scores() -> list[bytes]:
    return [b'{"20": 0.25, "40": 0.5, "60": 0.375}']


def _read_scores(path: Path) -> None:
    from visolo_train.learning.best_weights import BestWeights

    scores = BestWeights(path, 60, 3)
    assert scores.is_over in (True, False)


# -------------------------------------------------------------------------------- importers


def _importer(kind: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from visolo_train.importers.assembling import assemble
        from visolo_train.importers.frames import ImportOptions
        from visolo_train.importers.kinds import read_source, recognise

        _tried(recognise, path)
        source = path if path.suffix != ".png" else path.parents[2]
        options = ImportOptions(boxes=True, empty_frames=True, cut_covered=True)
        assembled = assemble(read_source(source, kind, options), source)
        json.dumps(assembled.document, allow_nan=False).encode()

    return read


def _pictures(folder: Path) -> None:
    write_pictures(folder, FRAME_NAMES)


def _cvat_seeds() -> list[bytes]:
    mask = cvat_mask(masks()[0, 0], 'label="disc" z_order="1" group_id="2"')
    shapes = (
        '<ellipse label="disc" cx="20.5" cy="10" rx="5" ry="3.5" rotation="20" z_order="0"/>'
        '<box label="square" xtl="1" ytl="2" xbr="10.5" ybr="12" z_order="2"/>'
        '<polygon label="disc" points="4.0,15.0;12.0,15.0;12.0,22.0"/><points points="1,2"/>'
    )
    image = (
        f'<image id="0" name="{FRAME_NAMES[0]}" width="{SIZE[1]}" height="{SIZE[0]}">'
        f"{mask}{shapes}</image>"
    )
    track = '<track id="0" label="disc" group_id="1">' + polygon(0) + polygon(1, 2) + "</track>"
    stated = (
        "<start_frame>0</start_frame><stop_frame>2</stop_frame><frame_filter>step=1</frame_filter>"
    )
    seeds = [cvat_xml(image), cvat_xml(track, stated)]
    return [each.replace("><", ">\n<").encode() for each in seeds]


def _label_studio_seeds() -> list[bytes]:
    foreign = json.loads((FOREIGN / "label_studio.json").read_text())
    return [json.dumps(each).encode() for each in (tasks(POLYGON_REGION), foreign)]


def _labelme_seeds() -> list[bytes]:
    circle = labelme(shape_type="circle", points=[[20, 10], [25, 12]], group_id=3)
    files = sorted((FOREIGN / "labelme").glob("*.json"))
    documents = [labelme(), circle, *(json.loads(file.read_text()) for file in files[:1])]
    for document in documents:
        document["imagePath"] = FRAME_NAMES[0]
    return [json.dumps(each).encode() for each in documents]


def _mots_seeds() -> list[bytes]:
    return ["\n".join(mots_lines()).encode()]


def _mots_pictures(folder: Path) -> None:
    names = tuple(f"images/{frame:06}.png" for frame in range(FRAMES))
    write_pictures(folder, names)


@cache
def _picture_of(kind: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        if kind == "mots":
            mots_data(Path(folder))
            return (Path(folder) / "instances/0003/000000.png").read_bytes()
        palette_data(Path(folder))
        return (Path(folder) / "Annotations/clip/00000.png").read_bytes()


@cache
def _meta() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return youtube_vos(Path(folder)).read_bytes()


_JSON = (json_changed, json_changed, json_changed, bytes_changed)
_TEXT = (text_changed, text_changed, bytes_changed)

READERS: dict[str, Reader] = {
    "annotations": Reader("instances.json", _annotation_seeds, _read_annotations, _JSON, _pictures),
    "results": Reader("results.json", _result_seeds, _read_results, _JSON, _beside_results),
    "manifest": Reader("manifest.json", _manifests, _read_bundle, _JSON),
    "safetensors": Reader(
        "weights.safetensors",
        lambda: list(_checkpoints(".safetensors")),
        _read_checkpoint,
        (safetensors_changed, safetensors_changed, bytes_changed),
    ),
    "pth": Reader(
        "weights.pth",
        lambda: list(_checkpoints(".pth")),
        _read_checkpoint,
        (zip_changed, zip_changed, bytes_changed),
    ),
    "program": Reader("frame.pt2", _programs, _read_program, (zip_changed, bytes_changed)),
    "recipe": Reader("recipe.toml", _recipes, _read_recipe, _TEXT),
    "scores": Reader("scores.json", _scores, _read_scores, _JSON),
    "cvat": Reader("annotations.xml", _cvat_seeds, _importer("cvat"), _TEXT, _pictures),
    "coco": Reader(
        "coco.json", lambda: _annotation_seeds()[1:], _importer("coco"), _JSON, _pictures
    ),
    "label-studio": Reader(
        "tasks.json", _label_studio_seeds, _importer("label-studio"), _JSON, _pictures
    ),
    "labelme": Reader("frame_000000.json", _labelme_seeds, _importer("labelme"), _JSON, _pictures),
    "youtube-vos": Reader(
        "meta.json", lambda: [_meta()], _importer("youtube-vos"), _JSON, youtube_vos
    ),
    "mots-txt": Reader("clip.txt", _mots_seeds, _importer("mots-txt"), _TEXT, _mots_pictures),
    "davis": Reader(
        "Annotations/clip/00000.png",
        lambda: [_picture_of("davis")],
        _importer("davis"),
        (bytes_changed,),
        palette_data,
    ),
    "mots": Reader(
        "instances/0003/000000.png",
        lambda: [_picture_of("mots")],
        _importer("mots"),
        (bytes_changed,),
        mots_data,
    ),
}


def fault_of(reader: Reader, path: Path) -> Exception | None:
    """What reading a file raises that is no ``VisoloError``, if anything; and an allocation that
    failed, even if a sentence was made of it."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            reader.read(path)
    except VisoloError as error:
        return error if too_much(error) else None
    except Exception as error:
        return error
    return None


def place(reader: Reader, folder: Path) -> Path:
    """The path of the file in a folder that is prepared for it."""
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    reader.prepare(folder)
    return path
