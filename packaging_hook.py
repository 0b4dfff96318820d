"""Dependencies of the package, and the one decision among them: which ONNX Runtime.

``onnxruntime`` and ``onnxruntime-gpu`` put their files into the same folder. Installed together
they overwrite each other, and the GPU is silently not used. Python packages cannot declare
alternatives, so one tree makes two distributions, and the name in ``pyproject.toml`` decides:

* ``visolo`` depends on ``onnxruntime``. Installing its extras ``gpu``, ``cuda12`` and ``cuda13``
  fails, because they require a version of ``onnxruntime`` that does not exist and whose name says
  what to install;
* ``visolo-gpu`` depends on ``onnxruntime-gpu`` and never on ``onnxruntime``. Its extras install a
  set of versions for one CUDA: ``cuda12``, ``cuda13``, and ``gpu``, which is the newer of the two.

``tools/build_distributions.py`` builds both.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

GPU_NAME = "visolo-gpu"
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
EXPORT = [
    "torch>=2.9",
    "torchvision>=0.24",
    "onnx>=1.17",
    "onnxscript>=0.5",
    "ml_dtypes>=0.5",
    "safetensors>=0.4.3",
]
TRAIN = [*EXPORT, "tensorboard>=2.16"]
IDENTITY = ["trackeval>=1.3"]
SERVE = ["starlette>=0.46", "uvicorn>=0.35", "websockets>=14"]
BULK = ["ray[data]>=2.52", "fsspec>=2024.2"]
HUB = ["huggingface_hub>=1.0"]
RTX = "tensorrt-rtx>=1.4; sys_platform == 'linux' and platform_machine == 'x86_64'"
REFUSE_GPU = "onnxruntime==0+install.visolo-gpu"
# ONNX Runtime's wheels are built for CUDA 12 up to 1.26 and for CUDA 13 from 1.27 on; the extra
# `cuda` of 1.27 names packages that do not exist. The TensorRT provider of all of them links
# libnvinfer.so.10, which TensorRT 11 does not have. pycuda builds with the headers of CUDA 13 from
# 2025.1.2 on.
CUDA12 = ["onnxruntime-gpu[cuda,cudnn]>=1.22,<1.27", "tensorrt-cu12>=10.3,<11", "pycuda>=2024.1"]
CUDA13 = ["onnxruntime-gpu[cuda,cudnn]>=1.28", "tensorrt-cu13>=10.13,<11", "pycuda>=2025.1.2"]
# JetPack brings CUDA and a TensorRT of its own, from 10.3 on, which pip must not replace.
JETSON = ["pycuda>=2024.1"]


def dependencies(name: str) -> tuple[list[str], dict[str, list[str]]]:
    """Base and optional dependencies of a distribution, ``visolo`` or ``visolo-gpu``."""
    gpu = name == GPU_NAME
    extras = {
        "export": EXPORT,
        "train": TRAIN,
        "gpu": CUDA13 if gpu else [REFUSE_GPU],
        "cuda12": CUDA12 if gpu else [REFUSE_GPU],
        "cuda13": CUDA13 if gpu else [REFUSE_GPU],
        "jetson": JETSON,
        "openvino": ["openvino>=2025.0"],
        "rtx": [RTX],
        "identity": IDENTITY,
        "hub": HUB,
        "serve": SERVE,
        "bulk": BULK,
        "docs": ["mkdocs-material>=9.6", "mkdocstrings-python>=2", "ruff>=0.12"],
        "dev": [
            *IDENTITY,
            *HUB,
            *SERVE,
            *BULK,
            "httpx>=0.27",
            "schemathesis>=4",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-cov>=6",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.12",
            "mypy>=1.15",
            "hatchling>=1.25",
            "packaging>=24",
            "psutil>=6",
            "supervision>=0.25",
            "openvino>=2025.0",
            RTX,
        ],
    }
    return [*BASE, GPU_RUNTIME if gpu else CPU_RUNTIME], extras


def readme(text: str, source: str) -> str:
    """The README for a package index: links to files of this tree become URLs.

    Args:
        text: Markdown.
        source: URL of the repository.
    """
    pictures = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\1{source}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{source}/blob/main/", pictures)


class CustomMetadataHook(MetadataHookInterface):
    """Called by hatchling."""

    def update(self, metadata: dict[str, Any]) -> None:
        name, source = metadata["name"], metadata["urls"]["Source"]
        metadata["dependencies"], metadata["optional-dependencies"] = dependencies(name)
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme(text, source)}
