"""The libraries that ONNX Runtime's GPU providers link: loaded, or missing by name.

pip installs CUDA, cuDNN and TensorRT into folders where the dynamic linker does not look. A library
that the process has loaded already is found by its name, so they are loaded from there first.
ONNX Runtime's ``preload_dlls`` does the same, but knows neither TensorRT's libraries nor what is
missing, and prints to stdout, where commands print their results.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import struct
import sys
from pathlib import Path
from typing import Any

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError
from visolo_runtime.engines.nvidia import check_driver, find_driver

_CUDNN = "libcudnn.so.9"  # for convolutions; since 1.28 no provider names it before it needs it
_DYNAMIC_SECTION, _NEEDED = 6, 1  # SHT_DYNAMIC and DT_NEEDED, in the format of ELF files


def load_gpu_libraries(onnxruntime: Any, provider: str) -> None:
    """Load what a GPU provider links, before a session is created with it.

    Args:
        onnxruntime: the module.
        provider: ``cuda`` or ``tensorrt``.

    Raises:
        NotHereError: if the driver is missing or too old, or a library is missing.
    """
    package = Path(onnxruntime.__file__).parent
    library = package / "capi" / f"libonnxruntime_providers_{provider}.so"
    if not library.is_file():  # another system, or a build that has it inside
        return
    cuda = int(onnxruntime.cuda_version.partition(".")[0] or 0)
    name = f"ONNX Runtime {onnxruntime.__version__}"
    check_driver(find_driver(), cuda, name)
    folders = library_folders(cuda)
    missing = [each for each in (*needed_libraries(library), _CUDNN) if not _load(each, folders)]
    if missing:
        names = " and ".join(dict.fromkeys(missing))
        raise NotHereError(
            f"{name} cannot use {provider} without {names}: run {_install(missing, cuda)}"
        )


def library_folders(cuda: int) -> list[Path]:
    """Where pip has put the libraries of CUDA, cuDNN and TensorRT.

    Those of CUDA 13 are in ``nvidia/cu13/lib``, those of CUDA 12 in ``nvidia/cublas/lib`` and
    others. Some have the same names, so another CUDA's folder is left out.

    Args:
        cuda: major version of CUDA.
    """
    folders: list[Path] = []
    for entry in map(Path, dict.fromkeys(sys.path)):
        folders += [entry / "nvidia" / f"cu{cuda}" / "lib"]
        folders += [
            each
            for each in sorted(entry.glob("nvidia/*/lib"))
            if not re.fullmatch(r"cu\d+", each.parent.name)
        ]
        folders += [entry / "tensorrt_libs"]
    return [each for each in folders if each.is_dir()]


def needed_libraries(library: Path) -> list[str]:
    """The names of the libraries that a library links.

    Args:
        library: a 64-bit ELF file.
    """
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (table,) = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        sections = [
            struct.unpack_from("<IIQQQQII", data, table + size * number) for number in range(count)
        ]
        begin, length, strings = next(
            (offset, length, sections[link][4])
            for _, kind, _, _, offset, length, link, _ in sections
            if kind == _DYNAMIC_SECTION
        )
        entries = struct.iter_unpack("<qQ", data[begin : begin + length])
        names = [strings + value for tag, value in entries if tag == _NEEDED]
        return [data[name : data.find(b"\0", name)].decode() for name in names]


def _load(name: str, folders: list[Path]) -> bool:
    """Load a library from one of the folders, or from where the linker looks."""
    for path in (*(folder / name for folder in folders), Path(name)):
        if path.is_absolute() and not path.is_file():
            continue
        try:
            ctypes.CDLL(str(path))
        except OSError:
            continue
        return True
    return False


def _install(missing: list[str], cuda: int) -> str:
    if all(name.startswith(("libnvinfer", "libnvonnxparser")) for name in missing):
        major = missing[0].rpartition(".")[2]
        return f"pip install 'tensorrt-cu{cuda}=={major}.*'"
    return pip_install(f"cuda{cuda}" if cuda else "gpu")
