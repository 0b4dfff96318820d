"""ONNX Runtime where inputs and outputs are copied, as its GPU providers do."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from alone import alone, same
from visolo_core.contract import GRAPHS
from visolo_runtime.bundle import Bundle
from visolo_runtime.engines.engine import Engines
from visolo_runtime.engines.onnxruntime.backend import OnnxEngine, OnnxRuntimeBackend
from visolo_runtime.session.loading import load
from visolo_runtime.video.sample_clip import sample_frames


class CopyingBinding:
    """A binding that copies an input when it is bound, and outputs when the graph has run."""

    def __init__(self, session: Any) -> None:
        self.inner = session.io_binding()
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, tuple[Any, int]] = {}

    def bind_input(
        self, name: str, device: str, index: int, dtype: Any, shape: Any, address: int
    ) -> None:
        values = self._inputs[name] = np.empty(shape, dtype)
        ctypes.memmove(values.ctypes.data, address, values.nbytes)
        self.inner.bind_input(name, device, index, dtype, shape, values.ctypes.data)

    def bind_output(
        self, name: str, device: str, index: int, dtype: Any, shape: Any, address: int
    ) -> None:
        values = np.empty(shape, dtype)
        self._outputs[name] = values, address
        self.inner.bind_output(name, device, index, dtype, shape, values.ctypes.data)

    def synchronize_outputs(self) -> None:
        """They are there already."""

    def copy_outputs(self) -> None:
        for values, address in self._outputs.values():
            ctypes.memmove(address, values.ctypes.data, values.nbytes)


class CopyingSession:
    def __init__(self, file: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def io_binding(self) -> CopyingBinding:
        return CopyingBinding(self._session)

    def run_with_iobinding(self, binding: CopyingBinding) -> None:
        self._session.run_with_iobinding(binding.inner)
        binding.copy_outputs()


@pytest.mark.parametrize("on_gpu", [True, False])
def test_inputs_are_what_they_are_now(lite_bundle: Path, on_gpu: bool) -> None:
    """As a GPU's engine all is as on the CPU; bound only once, it computes on old inputs."""
    model = load(lite_bundle, "onnxruntime")
    bundle = Bundle(lite_bundle)
    files = bundle.files_of(bundle.graphs("onnx", "fp32"))
    copying = {graph: OnnxEngine(CopyingSession(files[graph]), on_gpu) for graph in GRAPHS}
    engines = Engines(OnnxRuntimeBackend(files), model.engines.contract, copying)
    frames = list(sample_frames(8))
    session = replace(model, engines=engines).session(record=False)
    ours = [session.step(frame) for frame in frames]
    theirs = alone(model, frames)
    if not on_gpu:
        cells = [
            (mine.cell.tolist(), its.instances.cell.tolist())
            for mine, its in zip(ours, theirs, strict=True)
        ]
        assert any(mine != its for mine, its in cells)
        return
    assert sum(map(len, ours)) > 10
    for its, mine in zip(theirs, ours, strict=True):
        same(its, mine)
