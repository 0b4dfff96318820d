"""Writing a model repository: the bundle, the file that Triton loads, and its configuration."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from visolo_core.errors import VisoloError
from visolo_core.files import reason, replaced_folder
from visolo_runtime.bundle import MANIFEST, Bundle
from visolo_runtime.engines.backends import AUTO, BACKENDS
from visolo_runtime.engines.device_name import parse_device
from visolo_runtime.triton.messages import ANSWER_TENSORS, REQUEST_TENSORS, TritonTensor
from visolo_runtime.triton.python_backend import BUNDLE, END, START

CONFIG = "config.pbtxt"
VERSION = "1"
MODEL_FILE = f"{VERSION}/model.py"
_MODEL = '''\
"""Loaded by Triton's Python backend; written by visolo, which must be installed beside it."""

import triton_python_backend_utils
from visolo_runtime.triton.python_backend import PythonBackendModel


class TritonPythonModel(PythonBackendModel):
    """Tracks the instances of one video a sequence."""

    utils = triton_python_backend_utils
'''
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_QUEUE_DELAY_US = 2000
"""How long a frame waits for those of other sequences, if the graphs take several."""


@dataclass(frozen=True)
class ReplicaOptions:
    """How Triton runs a bundle. All of it can be changed in ``config.pbtxt`` later."""

    streams: int = 8
    """sequences that an instance has room for"""
    idle_s: float = 60.0
    """seconds without a request until a sequence is forgotten"""
    instances: int = 1
    """processes, on GPUs a GPU"""
    backend: str = "auto"
    precision: str = ""
    device: str = ""
    """``cuda`` makes instances on every GPU"""
    threads: int = 0
    """for the engines of an instance; 0 lets the library choose"""

    def __post_init__(self) -> None:
        for name in ("streams", "instances"):
            if getattr(self, name) < 1:
                raise VisoloError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0.001 <= self.idle_s <= 1e9:
            raise VisoloError(f"the idle time must be .001 to 1e9 seconds, not {self.idle_s:g}")


def model_name(text: str) -> str:
    """A name that a model can have in a repository, and in the addresses of a server.

    Raises:
        VisoloError: if this is none.
    """
    if not _NAME.fullmatch(text):
        raise VisoloError(
            f"'{text}' cannot be a model's name in Triton: use letters, digits, '_', '.' and '-', "
            "and name it with --name"
        )
    return text


def write_repository(
    bundle: Path, repository: Path, name: str, options: ReplicaOptions | None = None
) -> Path:
    """Write a bundle into a model repository.

    Args:
        bundle: its folder; the files of its manifest are copied.
        repository: made if it is not there; its other models stay.
        name: of the model. A model of that name that was written by this function is replaced.
        options: how Triton runs it.

    Returns:
        the model's folder.

    Raises:
        VisoloError: if the bundle is damaged or has nothing that the options ask for, the name
            cannot be one, or the folder holds something else.
    """
    opened, options = Bundle(bundle), options or ReplicaOptions()
    opened.check_files()
    _check_runnable(opened, options)

    def copy(target: Path) -> None:
        for file in (MANIFEST, *opened.manifest.files):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / file, target / file)

    return write_model(copy, repository, name, options)


def write_model(
    write: Callable[[Path], object], repository: Path, name: str, options: ReplicaOptions
) -> Path:
    """Write a bundle of one's own making into a model repository.

    Args:
        write: writes the bundle into a folder whose parent exists.
        repository, name, options: as for :func:`write_repository`.

    Returns:
        the model's folder.

    Raises:
        VisoloError: if the name cannot be one, the folder holds something else, or the bundle
            cannot be written.
    """
    folder = repository / model_name(name)
    _check_replaceable(folder)
    is_new = not repository.exists()
    try:
        repository.mkdir(exist_ok=True)
    except OSError as error:
        raise VisoloError(f"cannot write '{repository}': {reason(error)}") from error
    try:
        with replaced_folder(folder) as temporary:
            (temporary / VERSION).mkdir()
            write(temporary / VERSION / BUNDLE)
            (temporary / MODEL_FILE).write_text(_MODEL, encoding="utf-8")
            batch = Bundle(temporary / VERSION / BUNDLE).manifest.batch
            (temporary / CONFIG).write_text(config_text(name, batch, options), encoding="utf-8")
    except BaseException:
        if is_new:
            with suppress(OSError):  # another process may have written a model meanwhile
                repository.rmdir()
        raise
    return folder


def config_text(name: str, batch: int, options: ReplicaOptions) -> str:
    """A model's configuration in protobuf's text format.

    Args:
        name: of the model.
        batch: streams that go through the bundle's graphs together.
        options: how Triton runs it.
    """
    together = min(batch, options.streams)
    delay = f" max_queue_delay_microseconds: {_QUEUE_DELAY_US}" if together > 1 else ""
    controls = ((START, "START"), (END, "END"))
    parameters = {
        "streams": options.streams,
        "backend": options.backend,
        "precision": options.precision,
        "device": options.device,
        "threads": options.threads,
    }
    return f"""\
# Written by visolo; docs/triton.md explains it.
name: {json.dumps(name)}
backend: "python"

# Frames of so many sequences, one of each, are computed together.
max_batch_size: {together}

# Streams of different sizes go together too: no input is joined with another's.
input [
{_tensors(REQUEST_TENSORS, " optional: true allow_ragged_batch: true")}
]
output [
{_tensors(ANSWER_TENSORS)}
]

# No control of kind CORRID: Triton hands the id over with the request, as a number or a text. None
# of kind READY: strategy oldest makes no requests of its own.
sequence_batching {{
  max_sequence_idle_microseconds: {round(options.idle_s * 1e6)}
  control_input [
{_joined(_control(tensor, kind) for tensor, kind in controls)}
  ]
  # Twice the sequences that there is room for: one too many is told so, and need not wait.
  oldest {{ max_candidate_sequences: {2 * options.streams}{delay} }}
}}

{_instances(options)}

parameters [
{_joined(_parameter(key, str(value)) for key, value in parameters.items())}
]
"""


def _tensors(specs: Iterable[TritonTensor], more: str = "") -> str:
    return _joined(
        f"  {{ name: {json.dumps(spec.name)} data_type: {spec.data_type} "
        f"dims: {list(spec.dims)}{more} }}"
        for spec in specs
    )


def _control(name: str, kind: str) -> str:
    return (
        f"    {{ name: {json.dumps(name)} control "
        f"[ {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} ] }}"
    )


def _parameter(key: str, value: str) -> str:
    return f"  {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"


def _joined(lines: Iterable[str]) -> str:
    return ",\n".join(lines)


def _instances(options: ReplicaOptions) -> str:
    device = parse_device(options.device)
    is_gpu = device is not None and device.kind == "cuda"
    kind = "KIND_GPU" if is_gpu else "KIND_CPU"
    numbered = f" gpus: [ {device.index} ]" if device and is_gpu and ":" in options.device else ""
    return f"instance_group [ {{ count: {options.instances} kind: {kind}{numbered} }} ]"


def _check_runnable(bundle: Bundle, options: ReplicaOptions) -> None:
    """Refuse what no machine could run; what this one has does not matter."""
    backends = [spec for spec in BACKENDS if options.backend in (AUTO, spec.name)]
    if not backends:
        known = ", ".join((AUTO, *(spec.name for spec in BACKENDS)))
        raise VisoloError(f"backend '{options.backend}' runs no bundle: choose one of {known}")
    formats = {format for spec in backends for format in spec.formats}
    forms = bundle.manifest.graphs
    if not any(
        each.format in formats and options.precision in ("", each.precision) for each in forms
    ):
        present = ", ".join(f"{each.format} {each.precision}" for each in forms)
        wanted = f"{options.backend} {options.precision}".strip()
        raise VisoloError(f"'{bundle.folder}' has no graphs for {wanted}, only {present}")


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that was not written here, whose content would be lost."""
    if not folder.exists():
        return
    if not folder.is_dir() or not any(folder.iterdir()):
        return  # replaced_folder refuses a file
    model = folder / MODEL_FILE
    if not (folder / CONFIG).is_file() or not model.is_file() or model.read_text() != _MODEL:
        raise VisoloError(
            f"'{folder}' holds files that are not such a model's: choose another --name or folder"
        )
