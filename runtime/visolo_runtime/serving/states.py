"""States of streams in a folder: what a server leaves behind for the one that follows it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason, replaced
from visolo_runtime.serving.hub_stream import HubStream


@dataclass(frozen=True)
class StateFolder:
    """A folder that servers share, with a file for each stream that one of them gave up.

    Args:
        folder: it must exist.
        longest_s: older states are not taken up: who was in the picture has left it.
    """

    folder: Path
    longest_s: float = 60.0

    def keep(self, key: str, state: bytes) -> None:
        """Leave the state of a stream.

        Args:
            key: its name or source.
            state: from ``Session.save``.

        Raises:
            VisoloError: if it cannot be written.
        """
        with replaced(self._path(key)) as temporary:
            temporary.write_bytes(state)

    def take(self, key: str) -> bytes | None:
        """Take the state of a stream: of several servers that ask, one gets it. None if there is
        none, or it is too old.

        Raises:
            VisoloError: if it cannot be read, or not be removed.
        """
        path = self._path(key)
        try:
            age_s = time.time() - path.stat().st_mtime
            state = path.read_bytes()
            path.unlink()
        except FileNotFoundError:  # there was none, or another server was faster
            return None
        except OSError as error:
            raise VisoloError(f"cannot take up '{path}': {reason(error)}") from error
        return state if age_s <= self.longest_s else None

    def _path(self, key: str) -> Path:
        return self.folder / f"stream-{hashlib.sha256(key.encode()).hexdigest()[:32]}.state"


def keep_in(
    folder: StateFolder, report: Callable[[str], None]
) -> Callable[[HubStream, bytes], None]:
    """Keeps states of streams in a folder; one that cannot be written is reported, and the others
    are kept."""

    def keep(stream: HubStream, state: bytes) -> None:
        try:
            folder.keep(stream.key, state)
        except VisoloError as error:
            report(f"{stream.clip.name}: its tracks are not kept, {error}")

    return keep
