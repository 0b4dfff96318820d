"""Clips composed of cut-outs: exact masks, cut-off objects, sizes, and the same clip every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visolo_core.categories import find_labels
from visolo_core.errors import VisoloError
from visolo_core.masks import encode_rle
from visolo_train.data import pasting
from visolo_train.data.actors import Cast
from visolo_train.data.annotations import Annotations, read_annotations
from visolo_train.data.camera import Camera, draw_camera, photograph, smeared
from visolo_train.data.category_maps import is_living
from visolo_train.data.cut_outs import Pictures, Stock
from visolo_train.data.layers import Bend, draw_bend, draw_look
from visolo_train.data.pasted_path import draw_pasted_path
from visolo_train.data.pasting import PastedClips
from visolo_train.data.split import split_annotations, without_held_out
from visolo_train.data.synthetic import Random
from visolo_train.learning.clips import ComposedClips, Sampling

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


def perfect(random: Random) -> Camera:
    """A camera that changes nothing."""
    return Camera(np.ones(3, np.float32), 1.0, False, 0.0, 1.0, 0.0, 0.0, 0.0, 0)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Photos of a red square and a blue one on green, the blue one cut off at the bottom in one of
    them; and green backgrounds."""
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "backgrounds").mkdir()
    red, blue, low = (np.zeros((80, 120), bool) for _ in range(3))
    red[10:50, 10:50] = blue[30:70, 60:110] = low[30:80, 40:70] = True
    entries: list[dict[str, Any]] = []
    for image_id, objects in ((1, [(5, red, RED), (7, blue, BLUE)]), (2, [(7, low, BLUE)])):
        picture = np.full((80, 120, 3), GREEN, np.uint8)
        for category, mask, colour in objects:
            picture[mask] = colour
            rle = encode_rle(mask)
            entries.append({"image_id": image_id, "category_id": category, "segmentation": rle})
        Image.fromarray(picture).save(tmp_path / "JPEGImages" / f"{image_id}.png")
    background = np.full((60, 90, 3), GREEN, np.uint8)
    Image.fromarray(background).save(tmp_path / "backgrounds" / "green.png")
    document = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": 80, "width": 120, "exhaustive": True}
            for n in (1, 2)
        ],
        "categories": [{"id": 5, "name": "red"}, {"id": 7, "name": "blue"}],
        "annotations": [{"id": at, **entry} for at, entry in enumerate(entries, 1)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document))
    return tmp_path


Compose = Callable[..., PastedClips]


@pytest.fixture
def compose(flat: Path) -> Compose:
    """Clips of the flat photos, with some arguments of their own."""

    def composed(**arguments: Any) -> PastedClips:
        annotations = read_annotations(flat / "instances.json")
        return PastedClips(annotations, flat / "JPEGImages", **arguments)

    return composed


@pytest.mark.parametrize("photos", [0.0, 1.0])
@pytest.mark.parametrize("with_backgrounds", [False, True])
def test_the_colour_of_a_pixel_shows_its_object(
    flat: Path, compose: Compose, photos: float, with_backgrounds: bool
) -> None:
    """Whatever hides whatever: red where the red square is said to be, blue for the blue ones."""
    folder = flat / "backgrounds" if with_backgrounds else None
    pasted = compose(backgrounds=folder, photos=photos, cameras=perfect)
    wrong, several = [], 0
    for number in range(12):
        clip = pasted.draw(1, number, 6, 96, 144)
        assert clip.masks.sum(axis=1).max() <= 1, "a pixel belongs to two objects"
        several += clip.masks.any(axis=(0, 2, 3)).sum() > 1
        brightest = clip.frames.argmax(axis=-1)  # 0 red, 1 green, 2 blue
        truth = np.ones_like(brightest)
        for index, category in enumerate(clip.category_ids):
            truth[clip.masks[:, index]] = {5: 0, 7: 2}[category]
        differs = brightest != truth
        if photos:  # the colour around a photo may be any
            differs &= truth != 1
        wrong.append(differs.mean())
    assert several
    assert max(wrong) < 0.03  # edges are blended


def test_a_clip_is_a_function_of_its_number(flat: Path, compose: Compose) -> None:
    pasted = compose(backgrounds=flat / "backgrounds", photos=0.4)
    for number in range(10):
        whole = pasted.draw(1, number, 9, 64, 96)
        # Another process, which has drawn nothing before, draws the same.
        again = compose(backgrounds=flat / "backgrounds", photos=0.4).draw(1, number, 9, 64, 96)
        assert np.array_equal(whole.frames, again.frames)
        assert np.array_equal(whole.masks, again.masks)
        some = pasted.draw(1, number, 9, 64, 96, [2, 7, 7])
        assert np.array_equal(some.frames, whole.frames[[2, 7, 7]])
        assert np.array_equal(some.masks, whole.masks[[2, 7, 7]])
    first, other = pasted.draw(2, 0, 9, 64, 96), pasted.draw(1, 0, 9, 64, 96)
    assert not np.array_equal(first.frames, other.frames)


def test_objects_cut_off_by_their_photo_stand_at_the_edge(flat: Path) -> None:
    stock = Stock(read_annotations(flat / "instances.json"), flat / "JPEGImages")
    cuts = [stock.cut_out(source, 0) for source in stock.sources]
    assert [each.cut for each in cuts if each] == [
        (False,) * 4, (False,) * 4, (False, False, False, True),
    ]  # fmt: skip
    random = np.random.default_rng(3)
    for _ in range(50):
        path = draw_pasted_path(random, 9, (96, 144), 40, 0.6, (False, False, False, True))
        for frame in range(9):
            pose = path.pose(frame)
            # The lower corners, turned, are below the frame.
            down = pose.height / 2 * np.cos(pose.angle)
            across = pose.height * 0.6 / 2 * abs(np.sin(pose.angle))
            assert pose.y + down - across >= 96 - 1


def test_pieces_of_other_pictures_move_about(
    flat: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the objects, beside the scenery before them, and they belong to nobody."""
    yellow = Image.new("RGB", (90, 60), (220, 220, 30))
    yellow.save(flat / "backgrounds" / "yellow.png")
    pasted = compose(backgrounds=flat / "backgrounds", cameras=perfect)

    def shown() -> int:
        clips = 0
        for number in range(40):
            clip = pasted.draw(6, number, 2, 96, 144)
            bare = clip.frames[0][~clip.masks[0].any(axis=0)].astype(int)
            red = bare[:, 0] > 128  # as yellow has, and green has not
            clips += 40 < red.sum() < len(red) - 40
        return clips

    monkeypatch.setattr(pasting, "_SCENERY", 0.0)
    some = shown()
    monkeypatch.setattr(pasting, "_DECOYS", 0.0)
    assert shown() == 0
    assert 4 <= some <= 20


def test_another_posture_keeps_the_size_and_both_ends() -> None:
    """Rows move; nothing is torn or lost."""
    pixels = np.zeros((90, 40, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[..., 0] = np.linspace(0, 255, 90)[:, None]
    image = Image.fromarray(pixels)
    same = np.asarray(Bend(0.0, (0.0, 0.0), 0.0).applied(image)).astype(int)
    assert np.abs(same - pixels).max() <= 3
    random = np.random.default_rng(2)
    widest = 0
    for _ in range(40):
        bent = np.asarray(draw_bend(random).applied(image))
        assert bent.shape[0] == 90
        opaque = bent[..., 3] > 128
        assert np.all(np.abs(opaque.sum(axis=1) - 40) <= 2)
        assert bent[0, opaque[0], 0].mean() < 16
        assert bent[-1, opaque[-1], 0].mean() > 239
        middles = [np.flatnonzero(row).mean() for row in opaque]
        assert np.abs(np.diff(middles)).max() < 4
        widest = max(widest, bent.shape[1])
    assert widest > 60


def test_people_and_animals_bend_and_cars_do_not() -> None:
    assert is_living("person")
    assert is_living("giant panda")
    assert not is_living("car")
    assert not is_living("a thing of one's own")
    random = np.random.default_rng(5)
    supple = [draw_look(random, supple=True).bend is not None for _ in range(100)]
    assert 30 < sum(supple) < 70
    assert not any(draw_look(random).bend for _ in range(100))


def test_sizes_reach_from_a_few_pixels_to_the_whole_frame(flat: Path, compose: Compose) -> None:
    pasted = compose(backgrounds=flat / "backgrounds", cameras=perfect)
    heights = []
    for number in range(120):
        clip = pasted.draw(4, number, 1, 128, 224)
        heights += [mask.any(axis=1).sum() for mask in clip.masks[0] if mask.any()]
    assert min(heights) < 12
    assert max(heights) > 70


def test_cameras_change_pixels_and_keep_the_size() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(photograph(perfect(random), random, picture), picture)
    cameras = [draw_camera(random) for _ in range(60)]
    assert any(camera.quality for camera in cameras)
    assert any(camera.shake for camera in cameras)
    for camera in cameras:
        seen = photograph(camera, random, picture)
        assert seen.shape == picture.shape
        assert seen.dtype == np.uint8


def test_motion_blur_spreads_along_its_direction() -> None:
    layer = np.zeros((21, 21, 1), np.float32)
    layer[10, 10] = 1
    across = smeared(layer, 6, 0.0)
    assert across.sum() == pytest.approx(1)
    rows, columns = across[..., 0].any(axis=1), across[..., 0].any(axis=0)
    assert (rows.sum(), columns.sum()) == (1, 7)


def test_pictures_are_read_once_and_forgotten_in_time(flat: Path) -> None:
    pictures = Pictures(flat / "JPEGImages", limit=80 * 120 * 3)
    first = pictures.read("1.png")
    assert pictures.read("1.png") is first
    pictures.read("2.png")
    assert pictures.read("1.png") is not first


def test_data_without_a_backdrop(flat: Path, compose: Compose) -> None:
    document = json.loads((flat / "instances.json").read_text())
    for image in document["images"]:
        image["exhaustive"] = False
    (flat / "instances.json").write_text(json.dumps(document))
    with pytest.raises(VisoloError, match="no picture annotated in full"):
        compose()
    compose(backgrounds=flat / "backgrounds").draw(1, 0, 2, 64, 96)
    with pytest.raises(VisoloError, match="no pictures to paste on"):
        compose(backgrounds=flat / "nowhere")


def test_training_clips(flat: Path, compose: Compose) -> None:
    (flat / "labels.json").write_text((flat / "instances.json").read_text())
    labels = find_labels(str(flat / "labels.json"))
    pasted = compose(backgrounds=flat / "backgrounds")
    clips = ComposedClips(pasted, labels, (64, 96), Sampling(3, 8), seed=3)
    for number in range(6):
        clip = clips[number]
        assert clip.frames.shape == (3, 3, 64, 96)
        assert clip.masks.shape == (3, len(clip.classes), 64, 96)
        assert set(clip.classes.tolist()) <= {0, 1}  # places among the labels, not ids
        assert torch.equal(clip.frames, clips[number].frames)


def test_photos_with_something_unannotated_say_so(flat: Path, compose: Compose) -> None:
    document = json.loads((flat / "instances.json").read_text())
    document["images"][1]["exhaustive"] = False  # the one with a blue square only
    (flat / "instances.json").write_text(json.dumps(document))
    pasted = compose(photos=1.0)
    labels = find_labels(str(flat / "instances.json"))
    clips = ComposedClips(pasted, labels, (64, 96), Sampling(2, 4), seed=1)
    seen = set()
    for number in range(12):
        annotated = pasted.draw(1, number, 5, 64, 96).annotated
        unsure = clips[number].unsure.tolist()
        assert (annotated, unsure) in ((None, []), ((7,), [0]))  # red may be there too
        seen.add(annotated)
    assert len(seen) == 2


def test_categories_that_are_annotated_in_every_photo(flat: Path, compose: Compose) -> None:
    """The photo with a blue square only says that no red one is in it."""
    document = json.loads((flat / "instances.json").read_text())
    document["images"][1]["exhaustive"] = False
    (flat / "instances.json").write_text(json.dumps(document))
    labels = find_labels(str(flat / "instances.json"))
    arguments = (compose(photos=1.0), labels, (64, 96), Sampling(2, 4), 1)
    for names, expected in (((), {0, 1}), (["blue"], {0, 1}), (["Red"], {0})):
        clips = ComposedClips(*arguments, names)
        assert {len(clips[number].unsure) for number in range(12)} == expected
    with pytest.raises(VisoloError, match="class 'green' is unknown: choose from red, blue"):
        ComposedClips(*arguments, ["red", "green"])


def test_stretched_photos_fill_the_frame(flat: Path, compose: Compose) -> None:
    """A photo of 120x80 in clips of 64x64: where it is stretched, its squares are narrow."""

    def widths(stretched: float) -> list[float]:
        pasted = compose(photos=1.0, stretched=stretched, cameras=perfect)
        ratios = []
        for number in range(60):
            clip = pasted.draw(6, number, 1, 64, 64)
            for category, mask in zip(clip.category_ids[:2], clip.masks[0], strict=False):
                rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
                if category == 5 and rows > 8 and 0 < columns < 60:
                    ratios.append(columns / rows)
        return ratios

    assert np.median(widths(1.0)) < 0.8 < np.median(widths(0.0))


def test_clips_without_an_object(flat: Path, compose: Compose) -> None:
    """On a picture without objects nothing is pasted; photos are as they are with every share."""
    backgrounds = flat / "backgrounds"

    def objects(photos: float, empty: float) -> list[int]:
        pasted = compose(backgrounds=backgrounds, photos=photos, empty=empty)
        return [len(pasted.draw(4, number, 2, 64, 96).category_ids) for number in range(60)]

    none = objects(0.0, 1.0)
    assert 0.5 < np.mean([each == 0 for each in none]) < 1  # others are photos annotated in full
    assert max(none) <= 2  # which have no more than what they show
    some = np.mean([each == 0 for each in objects(0.0, 0.3)])
    assert 0.05 < some < 0.6
    assert 0 not in objects(0.0, 0.0)
    assert objects(1.0, 1.0) == objects(1.0, 0.0)


def test_one_leaves_and_another_comes(flat: Path) -> None:
    annotations = read_annotations(flat / "instances.json")
    cast = Cast(Stock(annotations, flat / "JPEGImages"), annotations.labels)
    changes = 0
    for number in range(40):
        random = np.random.default_rng(number)
        actors = cast.draw_actors(random, 30, (96, 144))
        first, *others = cast.relayed(random, actors, 30)
        if len(others) == len(actors) - 1:  # nobody of its class is left to come
            assert [first, *others] == actors
            continue
        changes += 1
        assert others[1:] == actors[1:]
        leaving, coming = first.present[1], others[0].present[0]
        assert 6 <= leaving <= coming <= 30
        assert first.source.track.category_id == others[0].source.track.category_id
        assert first.source is not others[0].source
        for position in range(30):
            seen = [cast.pixels(each, 0, position, {}) for each in (first, others[0])]
            assert [each is not None for each in seen] == [position <= leaving, position >= coming]
    assert changes > 5


def test_clips_with_a_relay(flat: Path, compose: Compose) -> None:
    """One object more than without; two of a class are never seen together."""
    backgrounds = flat / "backgrounds"
    relayed, others = (compose(backgrounds=backgrounds, relays=each) for each in (1.0, 0.0))
    pairs = 0
    for number in range(20):
        clip = relayed.draw(3, number, 12, 64, 96)
        before = others.draw(3, number, 12, 64, 96)
        if len(clip.category_ids) > len(before.category_ids):
            visible = np.asarray(clip.masks.any(axis=(2, 3)))
            apart = ~(visible[:, :-1] & visible[:, 1:])
            assert (apart.all(axis=0) & (np.diff(clip.category_ids) == 0)).any()
            pairs += 1
    assert pairs > 3


@pytest.mark.parametrize("kind", ["photos", "videos"])
def test_what_is_held_out_is_the_split_of_the_command(tmp_path: Path, kind: str) -> None:
    common = {"height": 8, "width": 8}
    names = [f"{number:04}" for number in range(30)]
    document: dict[str, Any] = {"categories": [{"id": 1, "name": "thing"}], "annotations": []}
    if kind == "photos":
        photos = [{"id": n, "file_name": f"{name}.jpg", **common} for n, name in enumerate(names)]
        document["images"] = photos
    else:
        document["videos"] = [
            {"id": n, "file_names": [f"{name}/0.jpg", f"{name}/1.jpg"], **common}
            for n, name in enumerate(names)
        ]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    annotations = read_annotations(path)
    split = split_annotations(path, 0.4)
    place = "images" if kind == "photos" else "videos"

    def ids(part: Annotations) -> list[int]:
        return [video.video_id for video in part.videos]

    rest = without_held_out(annotations, path, 0.4)
    assert ids(rest) == [v["id"] for v in split.training[place]]
    assert {track.video_id for track in rest.tracks} <= set(ids(rest))
    assert without_held_out(annotations, path, 0) is annotations
