"""NVIDIA's driver and the libraries of ONNX Runtime's GPU providers, played by libraries in C."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import run_visolo
from skips import NO_COMPILER
from visolo_core.errors import NotHereError
from visolo_runtime.engines.nvidia import Driver, Gpu, check_driver, find_driver
from visolo_runtime.engines.onnxruntime import libraries
from visolo_runtime.engines.onnxruntime.libraries import load_gpu_libraries, needed_libraries
from visolo_runtime.models.shipped import shipped_model
from visolo_runtime.session.loading import load

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { (void)flags; return STATUS; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
  strncpy(name, device ? "small" : "large", size);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000 >> device; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
  *value = which == 75 ? 8 : 6 + 3 * device;
  return 0;
}
"""
RTX = Gpu("RTX", "sm86", 8_000_000_000)
CUDA_12, CUDA_13 = Driver((12, 4), (RTX,)), Driver((13, 0), (RTX,))


@pytest.fixture
def compile_library(tmp_path: Path) -> Callable[..., Path]:
    """Compiles a library that links others."""
    if shutil.which("gcc") is None:
        pytest.skip(NO_COMPILER)

    def compile_it(path: Path, source: str = "", links: tuple[Path, ...] = ()) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = tmp_path / "source.c"
        file.write_text(source)
        command = ["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", f"-Wl,-soname,{path.name}"]
        subprocess.run([*command, "-o", str(path), str(file), *map(str, links)], check=True)
        return path

    return compile_it


def no_driver() -> Driver:
    raise NotHereError("there is no NVIDIA driver here")


def driver_source(version: int = 13000, status: int = 0) -> str:
    return DRIVER.replace("VERSION", str(version)).replace("STATUS", str(status))


def test_a_driver_and_its_gpus(compile_library: Callable[..., Path], tmp_path: Path) -> None:
    library = compile_library(tmp_path / "libdriver.so", driver_source(12040))
    assert find_driver(str(library)) == Driver(
        (12, 4), (Gpu("large", "sm86", 8_000_000_000), Gpu("small", "sm89", 4_000_000_000))
    )


@pytest.mark.parametrize(
    ("status", "advice"),
    [(100, "CUDA_VISIBLE_DEVICES"), (803, "restart the machine"), (999, "CUDA error 999")],
)
def test_a_driver_that_does_not_start(
    compile_library: Callable[..., Path], tmp_path: Path, status: int, advice: str
) -> None:
    library = compile_library(tmp_path / "libdriver.so", driver_source(status=status))
    with pytest.raises(NotHereError, match=advice):
        find_driver(str(library))


def test_no_driver() -> None:
    with pytest.raises(NotHereError, match=r"no NVIDIA driver here.*install driver 580 or later"):
        find_driver("libnonsense.so.1")


def test_a_driver_that_is_too_old() -> None:
    check_driver(CUDA_13, 13, "it")
    check_driver(CUDA_13, 12, "it")
    with pytest.raises(NotHereError, match=r"supports CUDA 12.4 and it needs CUDA 13: update the "
                       r"driver to 580 or later, or run .*visolo-gpu\[cuda12\]"):  # fmt: skip
        check_driver(CUDA_12, 13, "it")
    with pytest.raises(NotHereError, match=r"to 525 or later$"):
        check_driver(Driver((11, 8), (RTX,)), 12, "it")


@pytest.fixture
def site(
    compile_library: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of packages with ONNX Runtime's providers and what they link, as pip lays it out."""
    site = tmp_path / "site"
    cuda = tuple(compile_library(site / "nvidia/cu13/lib" / name) for name in (
        "libvisoloblas.so.13", "libvisolorand.so.10"))  # fmt: skip
    dnn = compile_library(site / "nvidia/cudnn/lib/libvisolodnn.so.9")
    infer = compile_library(site / "tensorrt_libs/libnvinfer.so.10")
    capi = site / "onnxruntime/capi"
    compile_library(capi / "libonnxruntime_providers_cuda.so", links=cuda)
    compile_library(capi / "libonnxruntime_providers_tensorrt.so", links=(*cuda, infer))
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(libraries, "_CUDNN", dnn.name)
    monkeypatch.setattr(libraries, "find_driver", lambda: CUDA_13)
    return site


def runtime(site: Path, cuda: str = "13.0") -> SimpleNamespace:
    file = str(site / "onnxruntime/__init__.py")
    return SimpleNamespace(__file__=file, __version__="1.31.1", cuda_version=cuda)


def test_what_a_library_links(site: Path) -> None:
    library = site / "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
    ours = [each for each in needed_libraries(library) if not each.startswith("libc.")]
    assert ours == ["libvisoloblas.so.13", "libvisolorand.so.10", "libnvinfer.so.10"]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_libraries_that_pip_installed_are_loaded(site: Path, provider: str) -> None:
    """In a process of its own: a library that is loaded once stays so."""
    program = f"""if True:
        import ctypes, sys
        from types import SimpleNamespace
        from visolo_runtime.engines.nvidia import Driver
        from visolo_runtime.engines.onnxruntime import libraries
        libraries._CUDNN = "libvisolodnn.so.9"
        libraries.find_driver = lambda: Driver((13, 0), ())
        site = {str(site)!r}
        sys.path.insert(0, site)
        module = SimpleNamespace(
            __file__=site + "/onnxruntime/__init__.py", __version__="1.31.1", cuda_version="13.0")
        libraries.load_gpu_libraries(module, {provider!r})
        for name in ("libvisoloblas.so.13", "libvisolorand.so.10", "libvisolodnn.so.9"):
            ctypes.CDLL(name)  # by its name alone, as the provider does
    """
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("missing", "provider", "advice"),
    [
        ("nvidia/cu13/lib/libvisoloblas.so.13", "cuda", r"pip install .*visolo-gpu\[cuda13\]"),
        ("nvidia/cudnn/lib/libvisolodnn.so.9", "cuda", r"pip install .*visolo-gpu\[cuda13\]"),
        ("tensorrt_libs/libnvinfer.so.10", "tensorrt", r"pip install 'tensorrt-cu13==10\.\*'"),
    ],
)
def test_a_missing_library_is_named(
    site: Path, missing: str, provider: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading is played: what an earlier test has loaded would be found."""
    (site / missing).unlink()
    name = Path(missing).name
    monkeypatch.setattr(
        libraries, "_load", lambda each, folders: any((f / each).is_file() for f in folders)
        or each.startswith("libc.")
    )  # fmt: skip
    with pytest.raises(
        NotHereError, match=f"1.31.1 cannot use {provider} without {name}.*{advice}"
    ):
        load_gpu_libraries(runtime(site), provider)


def test_another_cudas_folder_is_left_out(site: Path) -> None:
    folders = [each.parent.name for each in libraries.library_folders(12) if site in each.parents]
    assert folders == ["cudnn", "site"]


def test_an_old_driver_is_named_before_libraries(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_driver", lambda: CUDA_12)
    with pytest.raises(NotHereError, match=r"ONNX Runtime 1\.31\.1 needs CUDA 13"):
        load_gpu_libraries(runtime(site), "cuda")


def test_the_backend_asks_before_it_makes_a_session(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` passes over it with this reason."""
    module = runtime(site)
    module.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setattr(libraries, "find_driver", no_driver)
    with pytest.raises(NotHereError, match="no NVIDIA driver"):
        load(shipped_model(), "onnxruntime-cuda")


def test_pycuda_without_a_driver_names_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from visolo_runtime.engines.tensorrt import device

    class WithoutDriver:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("pycuda"):
                raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(device, "find_driver", no_driver)
    monkeypatch.setattr(sys, "meta_path", [WithoutDriver(), *sys.meta_path])
    with pytest.raises(NotHereError, match="no NVIDIA driver"):
        device.CudaDevice()


def test_doctor_prints_the_driver_and_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visolo_runtime.doctor.find_driver", lambda: CUDA_13)
    out = run_visolo("doctor").succeeded().out
    assert "supports CUDA 13.0" in out
    assert "GPU 0" in out
    assert "RTX, sm86, 8 GB" in out
