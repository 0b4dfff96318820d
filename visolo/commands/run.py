"""``visolo run``: a model over a source, into files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from visolo.commands.options import (
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    BackendName,
    Json,
    PrecisionName,
    Settings,
    Threads,
    changed,
    parse_size,
)


def run(
    model: Annotated[Path, typer.Argument(help="A bundle, or weights (.safetensors, .pt).")],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Video file, folder of frames, camera index, rtsp:// address, "
            "or a YouTube-VIS json; several are run side by side.",
        ),
    ],
    results: Annotated[
        Path | None, typer.Option(help="Write YouTube-VIS results here (json).")
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Write an annotated mp4 here; a folder if the source has several clips."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="Write one JSON line per frame here, as it happens; - for stdout."),
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    images: Annotated[
        Path | None, typer.Option(help="Frames of a json source; by default JPEGImages beside it.")
    ] = None,
    output_size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of the masks; by default the source's."),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Stop each clip after so many frames.")
    ] = None,
    threads: Threads = 0,
    streams: Annotated[
        int,
        typer.Option(min=0, help="Clips to run side by side; 0 for one per source."),
    ] = 0,
    live: Annotated[
        str,
        typer.Option(
            metavar="latest|all",
            help="Which frames of a camera or stream to run: the latest, dropping those before "
            "it; or all, making the source wait.",
        ),
    ] = "latest",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Track instances in a video with a model.

    Ctrl-C stops after the current frame; what was written so far stays usable.
    """
    from visolo.commands.progress import RunProgress
    from visolo_core.errors import VisoloError
    from visolo_runtime.runner import RunOptions
    from visolo_runtime.runner import run as run_clips
    from visolo_runtime.session.loading import load
    from visolo_runtime.video.feed import Policy
    from visolo_runtime.video.sinks import open_sinks
    from visolo_runtime.video.sources import open_sources

    if as_json and frames is not None and str(frames) == "-":
        raise VisoloError("--json and --frames - both want standard output: choose one")
    size = parse_size(output_size) if output_size else None
    if live not in get_args(Policy):
        raise VisoloError(f"--live {live} is unknown: choose from {', '.join(get_args(Policy))}")
    clips = open_sources(sources, images)
    opened = load(model, backend, lambda config: changed(config, settings), threads, precision)
    sinks = open_sinks(clips, opened.labels, results, frames, video)
    options = RunOptions(
        size, max_frames, results is not None, streams or len(sources), cast(Policy, live)
    )
    try:
        with RunProgress(clips, max_frames) as progress:
            summary = run_clips(opened, clips, sinks, options, progress.advance, progress.warn)
    except BrokenPipeError:
        # Whoever reads standard output, such as head, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_PIPE_CLOSED) from None
    if as_json:
        report = summary.as_dict()
        report |= {"backend": opened.engines.description, "passed_over": opened.passed_over}
        typer.echo(json.dumps(report))
    else:
        progress.summarise(summary, opened)
    if summary.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
