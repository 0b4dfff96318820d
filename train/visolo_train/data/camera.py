"""What cameras do to a picture: exposure, blur, few pixels, noise, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from visolo_core.decoding import Floats
from visolo_runtime.video.frames import Picture
from visolo_train.data.synthetic import Random


@dataclass(frozen=True)
class Camera:
    """A camera, the same for all frames of a clip."""

    gain: NDArray[np.float32]
    """[3], of each channel"""
    gamma: float
    grey: bool
    softness: float
    """Radius of its blur in pixels; 0 is sharp."""
    sharpness: float
    """Its pixels over those of the frame, along each side; 1 and less."""
    shake: float
    """Length of the blur by its own motion, in pixels, at most."""
    flicker: float
    """Standard deviation of the exposure from frame to frame."""
    grain: float
    """Standard deviation of its noise, in 0 to 255."""
    quality: int
    """Of its JPEG; 0 is uncompressed."""


def draw_camera(random: Random) -> Camera:
    """A camera; about one in six is a perfect one."""
    exposure = np.exp(random.normal(0, 0.18)) if random.random() < 0.8 else 1.0
    tint = np.exp(random.normal(0, 0.07, 3))
    return Camera(
        gain=(exposure * tint).astype(np.float32),
        gamma=float(np.exp(random.normal(0, 0.15))),
        grey=bool(random.random() < 0.03),
        softness=float(random.uniform(0.3, 1.4)) if random.random() < 0.3 else 0.0,
        sharpness=float(random.uniform(0.5, 0.9)) if random.random() < 0.15 else 1.0,
        shake=float(random.uniform(2, 9)) if random.random() < 0.2 else 0.0,
        flicker=float(random.uniform(0, 0.04)),
        grain=float(random.uniform(0, 9)) if random.random() < 0.7 else 0.0,
        quality=int(random.integers(25, 90)) if random.random() < 0.4 else 0,
    )


def photograph(camera: Camera, random: Random, picture: Picture) -> Picture:
    """A frame as the camera sees it.

    Args:
        camera: of the clip.
        random: of the frame.
        picture: uint8 [H, W, 3].

    Returns:
        uint8 [H, W, 3].
    """
    image = Image.fromarray(picture)
    if camera.sharpness < 1:
        small = [max(1, round(side * camera.sharpness)) for side in image.size]
        image = image.resize((small[0], small[1]), Image.Resampling.BILINEAR)
        image = image.resize(picture.shape[1::-1], Image.Resampling.BILINEAR)
    if camera.softness:
        image = image.filter(ImageFilter.GaussianBlur(camera.softness))
    if camera.grey:
        image = image.convert("L").convert("RGB")
    pixels = _exposed(camera, random, np.asarray(image))
    if camera.shake:
        length = camera.shake * random.random()
        pixels = smeared(pixels, length, float(random.uniform(0, np.pi)))
    if camera.grain:
        sensor = np.random.Generator(np.random.SFC64(int(random.integers(2**62))))
        pixels += sensor.standard_normal(pixels.shape, np.float32) * np.float32(camera.grain)
    developed = np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
    if not camera.quality:
        return developed
    file = io.BytesIO()
    Image.fromarray(developed).save(file, "JPEG", quality=camera.quality)
    return np.asarray(Image.open(file))


def _exposed(camera: Camera, random: Random, picture: Picture) -> Floats:
    """float32 [H, W, 3] after gamma and gain: one look-up per channel."""
    exposure = np.exp(random.normal(0, camera.flicker)) if camera.flicker else 1.0
    curve = np.linspace(0, 1, 256, dtype=np.float32) ** camera.gamma * 255
    table = np.clip(curve[:, None] * (camera.gain * np.float32(exposure)), 0, 255)
    return np.stack([table[:, channel][picture[..., channel]] for channel in range(3)], axis=-1)


def smeared(layer: Floats, length: float, direction: float) -> Floats:
    """A layer float32 [h, w, c] averaged along a line, as by motion during the exposure.

    Args:
        layer: outside of it is its edge.
        length: of the line in pixels.
        direction: of the line, in radians.
    """
    steps = int(np.ceil(length)) + 1
    if steps < 3:
        return layer
    along = np.linspace(-length / 2, length / 2, steps)
    shifts = {
        (round(a * np.sin(direction)), round(a * np.cos(direction))): 0 for a in along.tolist()
    }
    margin = max(abs(side) for shift in shifts for side in shift)
    height, width = layer.shape[:2]
    padded = np.pad(layer, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    total = np.zeros_like(layer)
    for y, x in shifts:
        total += padded[margin + y : margin + y + height, margin + x : margin + x + width]
    total /= len(shifts)
    return total
