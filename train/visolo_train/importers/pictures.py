"""The pictures of a data set, found by the names that annotation files give them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from PIL import Image

from visolo_core.errors import VisoloError
from visolo_core.files import inside
from visolo_runtime.sources.frame_names import IMAGE_SUFFIXES
from visolo_runtime.sources.pictures import natural_order, upright_size


def folder_of(candidates: Iterable[Path], chosen: Path | None) -> Path:
    """The folder of the frames: the user's, or the first of the candidates that exists.

    Raises:
        VisoloError: if there is none.
    """
    if chosen is not None:
        if not chosen.is_dir():
            raise VisoloError(f"there is no folder '{chosen}' with the frames")
        return chosen
    tried = list(candidates)
    for folder in tried:
        if folder.is_dir():
            return folder
    raise VisoloError(f"there is no folder '{tried[0]}' with the frames: name it with --images")


class PictureFolder:
    """The pictures in a folder and in the folders below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[str, str] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def find(self, written: str) -> str:
        """The path inside the folder of the picture that a file names.

        Where the folder has no such path, the one picture is taken whose path ends with it, or that
        it ends with; suffixes may differ, since programs convert pictures.

        Raises:
            VisoloError: if the name leads out of the folder, no picture or several fit, or the
                picture has another name already.
        """
        name = written.replace("\\", "/")
        if not PurePosixPath(name).parts:
            raise VisoloError(f"a frame has no name: it is to be found in '{self.folder}'")
        path = inside(self.folder, name)
        if ".." in PurePosixPath(name).parts:
            raise VisoloError(f"'{written}' leads out of '{self.folder}': frames lie inside it")
        found = str(PurePosixPath(name)) if path.is_file() else self._search(name)
        if self._taken.setdefault(found, name) != name:
            raise VisoloError(
                f"'{written}' and '{self._taken[found]}' are both '{self.folder / found}'"
            )
        return found

    def size(self, name: str, stated: tuple[int, int] | None = None) -> tuple[int, int]:
        """Height and width of a picture in pixels, as its EXIF orientation shows it.

        Args:
            name: path inside the folder.
            stated: height and width in the annotations.

        Raises:
            VisoloError: if it cannot be read, or its size is not the stated one.
        """
        path = inside(self.folder, name)
        if name not in self._sizes:
            try:
                with Image.open(path) as image:
                    self._sizes[name] = upright_size(image)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise VisoloError(f"cannot read the picture '{path}': {error}") from error
        height, width = self._sizes[name]
        if stated is not None and (height, width) != stated:
            raise VisoloError(
                f"'{path}' is {width}x{height}, the annotations say {stated[1]}x{stated[0]}"
            )
        return height, width

    def listed(self, below: str = "") -> list[str]:
        """Paths inside the folder of all pictures below one of its folders, in natural order."""
        folder = inside(self.folder, below)
        names = [
            path.relative_to(self.folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
        return sorted(names, key=natural_order)

    def _search(self, name: str) -> str:
        wanted = _parts(name)
        candidates = [
            each for each in self._by_stem[wanted[-1]] if _end_alike(wanted, _parts(each))
        ]
        same = [each for each in candidates if PurePosixPath(each).name == PurePosixPath(name).name]
        candidates = same or candidates
        if not candidates:
            raise VisoloError(
                f"there is no picture '{name}' in '{self.folder}': "
                "name the folder of the frames with --images"
            )
        if len(candidates) > 1:
            raise VisoloError(
                f"'{name}' may be '{candidates[0]}' or '{candidates[1]}' in '{self.folder}': "
                "name a folder of the frames that has only one of them"
            )
        return candidates[0]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        by_stem = defaultdict(list)
        for name in self.listed():
            by_stem[_parts(name)[-1]].append(name)
        return by_stem


def _parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a path, in lower case."""
    path = PurePosixPath(name.lower())
    known = path.suffix in IMAGE_SUFFIXES
    return (path.with_suffix("") if known else path).parts


def _end_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]
