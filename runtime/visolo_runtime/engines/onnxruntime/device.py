"""Memory of a device, by addresses, through ONNX Runtime's public Python interface alone.

A tensor is bound to a session by the address of its first byte, so parts of an ``OrtValue`` are
bound as well as a whole one. Python has no call that copies between addresses (``copy_tensors`` and
``OrtValue.update_inplace`` take whole ``OrtValue``, and not in every version), so a session with
one Identity node does: on a GPU it is one asynchronous copy on the session's stream.

What is done when, on a GPU:

* ``run_with_iobinding`` waits at its end for the provider's stream, unless the run option
  ``disable_synchronize_execution_providers`` is 1. All sessions here have the same stream
  (``user_compute_stream``), on which the next run sees the outputs of the last without a wait, so
  only runs wait whose outputs the host reads. ``synchronize_outputs`` is not needed: it waits for
  the provider's stream too. In versions before pull request 28686 of ONNX Runtime a replayed
  recording waits all the same, which costs time and is not wrong.
* An output bound in the host's memory is copied there on that stream, and is complete when a run
  that waits returns. An input bound in the host's memory is copied when it is bound.
* ``OrtValue.update_inplace`` with an array is ``cudaMemcpy`` on the legacy stream, for which the
  other does not wait, and is done when it returns. It must not overwrite what a run still reads.
* A CUDA graph is recorded in the global mode of stream capture: meanwhile no other thread may
  allocate device memory or copy synchronously, or the recording breaks. So one thread at a time
  uses the devices. ONNX Runtime's source ends a recording with the run that failed, so that the
  next run can go on plainly.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from visolo_core.contract import GraphSpec, TensorSpec
from visolo_core.errors import VisoloError
from visolo_runtime.engines.buffers import Array
from visolo_runtime.engines.onnxruntime.backend import COPY, Providers, open_session
from visolo_runtime.engines.onnxruntime.cuda_stream import GpuStream

_LOG = logging.getLogger(__name__)
_PLAIN = -1
"""As ``gpu_graph_id``: neither record this run nor replay it."""
ONE_AT_A_TIME = threading.RLock()
"""Held by the thread that uses a device."""
_COPY_MODEL = bytes.fromhex(
    "08083a580a1a0a06736f75726365120674617267657422084964656e746974791204636f70795a190a06736f7572"
    "6365120f0a0d080212090a071205627974657362190a06746172676574120f0a0d080212090a0712056279746573"
    "42040a00100d"
)
_COPY_SPEC = GraphSpec(
    (TensorSpec("source", "uint8", ("bytes",)),), (TensorSpec("target", "uint8", ("bytes",)),)
)
"""An ONNX model of one Identity node, and its contract."""


class DeviceBytes:
    """Memory of a device, for as long as this lives.

    Args:
        value: uint8 [nbytes], an ``OrtValue`` on the device.
        nbytes: its size.
    """

    def __init__(self, value: Any, nbytes: int) -> None:
        self._value, self.nbytes = value, nbytes
        self.address = int(value.data_ptr())
        """Of the first byte."""

    def fill(self, values: Array) -> None:
        """Overwrite all of it, and wait until that is done.

        Args:
            values: uint8 [nbytes], on the host.
        """
        with ONE_AT_A_TIME:
            self._value.update_inplace(values)


class OrtDevice:
    """Where ONNX Runtime allocates, and copies from address to address.

    Args:
        onnxruntime: the module.
        kind: ``cuda``; or ``cpu``, where all this works in the same way, for tests.
        providers: for the session that copies.
        stream: of the GPU, which the providers have too.
        index: of the GPU.

    Raises:
        NotHereError: if the first provider does not start.
    """

    def __init__(
        self,
        onnxruntime: Any,
        kind: Literal["cpu", "cuda"],
        providers: Providers,
        stream: GpuStream | None = None,
        index: int = 0,
    ) -> None:
        self.onnxruntime, self.kind, self.index = onnxruntime, kind, index
        self._stream = stream
        with ONE_AT_A_TIME:
            session = open_session(onnxruntime, COPY, _COPY_MODEL, _COPY_SPEC, providers)
        self._copies = OrtContext(self, session, _COPY_SPEC)

    def allocate(self, nbytes: int) -> DeviceBytes:
        """New memory, with anything in it.

        ONNX Runtime gives memory again as soon as it is dropped, when work that somebody has given
        to the device may still use it: that is waited for.

        Raises:
            VisoloError: if the device is out of memory.
        """
        with ONE_AT_A_TIME:
            allocate = self.onnxruntime.OrtValue.ortvalue_from_shape_and_type
            try:
                value = allocate([nbytes], np.uint8, self.kind, self.index)
            except Exception as error:  # onnxruntime raises a dozen types without a common base
                raise VisoloError(
                    f"ONNX Runtime has no room for {nbytes} bytes on {self.kind}: {_short(error)}"
                ) from error
            self.wait_for_all()
        return DeviceBytes(value, nbytes)

    def copy(self, target: int, source: int, nbytes: int, wait: bool = False) -> None:
        """Copy from one address of the device to another, and wait for it or not."""
        self._copy((self.kind, target), (self.kind, source), nbytes, wait)

    def download(self, target: Array, source: int, wait: bool) -> None:
        """Copy from an address of the device into an array, contiguous.

        Args:
            target: as many bytes as it has are copied.
            source: the address.
            wait: for it, and for all that was given to the device before.
        """
        self._copy(("cpu", target.ctypes.data), (self.kind, source), target.nbytes, wait)

    def upload(self, target: int, source: Array) -> None:
        """Copy an array, contiguous, to an address of the device, and wait for it."""
        self._copy((self.kind, target), ("cpu", source.ctypes.data), source.nbytes, wait=True)

    def wait_for_all(self) -> None:
        """Wait for everything that this process has given to the device."""
        if self._stream is not None:
            with ONE_AT_A_TIME:
                self._stream.wait_for_device()

    def _copy(
        self, target: tuple[str, int], source: tuple[str, int], nbytes: int, wait: bool
    ) -> None:
        with ONE_AT_A_TIME:
            self._copies.bind_places({"source": source, "target": target}, {"bytes": nbytes})
            self._copies.run(wait)


class OrtContext:
    """The addresses of a graph's tensors, and the call that computes.

    Args:
        device: where they lie.
        session: of the graph.
        spec: of the graph.
        recording: a number that no other recording of the session has, if the session records
            what it runs as a CUDA graph; addresses and shapes must not change from the first run
            on.
    """

    def __init__(
        self, device: OrtDevice, session: Any, spec: GraphSpec, recording: int | None = None
    ) -> None:
        self._device, self._session, self._spec = device, session, spec
        self._binding = session.io_binding()
        self._options = self._run_options(recording)
        self._recorded = recording is not None
        self._recorded_by: set[int] = set()
        """Threads; each has recordings of its own in ONNX Runtime."""

    def _run_options(self, recording: int | None) -> dict[bool, Any]:
        """By whether a run waits at its end."""
        options = {False: self._device.onnxruntime.RunOptions()}
        options[True] = self._device.onnxruntime.RunOptions()
        for wait, each in options.items():
            each.add_run_config_entry(
                "disable_synchronize_execution_providers", "0" if wait else "1"
            )
            if recording is not None:
                each.add_run_config_entry("gpu_graph_id", str(recording))
        return options

    def bind(self, addresses: Mapping[str, int], lengths: Mapping[str, int]) -> None:
        """Read and write tensors at addresses of the device.

        Args:
            addresses: by name; tensors that are not among them stay where they are.
            lengths: of the sides that are not fixed.
        """
        kind = self._device.kind
        self.bind_places({name: (kind, at) for name, at in addresses.items()}, lengths)

    def bind_places(
        self, places: Mapping[str, tuple[str, int]], lengths: Mapping[str, int]
    ) -> None:
        """As :meth:`bind`, for tensors on the device or on the host: kind and address of each."""
        with ONE_AT_A_TIME:
            for bind, tensors in (
                (self._binding.bind_input, self._spec.inputs),
                (self._binding.bind_output, self._spec.outputs),
            ):
                for tensor in tensors:
                    if tensor.name in places:
                        kind, address = places[tensor.name]
                        index = 0 if kind == "cpu" else self._device.index
                        dtype, shape = np.dtype(tensor.dtype).type, tensor.sized(lengths)
                        bind(tensor.name, kind, index, dtype, shape, address)

    def run(self, wait: bool) -> None:
        """Compute, after all that was given to the device before.

        Args:
            wait: until it is done.

        Raises:
            VisoloError: if the library fails.
        """
        with ONE_AT_A_TIME:
            if self._recorded and threading.get_ident() not in self._recorded_by:
                self._record()
            else:
                self._run(wait)

    def _record(self) -> None:
        """Compute and record, in several runs; where that fails all goes on plainly."""
        try:
            self._run(wait=True)
            self._recorded_by.add(threading.get_ident())
        except VisoloError as error:  # ONNX Runtime ends the recording with the run that broke it
            _LOG.warning(
                "a graph is not recorded as a CUDA graph and costs more each frame: %s", str(error)
            )
            self._recorded, self._options = False, self._run_options(_PLAIN)
            self._run(wait=True)

    def _run(self, wait: bool) -> None:
        try:
            self._session.run_with_iobinding(self._binding, self._options[wait])
        except Exception as error:  # onnxruntime raises a dozen types without a common base
            raise VisoloError(
                f"ONNX Runtime cannot run a graph on {self._device.kind}: {_short(error)}"
            ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
