"""Dependencies of the package, and the one decision among them: which ONNX Runtime.

``onnxruntime`` and ``onnxruntime-gpu`` put their files into the same folder. Installed together
they overwrite each other, and the GPU is silently not used. Python packages cannot say "instead
of", so the choice is made when the package is built:

* ``pip install .`` brings ``onnxruntime``; asking for the extra ``gpu`` then fails, because that
  extra demands an ``onnxruntime`` whose version names what to do and which does not exist;
* ``VISOLO_GPU=1 pip install '.[gpu]'`` makes version ``X+gpu``, which brings ``onnxruntime-gpu``
  and never asks for ``onnxruntime``.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

BASE = [
    "numpy>=1.26",
    "pillow>=10.1",
    "av>=14",
    "pycocotools>=2.0.8",
    "pydantic>=2.7",
    "typer>=0.12",
    "rich>=13",
    "threadpoolctl>=3.1",
]
CPU_RUNTIME = "onnxruntime>=1.20"
GPU_RUNTIME = "onnxruntime-gpu>=1.20"
EXPORT = ["torch>=2.9", "torchvision>=0.24", "onnx>=1.17", "onnxscript>=0.5", "safetensors>=0.4.3"]
TRAIN = [*EXPORT, "tensorboard>=2.16"]
IDENTITY = ["trackeval>=1.3"]
RTX = "tensorrt-rtx>=1.1; sys_platform == 'linux' and platform_machine == 'x86_64'"
REFUSE_GPU = "onnxruntime==0+set.VISOLO_GPU.to.1.to.install.the.gpu.extra"


def dependencies(gpu: bool) -> tuple[list[str], dict[str, list[str]]]:
    """Base and optional dependencies of the CPU or the GPU build."""
    runtime = GPU_RUNTIME if gpu else CPU_RUNTIME
    extras = {
        "export": EXPORT,
        "train": TRAIN,
        "gpu": ["tensorrt>=10.12", "pycuda>=2024.1"] if gpu else [REFUSE_GPU],
        "openvino": ["openvino>=2025.0"],
        "rtx": [RTX],
        "identity": IDENTITY,
        "docs": ["zensical>=0.1.3", "mkdocstrings-python>=2"],
        "dev": [
            *IDENTITY,
            "pytest>=8",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "ruff>=0.12",
            "mypy>=1.15",
            "hatchling>=1.25",
            "packaging>=24",
            "psutil>=6",
            "openvino>=2025.0",
            RTX,
        ],
    }
    return [*BASE, runtime], extras


class CustomMetadataHook(MetadataHookInterface):
    """Called by hatchling."""

    def update(self, metadata: dict[str, Any]) -> None:
        gpu = os.environ.get("VISOLO_GPU", "") == "1"
        metadata["dependencies"], metadata["optional-dependencies"] = dependencies(gpu)
        if gpu:
            metadata["version"] += "+gpu"
