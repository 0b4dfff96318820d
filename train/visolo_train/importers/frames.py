"""What every importer reads: frames, and the shapes that are annotated in them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_core.masks import Rle


@dataclass(frozen=True)
class ImportOptions:
    """How the files of other programs are read."""

    images: Path | None = None
    """Folder of the frames; None means where the format puts them."""
    boxes: bool = False
    """Read boxes as rectangular masks; otherwise they are left out."""
    crowd_objects: bool = False
    """Read crowds as objects. CVAT writes masks that were drawn with its brush as crowds."""
    empty_frames: bool = False
    """Keep frames of which the file does not say whether they are empty or not annotated yet."""
    cut_covered: bool = False
    """Take from each mask what shapes in a layer above it cover."""
    category: str = "object"
    """The one category of formats that have none."""


@dataclass(frozen=True)
class AnnotatedShape:
    """A mask in a frame."""

    label: str
    mask: Rle
    identity: Hashable | None = None
    """The same in every frame that shows the object; None if the file does not say."""
    crowd: bool = False
    layer: int = 0
    """Shapes in higher layers are in front."""


@dataclass(frozen=True)
class AnnotatedFrame:
    """A frame and everything in it."""

    video: str
    """Name of its video."""
    file_name: str
    """Path of the picture inside the folder of images."""
    size: tuple[int, int]
    """Height and width in pixels."""
    shapes: tuple[AnnotatedShape, ...]


@dataclass(frozen=True)
class Imported:
    """What a file or a folder contains."""

    images: Path
    """Folder of the frames."""
    frames: tuple[AnnotatedFrame, ...]
    """Those of a video in their order."""
    labels: tuple[tuple[int, str], ...] = ()
    """Id and name of the categories that the file lists; others are numbered after them."""
    notes: tuple[str, ...] = ()
    """Sentences about what is left out."""


def one_json(path: Path) -> Path:
    """A json file, or the only one in a folder or in its folder ``annotations``.

    Raises:
        VisoloError: if a folder has none or several.
    """
    if not path.is_dir():
        return path
    files = sorted([*path.glob("*.json"), *path.glob("annotations/*.json")])
    if len(files) != 1:
        listed = f", such as '{files[0].relative_to(path)}'" if files else ""
        raise VisoloError(f"'{path}' has {len(files)} json files{listed}: name the one to import")
    return files[0]


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Report whatever is wrong with an entry of a file as a sentence about this place.

    Raises:
        VisoloError: if the block fails because of what it reads.
    """
    try:
        yield
    except OSError as error:  # a name that the file system does not take
        raise VisoloError(f"{place} cannot be used: {reason(error)}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise VisoloError(f"{place} cannot be used: {what}") from error
