"""``visolo data``: tools for data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import EXIT_CHECK_FAILED, Json

data_tools = typer.Typer(
    name="data",
    help="Tools for data sets.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

AnnotationFile = Annotated[Path, typer.Argument(help="Annotations in YouTube-VIS or COCO format.")]
Images = Annotated[
    Path | None, typer.Option(help="Folder of the frames; by default JPEGImages beside the json.")
]


@data_tools.callback()
def data() -> None:
    """Tools for data sets."""


@data_tools.command()
def check(
    annotations: AnnotationFile,
    images: Images = None,
    labels: Annotated[
        str, typer.Option(help="Compare the categories with a label set, by name or json file.")
    ] = "",
    decode: Annotated[
        bool, typer.Option(help="Decode every frame; --no-decode checks only its size.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check a data set for everything that would break a training.

    Exit status 1 if there is something.
    """
    import json

    from visolo_core.categories import find_labels
    from visolo_train.data.data_check import check_data

    wanted = find_labels(labels) if labels else None
    folder = images or annotations.parent / "JPEGImages"
    with _progress("checking frames") as progress:
        report = check_data(annotations, folder, wanted, decode, progress)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1))
    else:
        for problem in report.problems:
            typer.echo(f"problem: {problem}")
        for note in report.notes:
            typer.echo(f"note: {note}")
        _print_table(annotations.name, {**report.summary, "problems": str(len(report.problems))})
        _print_table(
            "tracks", {name: str(n) for name, n in report.tracks_per_category.items() if n}
        )
    if report.problems:
        raise typer.Exit(EXIT_CHECK_FAILED)


@data_tools.command("coco-to-ytvis")
def coco_to_ytvis(
    coco: Annotated[Path, typer.Argument(help="COCO's instances json.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The json file to write.")],
    labels: Annotated[str, typer.Option(help="ytvis2019, ytvis2021 or ovis.")] = "ytvis2019",
) -> None:
    """Convert COCO's annotations to the categories of a video data set.

    Images that show none of them are left out. The images themselves stay where they are.
    """
    import json

    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced
    from visolo_train.data.category_maps import VIDEO_LABEL_SETS, category_map, relabel_coco

    if labels not in VIDEO_LABEL_SETS:
        raise VisoloError(f"'{labels}' is none of {', '.join(VIDEO_LABEL_SETS)}")
    chosen = VIDEO_LABEL_SETS[labels]
    relabelled = relabel_coco(coco, chosen)
    with replaced(output) as temporary:
        temporary.write_text(json.dumps(relabelled.document), encoding="utf-8")
    document = relabelled.document
    typer.echo(
        f"{output}: {len(document['images'])} of {relabelled.images_before} images, "
        f"{len(document['annotations'])} of {relabelled.annotations_before} objects, "
        f"{len(category_map(chosen))} categories of COCO as "
        f"{len(set(category_map(chosen).values()))} of {labels}",
        err=True,
    )


@data_tools.command()
def split(
    annotations: AnnotationFile,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to create; it must not exist.")
    ],
    share: Annotated[float, typer.Option(help="Share of the videos to hold back.")] = 0.1,
    salt: Annotated[str, typer.Option(help="Another word gives another split.")] = "",
) -> None:
    """Hold back a fixed part of a training set for scoring.

    Writes OUTPUT/train.json and OUTPUT/val.json. The side of a video depends on its folder's name
    alone.
    """
    import json

    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced_folder
    from visolo_train.data.split import split_annotations

    if output.exists():
        raise VisoloError(f"'{output}' exists already: name a new folder")
    sides = split_annotations(annotations, share, salt)
    with replaced_folder(output) as work:
        for name, document in (("train", sides.training), ("val", sides.validation)):
            (work / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    rows = {name: f"{a} and {b}" for name, (a, b) in sides.per_category.items() if a or b}
    kind = "videos" if "videos" in sides.training else "images"
    rows[kind] = f"{len(sides.training[kind])} and {len(sides.validation[kind])}"
    _print_table(f"{output}: train and val", rows)


@data_tools.command()
def synth(
    output: Annotated[Path, typer.Argument(help="Folder to create; it must not exist.")],
    videos: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same videos.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each video.")] = 16,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the frames.")
    ] = "336x192",
    paste: Annotated[
        Path | None,
        typer.Option(
            help="Cut objects out of this data set (json) and paste them onto its frames."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of its frames; by default JPEGImages beside the json."),
    ] = None,
) -> None:
    """Make annotated videos, in YouTube-VIS format: of drawn shapes, or of pasted objects.

    Writes OUTPUT/instances.json and OUTPUT/JPEGImages/. The label set is shapes, or that of the
    pasted data set.
    """
    from visolo.commands.options import parse_size
    from visolo_core.errors import VisoloError
    from visolo_train.data.annotations import read_annotations
    from visolo_train.data.pasting import PastedClips
    from visolo_train.data.synthetic_data import write_synthetic_data

    if images and not paste:
        raise VisoloError("--images names the frames of a data set: name that with --paste")
    dimensions = parse_size(size)
    pasted = None
    if paste:
        pasted = PastedClips(read_annotations(paste), images or paste.parent / "JPEGImages")
    with _progress("drawing") as progress:
        write_synthetic_data(
            output, videos, seed, frames, dimensions, lambda done: progress(done, videos), pasted
        )
    typer.echo(f"{output}: {videos} videos of {frames} frames", err=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_table(title: str, rows: dict[str, str]) -> None:
    """A small table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(markup=False, highlight=False).print(table)
