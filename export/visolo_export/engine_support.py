"""Which versions of TensorRT, and which GPUs, have what a precision needs.

fp32 and fp16 need nothing that TensorRT 10.3 lacks, the version of JetPack 6. Networks of other
types are built from 10.12 on, the first release that asks for strongly typed networks in place of
all others; bf16 graphs are also of ONNX opset 22, which older parsers do not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from visolo_core.errors import VisoloError
from visolo_runtime.bundle import Precision
from visolo_runtime.engines.tensorrt.library import Library, version_numbers

_LEAST_TENSORRT: dict[Precision, tuple[int, int]] = {
    "bf16": (10, 12),
    "int8": (10, 12),
    "fp8": (10, 12),
}
_LEAST_CAPABILITY: dict[Precision, int] = {"bf16": 80, "fp8": 89}
_LEAST_RTX_CAPABILITY = _LEAST_CAPABILITY | {"int8": 80}
"""TensorRT-RTX builds int8 graphs for Turing too, but with float16 convolutions."""


def check_precision(
    library: Library, version: str, precision: Precision, targets: Sequence[str]
) -> None:
    """Make sure that a library can build engines of a precision for some GPUs.

    Args:
        library: which.
        version: of it, such as ``10.3.0``.
        precision: of the engines.
        targets: GPUs such as ``sm86``.

    Raises:
        VisoloError: if the version or one of the GPUs is too old.
    """
    least = _LEAST_TENSORRT.get(precision, (0, 0))
    if library == "tensorrt" and version_numbers(version) < least:
        raise VisoloError(
            f"{precision} engines need TensorRT {least[0]}.{least[1]} or later, here it is "
            f"{version}: take fp32 or fp16, or update TensorRT"
        )
    capabilities = _LEAST_CAPABILITY if library == "tensorrt" else _LEAST_RTX_CAPABILITY
    needed = capabilities.get(precision, 0)
    for target in targets:
        if int(target.removeprefix("sm")) < needed:
            raise VisoloError(
                f"{precision} engines need a GPU of sm{needed} or later, not {target}: take fp16 "
                "for it"
            )
