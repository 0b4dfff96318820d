"""One JSON line per frame, to a file, a device or standard output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from visolo_core.errors import VisoloError
from visolo_core.files import is_written_through, open_through, reason
from visolo_core.instances import Instances
from visolo_core.results import frame_record
from visolo_runtime.sinks.sink import FileSink, Sink
from visolo_runtime.sources.clip import Clip, Skipped, SourceFrame

STANDARD_OUTPUT = "-"


class FrameLines(Sink):
    """One JSON line per frame, written as soon as the frame is done."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def frame(self, clip: Clip, frame: SourceFrame, instances: Instances) -> None:
        self._write(
            {
                "video_id": clip.video_id,
                "stream": clip.name,
                "frame": instances.frame,
                "time_s": round(frame.time_s, 6),
                "size": list(instances.size),
                "instances": frame_record(instances),
            }
        )

    def skipped(self, clip: Clip, position: int, skipped: Skipped) -> None:
        line: dict[str, Any] = {
            "video_id": clip.video_id,
            "stream": clip.name,
            "frame": position,
        }
        if skipped.time_s is not None:
            line["time_s"] = round(skipped.time_s, 6)
        self._write({**line, "skipped": skipped.reason})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


class FrameLinesOut(FrameLines):
    """``FrameLines`` written to standard output."""

    shown = "standard output"
    ends_run = True

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def discard(self) -> None:
        try:
            self._file.flush()
        except OSError:
            # Python writes what is left when it ends, and would report that it cannot.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._file.fileno())


class FrameLinesFile(FileSink, FrameLines):
    """``FrameLines`` written to a file."""

    def __init__(self, path: Path) -> None:
        FileSink.__init__(self, path)
        FrameLines.__init__(self, self._temporary.open("w", encoding="utf-8"))

    def commit(self) -> None:
        self._file.close()
        super().commit()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk takes no more
            self._file.close()
        super().discard()


class FrameLinesDevice(FrameLines):
    """``FrameLines`` written to a device or a FIFO, whose reader gets each at once.

    Raises:
        VisoloError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(io.TextIOWrapper(open_through(path), encoding="utf-8"))
        except OSError as error:
            raise VisoloError(f"cannot write '{path}': {reason(error)}") from error
        self.shown = str(path)
        self.ends_run = _is_standard_output(path)

    def commit(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # its reader has gone, with all that was written
            self._file.close()


def frame_lines(path: Path) -> FrameLines:
    """The sink of a line for each frame; ``-`` means standard output.

    Raises:
        VisoloError: if it cannot be written.
    """
    if str(path) == STANDARD_OUTPUT:
        return FrameLinesOut()
    return FrameLinesDevice(path) if is_written_through(path) else FrameLinesFile(path)


def _is_standard_output(path: Path) -> bool:
    """Whether a device or a FIFO is where standard output goes."""
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:  # standard output is closed
        return False
