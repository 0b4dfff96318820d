"""Measures the ranges of tensors, and writes int8 graphs for CPUs.

Each quantised convolution reads its input and its weights through a pair of QuantizeLinear and
DequantizeLinear, and libraries compute it in integers. Inputs are unsigned and shifted, which is
faster on CPUs than symmetric ones. ONNX Runtime's quantiser does the work.
``tensorrt_quantisation`` writes the graphs of engines.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

from visolo_core.errors import VisoloError
from visolo_export.precision import convolutions
from visolo_runtime.engines.buffers import CELL_OUTPUTS, Array

Feeds = Iterable[Mapping[str, Array]]
"""Inputs of a graph by name, one mapping per run; can be iterated over again."""

LayerKey = TypeVar("LayerKey", bound=Hashable)


@dataclass(frozen=True)
class Ranges:
    """What calibration measured: the smallest and largest value of each tensor."""

    tensors: Any
    """ONNX Runtime's own record"""


def calibrate(source: Path, feeds: Feeds) -> Ranges:
    """Measure the range of every tensor that a convolution reads or writes.

    Args:
        source: the float32 graph.
        feeds: typical inputs.

    Raises:
        VisoloError: if ``feeds`` is empty.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

    if next(iter(feeds), None) is None:
        raise VisoloError("calibration needs at least one frame")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self._feeds, None)

    with _quiet(), tempfile.TemporaryDirectory(prefix="visolo-") as scratch:
        calibrator = create_calibrator(
            source,
            ["Conv"],
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        return Ranges(calibrator.compute_data())


def to_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
) -> None:
    """Write a graph for CPUs whose convolutions compute in integers.

    Args:
        source: the float32 graph.
        target: where to write.
        ranges: of its tensors, see :func:`calibrate`.
        keep: names of convolutions that stay float32.
        only: names of the only convolutions to quantise; if empty, all are quantised.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with _quiet():
        quantizer = QDQQuantizer(
            onnx.load(source),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges.tensors,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(keep),
            op_types_to_quantize=["Conv"],
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "QuantizeBias": True,
            },
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))
    onnx.checker.check_model(target, full_check=True)


def sensitivities(
    source: Path,
    ranges: Ranges,
    feeds: Feeds,
    folder: Path,
    report: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, float]:
    """Measure the error of the outputs when a single convolution is quantised, for each in turn.

    Args:
        source: the float32 graph.
        ranges: of its tensors, see :func:`calibrate`.
        feeds: inputs to measure with; a few are enough.
        folder: for temporary files.
        report: called with the number of convolutions measured so far, and the number of all.

    Returns:
        by convolution: the root mean square error divided by the standard deviation, of the output
        where it is largest.
    """
    expected = [_outputs(source, [feed])[0] for feed in feeds]
    names, errors = convolutions(source), {}
    for number, name in enumerate(names):
        candidate = folder / "one.onnx"
        to_int8(source, candidate, ranges, only=[name])
        errors[name] = max(
            float(np.sqrt(np.mean((plain - quantised) ** 2)) / (plain.std() + 1e-12))
            for outputs, others in zip(expected, _outputs(candidate, feeds), strict=True)
            for plain, quantised in zip(outputs, others, strict=True)
        )
        report(number + 1, len(names))
    return errors


def most_sensitive(errors: Mapping[LayerKey, float], share: float) -> list[LayerKey]:
    """The given share of convolutions, those with the largest errors first.

    >>> most_sensitive({"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.0}, 0.5)
    ['b', 'c']
    """
    order = sorted(errors, key=lambda layer: -errors[layer])
    return order[: round(share * len(order))]


def _outputs(file: Path, feeds: Feeds) -> list[list[Array]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # Which cells are the best is a matter of order: two that are alike may change places.
    names = [each.name for each in session.get_outputs() if not _is_choice(each.name)]
    return [session.run(names, dict(feed)) for feed in feeds]


def _is_choice(output: str) -> bool:
    return output in CELL_OUTPUTS or output == "cell_kernel"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser, which logs advice to its developers through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
