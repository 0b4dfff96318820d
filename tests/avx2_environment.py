"""Prints the variables that keep the libraries to AVX2 on a processor that has more.

    env $(python tests/avx2_environment.py) python -m pytest tests/export/test_golden.py

Another processor adds up in another order, so with these variables one machine shows the numbers of
two. ``tests/test_instruction_limit.py`` checks which libraries obey. Not all do. ONNX Runtime
computes with MLAS, which chooses by the processor alone and has no switch. OpenVINO's convolutions
and matrix products are oneDNN's and obey; its own kernels for normalising and resizing stay
with AVX-512, and the one that normalises crashes in rows that its vectors do not fill. No processor
mixes the two by itself.
"""

from __future__ import annotations

import numpy as np

LIMIT = "VISOLO_INSTRUCTION_LIMIT"
"""Says that the limit is meant to hold, so that its tests run."""


def variables() -> dict[str, str]:
    """By name, of all libraries that compute here."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    # NumPy warns of a name that it does not dispatch or that the processor lacks.
    beyond = [name for name in found if name.startswith("AVX512") or name == "X86_V4"]
    limits = {
        LIMIT: "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # PyTorch's convolutions and OpenVINO
        "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # PyTorch's products of matrices
        "OPENBLAS_CORETYPE": "Haswell",  # NumPy's products of matrices
    }
    return limits | ({"NPY_DISABLE_CPU_FEATURES": ",".join(beyond)} if beyond else {})


if __name__ == "__main__":
    print(*(f"{name}={value}" for name, value in variables().items()))
