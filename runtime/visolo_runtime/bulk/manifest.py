"""What became of each video: a small file when it is over, and all of them as one Parquet table.

A row is committed by renaming its file, after the outputs that it names have their names. So a row
that is there is true, whatever was killed. At the end of a run the rows are merged into
``manifest.parquet``, and the small files are removed when that has its name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from visolo_core.errors import VisoloError
from visolo_core.files import replaced

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class Row:
    """One video of the manifest."""

    key: str
    """hash of the content, the name, the model and the settings"""
    input: str
    """as it was given, without passwords"""
    input_hash: str
    """SHA-256 of a file; for an object in a store, what that says of it"""
    model_hash: str
    settings: str
    """json"""
    status: Status
    reason: str = ""
    """why it failed"""
    frames: int = 0
    """frames that went through the network"""
    skipped: int = 0
    """frames that could not be read"""
    instances: int = 0
    tracks: int = 0
    seconds: float = 0.0
    """from its first frame to its last, on the worker"""
    attempt: int = 1
    """how often it was tried in the run that wrote this row"""
    engines: str = ""
    """library and device that ran it"""
    outputs: tuple[str, ...] = ()
    """files in the output folder"""
    run: str = ""
    """which run of the command wrote this row"""

    def as_text(self) -> str:
        """One line of json."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Row:
        """What :meth:`as_text` wrote."""
        return _row(json.loads(text))


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest; none if there is no file.

    Raises:
        VisoloError: if it is no manifest.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.exists():
        return []
    try:
        # By name: pyarrow would take the folders of a path for columns.
        with path.open("rb") as file:
            return [_row(each) for each in pyarrow.parquet.read_table(file).to_pylist()]
    except (OSError, pyarrow.ArrowException, TypeError, KeyError, ValueError) as error:
        raise VisoloError(
            f"'{path}' is not a manifest of visolo bulk: name another output folder"
        ) from error


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, in the order of inputs and keys.

    Raises:
        VisoloError: if it cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    ordered = sorted(rows, key=lambda row: (row.input, row.key))
    columns = {each.name: [getattr(row, each.name) for row in ordered] for each in fields(Row)}
    columns["outputs"] = [list(each) for each in columns["outputs"]]
    table = pyarrow.table(columns, schema=_schema())
    with replaced(path) as temporary, temporary.open("wb") as file:
        pyarrow.parquet.write_table(table, file)


def _row(values: dict[str, Any]) -> Row:
    return Row(**{**values, "outputs": tuple(values["outputs"])})


def _schema() -> Any:
    import pyarrow

    types = {int: pyarrow.int64(), float: pyarrow.float64()}
    hints = get_type_hints(Row)
    named = {each.name: types.get(hints[each.name], pyarrow.string()) for each in fields(Row)}
    named["outputs"] = pyarrow.list_(pyarrow.string())
    return pyarrow.schema(list(named.items()))
