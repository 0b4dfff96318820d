"""ONNX graphs to TensorRT engines: one way for TensorRT 10.3 and later, 11, and TensorRT-RTX.

Networks are strongly typed: what computes in which precision is written in the graph, so that no
builder flag decides it. TensorRT-RTX builds ahead of time for named GPUs on machines without one;
the others build on, and for, the GPU that is there.

TensorRT reports failure by return values, None, False or -1, and says why only in its log. Every
one of them becomes an exception here that carries the log's lines.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import onnx

from visolo_core.contract import MASKS, STREAMS, GraphSpec, TensorSpec
from visolo_core.errors import NotHereError, VisoloError
from visolo_export.engine_layers import EngineLayer, layers_of
from visolo_export.engine_support import check_precision
from visolo_export.rtx_graphs import suit_rtx
from visolo_runtime.bundle import Precision, file_entry
from visolo_runtime.engines.buffers import DECODE_LIMIT
from visolo_runtime.engines.tensorrt.backend import find_device
from visolo_runtime.engines.tensorrt.library import LINES_TOLD, Library, import_library, new_log

Lengths = Mapping[str, tuple[int, int, int]]
"""Least, usual and largest length of each dimension that is not fixed, by its name."""


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine and what there is to know of it."""

    plan: bytes = field(repr=False)
    library: Library
    version: str
    targets: tuple[str, ...]
    """GPUs that it runs on, such as ``sm86``."""
    onnx_sha256: str
    seconds: float
    layers: tuple[EngineLayer, ...]
    tensors: tuple[TensorSpec, ...]
    """Inputs, then outputs."""
    profile: Lengths
    """Least, usual and largest length of each dimension that is not fixed."""

    def as_dict(self) -> dict[str, Any]:
        """All but the plan, ready for json."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if field.name != "plan"
        }

    def write(self, folder: Path, name: str) -> None:
        """Write the plan as ``name.engine``, and beside it ``name.json`` with all else."""
        (folder / f"{name}.engine").write_bytes(self.plan)
        sidecar = json.dumps(self.as_dict(), indent=1)
        (folder / f"{name}.json").write_text(sidecar, encoding="utf-8")


class TensorRt:
    """A TensorRT library.

    Args:
        library: which.

    Raises:
        VisoloError: if it is not installed, or too old.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._trt = import_library(library)
        self.version: str = self._trt.__version__

    @property
    def known_targets(self) -> tuple[str, ...]:
        """GPUs that engines can be built for without having one, such as ``sm86``."""
        if self.library == "tensorrt":
            return ()
        names = vars(self._trt.ComputeCapability)
        return tuple(sorted(name.lower() for name in names if re.fullmatch(r"SM\d+", name)))

    def check_targets(self, targets: Sequence[str]) -> None:
        """Make sure that engines can be built for these GPUs.

        Raises:
            VisoloError: if one is unknown, or the library builds for the present GPU only.
        """
        check_takes_targets(self.library, targets)
        unknown = [target for target in targets if target not in self.known_targets]
        if unknown:
            raise VisoloError(
                f"target '{unknown[0]}' is unknown: choose from {', '.join(self.known_targets)}"
            )

    def check(self, precisions: Sequence[Precision], targets: Sequence[str]) -> None:
        """Make sure that engines of some precisions can be built for some GPUs.

        Args:
            precisions: of the engines.
            targets: GPUs such as ``sm86``; without any, the GPU of this machine.

        Raises:
            NotHereError: if no targets are given, and this machine has no GPU or no pycuda.
            VisoloError: if they cannot.
        """
        self.check_targets(targets)
        gpus = tuple(targets) or (self._present_target(),)
        for precision in precisions:
            check_precision(self.library, self.version, precision, gpus)

    def build(
        self,
        file: Path,
        spec: GraphSpec,
        lengths: Lengths,
        targets: Sequence[str] = (),
        timing_cache: Path | None = None,
    ) -> BuiltEngine:
        """Build an engine.

        Args:
            file: the ONNX graph.
            spec: its inputs and outputs.
            lengths: of what is not fixed in the shapes of this graph or others.
            targets: GPUs such as ``sm86``; without any, the GPU of this machine.
            timing_cache: read where it exists, and written, so that the next build is faster.

        Raises:
            NotHereError: if no targets are given, and this machine has no GPU or no pycuda.
            VisoloError: if the graph cannot be read or built.
        """
        self.check_targets(targets)
        built_for = tuple(targets) or (self._present_target(),)
        trt, log = self._trt, new_log(self._trt)
        begin = time.perf_counter()
        # TensorRT's parser lets things pass that are not valid.
        try:
            onnx.checker.check_model(file, full_check=True)
        except Exception as error:  # of several kinds
            raise VisoloError(f"'{file}' is not a valid graph: {_first_line(error)}") from error
        model = onnx.load(file)
        builder = trt.Builder(log)
        flags = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        rtx = self.library == "tensorrt-rtx"  # always strongly typed
        network = builder.create_network(0 if rtx or flags is None else 1 << int(flags))
        if rtx:
            suit_rtx(model, built_for)
        self._parse(model, file, network, log)
        config = self.config(builder)
        self._set_targets(config, targets, log)
        profile = self._set_profile(builder, config, spec, lengths, log)
        cache = self._timing_cache(config, timing_cache)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise VisoloError(f"{self.name} cannot build '{file}': {log.reason()}")
        if cache is not None and timing_cache is not None:
            timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
        return BuiltEngine(
            bytes(plan),
            self.library,
            self.version,
            built_for,
            file_entry(file).sha256,
            time.perf_counter() - begin,
            layers_of(log.lines),
            (*spec.inputs, *spec.outputs),
            profile,
        )

    def config(self, builder: Any) -> Any:
        """How engines are built, but for the GPUs and lengths: strictly in the types of the graph,
        and with everything listed that is known of a layer."""
        flags = self._trt.BuilderFlag
        config = builder.create_builder_config()
        config.profiling_verbosity = self._trt.ProfilingVerbosity.DETAILED
        # On by default. It rounds the factors of float32 products to 10 bits, and the graphs keep
        # float32 only for what needs it.
        if hasattr(flags, "TF32"):
            config.clear_flag(flags.TF32)
        # Without it an engine of TensorRT-RTX may allocate when it runs, and its work cannot be
        # recorded then. TensorRT never does, and does not have it.
        if hasattr(flags, "REQUIRE_USER_ALLOCATION"):
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)
        return config

    @property
    def name(self) -> str:
        """Library and version, for people."""
        return f"{'TensorRT-RTX' if self.library == 'tensorrt-rtx' else 'TensorRT'} {self.version}"

    def _present_target(self) -> str:
        """The GPU that is there, which an engine that is built without targets runs on."""
        try:
            return find_device(self.library).architecture
        except NotHereError as error:
            hint = "name GPUs with --target, or " if self.known_targets else ""
            raise NotHereError(f"{hint}build where the GPU is: {error}") from error

    def _parse(self, model: onnx.ModelProto, file: Path, network: Any, log: Any) -> None:
        parser = self._trt.OnnxParser(network, log)
        if parser.parse(model.SerializeToString()):
            return
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{each.node_operator()} '{each.node_name()}': {each.desc()}" for each in errors]
        raise VisoloError(
            f"{self.name} cannot read '{file}': {'; '.join(reasons[:LINES_TOLD]) or log.reason()}"
        )

    def _set_targets(self, config: Any, targets: Sequence[str], log: Any) -> None:
        if not targets:
            return
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            capability = getattr(self._trt.ComputeCapability, target.upper())
            if not config.set_compute_capability(capability, index):
                raise VisoloError(f"{self.name} does not build for {target}: {log.reason()}")

    def _set_profile(
        self, builder: Any, config: Any, spec: GraphSpec, lengths: Lengths, log: Any
    ) -> Lengths:
        free = {side for tensor in spec.inputs for side in tensor.shape if isinstance(side, str)}
        if not free:
            return {}
        used = {side: lengths[side] for side in sorted(free)}
        least, usual, largest = (
            {side: of_it[index] for side, of_it in used.items()} for index in range(3)
        )
        profile = builder.create_optimization_profile()
        for tensor in spec.inputs:
            if free.intersection(tensor.shape):
                profile.set_shape(
                    tensor.name, tensor.sized(least), tensor.sized(usual), tensor.sized(largest)
                )
        if config.add_optimization_profile(profile) < 0:
            raise VisoloError(f"{self.name} does not take the lengths {used}: {log.reason()}")
        return used

    def _timing_cache(self, config: Any, file: Path | None) -> Any:
        # TensorRT-RTX measures nothing when it builds.
        if file is None or self.library == "tensorrt-rtx":
            return None
        cache = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            raise VisoloError(f"'{file}' is not a timing cache of {self.name}: delete it")
        return cache


def check_takes_targets(library: Library, targets: Sequence[str]) -> None:
    """Make sure that a library can build for named GPUs, if any are named; it need not be here.

    Raises:
        VisoloError: if it builds for the present GPU only.
    """
    if targets and library == "tensorrt":
        raise VisoloError(
            "TensorRT builds for the GPU that is there: leave --target out, or take "
            "--format tensorrt-rtx"
        )


def usual_lengths(cells: int, batch: int) -> Lengths:
    """What is built for, where a shape is not fixed.

    Args:
        cells: of the network; no frame has more masks.
        batch: streams that go through the frame and memory graphs together, at most.
    """
    largest = min(DECODE_LIMIT, cells)
    return {MASKS: (1, min(8, largest), largest), STREAMS: (1, batch, batch)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [
            asdict(each) if isinstance(each, (EngineLayer, TensorSpec)) else each for each in value
        ]
    return value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
