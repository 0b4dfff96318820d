"""Resizing and encoding of masks."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from visolo_core.masks import decode_rle, encode_rle, resize_masks, run_lengths

sides = st.integers(1, 40)


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_resizing_equals_pytorch(
    height: int, width: int, new_height: int, new_width: int, seed: int, density: float
) -> None:
    masks = np.random.default_rng(seed).random((2, height, width)) < density
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(masks)[None].double(),
        (new_height, new_width),
        mode="bilinear",
        align_corners=False,
    )[0].numpy()
    resized = resize_masks(masks, (new_height, new_width))
    # On the very threshold, float32 and float64 may round to different sides.
    clear = np.abs(expected - 0.5) > 1e-5
    assert (resized == (expected >= 0.5))[clear].all()


@given(sides, sides, st.integers(0, 2**32 - 1))
def test_encoding_keeps_every_pixel(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    rle = encode_rle(mask)
    assert rle["size"] == [height, width]
    assert (decode_rle(rle) == mask).all()


@given(sides, sides, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_runs_are_those_of_the_mask(height: int, width: int, seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    runs = run_lengths(encode_rle(mask)["counts"])
    values = np.arange(len(runs)) % 2 == 1
    assert (mask == np.repeat(values, runs).reshape(width, height).T).all()


@given(st.text(st.characters(min_codepoint=40, max_codepoint=115)) | st.text())
def test_any_text_has_runs_or_is_refused(text: str) -> None:
    try:
        runs = run_lengths(text)
    except ValueError:
        return
    assert runs.size > 0


def test_no_masks() -> None:
    assert resize_masks(np.zeros((0, 4, 4), bool), (8, 8)).shape == (0, 8, 8)
