"""Running the server's application with uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from visolo_core.errors import VisoloError
from visolo_core.files import reason
from visolo_runtime.serving.app import create_app
from visolo_runtime.serving.guard import new_token
from visolo_runtime.serving.guarded import guarded
from visolo_runtime.serving.service import Service

_HEADERS_S = 10.0
"""Seconds that a visitor may take to send the headers of a request."""
_MOST_CONNECTIONS = 512
_LARGEST_MESSAGE = 4_000_000  # bytes of a visitor's frame
_SHUTDOWN_S = 3


class BoundedProtocol(H11Protocol):
    """HTTP for visitors who may be slow, idle or many."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._limit: asyncio.TimerHandle | None = None
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.close()
            return
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._expect_headers()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._cancel()
        super().handle_websocket_upgrade(event)

    def _expect_headers(self) -> None:
        self._cancel()
        self._limit = self.loop.call_later(_HEADERS_S, self._close_idle)

    def _close_idle(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and not self.transport.is_closing():
            self.transport.close()

    def _cancel(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    """A server that is ready to run."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedProtocol,
            ws="websockets-sansio",
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # JPEG does not get smaller
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            lifespan="off",
        )
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_for(host: str) -> str:
    """A token made up where others reach the server; none where they do not."""
    return "" if is_loopback(host) else new_token()


def run_server(service: Service, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        service: what to serve.
        host, port: to listen on; port 0 takes a free one.
        say: receives the server's address, when it can be opened.

    Raises:
        VisoloError: if the address is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # who reads the address may use it at once
    except OSError as error:
        listener.close()
        raise VisoloError(
            f"cannot listen on {host}, port {port}: {reason(error)}; choose another --port"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    token = f"/?token={service.guard.token}" if service.guard.token else "/"
    say(f"http://{shown}:{listener.getsockname()[1]}{token}")
    running = server(guarded(create_app(service), service.guard), host, port)
    try:
        running.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again after it has shut down
        return
    finally:
        listener.close()
