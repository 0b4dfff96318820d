"""The stand-in driver from Python: built, loaded before pycuda, asked and given orders."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections import Counter, deque
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from fake_gpu import Work

FOLDER = Path(os.environ.get("VISOLO_STANDIN", Path(__file__).parents[2] / ".standin"))
"""Where ``prepare.py`` put pycuda and the headers."""
_STILL_RETURNING = 64  # functions that a thread may not have left, at most
LAZY, EAGER, CHANCE = range(3)
"""When queued work is done: when it is waited for, at once, or at any time between."""


def build(folder: Path) -> Path:
    """Compile the driver; what pycuda wants of it beyond that answers "not supported"."""
    folder.mkdir(parents=True, exist_ok=True)
    source, library = Path(__file__).with_name("driver.c"), folder / "libcuda.so.1"
    compiler = ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    headers = f"-I{FOLDER / 'headers' / 'nvidia' / 'cu13' / 'include'}"
    link = ["-Wl,-soname,libcuda.so.1", "-pthread", "-o", str(library)]
    subprocess.run([*compiler, headers, str(source), *link], check=True)
    (extension,) = (FOLDER / "site" / "pycuda").glob("_driver*.so")
    wanted = {name for name in _symbols(extension, "--undefined-only") if name.startswith("cu")}
    missing = sorted(wanted - _symbols(library, "--defined-only"))
    stubs = folder / "stubs.c"
    stubs.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in missing))
    subprocess.run([*compiler, headers, str(source), str(stubs), *link], check=True)
    return library


def _symbols(library: Path, which: str) -> set[str]:
    command = ["nm", "--dynamic", which, str(library)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in lines.splitlines()}


@dataclass(frozen=True)
class Live:
    """Objects of the driver that exist."""

    streams: int
    events: int
    graphs: int
    recordings: int
    device_bytes: int
    pinned_bytes: int


class StandIn:
    """The driver, in this process. pycuda, imported later, is linked to it by its name.

    Args:
        library: from :func:`build`.
    """

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self.library.standin_misuses.restype = ctypes.c_char_p
        self.library.standin_count.restype = ctypes.c_long
        self.library.standin_live.restype = ctypes.c_long
        self.library.standin_live_bytes.restype = ctypes.c_long
        sys.path.insert(0, str(FOLDER / "site"))

    def reset(self, mode: int, seed: int = 1) -> None:
        """Forget counts, misuses and orders."""
        self.library.standin_reset(mode, ctypes.c_ulong(seed))

    def count(self, function: str) -> int:
        """Calls of a function since the reset, by its name in the library (``cuMemAlloc_v2``)."""
        return int(self.library.standin_count(function.encode()))

    def fail(self, function: str, nth: int, status: int, times: int = 1) -> None:
        """Let the nth call from now return an error, and so many after it. ``capture`` lets the nth
        capture end as one that something has broken."""
        order = ctypes.c_long(nth), status, ctypes.c_long(times)
        self.library.standin_fail(function.encode(), *order)

    def lose(self, after: int, status: int) -> None:
        """Let every call fail with an error, the nth from now being the first."""
        self.library.standin_lose(ctypes.c_long(after), status)

    def misuses(self) -> list[str]:
        """What no program may do, a line each."""
        return str(self.library.standin_misuses().decode()).splitlines()

    def live(self) -> Live:
        """What exists now."""
        kinds = [int(self.library.standin_live(which)) for which in range(4)]
        sizes = [int(self.library.standin_live_bytes(pinned)) for pinned in range(2)]
        return Live(*kinds, *sizes)

    def depth(self) -> int:
        """Contexts in this thread's stack."""
        return int(self.library.standin_depth())

    def users(self, device: int) -> int:
        """How often a device's primary context is retained."""
        return int(self.library.standin_users(device))


class DriverQueues:
    """What played engines need: they are put into the driver's queues as host functions."""

    def __init__(self, driver: StandIn) -> None:
        self.counts: Counter[str] = Counter()
        self._driver = driver
        self._kept: list[Any] = []  # recordings may use them for as long as they like
        self._waiting: dict[int, Any] = {}
        self._done: deque[int] = deque()
        self._numbers = count()

    def launch(self, stream: int, work: Work, addresses: list[int]) -> bool:
        """False if the driver refuses it."""
        number = next(self._numbers)

        def do(data: int) -> None:
            work()
            self._done.append(number)

        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(do)
        used = (ctypes.c_void_p * (len(addresses) + 1))(*addresses, None)
        if self._driver.library.standin_captures(ctypes.c_void_p(stream)):
            self._kept += function, used
        else:
            self._waiting[number] = function, used
        while len(self._done) > _STILL_RETURNING:
            self._waiting.pop(self._done.popleft(), None)
        launch = self._driver.library.cuLaunchHostFunc
        return int(launch(ctypes.c_void_p(stream), function, used)) == 0

    def check_current(self) -> None:
        """Fail if no context is current in this thread."""
        assert self._driver.depth(), "the device is not current"
