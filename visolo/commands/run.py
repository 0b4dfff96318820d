"""``visolo run``: a model run over sources, its instances written to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from visolo.commands.options import (
    EXIT_PIPE_CLOSED,
    BackendName,
    Classes,
    Confidence,
    Deinterlace,
    DeviceOption,
    Gap,
    Json,
    ModelName,
    PrecisionName,
    Retry,
    Settings,
    SourceKind,
    Threads,
    Timeout,
    Transport,
    changed,
    model_files,
    parse_size,
    source_options,
)
from visolo_runtime.sources.source_options import DEFAULTS


def run(
    model: ModelName,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video file, folder of frames or videos, pattern such as 'frames/%05d.png' or "
            "'*.mp4', - for standard input, camera index, rtsp:// address, or a YouTube-VIS json; "
            "several are run side by side.",
        ),
    ],
    results: Annotated[
        Path | None,
        typer.Option(help="Write the tracks here; a folder for CVAT's files of several clips."),
    ] = None,
    results_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="ytvis|cvat",
            help="Format of --results: YouTube-VIS's json, or CVAT's XML to correct them there.",
        ),
    ] = "ytvis",
    video: Annotated[
        Path | None,
        typer.Option(help="Write an annotated mp4 here; a folder if the source has several clips."),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="Write a JSON line for each frame here while running; - for stdout."),
    ] = None,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of a json source's frames; by default JPEGImages beside it."),
    ] = None,
    output_size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of the masks; by default the source's."),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help="Stop each clip after this many frames.")
    ] = None,
    threads: Threads = 0,
    streams: Annotated[
        int,
        typer.Option(min=0, help="Clips to run side by side; 0 means one for each source."),
    ] = 0,
    live: Annotated[
        str,
        typer.Option(
            metavar="latest|all",
            help="Frames of a camera or stream to run: the latest, dropping those before it; or "
            "all, and the source waits.",
        ),
    ] = "latest",
    source_type: SourceKind = DEFAULTS.source_type,
    rtsp_transport: Transport = DEFAULTS.rtsp_transport,
    timeout: Timeout = DEFAULTS.timeout_s,
    retry: Retry = DEFAULTS.retry_s,
    after_gap: Gap = DEFAULTS.after_gap,
    deinterlace: Deinterlace = DEFAULTS.deinterlace,
    classes: Classes = None,
    confidence: Confidence = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Track instances in a video with a model.

    Ctrl-C stops after the current frame; what was written so far stays usable. A clip or an output
    that fails ends alone, and the exit status is 1.
    """
    from visolo.commands.progress import RunProgress
    from visolo_core.errors import VisoloError
    from visolo_runtime.runner import RunOptions
    from visolo_runtime.runner import run as run_clips
    from visolo_runtime.session.loading import load
    from visolo_runtime.sinks.outputs import Outputs, ResultsFormat, open_sinks
    from visolo_runtime.sources.feed import Policy
    from visolo_runtime.sources.opening import open_sources

    if as_json and frames is not None and str(frames) == "-":
        raise VisoloError("--json and --frames - both write to standard output: choose one")
    if results_format not in get_args(ResultsFormat):
        known = ", ".join(get_args(ResultsFormat))
        raise VisoloError(f"--format {results_format} is unknown: choose from {known}")
    if results_format == "cvat" and (results is None or output_size):
        raise VisoloError(
            "--format cvat needs --results, and masks of the source's size: leave out --output-size"
        )
    size = parse_size(output_size) if output_size else None
    if live not in get_args(Policy):
        raise VisoloError(f"--live {live} is unknown: choose from {', '.join(get_args(Policy))}")
    reading = source_options(source_type, rtsp_transport, timeout, retry, after_gap, deinterlace)
    clips = open_sources(sources, images, reading)
    loaded = load(
        model,
        backend,
        lambda config: changed(config, settings, confidence),
        threads,
        precision,
        device,
    )
    if classes is not None:
        loaded = loaded.only(classes)
    outputs = Outputs(results, frames, video, cast(ResultsFormat, results_format))
    sinks = open_sinks(clips, loaded.labels, outputs, model_files(model))
    options = RunOptions(
        size, max_frames, results is not None, streams or len(sources), cast(Policy, live)
    )
    with RunProgress(clips, max_frames, outputs.notes(loaded.labels)) as progress:
        summary = run_clips(
            loaded, clips, sinks, options, progress.advance, progress.warn, progress.report
        )
    if summary.exit_status == EXIT_PIPE_CLOSED:
        pass  # quietly, as other programs do
    elif as_json:
        report = summary.as_dict()
        report |= {"backend": loaded.engines.description, "passed_over": loaded.passed_over}
        typer.echo(json.dumps(report))
    else:
        progress.summarise(summary, loaded)
    if summary.exit_status:
        raise typer.Exit(summary.exit_status)
