"""DLPack capsules of arrays on any device, taken and made without a library of that device.

A capsule named ``dltensor`` holds a pointer to a tensor's description and a function that frees it.
Whoever takes the capsule renames it and calls that function when done, once; a capsule that nobody
took calls it when it is dropped. Libraries that follow DLPack 1 hand out ``dltensor_versioned``
where they are asked for it; they are not asked here, and what is made here is the older form, which
every library takes.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from visolo_core.errors import VisoloError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""Kinds of devices, by DLPack's numbers: the last two are pinned and managed memory."""
LEGACY_STREAM = 1
"""CUDA's default stream by its number in both protocols."""
_NAME, _TAKEN = b"dltensor", b"used_dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # by NumPy's letter for a kind of numbers
_NAMES = {
    (_CODES[kind.kind], kind.itemsize * 8): kind.name for kind in map(np.dtype, "?bBhHiIqQefd")
}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("type", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # in elements, or null
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


def _interpreter(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_capsule, _text = ctypes.py_object, ctypes.c_char_p
_pointer_of = _interpreter("PyCapsule_GetPointer", ctypes.c_void_p, _capsule, _text)
_is_valid = _interpreter("PyCapsule_IsValid", ctypes.c_int, _capsule, _text)
_rename = _interpreter("PyCapsule_SetName", ctypes.c_int, _capsule, _text)
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@dataclass(frozen=True)
class ArrayInMemory:
    """Where an array lies, and what keeps it there."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In bytes."""
    dtype: str
    """NumPy's name, or a description where NumPy has no such type."""
    device: tuple[int, int]
    """Kind and index, -1 where it is not known."""
    owner: object
    """The memory stays as long as this lives."""
    stream: int | None = None
    """CUDA stream whose work must be done before the array is complete."""


class _Taken:
    """A tensor that was taken out of its capsule; dropping this gives it back."""

    def __init__(self, capsule: object) -> None:
        self._pointer = _pointer_of(capsule, _NAME)
        _rename(capsule, _TAKEN)
        managed = _ManagedTensor.from_address(self._pointer)
        self.tensor = managed.tensor
        self._deleter = _Deleter(managed.deleter) if managed.deleter else None

    def __del__(self) -> None:
        if self._deleter is not None:
            self._deleter(self._pointer)


def take(capsule: object) -> ArrayInMemory:
    """The array in a capsule, which cannot be taken again.

    Raises:
        VisoloError: if it is no capsule of this form, or was taken before.
    """
    if not _is_valid(capsule, _NAME):
        raise VisoloError(
            "what __dlpack__ returned cannot be taken: a capsule named 'dltensor' was expected, "
            "which can be taken once"
        )
    owner = _Taken(capsule)
    tensor = owner.tensor
    count, size = tensor.dimensions, tensor.type.bits * tensor.type.lanes // 8
    shape = tuple(tensor.shape[:count])
    strides = tuple(size * step for step in tensor.strides[:count]) if tensor.strides else None
    return ArrayInMemory(
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        strides or packed_strides(shape, size),
        _name_of(tensor.type),
        (tensor.device.kind, tensor.device.index),
        owner,
    )


def _name_of(kind: Any) -> str:
    name = _NAMES.get((kind.code, kind.bits)) if kind.lanes == 1 else None
    return name or f"DLPack type {kind.code} of {kind.bits} bits"


def packed_strides(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Strides in bytes of an array without gaps.

    >>> packed_strides((2, 3, 4), 4)
    (48, 16, 4)
    """
    return tuple(size * prod(shape[axis + 1 :]) for axis in range(len(shape)))


def capsule_of(array: ArrayInMemory) -> Any:
    """A capsule for an array without gaps; its owner lives until the consumer is done with it.

    NumPy makes the capsule, as for an array on the host, and the device is written over. It must
    not be a function in Python that frees a capsule which nobody took: that happens while a
    consumer's exception is on its way, and the interpreter runs no Python code then.
    """
    interface = {
        "version": 3,
        "shape": array.shape,
        "typestr": np.dtype(array.dtype).str,
        "data": (array.address, False),
    }
    described = SimpleNamespace(__array_interface__=interface, owner=array.owner)
    capsule = np.asarray(described).__dlpack__()
    managed = _ManagedTensor.from_address(_pointer_of(capsule, _NAME))
    managed.tensor.device = _Device(*array.device)
    return capsule
