"""Under ``make parity-avx2`` no library computes with more than AVX2."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from avx2_environment import LIMIT
from skips import NOT_LIMITED

COMPUTE = """
import torch
image, weight = torch.ones(1, 64, 30, 30), torch.ones(64, 64, 3, 3)
torch.nn.functional.conv2d(image, weight)
image[0, 0] @ image[0, 1]
"""


@pytest.fixture(autouse=True)
def limited() -> None:
    """Only where the limit is meant to hold."""
    if not os.environ.get(LIMIT):
        pytest.skip(NOT_LIMITED)


def test_pytorchs_own_loops() -> None:
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"


def test_pytorchs_convolutions_and_products() -> None:
    """oneDNN and MKL name what they compute with."""
    verbose = os.environ | {"ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    command = [sys.executable, "-c", COMPUTE]
    output = subprocess.run(command, env=verbose, capture_output=True, text=True, check=True).stdout
    assert "isa:Intel AVX2\n" in output
    assert ",convolution," in output
    assert "MKL_VERBOSE SGEMM" in output
    assert not [word for word in ("avx512", "avx-512", "avx10") if word in output.lower()]


def test_openvino() -> None:
    pytest.importorskip("openvino", reason="install visolo[openvino]")
    import openvino.opset13 as operators
    from openvino import Model

    from visolo_runtime.engines.openvino.backend import shared_core

    image = operators.parameter([1, 64, 30, 30], np.float32, name="image")
    weight = operators.constant(np.ones((64, 64, 3, 3), np.float32))
    features = operators.convolution(image, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    model = Model([operators.softmax(features, 1)], [image], "graph")
    options = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    request = shared_core().compile_model(model, "CPU", options).create_infer_request()
    request.infer([np.ones((1, 64, 30, 30), np.float32)])
    kinds = {node.node_type: node.exec_type for node in request.profiling_info}
    assert "avx2" in kinds["Convolution"]
    assert "avx2" in kinds["Softmax"]
    assert not [kind for kind in kinds.values() if "avx512" in kind]


def test_numpy() -> None:
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    assert not [name for name in extensions if name.startswith("AVX512") or name == "X86_V4"]
    libraries = [each for each in threadpool_info() if each["internal_api"] == "openblas"]
    assert {each["architecture"] for each in libraries} == {"Haswell"}
