"""The output folder of a bulk run.

    results/NAME-KEY.json  frames/NAME-KEY.jsonl  videos/NAME-KEY.mp4  manifest.parquet
    .visolo-bulk/  lock  here  rows/  attempts/  segments/  work/

What is begun lies in ``.visolo-bulk/work`` and moves out by renaming when it is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason, replaced
from visolo_runtime.bulk.manifest import Row, read_manifest, write_manifest
from visolo_runtime.bulk.plan import BulkVideo

OUTPUT_FOLDERS = {"results": ".json", "frames": ".jsonl", "videos": ".mp4"}
"""Folders of outputs, and the suffix of what is in each."""
TABLE = "manifest.parquet"
_INSIDE = ".visolo-bulk"


class BulkFolder:
    """The output folder, as the command and its workers see it.

    Args:
        root: of the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inside = root / _INSIDE

    # ---------------------------------------------------------------------------- the command

    @contextmanager
    def held(self, run: str) -> Iterator[None]:
        """Make the folder, and keep other runs out of it during the block.

        Args:
            run: of this command.

        Raises:
            VisoloError: if it cannot be written, is something else, or another run holds it.
        """
        if self.root.exists() and not self.root.is_dir():
            raise VisoloError(f"'{self.root}' is a file: name a folder with -o")
        try:
            self._inside.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._inside / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise VisoloError(f"cannot write '{self.root}': {reason(error)}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise VisoloError(
                    f"another visolo bulk is writing to '{self.root}'{_holder(lock)}: wait for it, "
                    "or name another folder"
                ) from error
            self._begin(lock, run)
            yield
        finally:
            os.close(lock)

    def _begin(self, lock: int, run: str) -> None:
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            for name in ("work", "attempts"):
                shutil.rmtree(self._inside / name, ignore_errors=True)
            for name in ("work", "attempts", "rows", "segments"):
                (self._inside / name).mkdir(exist_ok=True)
            with replaced(self._inside / "here") as temporary:
                temporary.write_text(run, encoding="utf-8")
        except OSError as error:
            raise VisoloError(f"cannot write '{self.root}': {reason(error)}") from error

    def rows(self) -> list[Row]:
        """All rows that were committed: those of the manifest, and then the newer ones.

        Raises:
            VisoloError: if they are damaged.
        """
        rows = read_manifest(self.root / TABLE)
        for file in sorted((self._inside / "rows").glob("??/*.json")):
            rows.append(self._read(file))
        return rows

    def done(self, rows: Sequence[Row]) -> dict[str, Row]:
        """The rows of videos that are done, with outputs that are there, by key."""
        there = {
            f"{name}/{entry.name}"
            for name in OUTPUT_FOLDERS
            if (self.root / name).is_dir()
            for entry in os.scandir(self.root / name)
        }
        last = {row.key: row for row in rows}
        return {
            key: row
            for key, row in last.items()
            if row.status == "done" and there.issuperset(row.outputs)
        }

    def merge(self, videos: Sequence[BulkVideo]) -> list[Row]:
        """Put all rows into the manifest, those of equal videos too, and remove their files.

        Args:
            videos: of this run.

        Returns:
            the rows of these videos, as far as they have any.

        Raises:
            VisoloError: if it cannot be written; the rows are where they were.
        """
        rows = self.rows()
        last = {row.key: row for row in rows}
        mine = [
            replace(last[video.key], input=video.shown) for video in videos if video.key in last
        ]
        if rows:
            # Videos of the same name and content are run once, and have a row each.
            named = [replace(last[row.key], input=row.input) for row in rows] + mine
            distinct = {(row.input, row.key): row for row in named}
            write_manifest(self.root / TABLE, list(distinct.values()))
            shutil.rmtree(self._inside / "rows", ignore_errors=True)
        return mine

    def clear(self) -> None:
        """Remove what only a run in progress needs."""
        for name in ("work", "attempts"):
            shutil.rmtree(self._inside / name, ignore_errors=True)

    # ---------------------------------------------------------------------------- the workers

    def check_here(self, run: str) -> None:
        """Make sure that a worker writes where the command reads.

        Raises:
            VisoloError: if its machine does not have the folder.
        """
        try:
            text = (self._inside / "here").read_text(encoding="utf-8")
        except OSError:
            text = ""
        if text != run:
            raise VisoloError(
                f"the worker on {socket.gethostname()} does not see the output folder "
                f"'{self.root}': name one that all machines share"
            )

    def row_of(self, key: str) -> Row | None:
        """The row of this run for a video, if it has been committed."""
        file = self._row_file(key)
        return self._read(file) if file.exists() else None

    @contextmanager
    def work(self, key: str) -> Iterator[Path]:
        """A folder for what is begun of a video, which is removed after the block.

        Raises:
            VisoloError: if there is no room for it.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self._inside / "work"))
        except OSError as error:
            raise VisoloError(f"cannot write '{self.root}': {reason(error)}") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def take(self, file: Path, kind: str, video: BulkVideo) -> str:
        """Give a finished output its name; one that is there is replaced.

        Args:
            file: in a folder of :meth:`work`.
            kind: one of ``OUTPUT_FOLDERS``.
            video: that it is of.

        Returns:
            its path within the output folder.

        Raises:
            OSError: if it cannot be renamed.
        """
        name = f"{kind}/{video.stem}{OUTPUT_FOLDERS[kind]}"
        (self.root / kind).mkdir(exist_ok=True)
        file.replace(self.root / name)
        return name

    def commit(self, row: Row) -> None:
        """Commit a row, whose outputs have their names.

        Raises:
            OSError: if it cannot be written.
        """
        file = self._row_file(row.key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, row.as_text().encode())

    def attempts(self, key: str) -> Path:
        """The file that counts how often the video was begun."""
        return self._inside / "attempts" / key

    def segments(self, key: str) -> Path:
        """The folder of a long video's state."""
        return self._inside / "segments" / key

    def _row_file(self, key: str) -> Path:
        return self._inside / "rows" / key[:2] / f"{key}.json"

    def _read(self, file: Path) -> Row:
        try:
            return Row.from_text(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise VisoloError(f"'{file}' is damaged: remove it, and its video is run again") from (
                error
            )


def write_whole(file: Path, content: bytes) -> None:
    """Write a small file that is never seen half.

    Raises:
        OSError: if it cannot be written; nothing is left of it then.
    """
    handle, name = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _holder(lock: int) -> str:
    text = os.pread(lock, 200, 0).decode(errors="replace").strip()
    return f" ({text})" if text.isprintable() and text else ""


def count_up(file: Path) -> int:
    """Count in a small file, from 1.

    Raises:
        OSError: if it cannot be written.
    """
    with contextlib.suppress(OSError, ValueError):
        number = int(json.loads(file.read_text(encoding="utf-8"))) + 1
        write_whole(file, str(number).encode())
        return number
    write_whole(file, b"1")
    return 1
