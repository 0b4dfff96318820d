"""``visolo verify``: a bundle against its weights, as a table, as json, and as an exit status."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visolo_runtime.commands.options import EXIT_CHECK_FAILED, Json

if TYPE_CHECKING:
    from visolo_export.verification import Frames, Verification
    from visolo_runtime.bundle import Bundle


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    reference: Annotated[Path, typer.Option(help="The weights that it was exported from.")],
    source: Annotated[
        str | None,
        typer.Option(help="Video, folder or json to run; a generated clip if not said."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames of it.")] = 12,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of the engines; 0: their choice.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Prove that a bundle computes what its weights do.

    First every tensor of every graph on the same inputs, then whole clips closed-loop. Exit
    status 1 if a difference is over tolerance. The figures are noted in the bundle's manifest.
    """
    from rich.console import Console

    from visolo_export.verification import Tolerance
    from visolo_export.verification import verify as hold_against
    from visolo_runtime.bundle import Bundle, file_entry
    from visolo_runtime.model import load

    console = Console(stderr=True, highlight=False)
    opened = Bundle(bundle)
    clip, source_name = _frames(source, frames)
    candidate = load(bundle, "onnxruntime", threads=threads)
    truth = load(reference, "torch", lambda _: candidate.inference, threads)
    _check_same_network(opened, truth.config, reference)
    checksum = file_entry(reference).sha256
    if opened.manifest.weights_sha256 not in (None, checksum):
        console.print(f"visolo: '{bundle}' was exported from other weights than '{reference}'")
    with console.status("") as status:
        result = hold_against(truth, candidate, clip, Tolerance(), status.update)
    _note(opened, result, checksum, source_name, console)
    if as_json:
        typer.echo(json.dumps(result.as_dict() | {"source": source_name}))
    else:
        _print(result, source_name)
    if not result.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _frames(source: str | None, count: int) -> tuple[Frames, str]:
    """The first frames of a source, and its name."""
    from visolo_core.errors import VisoloError
    from visolo_runtime.sample_clip import sample_frames
    from visolo_runtime.sources import Skipped, open_source

    if source is None:
        return list(sample_frames(count)), "generated clip"
    clip = open_source(source)[0]
    readable = (frame for frame in clip.frames() if not isinstance(frame, Skipped))
    found = list(islice(readable, count))
    if not found:
        raise VisoloError(f"'{source}' has no frame that can be read")
    return found, clip.name


def _check_same_network(bundle: Bundle, config: object, reference: Path) -> None:
    from visolo_core.errors import VisoloError

    if bundle.manifest.model != config:
        raise VisoloError(
            f"'{reference}' is another network than bundle '{bundle.folder}' was exported from"
        )


def _note(bundle: Bundle, result: Verification, checksum: str, source: str, console: Any) -> None:
    """Write the figures into the manifest."""
    from visolo_core.errors import VisoloError
    from visolo_runtime.bundle import Parity

    parity = Parity(
        reference=checksum,
        source=source,
        frames=result.frames,
        passed=result.passed,
        max_score_difference=result.tracks.max_score_difference,
        min_mask_iou=result.tracks.min_mask_iou,
        max_tensor_error={
            f"{graph}.{name}": error.as_dict()["absolute"]
            for graph, tensors in result.tensors.items()
            for name, error in tensors.items()
        },
    )
    try:
        bundle.manifest.model_copy(update={"parity": parity}).write(bundle.folder)
    except VisoloError as error:
        console.print(f"visolo: the figures are not noted in the bundle: {error}", markup=False)


def _print(result: Verification, source: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from visolo_export.verification import limit_of

    table = Table(title=f"{source}, {result.frames} frames, against PyTorch")
    for heading in ("tensor", "absolute", "relative", "allowed", ""):
        table.add_column(heading, justify="left" if heading in ("tensor", "") else "right")
    for graph, tensors in result.tensors.items():
        for name, error in tensors.items():
            limit = limit_of(name, result.tolerance)
            if limit is None:
                continue
            measure, largest = limit
            fine = getattr(error, measure) <= largest
            table.add_row(
                f"{graph}.{name}",
                f"{error.absolute:.2e}",
                f"{error.relative:.2e}",
                f"{largest:.0e} {measure}",
                "ok" if fine else "OVER",
            )
    console = Console(highlight=False)
    console.print(table)
    tracks = result.tracks
    if result.decoded_mask_iou is not None:
        console.print(f"masks of the same inputs: IoU at least {result.decoded_mask_iou:.5f}")
    console.print(
        f"closed-loop: {tracks.reference_tracks} tracks against {tracks.candidate_tracks}, "
        + ("the same set" if tracks.same_tracks else "NOT the same set")
    )
    if tracks.max_score_difference is not None and tracks.min_mask_iou is not None:
        console.print(
            f"closed-loop: scores differ by at most {tracks.max_score_difference:.1e}, "
            f"mask IoU at least {tracks.min_mask_iou:.5f}"
        )
    else:
        console.print("closed-loop: no instance was seen; name a --source that shows some")
    for failure in result.failures:
        console.print(f"over tolerance: {failure}", markup=False)
    console.print("passed" if result.passed else "FAILED")
