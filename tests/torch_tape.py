"""What a GPU would do or refuse, noticed on the CPU: recordings, copies, waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
_WAITS = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "item", "unique2"}
"""Operators whose result the host waits for."""
_NAMES = ("cpu", "numpy", "item", "tolist", "__array__", "__bool__", "__float__", "__int__")
_TO_HOST = {getattr(torch.Tensor, name) for name in _NAMES}
"""Methods that give a tensor to the host."""


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in _WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.steps:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    """In the place of CUDA graphs: operators are written down, and replayed on the same memory.
    Python is not run again, and what waits for the device cannot be recorded."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def record(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """As ``visolo_runtime.engines.torch.recording.Recorder``."""
        tape = _Tape()
        with tape:
            result = work()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay, result


class HostTraffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the copies between some blocks of host memory and all other tensors, which stand for
    a device's; whatever else touches those blocks, or makes the host wait, is listed.

    Args:
        blocks: the host's memory.
    """

    def __init__(self, blocks: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._host = {block.untyped_storage().data_ptr() for block in blocks}
        self._functions = _HostFunctions(self)
        self.up: list[int] = []
        """Bytes of each copy to the device."""
        self.down: list[int] = []
        """Bytes of each copy to the host."""
        self.others: list[str] = []

    def __enter__(self) -> HostTraffic:
        self._functions.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._functions.__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        on_host = [self._is_host(each) for each in tree_leaves((args, kwargs))]
        if name in _WAITS:
            self.others.append(name)
        elif name == "copy_" and on_host[0] != on_host[1]:
            (self.down if on_host[0] else self.up).append(args[0].nbytes)
        elif any(on_host) and not func.is_view:
            self.others.append(name)
        return func(*args, **(kwargs or {}))

    def _is_host(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self._host


class _HostFunctions(TorchFunctionMode):
    """What brings a tensor to the host without an operator where it is there already."""

    def __init__(self, traffic: HostTraffic) -> None:
        super().__init__()
        self._traffic = traffic

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _TO_HOST and not self._traffic._is_host(args[0]):
            if func is torch.Tensor.cpu:
                self._traffic.down.append(args[0].nbytes)
            else:
                self._traffic.others.append(func.__name__)
        return func(*args, **(kwargs or {}))
