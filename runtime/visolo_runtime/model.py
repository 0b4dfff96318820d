"""Opening a model: a bundle with an inference library, or weights with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.checkpoint import is_weights_file
from visolo_core.config import InferenceConfig, ModelConfig
from visolo_core.errors import VisoloError
from visolo_runtime.backends import AUTO, CANDIDATES, Request, choose
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.chain import StreamEngines
from visolo_runtime.session import Session

BACKENDS = (AUTO, *(candidate.name for candidate in CANDIDATES), "torch")


@dataclass(frozen=True)
class Model:
    """A model whose engines are ready. Make one session for each video stream."""

    config: ModelConfig
    inference: InferenceConfig
    labels: LabelSet
    engines: StreamEngines
    precision: Precision = "fp32"
    passed_over: tuple[str, ...] = ()
    """Why better backends were not taken, a sentence each."""

    def session(self, record: bool = True, output_size: tuple[int, int] | None = None) -> Session:
        """A session with state of its own.

        Args:
            record: keep every mask for ``finish``; without, memory stays constant for ever.
            output_size: (height, width) of the masks; None gives them the frame's own size.
        """
        return Session(self.engines.chain(), self.inference, record, output_size)


def shipped_model() -> Path:
    """The bundle that comes with the package: six drawn shapes, see MODEL_CARD.md beside it."""
    return Path(__file__).parent / "models" / "lite.visolo"


def load(
    path: str | Path,
    backend: str = "auto",
    settings: Callable[[InferenceConfig], InferenceConfig] = lambda config: config,
    threads: int = 0,
    precision: str = "",
    rebuild: bool = False,
) -> Model:
    """Open a bundle, or weights with the PyTorch backend.

    Args:
        path: a bundle's directory, or a checkpoint.
        backend: ``auto`` takes the best that the bundle has graphs for and that is installed, and
            PyTorch for weights; or one of ``BACKENDS``.
        settings: makes the thresholds and bounds to use of those that the model brings; weights
            bring the paper's.
        threads: for the engines; 0 lets the library choose.
        precision: of a bundle's graphs: ``fp32``, ``fp16`` or ``int8``; the first that it has
            without one.
        rebuild: build TensorRT engines of the bundle again if they do not fit this machine.

    Raises:
        VisoloError: if there is no such model or backend, or they do not go together.
    """
    path = Path(path)
    if backend not in BACKENDS:
        raise VisoloError(f"backend '{backend}' is unknown: choose one of {', '.join(BACKENDS)}")
    if path.is_dir():
        if backend == "torch":
            raise VisoloError(f"'{path}' is a bundle; backend torch runs weights, name those")
        return _load_bundle(Bundle(path), backend, settings, Request(precision, threads, rebuild))
    if not path.exists():
        raise VisoloError(f"there is no model '{path}'")
    if not is_weights_file(path):
        raise VisoloError(f"'{path}' is neither a bundle nor weights (.safetensors, .pt)")
    if backend not in (AUTO, "torch"):
        raise VisoloError(
            f"'{path}' holds weights; backend {backend} runs a bundle: "
            f"visolo export {path} -o model.visolo"
        )
    # PyTorch is optional and belongs to another room, so it is asked for only here.
    from visolo_export.torch_backend import load_weights

    return load_weights(path, settings(InferenceConfig()), threads)


def _load_bundle(
    bundle: Bundle,
    backend: str,
    settings: Callable[[InferenceConfig], InferenceConfig],
    request: Request,
) -> Model:
    manifest = bundle.manifest
    inference = settings(manifest.inference)
    choice = choose(bundle, backend, request)
    return Model(
        manifest.model,
        inference,
        manifest.labels,
        choice.engines,
        choice.precision,
        choice.passed_over,
    )
