"""The device layer over a driver: these need pycuda and a GPU, and no TensorRT.

``tests/standin`` runs them over a driver that needs no GPU. They have not been run on a GPU yet.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any

import numpy as np
import pytest

from helpers import ended
from visolo_core.errors import VisoloError
from visolo_runtime.engines.nvidia import LIBRARY, find_driver
from visolo_runtime.engines.tensorrt.device import CudaDevice, CudaStream, cuda_device

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(120)]


def free_bytes(gpu: CudaDevice) -> int:
    from pycuda import driver

    with gpu.current():
        return int(driver.mem_get_info()[0])


def in_a_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    ended(thread)


def test_the_driver_knows_the_gpu(gpu: CudaDevice) -> None:
    first = find_driver().gpus[0]
    assert (first.name, first.architecture) == (gpu.name, gpu.architecture)
    assert first.memory_bytes > 0


def test_copies_and_streams(gpu: CudaDevice) -> None:
    with gpu.current():
        stream = gpu.stream()
        memory, other = gpu.allocate(4000, stream), gpu.allocate(4000, stream)
        source, target = gpu.pinned((1000,), "float32"), gpu.pinned((1000,), "float32")
        source[:] = np.arange(1000)
        begin, end = gpu.event(), gpu.event()
        begin.record(stream)
        gpu.upload(memory.address, source, stream)
        gpu.copy(other.address, memory.address, 4000, stream)
        gpu.download(target, other.address, stream)
        end.record(stream)
        stream.wait()
        assert np.array_equal(source, target)
        assert end.milliseconds_since(begin) >= 0


def test_new_memory_is_zero(gpu: CudaDevice) -> None:
    """Also where something else was before."""
    size = 1 << 20
    with gpu.current():
        stream = gpu.stream()
        ones, target = gpu.pinned((size,), "uint8"), gpu.pinned((size,), "uint8")
        for _ in range(8):
            ones[:], target[:] = 1, 1
            memory = gpu.allocate(size, stream)
            gpu.download(target, memory.address, stream)
            gpu.upload(memory.address, ones, stream)
            stream.wait()
            assert not target.any()
            del memory


def test_a_recording_reads_what_is_there_when_it_is_launched(gpu: CudaDevice) -> None:
    with gpu.current():
        stream = gpu.stream()
        memory = gpu.allocate(400, stream)
        source, target = gpu.pinned((100,), "float32"), gpu.pinned((100,), "float32")
        stream.wait()

        def work() -> None:
            gpu.upload(memory.address, source, stream)
            gpu.download(target, memory.address, stream)

        graph = gpu.capture(stream, work)
        stream.wait()
        assert not target.any()  # recorded, and not done
        for value in (1.0, 2.0):
            source[:] = value
            graph.launch(stream)
            stream.wait()
            assert (target == value).all()


def test_a_stream_works_on_after_a_recording_that_failed(gpu: CudaDevice) -> None:
    with gpu.current():
        stream = gpu.stream()
        memory, source = gpu.allocate(400, stream), gpu.pinned((100,), "float32")

        def work() -> None:
            gpu.upload(memory.address, source, stream)
            raise VisoloError("no more")

        with pytest.raises(VisoloError, match="no more"):
            gpu.capture(stream, work)
        copy_there_and_back(gpu, stream)


def test_one_thread_records_while_another_allocates_and_copies(gpu: CudaDevice) -> None:
    with gpu.current():
        stream = gpu.stream()
        memory, source = gpu.allocate(400, stream), gpu.pinned((100,), "float32")
        target = gpu.pinned((100,), "float32")
        stream.wait()
        failures: list[BaseException] = []

        def beside() -> None:
            try:
                with gpu.current():
                    copy_there_and_back(gpu, gpu.stream())
            except BaseException as error:
                failures.append(error)

        def work() -> None:
            gpu.upload(memory.address, source, stream)
            in_a_thread(beside)
            gpu.download(target, memory.address, stream)

        graph = gpu.capture(stream, work)
        assert failures == []
        source[:] = 3
        graph.launch(stream)
        stream.wait()
        assert (target == 3).all()


def copy_there_and_back(gpu: CudaDevice, stream: CudaStream) -> None:
    memory = gpu.allocate(400, stream)
    source, target = gpu.pinned((100,), "float32"), gpu.pinned((100,), "float32")
    source[:] = np.arange(100)
    gpu.upload(memory.address, source, stream)
    gpu.download(target, memory.address, stream)
    stream.wait()
    assert np.array_equal(source, target)


def test_what_another_thread_drops_is_freed(gpu: CudaDevice) -> None:
    size, held = 64 << 20, []
    with gpu.current():
        stream = gpu.stream()
        before = free_bytes(gpu)
        held += [gpu.allocate(size, stream), gpu.event(), gpu.pinned((1000,), "float32")]
        stream.wait()
        assert before - free_bytes(gpu) >= size
    in_a_thread(held.clear)
    gc.collect()
    assert before - free_bytes(gpu) < size


def test_a_view_keeps_pinned_memory(gpu: CudaDevice) -> None:
    with gpu.current():
        view = gpu.pinned((1000,), "float32")[500:]
    gc.collect()
    view[:] = 1
    assert view.sum() == 500


def test_no_context_is_left_behind(gpu: CudaDevice) -> None:
    context = ctypes.c_void_p()
    with gpu.current(), gpu.current():
        gpu.stream()
    assert ctypes.CDLL(LIBRARY).cuCtxGetCurrent(ctypes.byref(context)) == 0
    assert not context.value


def test_out_of_memory_is_a_sentence(gpu: CudaDevice) -> None:
    with gpu.current(), pytest.raises(VisoloError, match="no room for"):
        gpu.allocate(2**50, gpu.stream())


def test_a_gpu_that_is_not_there(gpu: CudaDevice) -> None:
    with pytest.raises(VisoloError, match="no GPU 99"):
        cuda_device(99)
