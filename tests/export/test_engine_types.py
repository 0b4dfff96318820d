"""What engines compute in, for every precision and kind of GPU: real TensorRT-RTX engines of the
shipped network, whose builder lists their layers."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine_graphs import EngineGraphs
from visolo_core.contract import GRAPHS, GraphName
from visolo_core.errors import NotHereError, VisoloError
from visolo_export.engine_layers import EngineLayer
from visolo_export.engine_support import check_precision
from visolo_export.tensorrt_build import BuiltEngine, TensorRt, usual_lengths
from visolo_runtime.bundle import Bundle, Precision
from visolo_runtime.engines.tensorrt.library import Library, import_library, new_log
from visolo_runtime.models.shipped import shipped_model

trt = pytest.importorskip("tensorrt_rtx", reason="install visolo[rtx]")
TYPES = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "fp8": "FP8"}


class Builds:
    """Engines of the shipped network; each is built once."""

    def __init__(self, graphs: EngineGraphs) -> None:
        self._graphs = graphs
        self._made: dict[tuple[GraphName, Precision, tuple[str, ...]], BuiltEngine] = {}

    def engine(self, graph: GraphName, precision: Precision, *targets: str) -> BuiltEngine:
        """The engine of a graph for some GPUs."""
        key = graph, precision, targets
        if key not in self._made:
            manifest = Bundle(shipped_model()).manifest
            self._made[key] = TensorRt("tensorrt-rtx").build(
                self._graphs.files(precision)[graph],
                manifest.contract[graph],
                usual_lengths(manifest.model.cells, 1),
                targets,
            )
        return self._made[key]

    def layers(self, precision: Precision, *targets: str) -> list[EngineLayer]:
        """The layers of all engines."""
        engines = [self.engine(graph, precision, *targets) for graph in GRAPHS]
        return [layer for engine in engines for layer in engine.layers]


@pytest.fixture(scope="module")
def builds(engine_graphs: EngineGraphs) -> Builds:
    return Builds(engine_graphs)


@pytest.mark.parametrize(
    ("precision", "targets"),
    [
        ("fp32", ["sm75"]),
        ("fp16", ["sm75"]),
        ("fp16", ["sm120"]),
        ("bf16", ["sm86", "sm89"]),
        ("int8", ["sm86", "sm89"]),
        ("fp8", ["sm89", "sm120"]),
    ],
)
def test_convolutions(precision: Precision, targets: list[str], builds: Builds) -> None:
    """All graphs are built, nearly all convolutions compute in the promised type, and what they
    write is no wider than the base of the precision. (fp32, fp16 and int8 for sm86 and sm89: see
    ``test_tensorrt_build``, where the command line builds them.)"""
    layers = builds.layers(precision, *targets)
    convolutions = [layer for layer in layers if layer.kind == "correlation"]
    assert len(convolutions) >= 45
    of_type = [each for each in convolutions if TYPES[precision] in each.precisions]
    assert len(of_type) >= 0.9 * len(convolutions)
    base = TYPES[precision] if precision in ("fp32", "bf16") else "Half"
    wide = [each for each in convolutions if base not in each.writes]
    assert len(wide) <= 1  # the classifier, where float32 is what reads it


@pytest.mark.parametrize(
    ("precision", "targets"), [("int8", ["sm86", "sm89"]), ("fp8", ["sm89", "sm120"])]
)
def test_quantised_engines_move_no_more_than_fp16(
    precision: Precision, targets: list[str], builds: Builds
) -> None:
    """Quantising is part of the layers that compute the activations: it costs no bytes of its own,
    or eight bits would be slower than sixteen wherever memory is the limit."""
    moved = {
        each: sum(layer.moved_bytes for layer in builds.engine("frame", each, *gpus).layers)
        for each, gpus in ((precision, targets), ("fp16", ["sm120"]), ("fp32", ["sm120"]))
    }
    assert moved[precision] < 1.05 * moved["fp16"] < 0.85 * moved["fp32"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float32_is_float32(precision: Precision, builds: Builds) -> None:
    """TF32 is on by default; the engine itself says that it is off."""
    builder = trt.Builder(new_log(trt))
    assert builder.create_builder_config().get_flag(trt.BuilderFlag.TF32)
    assert not TensorRt("tensorrt-rtx").config(builder).get_flag(trt.BuilderFlag.TF32)
    for graph in GRAPHS:
        plan = builds.engine(graph, precision, "sm120").plan
        assert set(re.findall(rb"\btf32=\d", plan)) == {b"tf32=0"}


class _Config:
    """A stand-in for a library's, with the flags that it knows."""

    def __init__(self) -> None:
        self.set: list[int] = []
        self.cleared: list[int] = []
        self.set_flag, self.clear_flag = self.set.append, self.cleared.append


@pytest.mark.parametrize(
    ("flags", "set_flags", "cleared"),
    [
        ({"TF32": 1}, [], [1]),  # TensorRT
        ({"TF32": 1, "REQUIRE_USER_ALLOCATION": 2}, [2], [1]),  # TensorRT-RTX
        ({}, [], []),
    ],
)
def test_flags_that_a_library_lacks(
    flags: dict[str, int], set_flags: list[int], cleared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = SimpleNamespace(
        __version__="10.3.0",
        BuilderFlag=SimpleNamespace(**flags),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    config = TensorRt("tensorrt").config(SimpleNamespace(create_builder_config=_Config))
    assert (config.set, config.cleared) == (set_flags, cleared)
    assert config.profiling_verbosity == "detailed"


@pytest.mark.parametrize(
    ("library", "version", "fits"),
    [
        ("tensorrt", "8.6.1", False),
        ("tensorrt", "10.2.0.19", False),
        ("tensorrt", "10.3.0", True),
        ("tensorrt", "11.4.1", True),
        ("tensorrt-rtx", "1.3.0", False),
        ("tensorrt-rtx", "1.4.0.76", True),
    ],
)
def test_the_oldest_library(
    library: Library, version: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older ones count as missing, for building and for running: ``auto`` passes over them."""
    module = SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, library.replace("-", "_"), module)
    if fits:
        assert import_library(library) is module
        return
    with pytest.raises(
        NotHereError, match=rf"{library} {version} is too old, .* or later is needed"
    ):
        import_library(library)


@pytest.mark.parametrize(
    ("library", "version", "precision", "targets", "reason"),
    [
        ("tensorrt", "10.3.0", "fp32", ["sm87"], ""),
        ("tensorrt", "10.3.0", "fp16", ["sm87"], ""),
        ("tensorrt", "10.3.0", "int8", ["sm87"], "int8 engines need TensorRT 10.12 or later"),
        ("tensorrt", "10.11.0", "bf16", ["sm87"], "here it is 10.11.0: take fp32 or fp16"),
        ("tensorrt", "10.12.0.36", "fp8", ["sm90"], ""),
        ("tensorrt", "10.12.0.36", "int8", ["sm75"], ""),
        ("tensorrt", "11.4.1", "fp8", ["sm87"], "sm89 or later, not sm87: take fp16"),
        ("tensorrt-rtx", "1.7.1", "int8", ["sm86", "sm89"], ""),
        ("tensorrt-rtx", "1.7.1", "int8", ["sm86", "sm75"], "int8 engines need a GPU of sm80"),
        ("tensorrt-rtx", "1.7.1", "bf16", ["sm75"], "bf16 engines need a GPU of sm80"),
        ("tensorrt-rtx", "1.7.1", "fp8", ["sm89", "sm86"], "not sm86"),
        ("tensorrt-rtx", "1.7.1", "fp8", ["sm120"], ""),
    ],
)
def test_what_a_precision_needs(
    library: Library, version: str, precision: Precision, targets: list[str], reason: str
) -> None:
    if not reason:
        check_precision(library, version, precision, targets)
        return
    with pytest.raises(VisoloError, match=reason):
        check_precision(library, version, precision, targets)


@pytest.mark.parametrize(
    ("precision", "target", "reason"), [("fp8", "sm86", "fp8_e4m3"), ("bf16", "sm75", "b16")]
)
def test_the_library_would_refuse_them_too(
    precision: Precision, target: str, reason: str, builds: Builds
) -> None:
    """If this fails, a newer library can do more than ``engine_support`` knows."""
    with pytest.raises(VisoloError, match=f"HW-specific datatypes: {reason}"):
        builds.layers(precision, target)


def test_int8_on_turing_is_float16(builds: Builds) -> None:
    """Which is why it is refused; a convolution in int8 here would be news."""
    layers = builds.engine("frame", "int8", "sm75").layers
    assert not [each for each in layers if each.kind == "correlation" and "Int8" in each.precisions]


def test_precisions_are_checked_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    library = TensorRt("tensorrt-rtx")
    library.check(["fp32", "fp16"], ["sm75"])
    with pytest.raises(VisoloError, match="fp8 engines need a GPU of sm89 or later, not sm86"):
        library.check(["fp32", "fp8"], ["sm89", "sm86"])
    with pytest.raises(NotHereError, match="name GPUs with --target"):
        library.check(["fp32"], [])
