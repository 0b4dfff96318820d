"""The application behind its guard, and what every answer says to browsers."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from visolo_runtime.serving.guard import COOKIE, Guard

_OPEN_PATHS = frozenset(("/api/health", "/api/ready"))
"""Without a token: they say nothing but yes or no."""
_SAFE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_POLICY = 1008  # what a socket is closed with: RFC 6455


def guarded(app: ASGIApp, guard: Guard) -> ASGIApp:
    """The application behind its guard."""
    return _Guarded(app, guard)


class _Guarded:
    """Lets requests through that the guard knows; a token in an address moves to a cookie."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        refused = self._guard.refuse_host(headers)
        status, is_open = 403, scope["path"] in _OPEN_PATHS
        if not (refused or is_open or self._guard.knows_token(headers, query)):
            refused, status = "this server needs its token: open the address it printed", 401
        if refused and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY, "reason": refused[:100]})
            return
        if refused:
            await _with_headers(JSONResponse({"error": refused}, status))(scope, receive, send)
            return
        sets_cookie = bool(self._guard.token) and "token=" in query and scope["path"] == "/"

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = dict(_SAFE_HEADERS)
                if sets_cookie:
                    extra["set-cookie"] = (
                        f"{COOKIE}={self._guard.token}; HttpOnly; SameSite=Strict; Path=/"
                    )
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items()),
                ]
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)


def _with_headers(response: Response) -> Response:
    response.headers.update(_SAFE_HEADERS)
    return response
