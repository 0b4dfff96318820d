"""Runs of clips whose reading and results are watched, to say what happens before what."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import LIMIT_S, ended
from visolo_core.instances import Instances
from visolo_core.results import Track
from visolo_runtime.engines.tensorrt.device_buffers import DeviceBuffers
from visolo_runtime.session.stream import Stream
from visolo_runtime.sinks.sink import Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame, at_constant_rate

Frame = NDArray[np.uint8]


class WatchedClip:
    """Frames, and what is known of how many were read.

    Args:
        frames: an exception among them is raised in its place.
        name: of the clip.
        live: whether the clip is; all its frames are run all the same.
    """

    def __init__(
        self, frames: Sequence[Frame | Skipped | Exception], name: str = "clip", live: bool = False
    ) -> None:
        self._frames = frames
        self._at_hand = [threading.Event() for _ in range(len(frames) + 1)]
        self._may_come = [threading.Event() for _ in range(len(frames) + 1)]
        self._held = False
        self._reader = threading.current_thread()
        self.clip = Clip(1, name, lambda: at_constant_rate(self._read()), live=live)

    def hold(self) -> None:
        """Let each frame come when it is let to, and not before."""
        self._held = True

    def let_come(self, number: int) -> None:
        self._may_come[number].set()

    def wait_for(self, number: int) -> None:
        """Until a frame is at hand, or the clip is over."""
        assert self._at_hand[number].wait(LIMIT_S), f"frame {number} was not read in time"
        if number == len(self._frames) or isinstance(self._frames[number], Exception):
            ended(self._reader)

    def _read(self) -> Iterator[Frame | Skipped]:
        self._reader = threading.current_thread()
        for number, frame in enumerate(self._frames):
            if self._held:
                in_time = self._may_come[number].wait(LIMIT_S)
                assert in_time, f"something waits for frame {number} that should not"
            if isinstance(frame, Exception):
                self._at_hand[number].set()
                raise frame
            yield frame
            self._at_hand[number].set()  # the reader asks for the next: it has passed this one on
        self._at_hand[len(self._frames)].set()


class Watcher(Sink):
    """Notes what happens, in order: ``submit 0``, ``follow 0``, ``result 0``, ``skipped 1``."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.instances: dict[str, list[Instances]] = {}
        self.tracks: dict[str, list[Track]] = {}
        self.outcome = ""

    def watch(self, monkeypatch: pytest.MonkeyPatch, clip: WatchedClip | None = None) -> None:
        """Note the launches of a GPU with one stream, and what the host does.

        Args:
            monkeypatch: of the test.
            clip: if given, each frame's results come when the next one is at hand.
        """
        submit, store, follow = DeviceBuffers.submit, DeviceBuffers.store, Stream.follow
        counts = {"submit": 0, "store": 0}

        def submitted(buffers: DeviceBuffers, *arguments: Any) -> None:
            submit(buffers, *arguments)
            self.events.append(f"submit {counts['submit']}")
            counts["submit"] += 1

        def stored(buffers: DeviceBuffers, *arguments: Any) -> None:
            store(buffers, *arguments)
            counts["store"] += 1
            if clip is not None:
                clip.wait_for(counts["store"])

        def followed(stream: Stream, frame: Any, *arguments: Any) -> Instances:
            self.events.append(f"follow {frame.number}")
            return follow(stream, frame, *arguments)

        monkeypatch.setattr(DeviceBuffers, "submit", submitted)
        monkeypatch.setattr(DeviceBuffers, "store", stored)
        monkeypatch.setattr(Stream, "follow", followed)

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        self.events.append(f"result {instances.frame}")
        self.instances.setdefault(clip.name, []).append(instances)

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        self.events.append(f"skipped {position}")

    def end(self, clip: Clip, tracks: list[Track]) -> None:
        self.events.append("end")
        self.tracks[clip.name] = tracks

    def commit(self) -> None:
        self.outcome = "committed"

    def discard(self) -> None:
        self.outcome = "discarded"


def agree(ours: Sequence[Instances], theirs: Sequence[Instances]) -> None:
    """Assert that they are the same bit for bit: one library computed the engines of both."""
    assert len(ours) == len(theirs)
    assert sum(map(len, theirs)) > 0
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.frame == its.frame
        assert mine.tracker_id.tolist() == its.tracker_id.tolist()
        assert np.array_equal(mine.confidence, its.confidence)
        assert np.array_equal(mine.input_masks, its.input_masks)
