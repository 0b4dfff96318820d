"""Shared by several test files: golden set A, a tiny network, and the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden_recipe import draw_video, draw_weights
from mask_comparison import MaskBounds
from visolo_core.config import ModelConfig
from visolo_core.masks import decode_rle
from visolo_core.results import Track
from visolo_runtime.engines.buffers import Buffers, FrameInput

Array = NDArray[Any]
BoundsOf = Callable[[int, int], MaskBounds]
"""From a frame and a cell, the bounds of the mask [1, H, W] of that cell in that frame."""
LIMIT_S = 60.0
"""Longest wait of a test for another thread."""
TINY = ModelConfig(
    backbone="resnet18", width=16, groups=4, grid=(4, 6), classes=3, input_size=(64, 96)
)
"""A network that runs in milliseconds."""


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a call of the command line."""

    status: int
    out: str
    err: str

    def succeeded(self) -> Outcome:
        """Assert exit status 0, and return itself."""
        assert self.status == 0, self.err
        return self

    def refused(self, *words: str) -> Outcome:
        """Assert exit status 2 and one sentence that contains these words, and return itself."""
        assert self.status == 2, (self.status, self.err)
        sentences = [line for line in self.err.splitlines() if line.startswith("visolo: ")]
        assert len(sentences) == 1, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in sentences[0], sentences[0]
        return self

    def json(self) -> Any:
        """The one object on standard output."""
        return json.loads(self.out)


def blank(buffers: Buffers, rows: int = 1, threshold: float = 0.1) -> list[FrameInput]:
    """What the frame graph needs for a black image of each row, with nothing in memory."""
    image = np.zeros((*buffers.input_size, 3), np.uint8)
    return [first_frame(buffers, image, threshold)] * rows


def first_frame(buffers: Buffers, image: NDArray[np.uint8], threshold: float = 0.1) -> FrameInput:
    """What the frame graph needs for the first frame of a video."""
    valid = np.arange(buffers.slots + 1) == buffers.slots
    return FrameInput(image, valid, np.zeros(2, bool), threshold)


def ended(thread: threading.Thread) -> None:
    """Wait for a thread that takes milliseconds, and fail if it does not end."""
    thread.join(LIMIT_S)
    assert not thread.is_alive(), f"thread '{thread.name}' did not end within {LIMIT_S} s"


def resident() -> int:
    """Bytes of host memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_visolo(*arguments: object) -> Outcome:
    """Call ``visolo`` with arguments in this process."""
    from visolo.cli import main

    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class GoldenSet:
    """Golden set A: twelve frames of the official implementation."""

    facts: dict[str, Any]
    tensors: dict[str, Array]
    step: int
    """Of each stored tensor, only every ``step``-th number is kept."""

    @classmethod
    def committed(cls) -> GoldenSet:
        """The part in this repository."""
        folder = Path(__file__).parent / "golden"
        facts = json.loads((folder / "set_a.json").read_text())
        return cls(facts, dict(np.load(folder / "set_a.npz")), facts["step"])

    @classmethod
    def whole(cls, folder: Path, size: str = "352x624") -> GoldenSet:
        """Every stored tensor, and every mask at one of the stored sizes."""
        facts = json.loads((Path(__file__).parent / "golden" / "set_a.json").read_text())
        video = json.loads((folder / "official" / "A_video.json").read_text())
        facts["tracks"] = [
            {
                "label": label,
                "score": score,
                "present": [mask is not None for mask in masks],
                "masks": dict(enumerate(masks)),
            }
            for label, score, masks in zip(
                video["pred_labels"], video["pred_scores"], video["masks"][size], strict=True
            )
        ]
        return cls(facts, dict(np.load(folder / "official" / "A_frames.npz")), 1)

    def weights(self) -> dict[str, Array]:
        """The weights by official name; their checksums are verified."""
        from visolo_core.config import PAPER
        from visolo_core.nn.checkpoint import expected_shapes
        from visolo_core.nn.official_names import official_name

        shapes = {official_name(name): shape for name, shape in expected_shapes(PAPER).items()}
        weights = draw_weights(shapes, self.facts["offset"], self.facts["constants"])
        checksums = {name: zlib.crc32(array.tobytes()) for name, array in weights.items()}
        assert checksums == self.facts["weights_crc32"]
        return weights

    def video(self) -> Array:
        """uint8 [12, 352, 624, 3]; the checksums are verified."""
        video = draw_video("A", self.facts["frames"], *self.facts["size"])
        assert [zlib.crc32(frame.tobytes()) for frame in video] == self.facts["frame_crc32"]
        return video

    def error(self, frame: int, name: str, tensor: Array) -> float | None:
        """Largest absolute difference of a tensor [c, h, w]; None if it is not stored."""
        stored = self.tensors.get(f"{frame:02}/{name}")
        if stored is None:
            return None
        c, h, w = self.facts["strides"].get(name, (1, 1, 1))
        sampled = tensor if tensor.ndim < 3 else tensor[::c, ::h, ::w]
        return float(np.abs(sampled.ravel()[:: self.step] - stored.ravel()).max())

    def compare_tracks(self, tracks: list[Track], bounds: BoundsOf) -> float:
        """Largest score difference; the sets of tracks must be equal, and masks within bounds."""
        unmatched = list(tracks)
        differences: list[float] = []
        for number, golden in enumerate(self.facts["tracks"]):
            signature = golden["label"], golden["present"]
            partners = [
                track
                for track in unmatched
                if (track.label, [mask is not None for mask in track.segmentations]) == signature
            ]
            assert partners, f"no track of class {golden['label']} in frames {golden['present']}"
            track = min(partners, key=lambda each: abs(each.score - golden["score"]))
            unmatched.remove(track)
            differences.append(abs(track.score - golden["score"]))
            for name, rle in golden["masks"].items():
                if rle is None:
                    continue
                frame, segmentation = int(name), track.segmentations[int(name)]
                assert segmentation is not None
                cell = self._cell_of(frame, number)
                within = bounds(frame, cell).resized((rle["size"][0], rle["size"][1]))
                within.check(decode_rle(rle)[None])  # otherwise the bounds are wrong
                within.check(decode_rle(segmentation)[None])
        assert not unmatched, f"{len(unmatched)} tracks too many"
        return max(differences)

    def _cell_of(self, frame: int, track: int) -> int:
        """The cell that a track's mask is decoded from."""
        index = self.facts["tracks_of_cells"][frame].index(track)
        return int(self.facts["cells"][frame][index])


def tracks_of_results(results: list[dict[str, Any]], first_category_id: int = 1) -> list[Track]:
    """Tracks of a results file whose category ids count up from ``first_category_id``."""
    return [
        Track(
            number,
            entry["category_id"] - first_category_id,
            entry["score"],
            tuple(entry["segmentations"]),
        )
        for number, entry in enumerate(results, start=1)
    ]


def threshold_for(buffers: Buffers, image: Any, candidates: int) -> float:
    """The score threshold that so many cells of an image reach."""
    if not candidates:
        return 1.0
    buffers.submit(range(1), [first_frame(buffers, image, 1.0)])
    buffers.frame()
    scores = np.sort(buffers.read("scores")[0].max(axis=0))
    return float(scores[-candidates])
