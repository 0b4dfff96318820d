"""Generates the weights and the videos that the golden results belong to.

Official checkpoints cannot be shipped, so the official implementation was run on weights drawn from
a counter-based generator, which is seeded with each parameter's official name. They are tuned so
that the untrained network detects, loses and recovers a dozen instances. This module draws the same
numbers; the CRC-32 of every parameter and frame is recorded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ---------------------------------------------------------------------------- weights


def draw_weights(
    shapes: Mapping[str, Sequence[int]], offset: int, constants: Mapping[str, Any]
) -> dict[str, Array]:
    """Float32 parameters by official name (``model.*``)."""
    return {name: _parameter(name, tuple(shapes[name]), offset, constants) for name in shapes}


def _parameter(name: str, shape: tuple[int, ...], offset: int, tuned: Mapping[str, Any]) -> Array:
    seed_name = name.replace(".track_R_", ".track_Q_") if tuned["tie_tracking"] else name
    key = zlib.crc32(seed_name.encode()) + (offset << 32)
    generator = np.random.Generator(np.random.Philox(key=key))
    values = _draw(generator, name, shape)
    branch_and_layer, leaf = name.removeprefix("model.").rsplit(".", 1)
    match branch_and_layer, leaf:
        # The first channel of queries and keys is a constant, so every match logit is shifted.
        case (
            ("Tracking_branch.track_Q_conv2.norm" | "Tracking_branch.track_R_conv2.norm"),
            "weight",
        ):
            values = values * tuned["tra_scale"]
            values[0] = 0
        case "Tracking_branch.track_Q_conv2.norm", "bias":
            values[0] = 1
        case "Tracking_branch.track_R_conv2.norm", "bias":
            values[0] = tuned["tra_off"]
        # The same holds for mask features and kernels, so every mask logit is shifted.
        case "Mask_branch.pred.norm", "weight":
            values[0] = 0
        case "Mask_branch.pred.norm", "bias":
            values[0] = 1
        case "Kernel_branch.pred.norm", "weight":
            values[0] = 0
            values = values * tuned["ker_scale"]
        case "Kernel_branch.pred.norm", "bias":
            values = values * tuned["ker_bias_gain"]
            values[0] = tuned["mask_off"]
        case "Category_branch_post.pred", "weight":
            values = values * tuned["cat_scale"]
        case "Category_branch_post.pred", "bias":
            values = values + tuned["cat_bias"]
        case (("Kernel_branch.conv_layers.kernel_conv1" | "Mask_branch.convR4"), "weight"):
            values[:, -2:] *= tuned["coord_gain"]
    return np.ascontiguousarray(values, np.float32)


def _draw(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    leaf = name.rsplit(".", 1)[1]
    if leaf == "running_var" or (leaf == "weight" and ".norm." in name):
        return np.asarray(generator.uniform(0.8, 1.2, shape))
    normal: Array = generator.standard_normal(shape)
    if leaf != "weight":
        return normal * 0.05
    normal = normal - normal.mean(axis=(1, 2, 3), keepdims=True)
    scaled: Array = normal * np.sqrt(2.0 / np.prod(shape[1:]))
    return scaled


# ------------------------------------------------------------------------------ video

# Each object: ellipse or rectangle; centre in thousandths of the frame; half sizes in thousandths
# of its height; speed in half thousandths a frame; two colours; size of the checks in pixels; and
# the frames (from, to) in which it is hidden.
VIDEOS: dict[str, tuple[tuple[Any, ...], ...]] = {}
VIDEOS["A"] = (
    ("e", (200, 300), (170, 150), (28, 14), (230, 40, 40), (250, 200, 60), 9, ()),
    ("r", (760, 640), (140, 190), (-24, -16), (30, 60, 220), (40, 220, 230), 7, ((4, 7),)),
    ("e", (480, 820), (120, 110), (12, -36), (20, 200, 40), (0, 60, 0), 5, ((0, 2), (8, 9))),
    ("r", (880, 180), (110, 120), (-34, 22), (245, 245, 245), (10, 10, 10), 11, ((6, 10),)),
    ("e", (520, 420), (220, 170), (8, 20), (200, 30, 200), (90, 0, 120), 13, ((3, 5),)),
)
VIDEOS["B"] = (
    ("r", (180, 620), (160, 170), (22, -18), (250, 120, 0), (80, 30, 0), 8, ((7, 12),)),
    ("e", (640, 260), (200, 140), (-20, 20), (0, 120, 250), (240, 250, 255), 10, ()),
    ("e", (860, 700), (130, 160), (-30, -10), (20, 230, 90), (0, 50, 20), 6, ((3, 6), (14, 18))),
    ("r", (420, 200), (110, 130), (16, 30), (235, 235, 30), (120, 0, 0), 12, ((0, 3), (10, 13))),
    ("e", (300, 860), (150, 100), (30, -14), (255,) * 3, (0, 0, 0), 7, ((5, 9), (16, 20))),
    ("r", (560, 560), (90, 240), (-10, 6), (140, 0, 220), (250, 160, 255), 9, ((12, 15),)),
)


def draw_video(name: str, frames: int, height: int, width: int) -> Array:
    """uint8 [frames, height, width, 3] RGB: moving checked shapes over a noisy background."""
    seed = zlib.crc32(f"visolo-golden-{name}".encode())
    blocks = (-(-height // 16), -(-width // 16), 3)
    background = 60 + _bytes(seed, blocks) // 3
    background = background.repeat(16, 0).repeat(16, 1)[:height, :width]
    video = np.empty((frames, height, width, 3), np.uint8)
    for frame in range(frames):
        image = background.copy()
        for shape in VIDEOS[name]:
            _paint(image, shape, frame)
        noise = _bytes(seed + 1 + frame, (height, width, 3)) % 9 - 4
        video[frame] = np.clip(image + noise, 0, 255)
    return video


def _bytes(seed: int, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    words = np.random.Philox(key=seed).random_raw(-(-count // 8)).astype("<u8")
    return words.view(np.uint8)[:count].reshape(shape).astype(np.int64)


def draw_masks(name: str, frame: int, height: int, width: int) -> Array:
    """bool [objects, height, width]: the visible part of each object in a frame."""
    masks = np.zeros((len(VIDEOS[name]), height, width), bool)
    for index, shape in enumerate(VIDEOS[name]):
        inside, _ = _cover(shape, frame, height, width)
        masks[:index] &= ~inside  # later objects stand in front
        masks[index] = inside
    return masks


def _paint(image: Array, shape: tuple[Any, ...], frame: int) -> None:
    inside, light_check = _cover(shape, frame, *image.shape[:2])
    light, dark = shape[4:6]
    image[inside] = np.where(light_check[..., None], light, dark)[inside]


def _cover(shape: tuple[Any, ...], frame: int, height: int, width: int) -> tuple[Array, Array]:
    """Where an object is, and where its checks are light."""
    kind, centre, half, speed, _, _, checks, hidden = shape
    x = np.arange(width) - _bounce(centre[0] + speed[0] * frame // 2) * width // 1000
    y = np.arange(height)[:, None] - _bounce(centre[1] + speed[1] * frame // 2) * height // 1000
    a, b = (max(2, side * height // 1000) for side in half)
    if kind == "e":
        inside = (x * b) ** 2 + (y * a) ** 2 <= (a * b) ** 2
    else:
        inside = (np.abs(x) <= a) & (np.abs(y) <= b)
    if any(first <= frame < last for first, last in hidden):
        inside = np.zeros_like(inside)
    return inside, (x // checks + y // checks) % 2 == 0


def _bounce(position: int, low: int = 40, high: int = 960) -> int:
    span = high - low
    offset = (position - low) % (2 * span)
    return low + min(offset, 2 * span - offset)
