"""``visolo data``: data sets checked, relabelled, imported, exported, split, drawn; frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.data_export import export_annotations
from visolo.commands.data_import import import_annotations
from visolo.commands.options import EXIT_CHECK_FAILED, CrowdObjects, Json

data_tools = typer.Typer(
    name="data",
    help="Check, relabel, import, export, split and draw data sets.",
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
    """Check, relabel, import, export, split and draw data sets."""


data_tools.command("import")(import_annotations)
data_tools.command("export")(export_annotations)


@data_tools.command()
def check(
    annotations: AnnotationFile,
    images: Images = None,
    labels: Annotated[
        str, typer.Option(help="Compare the categories with this label set, a name or a json file.")
    ] = "",
    decode: Annotated[
        bool, typer.Option(help="Decode every frame; --no-decode reads only its size.")
    ] = True,
    crowd_objects: CrowdObjects = False,
    as_json: Json = False,
) -> None:
    """Check a data set for problems before a training.

    Exit status 1 if there is a problem.
    """
    import json

    from visolo_core.categories import find_labels
    from visolo_train.data.data_check import check_data

    label_set = find_labels(labels) if labels else None
    folder = images or annotations.parent / "JPEGImages"
    with _progress("checking frames") as progress:
        report = check_data(annotations, folder, label_set, decode, crowd_objects, progress)
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
    output: Annotated[Path, typer.Option("-o", "--output", help="Json file to write.")],
    labels: Annotated[
        str, typer.Option(help="Categories to write: ytvis2019, ytvis2021 or ovis.")
    ] = "ytvis2019",
) -> None:
    """Relabel COCO annotations for a video data set.

    The categories become those of --labels; images that show none of them are left out. No image
    file is copied or moved.
    """
    import json

    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced
    from visolo_train.data.category_maps import VIDEO_LABEL_SETS, category_map, relabel_coco

    if labels not in VIDEO_LABEL_SETS:
        raise VisoloError(
            f"label set '{labels}' is unknown: choose from {', '.join(VIDEO_LABEL_SETS)}"
        )
    label_set = VIDEO_LABEL_SETS[labels]
    relabelled = relabel_coco(coco, label_set)
    with replaced(output) as temporary:
        temporary.write_text(json.dumps(relabelled.document), encoding="utf-8")
    document = relabelled.document
    typer.echo(
        f"{output}: {len(document['images'])} of {relabelled.images_before} images, "
        f"{len(document['annotations'])} of {relabelled.annotations_before} objects, "
        f"{len(category_map(label_set))} categories of COCO as "
        f"{len(set(category_map(label_set).values()))} of {labels}",
        err=True,
    )


@data_tools.command()
def split(
    annotations: AnnotationFile,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to create; it must not exist.")
    ],
    share: Annotated[float, typer.Option(help="Share of the videos to hold back, 0 to 1.")] = 0.1,
    salt: Annotated[str, typer.Option(help="Any text; another one gives another split.")] = "",
) -> None:
    """Hold back a fixed part of a training set for validation.

    Writes OUTPUT/train.json and OUTPUT/val.json. For a given share and salt, only the name of a
    video's folder decides its side.
    """
    import json

    from visolo_core.errors import VisoloError
    from visolo_core.files import replaced_folder
    from visolo_train.data.split import split_annotations

    if output.exists():
        raise VisoloError(f"'{output}' exists already: name a new folder")
    sides = split_annotations(annotations, share, salt)
    with replaced_folder(output) as folder:
        for name, document in (("train", sides.training), ("val", sides.validation)):
            (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    rows = {name: f"{a} and {b}" for name, (a, b) in sides.per_category.items() if a or b}
    kind = "videos" if "videos" in sides.training else "images"
    rows[kind] = f"{len(sides.training[kind])} and {len(sides.validation[kind])}"
    _print_table(f"{output}: train and val", rows)


@data_tools.command()
def frames(
    source: Annotated[str, typer.Argument(help="Video file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to create; it must not exist.")
    ],
    every: Annotated[int, typer.Option(min=1, help="Write every such frame only.")] = 1,
) -> None:
    """Write frames of a video as pictures, to be annotated.

    PNG files with the names that CVAT gives to the frames of a video: frame_000000.png and so on.
    """
    from visolo_core.errors import VisoloError
    from visolo_runtime.sources.opening import open_source
    from visolo_train.data.frame_files import write_frames

    clips = open_source(source)
    if len(clips) != 1:
        raise VisoloError(f"'{source}' has {len(clips)} videos: name one of them")
    clip = clips[0]
    with _progress("reading") as progress:
        written, lost = write_frames(
            clip, output, every, lambda done: progress(done, clip.length or 0)
        )
    for reason in lost:
        typer.echo(f"visolo: left out: {reason}", err=True)
    typer.echo(f"{output}: {written} frames", err=True)


@data_tools.command()
def synth(
    output: Annotated[Path, typer.Argument(help="Folder to create; it must not exist.")],
    videos: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same videos.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames in each video.")] = 16,
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the frames.")
    ] = "336x192",
    paste: Annotated[
        Path | None,
        typer.Option(help="Cut objects out of this data set (json) and paste them on its frames."),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(help="Paste them on the pictures in this folder too; none shows an object."),
    ] = None,
    photos: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the videos that show a frame of it as it is."),
    ] = 0.0,
    relays: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the other videos in which one object leaves and another of its class "
            "comes, often to the same place.",
        ),
    ] = 0.0,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of its frames; by default JPEGImages beside the json."),
    ] = None,
) -> None:
    """Draw annotated videos of shapes or of pasted objects.

    Writes OUTPUT/instances.json, in YouTube-VIS format, and OUTPUT/JPEGImages/. The label set is
    shapes, or with --paste that of the data set.
    """
    from visolo.commands.options import parse_size
    from visolo_core.errors import VisoloError
    from visolo_train.data.annotations import read_annotations
    from visolo_train.data.pasting import PastedClips
    from visolo_train.data.synthetic_data import write_synthetic_data

    if (images or backgrounds or photos or relays) and not paste:
        raise VisoloError(
            "--images, --backgrounds, --photos and --relays belong to a data set: name it with "
            "--paste"
        )
    dimensions = parse_size(size)
    pasted = None
    if paste:
        images = images or paste.parent / "JPEGImages"
        pasted = PastedClips(read_annotations(paste), images, backgrounds, photos, relays=relays)
    with _progress("drawing") as progress:
        write_synthetic_data(
            output, videos, seed, frames, dimensions, lambda done: progress(done, videos), pasted
        )
    typer.echo(f"{output}: {videos} videos of {frames} frames", err=True)


@contextmanager
def _progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_table(title: str, rows: dict[str, str]) -> None:
    """A small table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(markup=False, highlight=False).print(table)
