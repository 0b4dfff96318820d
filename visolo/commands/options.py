"""Options and exit statuses that several commands share, and how their values are read."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from visolo_core.config import InferenceConfig
from visolo_core.errors import VisoloError
from visolo_runtime.engines.backends import AUTO
from visolo_runtime.engines.device_name import parse_device
from visolo_runtime.models import HUB
from visolo_runtime.models.shipped import SHIPPED, model_path
from visolo_runtime.session.loading import BACKEND_NAMES, TORCH

EXIT_CHECK_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # what a shell reports of a program that SIGPIPE ended

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a threshold or bound, such as score_threshold=0.3; may be repeated.",
    ),
]

Confidence = Annotated[
    float | None,
    typer.Option(
        "--conf",
        help="Lowest score of an instance in a frame, 0 to 1; sets score_threshold and "
        "update_threshold.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes", metavar="NAME,...", help="Keep only these classes, such as person,car."
    ),
]
CrowdObjects = Annotated[
    bool,
    typer.Option("--crowd-objects", help="Read crowds, such as CVAT's brush masks, as objects."),
]

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help=f"{', '.join(SHIPPED)} (models in the package), a bundle, {HUB}OWNER/NAME, or weights "
        "(.safetensors, .pt).",
    ),
]
_BUNDLE_BACKENDS = [name for name in BACKEND_NAMES if name not in (AUTO, TORCH)]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help=f"{AUTO} takes the best that is usable; for a bundle {', '.join(_BUNDLE_BACKENDS)}; "
        f"for weights {TORCH}.",
    ),
]
PrecisionName = Annotated[
    str,
    typer.Option(
        "--precision", help="Such as fp16 or int8; by default the first that the bundle has."
    ),
]


def known_device(text: str) -> str:
    """The text, if it names a device or is empty.

    Raises:
        VisoloError: otherwise.
    """
    parse_device(text)
    return text


DEVICES = "cpu|cuda|cuda:N"
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar=DEVICES,
        callback=known_device,
        help="Where to run; by default what the backend is for, and the CPU where it has both.",
    ),
]
Threads = Annotated[
    int,
    typer.Option("--threads", min=0, help="Threads for the engines; 0 lets the library choose."),
]


def model_files(model: str) -> list[Path]:
    """The files of a model, which no output may be; one on the hub has none that a user names."""
    if model.startswith(HUB):
        return []
    path = model_path(model)
    if path.is_dir():
        return [each for each in path.rglob("*") if each.is_file()]
    return [path] if path.exists() else []


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of ``640x360``, width first as videos are named.

    Raises:
        VisoloError: if the text is not such a size.

    >>> parse_size("640x360")
    (360, 640)
    """
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise VisoloError(f"'{text}' is not a size: write WIDTHxHEIGHT, such as 640x360")
    return int(height), int(width)


def changed(
    config: InferenceConfig, settings: list[str] | None, confidence: float | None = None
) -> InferenceConfig:
    """Inference settings with ``NAME=VALUE`` changes applied.

    Args:
        config: the settings.
        settings: the changes.
        confidence: lowest score of an instance, from ``--conf``.

    Raises:
        VisoloError: if a name is unknown or a value is out of range, or a threshold is set twice.

    >>> changed(InferenceConfig(), ["memory_slots=3"]).memory_slots
    3
    """
    types = get_type_hints(InferenceConfig)
    known = [field.name for field in fields(InferenceConfig)]
    values: dict[str, float] = {}
    for setting in settings or []:
        name, _, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            raise VisoloError(f"setting '{name}' is unknown: choose from {', '.join(known)}")
        try:
            values[name] = types[name](text)
        except ValueError as error:
            raise VisoloError(
                f"'{setting}' needs a number of type {types[name].__name__} after '='"
            ) from error
    if confidence is not None:
        if not 0 <= confidence <= 1:
            raise VisoloError(f"--conf must be in 0 to 1, not {confidence:g}")
        # A score only falls on its way from the first threshold to the second, so that no instance
        # of at least this score is lost at the first.
        thresholds = dict.fromkeys(("score_threshold", "update_threshold"), confidence)
        if twice := [name for name in thresholds if name in values]:
            raise VisoloError(f"--conf sets {twice[0]} as well: leave out --set {twice[0]}")
        values |= thresholds
    return replace(config, **values)  # type: ignore[arg-type]
