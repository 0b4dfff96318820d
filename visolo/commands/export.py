"""``visolo export``: weights become a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from visolo.commands.options import DEVICES, Json, Settings, changed, known_device


def export(
    weights: Annotated[Path, typer.Argument(help="Weights (.safetensors, .pt).")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Bundle (directory) to write; with format triton, the model repository.",
        ),
    ],
    format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT[,FORMAT...]",
            help="onnx, openvino, torchscript, pt2, aotinductor, tensorrt-rtx, tensorrt; several "
            "in one bundle. triton puts the bundle into a model repository, as 'visolo triton' "
            "does.",
            show_default="onnx",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRECISION[,PRECISION...]",
            help="fp32, fp16, int8; in engines bf16 and fp8 too; a run takes the first unless its "
            "--precision names another.",
            show_default="fp32",
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="Video, folder of frames or json to measure ranges on, for int8 and fp8."
        ),
    ] = None,
    calibration_frames: Annotated[
        int, typer.Option(min=1, help="Frames of --calibrate to use.")
    ] = 64,
    keep: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the convolutions that are not quantised, the most sensitive.",
        ),
    ] = 0.1,
    float32: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE[,MODULE...]",
            help="Modules that stay float32 in every precision, such as backbone.layer1; "
            "'visolo verify --bisect' names them.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SM[,SM...]",
            help="GPUs that tensorrt-rtx builds for, such as sm86,sm89; by default this machine's.",
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File that makes the next tensorrt build faster.")
    ] = None,
    memory_slots: Annotated[
        int | None,
        typer.Option(
            min=0, help="Stored frames that a frame can read; by default 9, as in the paper."
        ),
    ] = None,
    batch: Annotated[
        int,
        typer.Option(min=1, help="Most streams that can go through the graphs together."),
    ] = 1,
    device: Annotated[
        str,
        typer.Option(
            metavar=DEVICES,
            callback=known_device,
            help="What aotinductor compiles for, on this machine; by default its CPU.",
        ),
    ] = "",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Export weights as a bundle: four graphs and a manifest in one directory."""
    from dataclasses import replace

    from rich.console import Console

    from visolo_core.config import InferenceConfig
    from visolo_core.errors import VisoloError
    from visolo_core.nn.checkpoint import load_checkpoint
    from visolo_export.bundle_writer import write_bundle
    from visolo_export.formats import (
        CalibrationOptions,
        EngineOptions,
        apart_from_triton,
        listed,
        parse_formats,
        parse_precisions,
    )
    from visolo_runtime.bundle import Manifest, file_entry, is_bundle
    from visolo_runtime.engines.device_name import DeviceName, parse_device
    from visolo_runtime.triton.repository import ReplicaOptions, model_name, write_model

    names, for_triton = apart_from_triton(format or ["onnx"])
    formats = parse_formats(names)
    precisions = parse_precisions(precision or ["fp32"], formats)
    place = parse_device(device)
    if place and "aotinductor" not in formats:
        raise VisoloError(
            "--device says what aotinductor compiles for, and that format is not named: leave "
            "--device out, or add --format aotinductor"
        )
    if for_triton:
        model_name(weights.stem)
    if is_bundle(weights):
        remedy = f": run visolo triton {weights} -o {output}" if for_triton else ""
        raise VisoloError(f"'{weights}' is a bundle already, and not weights{remedy}")
    calibration = CalibrationOptions(calibrate, calibration_frames, keep) if calibrate else None
    engines = EngineOptions(tuple(listed(target or [])), timing_cache)
    inference = changed(InferenceConfig(), settings)
    if memory_slots is not None:
        inference = replace(inference, memory_slots=memory_slots)
    checkpoint = load_checkpoint(weights)
    console = Console(stderr=True, highlight=False)
    manifests: list[Manifest] = []
    with console.status("") as status:

        def write(folder: Path) -> None:
            manifests.append(
                write_bundle(
                    checkpoint,
                    folder,
                    inference,
                    file_entry(weights).sha256,
                    report=lambda part: status.update(f"exporting the {part}"),
                    formats=formats,
                    precisions=precisions,
                    engine_options=engines,
                    calibration=calibration,
                    float32_modules=listed(float32 or []),
                    batch=batch,
                    device=place or DeviceName("cpu"),
                )
            )

        if for_triton:
            output = write_model(write, output, weights.stem, ReplicaOptions())
        else:
            write(output)
    (manifest,) = manifests
    size = sum(entry.size for entry in manifest.files.values())
    if as_json:
        typer.echo(
            json.dumps(
                {"output": str(output), "formats": formats, "precisions": precisions, "bytes": size}
            )
        )
    console.print(
        f"{output}: {', '.join(formats)} in {', '.join(precisions)}, {size / 1e6:.1f} MB, "
        f"{manifest.slots} memory slots, {manifest.model.classes} classes"
        + (f", up to {batch} streams together" if batch > 1 else ""),
        markup=False,
        soft_wrap=True,
    )
