"""``visolo bulk``: many recordings run on one machine or a cluster, each of them once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import (
    EXIT_CHECK_FAILED,
    BackendName,
    Classes,
    Confidence,
    Deinterlace,
    DeviceOption,
    Json,
    ModelName,
    PrecisionName,
    Settings,
    changed,
    choice,
    parse_size,
)

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_INTERRUPTED = 130


def bulk(
    model: ModelName,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Video files, folders of them, patterns such as 'archive/**/*.mp4', addresses "
            "such as s3://bucket/videos/, or a YouTube-VIS json.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for the results; shared by all machines."),
    ],
    results: Annotated[
        str,
        typer.Option(metavar="ytvis|none", help="Write each video's tracks as YouTube-VIS json."),
    ] = "ytvis",
    frames: Annotated[
        bool, typer.Option("--frames", help="Write a JSON line for each frame of each video.")
    ] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Write an annotated mp4 of each video.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes with engines; 0 means one for each GPU or 4 cores."),
    ] = 0,
    per_worker: Annotated[
        int, typer.Option(min=1, help="Videos that a worker runs side by side, in batches.")
    ] = 1,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of a worker's engines; 0 shares the cores.")
    ] = 0,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="A Ray cluster to use; by default this machine alone."
        ),
    ] = "",
    retries: Annotated[
        int,
        typer.Option(min=0, help="How often a video that fails is tried on another worker."),
    ] = 1,
    segment: Annotated[
        str,
        typer.Option(
            metavar="LENGTH",
            help="Keep a long video's state after each length such as 10m, to go on from there.",
        ),
    ] = "",
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of a json's frames; by default JPEGImages beside it."),
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    output_size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of the masks; by default the video's."),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Stop each video after this many frames.")
    ] = None,
    deinterlace: Deinterlace = False,
    classes: Classes = None,
    confidence: Confidence = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Track instances in many recordings, each of them once.

    The same command again does what is missing. Videos that fail are listed, and the exit status
    is 1.
    """
    from visolo_core.distribution import pip_install
    from visolo_core.errors import NotHereError, VisoloError

    try:
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        raise NotHereError(f"visolo bulk needs more: run {pip_install('bulk')}") from error
    from visolo.commands.bulk_progress import BulkProgress
    from visolo_runtime.bulk import plan
    from visolo_runtime.bulk.keys import identify
    from visolo_runtime.bulk.running import run_bulk
    from visolo_runtime.bulk.segments import check_segments

    kind = choice("--results", results, plan.ResultsKind)
    if kind == "none" and not (frames or video):
        raise VisoloError("--results none leaves nothing to write: add --frames or --video")
    segment_s = seconds_of(segment) if segment else None
    check_segments(segment_s, video)
    identity = identify(model)
    if classes is not None and identity.labels is not None:
        identity.labels.classes_named(classes)
    chosen = plan.BulkSettings(
        changed(identity.inference, settings, confidence),
        backend,
        precision,
        classes or "",
        parse_size(output_size) if output_size else None,
        max_frames,
        deinterlace,
        kind,
        frames,
        video,
    )
    job = plan.Job(
        run="",
        model=absolute(model),
        model_hash=identity.hash,
        folder=str(output.absolute()),
        settings=chosen,
        device=device,
        threads=threads,
        per_worker=per_worker,
        workers=workers,
        retries=retries,
        segment_s=segment_s,
        address=address,
    )
    with BulkProgress() as progress:
        try:
            summary = run_bulk(job, inputs, images, progress.listeners)
        except KeyboardInterrupt:
            progress.say("interrupted: the same command does the rest")
            raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(summary.as_dict()))
    else:
        progress.summarise(summary)
    if summary.exit_status:
        raise typer.Exit(EXIT_CHECK_FAILED)


def seconds_of(text: str) -> float:
    """Seconds of a length such as ``10m``.

    Raises:
        VisoloError: if it is none.

    >>> seconds_of("1.5h")
    5400.0
    """
    from visolo_core.errors import VisoloError

    match = _LENGTH.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise VisoloError(f"--segment {text} is no length: write 90s, 10m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def absolute(model: str) -> str:
    """A model's name as another process, with another working folder, finds it."""
    path = Path(model)
    return str(path.absolute()) if path.exists() and "://" not in model else model
