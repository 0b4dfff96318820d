"""``visolo data import``: annotations of other programs as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import CrowdObjects


def import_annotations(
    source: Annotated[
        Path, typer.Argument(help="Annotation file or folder of another program or data set.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Json file to write.")],
    kind: Annotated[
        str, typer.Option(help="What it is, such as cvat or labelme; by default found out.")
    ] = "",
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the frames; by default where the format puts them."),
    ] = None,
    arrangement: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="video|images",
            help="Frames of a folder are a video, or each is an image of its own; by default a "
            "video if objects are numbered.",
        ),
    ] = "auto",
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Read boxes as rectangular masks.")
    ] = False,
    crowd_objects: CrowdObjects = False,
    empty_frames: Annotated[
        bool,
        typer.Option("--empty-frames", help="Keep frames without a shape: nothing is in them."),
    ] = False,
    cut_covered: Annotated[
        bool,
        typer.Option("--cut-covered", help="Cut what shapes with a higher z-order cover (CVAT)."),
    ] = False,
    labels: Annotated[
        str,
        typer.Option(
            help="Give the categories the ids of this label set, a name or a json file; by default "
            "their own, or from 1."
        ),
    ] = "",
    category: Annotated[
        str, typer.Option(help="The one category of formats without any, such as DAVIS.")
    ] = "object",
) -> None:
    """Import annotations of CVAT, LabelMe and others.

    Writes a json file in YouTube-VIS format. No picture is copied or moved.
    """
    import json
    from typing import cast, get_args

    from visolo_core.categories import find_labels
    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced
    from visolo_train.importers.assembling import Arrangement, assemble
    from visolo_train.importers.frames import ImportOptions
    from visolo_train.importers.kinds import read_source

    if arrangement not in get_args(Arrangement):
        raise VisoloError(f"--as {arrangement} is unknown: choose video or images")
    options = ImportOptions(images, boxes, crowd_objects, empty_frames, cut_covered, category)
    imported = read_source(source, kind, options)
    label_set = find_labels(labels) if labels else None
    assembled = assemble(imported, source, cast(Arrangement, arrangement), label_set)
    document = assembled.document
    with replaced(output) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    for note in assembled.notes:
        typer.echo(f"note: {note}", err=True)
    frames = sum(video["length"] for video in document["videos"])
    typer.echo(
        f"{output}: {len(document['videos'])} videos, {frames} frames, "
        f"{len(document['annotations'])} objects of {len(document['categories'])} categories; "
        f"frames in '{imported.images}'",
        err=True,
    )
