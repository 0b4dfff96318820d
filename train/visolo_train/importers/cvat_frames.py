"""What a CVAT task says about its frames, and which picture a frame's number means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from visolo_core.cvat import frame_name
from visolo_core.errors import VisoloError
from visolo_train.importers.pictures import PictureFolder

_MAX_FRAMES = 10_000_000  # more is a mistake
_ANY_FRAME = range(_MAX_FRAMES)


@dataclass(frozen=True)
class CvatTask:
    """A task, or a job of one."""

    labels: tuple[str, ...] = ()
    """Names of the categories, those of a skeleton's parts not among them."""
    size: tuple[int, int] | None = None
    """Height and width of the frames in pixels, if the file states them."""
    numbers: range = _ANY_FRAME
    """Numbers of its frames in the video that it was made from."""

    @classmethod
    def of(cls, meta: Element) -> CvatTask:
        """From the element ``meta``.

        Raises:
            ValueError: if a number in it is none, or out of range.
        """
        labels = [
            label.findtext("name", "")
            for label in meta.iter("label")
            if label.find("name") is not None and not label.findtext("parent")
        ]
        original = meta.find(".//original_size")
        size = None
        if original is not None:
            size = int(original.findtext("height", "")), int(original.findtext("width", ""))
        return cls(tuple(dict.fromkeys(labels)), size, _numbers(meta))

    def stated_numbers(self) -> range:
        """The numbers of all frames.

        Raises:
            VisoloError: if the file does not state them.
        """
        if self.numbers is _ANY_FRAME:
            raise VisoloError(
                "the file does not say how many frames its task has: leave out --empty-frames"
            )
        return self.numbers


def _numbers(meta: Element) -> range:
    task = next((meta.find(name) for name in ("task", "job") if meta.find(name) is not None), None)
    stop = None if task is None else task.findtext("stop_frame")
    if task is None or not stop:
        return _ANY_FRAME
    start = int(task.findtext("start_frame") or 0)
    # Such as "step=5": of the video, every fifth frame.
    text = (task.findtext("frame_filter") or "").replace(" ", "")
    step = int(text.removeprefix("step=")) if text else 1
    if not (0 <= start <= int(stop) < _MAX_FRAMES and step > 0):
        raise ValueError(f"its frames from {start} to {stop} in steps of {step} are none")
    return range(start, int(stop) + 1, step)


class FrameFiles:
    """Finds the picture of a frame's number.

    CVAT exports the frames of a video as ``frame_000000.png`` and so on, with their numbers in the
    video. A task of pictures has numbers instead of their names: those of the sorted pictures.
    """

    def __init__(self, pictures: PictureFolder, task: CvatTask) -> None:
        self._pictures, self._task = pictures, task

    def name(self, number: int) -> str:
        """Path of the picture inside the folder.

        Raises:
            VisoloError: if there is none, or it is not certain which it is.
        """
        if self._named:
            return self._pictures.find(frame_name(number))
        names, numbers = self._sorted, self._task.numbers
        complete = numbers is not _ANY_FRAME and len(names) == len(numbers)
        place = numbers.index(number) if complete else number
        if place >= len(names):
            raise VisoloError(
                f"there is no picture '{frame_name(number)}' in '{self._pictures.folder}', and "
                f"only {len(names)} pictures: name the folder of the frames with --images"
            )
        return names[place]

    @cached_property
    def _named(self) -> bool:
        stems = (PurePosixPath(name).stem for name in self._pictures.listed())
        return any(stem.startswith("frame_") and stem[6:].isdecimal() for stem in stems)

    @cached_property
    def _sorted(self) -> list[str]:
        names = self._pictures.listed()
        if names != sorted(names):  # CVAT sorts by letters, or naturally if it was told to
            raise VisoloError(
                f"the pictures in '{self._pictures.folder}' have numbers of different length, such "
                f"as '{names[0]}' and '{names[-1]}', so their order in CVAT is not certain: export "
                "the task as 'CVAT for images'"
            )
        return names
