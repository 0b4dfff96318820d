"""Kernels that TensorRT-RTX compiled for this GPU, kept for the next process.

Its engines hold no kernels for a GPU model: they are compiled where the engine runs, in every
process again unless somebody keeps them. They are kept in the user's cache and not in the bundle,
which a run never changes, and which may come from somebody else: no checksum covers compiled code
that is added to it later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import replaced, user_cache


def kernel_file(architecture: str, engines: Iterable[str]) -> Path | None:
    """Where the kernels of some engines are kept; None if the user has no place for them.

    Args:
        architecture: of the GPU, such as ``sm86``.
        engines: checksums of the engines.
    """
    folder = user_cache()
    digest = hashlib.sha256(" ".join(engines).encode()).hexdigest()[:16]
    return folder and folder / "kernels" / f"{architecture}-{digest}.cache"


class KernelCache:
    """One cache for all execution contexts, of all engines of a bundle.

    Args:
        file: it is read if it is there, and written by :meth:`save`; None to keep nothing.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._cache: Any = None
        self._saved = b""

    def share(self, settings: Any) -> None:
        """Let a context that is made with these settings use it.

        Args:
            settings: ``IRuntimeConfig``; the device's context must be current.
        """
        if self._cache is None:
            self._cache = settings.create_runtime_cache()
            self._saved = self._read()
            if self._saved:
                # False for a cache of another GPU, driver or version: it starts empty then.
                self._cache.deserialize(self._saved)
        settings.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what is new in it; the device's context must be current. Where the file cannot be
        written kernels are compiled again the next time."""
        if self._cache is None or self._file is None:
            return
        kernels = bytes(self._cache.serialize())
        if kernels == self._saved:
            return
        with suppress(OSError, VisoloError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replaced(self._file) as temporary:
                temporary.write_bytes(kernels)
            self._saved = kernels

    def _read(self) -> bytes:
        """The kernels in the file; nothing if there is none, or it cannot be read."""
        if self._file is not None:
            with suppress(OSError):
                return self._file.read_bytes()
        return b""
