"""Runs a stream by itself, to check that it yields the same among others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mask_comparison import MaskBounds, bounds_in
from visolo_core.instances import Instances
from visolo_runtime.session.loading import Model
from visolo_runtime.session.session import Session


@dataclass(frozen=True)
class Alone:
    """The result for a frame of a stream that runs by itself."""

    instances: Instances
    bounds: MaskBounds
    """of its masks at the network's input size"""


def alone(model: Model, video: Iterable[NDArray[np.uint8]]) -> list[Alone]:
    """Run a stream by itself, frame by frame."""
    buffers = model.engines.buffers()
    session = Session(buffers, model.stream_options(record=False))
    results = []
    for frame in video:
        instances = session.step(frame)
        results.append(Alone(instances, bounds_in(buffers, instances.cell)))
    return results


def same(expected: Alone, other: Instances) -> None:
    """Assert that a stream among others yields for a frame what it yields alone.

    A library may sum in another order when it convolves several images: scores, which lie between 0
    and 1, differ by 5e-6 in PyTorch, and masks by what :class:`MaskBounds` allows.
    """
    first = expected.instances
    assert first.frame == other.frame
    assert first.tracker_id.tolist() == other.tracker_id.tolist()
    assert first.cell.tolist() == other.cell.tolist()
    np.testing.assert_allclose(first.confidence, other.confidence, atol=1e-4)
    expected.bounds.check(first.input_masks)  # otherwise the bounds are wrong
    expected.bounds.check(other.input_masks)
