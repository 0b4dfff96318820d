"""A server of this process on loopback, for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from helpers import LIMIT_S
from visolo_runtime.serving.app import create_app
from visolo_runtime.serving.guard import Guard
from visolo_runtime.serving.guarded import guarded
from visolo_runtime.serving.hub import Hub
from visolo_runtime.serving.running import server
from visolo_runtime.serving.service import Service, ServiceOptions
from visolo_runtime.serving.states import keep_in
from visolo_runtime.session.loading import Model


@dataclass(frozen=True)
class Serving:
    """A server that runs."""

    service: Service
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub(self) -> Hub:
        return self.service.hub


@contextmanager
def serving(
    model: Model,
    guard: Guard | None = None,
    options: ServiceOptions | None = None,
    capacity: int = 4,
    port: int = 0,
) -> Iterator[Serving]:
    """Run a server while the block runs; port 0 takes a free one."""
    options = options or ServiceOptions()
    keep = keep_in(options.states, print) if options.states else None
    with socket.socket() as listener, Hub(model, capacity, keep=keep) as hub:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        service = Service("tested", hub, guard or Guard(), options)
        running = server(guarded(create_app(service), service.guard), "127.0.0.1", 0)
        thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + LIMIT_S
        while not running.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        try:
            yield Serving(service, listener.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join(LIMIT_S)
            service.close()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition.

    Args:
        condition: asked again and again.
        what: is wrong if it never holds.
    """
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
