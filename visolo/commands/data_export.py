"""``visolo data export``: a data set in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_annotations(
    annotations: Annotated[Path, typer.Argument(help="Annotations in YouTube-VIS or COCO format.")],
    kind: Annotated[str, typer.Option(metavar="coco|cvat|mots|mots-txt", help="Format to write.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Json file to write for coco; otherwise a new folder."),
    ],
) -> None:
    """Export annotations to CVAT and other programs.

    Masks stay the same to the pixel. No picture is copied or moved.
    """
    import json

    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced, replaced_folder
    from visolo_train.data.annotations import read_annotations
    from visolo_train.exporters.coco import coco_document
    from visolo_train.exporters.cvat import write_cvat
    from visolo_train.exporters.mots import write_mots, write_mots_text

    folders = {"cvat": write_cvat, "mots": write_mots, "mots-txt": write_mots_text}
    if kind != "coco" and kind not in folders:
        raise VisoloError(f"kind '{kind}' is unknown: choose from coco, {', '.join(folders)}")
    read = read_annotations(annotations)
    if kind == "coco":
        with replaced(output) as temporary:
            temporary.write_text(json.dumps(coco_document(read)), encoding="utf-8")
    else:
        if output.exists():
            raise VisoloError(f"'{output}' exists already: name a new folder")
        with replaced_folder(output) as folder:
            folders[kind](read, folder)
    typer.echo(f"{output}: {len(read.videos)} videos, {len(read.tracks)} objects", err=True)
