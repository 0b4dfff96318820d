"""``visolo verify``: two forms of a model against each other."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visolo.commands.options import (
    EXIT_CHECK_FAILED,
    BackendName,
    Json,
    PrecisionName,
    Threads,
)

if TYPE_CHECKING:
    from visolo_export.verification import Frames, Verification
    from visolo_runtime.bundle import Bundle
    from visolo_runtime.session.loading import Model


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    reference: Annotated[
        Path, typer.Option(help="The weights that it was exported from, or any bundle.")
    ],
    backend: BackendName = "auto",
    precision: PrecisionName = "",
    reference_backend: Annotated[str, typer.Option(help="Of the reference.")] = "auto",
    reference_precision: Annotated[str, typer.Option(help="Of the reference.")] = "",
    source: Annotated[
        str | None,
        typer.Option(help="Video, folder or json to run; a generated clip if not said."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames of it.")] = 12,
    data: Annotated[
        Path | None, typer.Option(help="Score both on this data set (json) as well.")
    ] = None,
    ap_tolerance: Annotated[
        float, typer.Option(min=0, help="Largest loss of AP on it, in 0 to 1.")
    ] = 0.01,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first layer of the ONNX graph that parts.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with error curves over the frames.")
    ] = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Prove that a bundle computes what its weights, or another form of it, do.

    First every tensor of every graph on the same inputs, then whole clips closed-loop, each side
    with its own memory. What is allowed depends on the precision. Exit status 1 if a difference is
    over tolerance. The figures are noted in the bundle's manifest.
    """
    from rich.console import Console

    from visolo_core.errors import VisoloError
    from visolo_export.verification import TOLERANCES
    from visolo_export.verification import verify as hold_against
    from visolo_export.verification_page import write_verification_page
    from visolo_runtime.bundle import Bundle, file_entry
    from visolo_runtime.session.loading import load

    console = Console(stderr=True, highlight=False)
    opened = Bundle(bundle)
    if html is not None and not html.absolute().parent.is_dir():
        raise VisoloError(f"cannot write '{html}': its folder does not exist")
    clip, source_name = _frames(source, frames)
    candidate = load(bundle, backend, threads=threads, precision=precision)
    truth = load(
        reference, reference_backend, lambda _: candidate.inference, threads, reference_precision
    )
    _check_same_network(opened, truth.config, reference)
    checksum = file_entry(reference).sha256 if reference.is_file() else ""
    if checksum and opened.manifest.weights_sha256 not in (None, checksum):
        console.print(f"visolo: '{bundle}' was exported from other weights than '{reference}'")
    with console.status("") as status:
        tolerance = TOLERANCES[candidate.precision]
        result = hold_against(truth, candidate, clip, tolerance, status.update)
    failures, more = list(result.failures), dict[str, Any]()
    if data is not None:
        more["ap"] = _scores(truth, candidate, data)
        lost = more["ap"]["reference"] - more["ap"]["candidate"]
        if lost > ap_tolerance:
            failures.append(f"AP on {data.name}: {100 * lost:.1f} points are lost")
    if bisect:
        more["first_divergence"] = _first_divergence(opened, candidate, reference, clip)
    form = f"{candidate.engines.description}, {candidate.precision}"
    _note(opened, result, checksum, source_name, form, not failures, console)
    report = result.as_dict() | more | {
        "source": source_name,
        "form": form,
        "reference": truth.engines.description,
        "failures": failures,
        "passed": not failures,
    }  # fmt: skip
    if html is not None:
        write_verification_page(html, report)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(result, report)
    if failures:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _frames(source: str | None, count: int) -> tuple[Frames, str]:
    """The first frames of a source, and its name."""
    from visolo_core.errors import VisoloError
    from visolo_runtime.video.sample_clip import sample_frames
    from visolo_runtime.video.sources import Skipped, open_source

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


def _scores(reference: Model, candidate: Model, data: Path) -> dict[str, float]:
    """AP of both on a data set."""
    from visolo_runtime.runner import RunOptions, run
    from visolo_runtime.video.sources import open_source
    from visolo_train.data.annotations import read_annotations
    from visolo_train.evaluation.scoring import TrackCollector, check_labels, score_tracks

    annotations, clips = read_annotations(data), open_source(str(data))
    found = {}
    for name, model in (("reference", reference), ("candidate", candidate)):
        check_labels(model.labels, annotations.labels)
        collector = TrackCollector(model.labels)
        run(model, clips, [collector], RunOptions(record=True))
        found[name] = score_tracks(annotations, collector.tracks).figures["AP"]
    return found


def _first_divergence(
    bundle: Bundle, candidate: Model, reference: Path, clip: Frames
) -> dict[str, Any] | None:
    """Where the frame graph's ONNX file parts from a new export of the reference."""
    import tempfile
    from dataclasses import asdict

    import numpy as np

    from visolo_core.checkpoint_header import is_weights_file
    from visolo_core.contract import STREAMS
    from visolo_core.errors import VisoloError
    from visolo_core.nn.checkpoint import load_checkpoint
    from visolo_export.bisect import first_divergence
    from visolo_export.graph_export import export_graphs
    from visolo_export.onnx_export import write_onnx
    from visolo_export.verification import BISECT_TOLERANCES
    from visolo_runtime.video.resizing import resize_frame

    if not is_weights_file(reference):
        raise VisoloError("--bisect needs weights as the reference")
    precision = candidate.precision
    theirs = bundle.graph_files("onnx", precision)["frame"]
    contract, slots = bundle.manifest.contract, bundle.manifest.slots
    feed: dict[str, Any] = {
        tensor.name: np.zeros(tensor.sized({STREAMS: 1}), tensor.dtype)
        for tensor in contract["frame"].inputs
    }
    feed["image"][0] = resize_frame(clip[0], candidate.config.input_size)
    feed["memory_valid"][0, slots] = True
    with tempfile.TemporaryDirectory(prefix="visolo-") as folder:
        network = load_checkpoint(reference).build()
        names = export_graphs(write_onnx, ".onnx", network, contract, Path(folder), lambda _: None)
        found = first_divergence(
            Path(folder) / names["frame"], theirs, feed, BISECT_TOLERANCES[precision]
        )
    return asdict(found) if found else None


def _note(
    bundle: Bundle,
    result: Verification,
    checksum: str,
    source: str,
    form: str,
    passed: bool,
    console: Any,
) -> None:
    """Write the figures into the manifest."""
    from visolo_core.errors import VisoloError
    from visolo_runtime.bundle import Parity

    parity = Parity(
        reference=checksum,
        form=form,
        source=source,
        frames=result.frames,
        passed=passed,
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


def _print(result: Verification, report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from visolo_export.verification import limit_of

    title = f"{report['form']} against {report['reference']}: {report['source']}"
    table = Table(title=f"{title}, {result.frames} frames")
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
    if "ap" in report:
        scores = {name: f"{100 * ap:.1f}" for name, ap in report["ap"].items()}
        console.print(f"AP {scores['candidate']}, of the reference {scores['reference']}")
    if "first_divergence" in report:
        console.print(_told(report["first_divergence"]), markup=False)
    for failure in report["failures"]:
        console.print(f"over tolerance: {failure}", markup=False)
    console.print("passed" if report["passed"] else "FAILED")


def _told(divergence: dict[str, Any] | None) -> str:
    if divergence is None:
        return "no layer of the frame graph parts from the reference"
    return (
        f"the first layer that parts: {divergence['module']}, {divergence['operator']} "
        f"'{divergence['node']}', by {divergence['error']:.2g} of its largest value"
    )
