"""TensorRT and TensorRT-RTX themselves: started, their plans loaded, their kernels kept, and what
they say when something is wrong."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fake_gpu import (
    FakeContext,
    FakeDevice,
    FakeEngine,
    FakeRtxContext,
    FakeRtxEngine,
    FakeRuntimeCache,
    FakeRuntimeConfig,
    fake_tensorrt,
)
from helpers import LIMIT_S
from played_engines import load_plans, run
from visolo_core.contract import GRAPHS, GraphSpec
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.bundle import Bundle, GraphFiles, file_entry
from visolo_runtime.doctor import examine
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.tensorrt.backend import check_fit, open_tensorrt
from visolo_runtime.engines.tensorrt.engine import TensorRtRuntime
from visolo_runtime.engines.tensorrt.kernel_cache import KernelCache, kernel_file
from visolo_runtime.session.loading import load

pytestmark = pytest.mark.timeout(2 * LIMIT_S, func_only=True)
"""What waits for ever is shown with the stacks of all threads."""


def test_layers_are_not_named_to_a_profiler(engines: Engines, device: FakeDevice) -> None:
    """Engines are built with all that can be said of them; saying it costs at every call."""
    with device.current():
        context: Any = engines.by_graph["frame"].context()
    assert context._context.nvtx_verbosity == "none"


def test_kernels_are_compiled_once(
    rtx: TensorRtRuntime, device: FakeDevice, lite_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All contexts of a process share them, and the next process begins with them."""
    assert rtx.kernels is not None
    with device.current():
        load_plans(rtx, lite_bundle, tmp_path).buffers(2)
        rtx.kernels.save()
    assert device.counts["compiled"] == len(GRAPHS)
    assert device.counts["eager context"] > device.counts["lazy context"] == 0
    written = (tmp_path / "kernels.cache").read_bytes()
    device.counts.clear()
    again = TensorRtRuntime("tensorrt-rtx", device, KernelCache(tmp_path / "kernels.cache"))
    load_plans(again, lite_bundle, tmp_path)
    assert device.counts["compiled"] == 0
    (tmp_path / "kernels.cache").write_bytes(b"another GPU: frame memory decode")
    other = TensorRtRuntime("tensorrt-rtx", device, KernelCache(tmp_path / "kernels.cache"))
    load_plans(other, lite_bundle, tmp_path)
    assert device.counts["compiled"] == len(GRAPHS)
    assert other.kernels is not None
    with device.current():
        other.kernels.save()
    assert (tmp_path / "kernels.cache").read_bytes() == written


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "visolo"


@pytest.fixture
def bundle_with_engines(
    device: FakeDevice, rtx: TensorRtRuntime, lite_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """A bundle with engines of TensorRT-RTX for sm86, on a machine with such a GPU."""
    folder = Path(shutil.copytree(lite_bundle, tmp_path / "with engines.visolo"))
    files = {graph: f"tensorrt-rtx/{graph}.engine" for graph in GRAPHS}
    (folder / "tensorrt-rtx").mkdir()
    for graph, plan in files.items():
        (folder / plan).write_bytes(str(folder / f"{graph}.onnx").encode())
    manifest = Bundle(folder).manifest
    graphs = GraphFiles(
        format="tensorrt-rtx", precision="fp32", files=files, library="1.7.1", targets=["sm86"]
    )
    entries = {plan: file_entry(folder / plan) for plan in files.values()}
    manifest.model_copy(
        update={"graphs": [*manifest.graphs, graphs], "files": manifest.files | entries}
    ).write(folder)
    monkeypatch.setattr("visolo_runtime.engines.tensorrt.backend.cuda_device", lambda index: device)
    return folder


def test_a_bundle_with_engines(
    bundle_with_engines: Path, device: FakeDevice, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened on the GPU and nothing in it changes, so it may be read-only. The kernels that
    were compiled for its engines are kept in the user's cache, for these engines on this GPU."""
    before = {path: path.stat() for path in bundle_with_engines.rglob("*")}
    model = load(bundle_with_engines)
    assert model.engines.description == "tensorrt-rtx 1.7.1, fake GPU"
    assert run(model.engines, model.stream_options(), 3)
    assert {path: path.stat().st_mtime_ns for path in bundle_with_engines.rglob("*")} == {
        path: stat.st_mtime_ns for path, stat in before.items()
    }
    Bundle(bundle_with_engines).check_files()
    (kernels,) = (cache / "kernels").iterdir()
    assert kernels.name.startswith("sm86-")
    assert device.counts["compiled"] == len(GRAPHS)
    load(bundle_with_engines)
    assert device.counts["compiled"] == len(GRAPHS)
    monkeypatch.setattr(device, "architecture", "sm89")
    with pytest.raises(VisoloError, match=r"built for sm86, this GPU is sm89: run visolo rebuild"):
        load(bundle_with_engines)


def test_kernels_belong_to_engines_and_a_gpu(cache: Path) -> None:
    files = [
        kernel_file("sm86", ["a", "b"]),
        kernel_file("sm89", ["a", "b"]),
        kernel_file("sm86", ["a", "c"]),
    ]
    assert len(set(files)) == 3
    assert all(file and file.parent == cache / "kernels" for file in files)


@pytest.mark.parametrize("obstacle", ["a file in the way", "no home"])
def test_kernels_that_cannot_be_kept(
    bundle_with_engines: Path, obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compiled again the next time, and everything else works."""
    if obstacle == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", _no_home)
    else:
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    model = load(bundle_with_engines)
    assert run(model.engines, model.stream_options(), 3)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_library_that_does_not_start(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it fails, it is passed over like one that is not installed."""

    def fail(log: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    library = fake_tensorrt(device)
    monkeypatch.setattr(library, "Runtime", fail)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    with pytest.raises(NotHereError, match=r"tensorrt 11.4.0 does not start here: pybind11"):
        TensorRtRuntime("tensorrt", device)


def test_a_machine_without_a_gpu(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, lite_bundle: Path
) -> None:
    """The GPU is looked for before the library is started."""
    library = fake_tensorrt(device)
    monkeypatch.setattr(library, "Runtime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr("visolo_runtime.engines.tensorrt.backend.cuda_device", _no_gpu)
    manifest = Bundle(lite_bundle).manifest
    files = manifest.graphs[0].files
    graphs = GraphFiles(format="tensorrt", precision="fp32", files=files, library="11.4.0")
    with pytest.raises(NotHereError, match="no GPU 0"):
        open_tensorrt(Bundle(lite_bundle), graphs, "tensorrt")
    check = examine().backends["tensorrt"]
    assert (check.usable, check.detail) == (False, "there is no GPU 0 to be used")


def _no_gpu(index: int) -> None:
    raise NotHereError(f"there is no GPU {index} to be used")


def test_plans_that_cannot_be_used(
    runtime: TensorRtRuntime, lite_bundle: Path, tmp_path: Path
) -> None:
    contract, plan = Bundle(lite_bundle).manifest.contract, tmp_path / "frame.engine"
    plan.write_bytes(b"half a pl")
    with pytest.raises(VisoloError, match=r"cannot load '.*frame.engine': the plan is damaged"):
        runtime.load(plan, contract["frame"])
    plan.write_bytes(str(lite_bundle / "memory.onnx").encode())
    with pytest.raises(VisoloError, match="contract"):
        runtime.load(plan, contract["frame"])


def test_engines_for_another_version_or_gpu(lite_bundle: Path) -> None:
    bundle = Bundle(lite_bundle)
    graphs = GraphFiles(
        format="tensorrt-rtx", precision="fp32", files={}, library="1.7.1", targets=["sm86"]
    )
    check_fit(bundle, graphs, "1.7.1", "sm86")
    plain = graphs.model_copy(update={"format": "tensorrt"})
    with pytest.raises(VisoloError, match=r"for sm86, this GPU is sm89: run visolo rebuild"):
        check_fit(bundle, plain, "1.7.1", "sm89")
    with pytest.raises(VisoloError, match=r"built by tensorrt-rtx 1.7.1, here .* visolo rebuild"):
        check_fit(bundle, graphs, "1.8.0", "sm86")
    with pytest.raises(VisoloError, match=r"for sm86, this GPU is sm89.*--target sm89"):
        check_fit(bundle, graphs, "1.7.1", "sm89")


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (FakeEngine, "ICudaEngine"),
        (FakeRtxEngine, "ICudaEngine"),
        (FakeContext, "IExecutionContext"),
        (FakeRtxContext, "IExecutionContext"),
        (FakeRuntimeConfig, "IRuntimeConfig"),
        (FakeRuntimeCache, "IRuntimeCache"),
    ],
)
def test_the_fake_is_named_as_the_real_one(fake: type, real: str) -> None:
    """Names, and numbers of arguments as the bindings' own documentation has them."""
    trt = pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx")
    binding = getattr(trt, real)
    for name, method in vars(fake).items():
        if name.startswith("_"):
            continue
        assert hasattr(binding, name), name
        if not callable(method):
            continue
        # An enum's default value has a colon too.
        described = re.sub(r"<.*?>", "", getattr(binding, name).__doc__)
        signature = re.match(rf"{name}\((.*?)\) ->", described.strip())
        if signature and "*args" not in signature[1]:
            count = len(re.findall(r"\w+: ", signature[1]))
            assert method.__code__.co_argcount == count, (name, signature[0])
    assert hasattr(trt.ICudaEngine, "num_io_tensors")
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    assert hasattr(trt.ProfilingVerbosity, "NONE")
    assert hasattr(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")


def test_the_real_library_gives_its_reason(tmp_path: Path) -> None:
    """Errors come to the recorder in the library's own words, in a real TensorRT-RTX, without
    anything of ours being called for its other lines."""
    pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx")
    runtime = TensorRtRuntime("tensorrt-rtx", FakeDevice())
    plan = tmp_path / "frame.engine"
    plan.write_bytes(b"no plan of anything" * 100)
    spec = GraphSpec((), ())
    with pytest.raises(VisoloError, match=r"cannot load '.*frame.engine': .*deserializeCudaEngine"):
        runtime.load(plan, spec)
    assert runtime.take_reason() == "it does not say why"  # said once
