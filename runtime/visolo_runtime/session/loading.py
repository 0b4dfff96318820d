"""Opening a model: a bundle with an inference library, or weights with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visolo_core.categories import LabelSet
from visolo_core.checkpoint_header import is_weights_file
from visolo_core.config import InferenceConfig, ModelConfig
from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.engines.backends import AUTO, BACKENDS, choose
from visolo_runtime.engines.device_name import DeviceName, parse_device
from visolo_runtime.models.shipped import SHIPPED, model_path

if TYPE_CHECKING:  # loaded when a model is opened, not when this module is imported
    from visolo_runtime.bundle import Precision
    from visolo_runtime.engines.engine import Engines
    from visolo_runtime.session.session import Session
    from visolo_runtime.session.stream import StreamOptions
    from visolo_runtime.video.frames import ChannelOrder

TORCH = "torch"
"""The backend that runs weights."""
BACKEND_NAMES = (AUTO, *(spec.name for spec in BACKENDS), TORCH)


@dataclass(frozen=True)
class Model:
    """A model whose engines are ready. Open one session per video stream."""

    config: ModelConfig
    inference: InferenceConfig
    labels: LabelSet
    engines: Engines
    precision: Precision = "fp32"
    passed_over: tuple[str, ...] = ()
    """Why better backends were not used, one sentence each."""
    classes: tuple[int, ...] | None = None
    """Class indices of the instances that are kept; None keeps all."""

    def only(self, names: str) -> Model:
        """The same model, which keeps only instances of some classes.

        Args:
            names: of categories, separated by commas, such as ``person,car``.

        Raises:
            VisoloError: if it does not know one of them.
        """
        return replace(self, classes=self.labels.classes_named(names))

    def session(
        self,
        record: bool = True,
        output_size: tuple[int, int] | None = None,
        channel_order: ChannelOrder = "rgb",
        device_masks: bool = False,
    ) -> Session:
        """A session with its own state.

        Args:
            record: keep every mask for ``finish``; without it, memory use stays constant.
            output_size: (height, width) of the masks; None means the frame's own size.
            channel_order: of frames given as arrays, ``rgb`` or ``bgr``.
            device_masks: hand the masks out on the GPU too, as ``Instances.device_masks``.

        Raises:
            VisoloError: if the settings need more memory slots than the engines have, the device
                is out of memory, or masks on a GPU are asked of engines that have none there.
        """
        from visolo_runtime.session.session import Session

        options = self.stream_options(record, output_size, device_masks)
        return Session(self.engines.buffers(), options, channel_order=channel_order)

    def stream_options(
        self,
        record: bool = True,
        output_size: tuple[int, int] | None = None,
        device_masks: bool = False,
    ) -> StreamOptions:
        """Options for a stream of this model; arguments as for :meth:`session`."""
        from visolo_runtime.session.stream import StreamOptions

        return StreamOptions(
            self.inference, self.labels, record, output_size, device_masks, self.classes
        )


def load(
    model: str | Path,
    backend: str = "auto",
    settings: Callable[[InferenceConfig], InferenceConfig] = lambda config: config,
    threads: int = 0,
    precision: str = "",
    device: str = "",
) -> Model:
    """Open a bundle, or open weights with the PyTorch backend.

    Args:
        model: a bundle's directory, a checkpoint, or the name of a model in the package:
            ``everyday`` or ``shapes``.
        backend: one of ``BACKEND_NAMES``. ``auto`` uses the best installed backend that the bundle
            has graphs for, and PyTorch for weights.
        settings: receives the model's thresholds and limits and returns those to use; weights
            come with the paper's.
        threads: for the engines; 0 lets the library choose.
        precision: of a bundle's graphs, such as ``fp16``; empty uses the first in the bundle. For
            weights ``fp32`` or, on a GPU, ``fp16``.
        device: ``cpu``, ``cuda`` or ``cuda:N``; empty leaves it to the backend, and to weights the
            CPU.

    Raises:
        VisoloError: if the model or backend does not exist, or the backend cannot run the model,
            or not on the device.
    """
    path = model_path(model)
    if backend not in BACKEND_NAMES:
        known = ", ".join(BACKEND_NAMES)
        raise VisoloError(f"backend '{backend}' is unknown: choose one of {known}")
    if path.is_dir():
        if backend == TORCH:
            raise VisoloError(
                f"'{path}' is a bundle, but backend torch runs weights: pass a weights file"
            )
        return _load_bundle(path, backend, settings, precision, threads, device)
    if not path.exists():
        raise VisoloError(
            f"there is no model '{path}': name a bundle or weights, or one of the package's own, "
            f"{' or '.join(SHIPPED)}"
        )
    if not is_weights_file(path):
        raise VisoloError(f"'{path}' is neither a bundle nor weights (.safetensors, .pt, .pth)")
    if backend not in (AUTO, TORCH):
        raise VisoloError(
            f"'{path}' holds weights, but backend {backend} runs bundles: "
            f"run visolo export {path} -o model.visolo"
        )
    place = parse_device(device) or DeviceName("cpu")
    known_precisions = ("", "fp32", "fp16") if place.kind == "cuda" else ("", "fp32")
    if precision not in known_precisions:
        raise VisoloError(
            f"PyTorch runs weights on {place} in {' or '.join(known_precisions[1:])} only, not in "
            f"{precision}: leave --precision out, or export them"
        )
    return _load_weights(path, settings(InferenceConfig()), threads, place, precision == "fp16")


def _load_bundle(
    folder: Path,
    backend: str,
    settings: Callable[[InferenceConfig], InferenceConfig],
    precision: str,
    threads: int,
    device: str,
) -> Model:
    from visolo_runtime.bundle import Bundle

    bundle = Bundle(folder)
    manifest = bundle.manifest
    inference = settings(manifest.inference)
    opened = choose(bundle, backend, precision, threads, device)
    return Model(
        manifest.model,
        inference,
        manifest.labels,
        opened.engines,
        opened.precision,
        opened.passed_over,
    )


def _load_weights(
    path: Path, inference: InferenceConfig, threads: int, device: DeviceName, half: bool
) -> Model:
    try:
        from visolo_core.nn.checkpoint import load_checkpoint
        from visolo_runtime.engines.torch.opening import weights_engines
    except ImportError as error:
        raise NotHereError(
            f"'{path}' holds weights, which need PyTorch: run {pip_install('export')}, or export "
            f"them to a bundle on a machine that has it ({error})"
        ) from error
    checkpoint = load_checkpoint(path)
    engines = weights_engines(checkpoint, inference.memory_slots, threads, device, half)
    header = checkpoint.header
    return Model(
        header.config, inference, header.labels, engines, precision="fp16" if half else "fp32"
    )
