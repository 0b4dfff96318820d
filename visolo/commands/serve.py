"""``visolo serve``: streams tracked on a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import (
    BackendName,
    Classes,
    Confidence,
    DeviceOption,
    ModelName,
    PrecisionName,
    Settings,
    Threads,
    changed,
)


def serve(
    model: ModelName,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Videos, cameras and addresses, as for run."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in, with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    token: Annotated[
        str,
        typer.Option(
            envvar="VISOLO_TOKEN",
            help="What visitors must know; made up and printed when others are let in.",
        ),
    ] = "",
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="Name under which the server is asked for, such as a proxy's."),
    ] = None,
    allow_source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Sources that visitors may open, such as 'rtsp://10.0.0.*/*'."
        ),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder for recordings; without one, none can be made.")
    ] = None,
    states: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which the tracks of live streams wait for the next server when this "
            "one ends."
        ),
    ] = None,
    longest_gap: Annotated[
        float,
        typer.Option(min=0, help="Seconds after which tracks in --states are not taken up."),
    ] = 60.0,
    max_streams: Annotated[int, typer.Option(min=1, help="Most streams at a time.")] = 8,
    tallest: Annotated[
        int, typer.Option(min=16, help="Frames with more rows are shown smaller.")
    ] = 720,
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    device: DeviceOption = "",
    threads: Threads = 0,
    classes: Classes = None,
    confidence: Confidence = None,
    settings: Settings = None,
) -> None:
    """Track streams and show them on a page in the browser.

    Ctrl-C stops it.
    """
    from visolo_core.distribution import pip_install
    from visolo_core.errors import NotHereError, VisoloError

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise NotHereError(f"visolo serve needs more: run {pip_install('serve')}") from error
    from visolo_runtime.serving.guard import Guard
    from visolo_runtime.serving.hub import Hub
    from visolo_runtime.serving.running import run_server, token_for
    from visolo_runtime.serving.service import Service, ServiceOptions
    from visolo_runtime.serving.states import StateFolder, keep_in
    from visolo_runtime.session.loading import load

    for folder in (recordings, states):
        if folder is not None and not folder.is_dir():
            raise VisoloError(f"there is no folder '{folder}': make it first")
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
    guard = Guard(token or token_for(host), frozenset(host_name or ()))
    waiting = None if states is None else StateFolder(states, longest_gap)
    options = ServiceOptions(tuple(allow_source or ()), recordings, states=waiting)
    keep = None if waiting is None else keep_in(waiting, lambda text: typer.echo(text, err=True))
    with Hub(loaded, max(max_streams, len(sources or ())), tallest, keep) as hub:
        service = Service(str(model), hub, guard, options)
        try:
            service.open_own(sources or [])
            run_server(service, host, port, typer.echo)
        finally:
            service.close()
