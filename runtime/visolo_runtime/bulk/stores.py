"""Files in object stores and on servers, through fsspec: listed, told apart, and downloaded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visolo_core.errors import VisoloError
from visolo_runtime.sources.addresses import scheme_of, without_secrets
from visolo_runtime.sources.frame_names import is_video

_STATES = (
    "ETag", "etag", "checksum", "md5Hash", "content_md5", "Content-MD5", "Digest", "generation",
    "VersionId", "LastModified", "last_modified", "updated", "mtime", "created", "size",
)  # fmt: skip
"""What stores say of an object that changes when its content does."""


def videos_at(address: str) -> list[tuple[str, str]]:
    """The videos at an address, each with what tells its content from another.

    Args:
        address: of an object; of a folder, whose videos are taken; or a pattern with ``*``.

    Raises:
        VisoloError: if the store is unknown, does not answer or refuses, or has no video there.
    """
    with _in_a_sentence(address):
        store, path = _opened(address)
        if any(each in path for each in "*?["):
            paths = [str(each) for each in store.glob(path) if is_video(Path(str(each)))]
        elif store.isdir(path):
            listed = store.ls(path, detail=False)
            paths = [str(each) for each in listed if is_video(Path(str(each)))]
        else:
            paths = [path]
        videos = [(_address(store, address, each), _state(store.info(each))) for each in paths]
    if not videos:
        raise VisoloError(f"there is no video at '{without_secrets(address)}': name another one")
    return sorted(videos)


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """A local copy of an object, of the same name, which is removed after the block.

    Raises:
        VisoloError: if it cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="visolo-bulk-") as folder:
        with _in_a_sentence(address):
            store, path = _opened(address)
            local = Path(folder) / name_of(address)
            store.get_file(path, str(local))
        yield local


def name_of(address: str) -> str:
    """The file name in an address, without parameters.

    >>> name_of("https://videos.example/2024/cat.mp4?token=abc")
    'cat.mp4'
    """
    path = address.split("://", 1)[-1].split("?", 1)[0].split("#", 1)[0]
    return path.rstrip("/").rsplit("/", 1)[-1] or "video"


def _opened(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    store, path = url_to_fs(address)
    return store, str(path)


def _address(store: Any, address: str, path: str) -> str:
    scheme = scheme_of(path)
    return path if scheme else f"{scheme_of(address)}://{store._strip_protocol(path).lstrip('/')}"


def _state(info: dict[str, Any]) -> str:
    known = {name: str(info[name]) for name in _STATES if info.get(name) is not None}
    return json.dumps(known, sort_keys=True)


@contextmanager
def _in_a_sentence(address: str) -> Iterator[None]:
    """Every store has errors of its own, which have no common class."""
    shown = without_secrets(address)
    try:
        yield
    except FileNotFoundError as error:
        raise VisoloError(f"there is nothing at '{shown}': check the address") from error
    except PermissionError as error:
        raise VisoloError(
            f"the store refuses '{shown}': check the rights of the credentials that it was given"
        ) from error
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise VisoloError(f"cannot read '{shown}': {first.replace(address, shown)}") from error
