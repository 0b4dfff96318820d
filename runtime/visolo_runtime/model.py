"""Opening a model: a bundle with an inference library, or weights with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from visolo_core.categories import LabelSet
from visolo_core.checkpoint import is_weights_file
from visolo_core.config import InferenceConfig, ModelConfig
from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Bundle
from visolo_runtime.chain import EngineChain, Engines
from visolo_runtime.session import Session

BACKENDS = ("auto", "onnxruntime", "torch")


@dataclass(frozen=True)
class Model:
    """A model whose engines are ready. Make one session for each video stream."""

    config: ModelConfig
    inference: InferenceConfig
    labels: LabelSet
    engines: Engines

    def session(self, record: bool = True, output_size: tuple[int, int] | None = None) -> Session:
        """A session with state of its own.

        Args:
            record: keep every mask for ``finish``; without, memory stays constant for ever.
            output_size: (height, width) of the masks; None gives them the frame's own size.
        """
        return Session(EngineChain(self.engines), self.inference, record, output_size)


def shipped_model() -> Path:
    """The bundle that comes with the package: six drawn shapes, see MODEL_CARD.md beside it."""
    return Path(__file__).parent / "models" / "lite.visolo"


def load(
    path: str | Path,
    backend: str = "auto",
    settings: Callable[[InferenceConfig], InferenceConfig] = lambda config: config,
    threads: int = 0,
) -> Model:
    """Open a bundle, or weights with the PyTorch backend.

    Args:
        path: a bundle's directory, or a checkpoint.
        backend: ``auto`` takes ONNX Runtime for a bundle and PyTorch for weights; ``onnxruntime``,
            ``torch``.
        settings: makes the thresholds and bounds to use of those that the model brings; weights
            bring the paper's.
        threads: for the engines; 0 lets the library choose.

    Raises:
        VisoloError: if there is no such model or backend, or they do not go together.
    """
    path = Path(path)
    if backend not in BACKENDS:
        raise VisoloError(f"backend '{backend}' is unknown: choose one of {', '.join(BACKENDS)}")
    if path.is_dir():
        if backend == "torch":
            raise VisoloError(f"'{path}' is a bundle; backend torch runs weights, name those")
        return _load_bundle(Bundle(path), settings, threads)
    if not path.exists():
        raise VisoloError(f"there is no model '{path}'")
    if not is_weights_file(path):
        raise VisoloError(f"'{path}' is neither a bundle nor weights (.safetensors, .pt)")
    if backend == "onnxruntime":
        raise VisoloError(
            f"'{path}' holds weights; backend onnxruntime runs a bundle: "
            f"visolo export {path} -o model.visolo"
        )
    # PyTorch is optional and belongs to another room, so it is asked for only here.
    from visolo_export.torch_backend import load_weights

    return load_weights(path, settings(InferenceConfig()), threads)


def _load_bundle(
    bundle: Bundle, settings: Callable[[InferenceConfig], InferenceConfig], threads: int
) -> Model:
    from visolo_runtime.onnxruntime_backend import OnnxRuntimeBackend

    manifest = bundle.manifest
    inference = settings(manifest.inference)
    backend = OnnxRuntimeBackend(bundle.graph_files("onnx"), threads)
    engines = Engines.compile(backend, manifest.contract)
    return Model(manifest.model, inference, manifest.labels, engines)
