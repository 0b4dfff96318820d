"""Kernels that TensorRT-RTX compiled for this GPU, kept for the next process.

Its engines hold no kernels for a GPU model: they are compiled where the engine runs, in every
process again unless somebody keeps them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_core.files import replaced


class KernelCache:
    """One cache for all execution contexts, of all engines of a bundle.

    Args:
        file: it is read if it is there, and written by :meth:`save`.
    """

    def __init__(self, file: Path) -> None:
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
            if self._file.exists():
                self._saved = self._file.read_bytes()
                # False for a cache of another GPU, driver or version: it starts empty then.
                self._cache.deserialize(self._saved)
        settings.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what is new in it; the device's context must be current. Where the file cannot be
        written kernels are compiled again the next time."""
        if self._cache is None:
            return
        kernels = bytes(self._cache.serialize())
        if kernels == self._saved:
            return
        try:
            with replaced(self._file) as temporary:
                temporary.write_bytes(kernels)
        except VisoloError:  # a bundle that may only be read
            return
        self._saved = kernels
