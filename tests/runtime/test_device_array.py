"""Arrays that are handed out: other libraries see the same memory, for as long as they need it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from torch.utils.dlpack import from_dlpack

from visolo_core.errors import VisoloError
from visolo_runtime.engines.device_array import DeviceArray
from visolo_runtime.engines.dlpack import CPU, CUDA, take


class Memory:
    """The owner of some bytes on the host, which stand for those of a device."""

    def __init__(self, values: Any) -> None:
        self.values = values


def handed_out(
    values: Any, device: tuple[int, int] = (CPU, 0)
) -> tuple[DeviceArray, weakref.ref[Memory]]:
    memory = Memory(values)
    array = DeviceArray(values.ctypes.data, values.shape, values.dtype.name, memory, device)
    return array, weakref.ref(memory)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "bool", "float16"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (1, 1), (0, 4)])
def test_the_same_values(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    array, _ = handed_out(values)
    assert (array.shape, array.dtype, len(array)) == (shape, np.dtype(dtype), shape[0])
    for consumer in (np.from_dlpack, from_dlpack):
        seen = np.asarray(consumer(array))
        assert seen.dtype == dtype
        assert np.array_equal(seen, values)


def test_no_copy() -> None:
    values = np.zeros((2, 3), np.float32)
    array, _ = handed_out(values)
    tensor, seen = from_dlpack(array), np.from_dlpack(array)
    values[1, 2] = 7
    assert tensor[1, 2] == seen[1, 2] == 7
    tensor[0, 0] = 5
    assert values[0, 0] == 5


@pytest.mark.parametrize("consumer", [np.from_dlpack, from_dlpack])
def test_the_owner_lives_as_long_as_the_consumer(consumer: Any) -> None:
    array, owner = handed_out(np.arange(6, dtype=np.float32))
    seen = consumer(array)
    again = consumer(array)
    del array
    gc.collect()
    assert owner() is not None
    del seen
    gc.collect()
    assert owner() is not None
    part = again[2:4]
    del again
    gc.collect()
    assert owner() is not None
    assert part.tolist() == [2, 3]
    del part
    gc.collect()
    assert owner() is None


def test_a_capsule_that_nobody_took() -> None:
    array, owner = handed_out(np.arange(6))
    capsule = array.__dlpack__()
    del array
    gc.collect()
    assert owner() is not None
    del capsule
    gc.collect()
    assert owner() is None


def test_a_consumer_that_refuses_it() -> None:
    """Its capsule is dropped while its exception is on the way: neither may be lost."""
    array, owner = handed_out(np.arange(6), (CUDA, 0))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="Unsupported device"):
            np.from_dlpack(array)
    del array
    gc.collect()
    assert owner() is None


def test_on_a_gpu() -> None:
    values = np.zeros((2, 3), np.uint8)
    array, owner = handed_out(values, (CUDA, 1))
    assert array.__dlpack_device__() == (CUDA, 1)
    assert repr(array) == "DeviceArray(uint8 [2, 3] on GPU 1)"
    taken = take(array.__dlpack__(stream=2, max_version=(1, 0), dl_device=(CUDA, 1)))
    assert (taken.address, taken.shape, taken.strides) == (values.ctypes.data, (2, 3), (3, 1))
    assert (taken.dtype, taken.device) == ("uint8", (CUDA, 1))
    del taken
    assert array.__cuda_array_interface__ == {
        "shape": (2, 3), "typestr": "|u1", "data": (values.ctypes.data, False), "version": 3,
        "strides": None, "stream": None,
    }  # fmt: skip
    del array
    gc.collect()
    assert owner() is None


def test_on_the_host_it_is_no_array_of_cuda() -> None:
    array, _ = handed_out(np.zeros(3))
    assert not hasattr(array, "__cuda_array_interface__")
    assert repr(array) == "DeviceArray(float64 [3] on host)"


def test_neither_a_copy_nor_another_device() -> None:
    array, _ = handed_out(np.zeros(3), (CUDA, 0))
    for wish in ({"copy": True}, {"dl_device": (CPU, 0)}):
        with pytest.raises(VisoloError, match="handed out where it lies"):
            array.__dlpack__(**wish)
