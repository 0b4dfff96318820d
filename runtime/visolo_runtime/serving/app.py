"""The server's addresses: the page, the API and the two sockets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from visolo_core import __version__
from visolo_core.errors import VisoloError
from visolo_runtime.serving.bodies import read_body, receive_file
from visolo_runtime.serving.hub_stream import HubStream
from visolo_runtime.serving.metrics import metrics
from visolo_runtime.serving.refusals import FullError, StatusError
from visolo_runtime.serving.schema import AddStream, ChangeStream, openapi
from visolo_runtime.serving.service import Service
from visolo_runtime.serving.tracked import TrackedFrame
from visolo_runtime.serving.viewer import Viewer
from visolo_runtime.serving.visitor import IN_FLIGHT, TooFastError, Visitor

_AGAIN_S = 0.2  # until work that swallowed its cancellation is cancelled once more
_MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHARED = (
    "icon.svg", "style.css", "model/contours.js", "view/overlay.js", "view/scene.js",
    "view/sources.js",
)  # fmt: skip
"""Of the static page, what this page uses too."""
# What visitors' sockets are closed with: RFC 6455, and its range for applications.
_TOO_LARGE, _POLICY, _TRY_LATER = 1009, 1008, 1013


@dataclass
class _Counters:
    viewers: int = 0
    sent_bytes: int = 0


def create_app(service: Service) -> Starlette:
    """The application.

    Args:
        service: what it does.
    """
    return Starlette(
        routes=_Routes(service).routes(),
        exception_handlers={VisoloError: _problem, 404: _no_such_address, 405: _no_such_method},
        middleware=[],
    )


def _route(path: str, **of_method: Callable[[Request], Awaitable[Response]]) -> Route:
    """An address that knows several methods. A route of its own for each would not know the others
    when it says which are allowed."""

    async def answer(request: Request) -> Response:
        return await of_method["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(of_method))


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service, self._counters = service, _Counters()
        self._page = _page_files()

    def routes(self) -> list[Any]:
        one = "/api/streams/{stream}"
        return [
            Route("/", self.page),
            Route("/page/{name:path}", self.page),
            Route("/openapi.json", self.schema),
            Route("/metrics", self.metrics),
            Route("/api/health", self.health),
            Route("/api/ready", self.ready),
            Route("/api/model", self.model),
            _route("/api/streams", GET=self.streams, POST=self.add),
            _route(one, GET=self.stream, PATCH=self.change, DELETE=self.remove),
            Route(f"{one}/snapshot", self.snapshot),
            _route(
                f"{one}/recording",
                GET=self.recording,
                POST=self.record,
                DELETE=self.stop_recording,
            ),
            Route("/api/videos", self.video, methods=["POST"]),
            WebSocketRoute("/api/watch", self.watch),
            WebSocketRoute("/api/visit", self.visit),
        ]

    def _number(self, request: Request) -> int:
        return self._service.number_of(request.path_params["stream"])

    # ---------------------------------------------------------------------------- the page

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in self._page:
            return _no_such_address(request, None)
        content = self._page[name]
        return Response(content, media_type=_MEDIA[Path(name).suffix])

    # ----------------------------------------------------------------------------- the API

    async def schema(self, _: Request) -> Response:
        return JSONResponse(openapi(__version__, self._service.model.labels.names))

    async def metrics(self, _: Request) -> Response:
        text = metrics(self._service.hub, self._counters.viewers, self._counters.sent_bytes)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def health(self, _: Request) -> Response:
        hub = self._service.hub
        status = 200 if hub.healthy else 503
        return JSONResponse({"healthy": hub.healthy}, status)

    async def ready(self, _: Request) -> Response:
        hub = self._service.hub
        playing = sum(not each.over for each in hub.streams())
        is_ready = hub.healthy and playing < hub.capacity
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def model(self, _: Request) -> Response:
        return JSONResponse(self._service.describe_model())

    async def streams(self, _: Request) -> Response:
        return JSONResponse([self._service.describe(each) for each in self._service.hub.streams()])

    async def add(self, request: Request) -> Response:
        body = await read_body(request, AddStream)
        stream, begun = await asyncio.to_thread(
            self._service.add, body.source, body.name, body.lease_s
        )
        return JSONResponse(self._service.describe(stream), 201 if begun else 200)

    async def stream(self, request: Request) -> Response:
        return JSONResponse(self._service.describe(self._service.stream(self._number(request))))

    async def change(self, request: Request) -> Response:
        number = self._number(request)
        stream = self._service.change(number, await read_body(request, ChangeStream))
        return JSONResponse(self._service.describe(stream))

    async def remove(self, request: Request) -> Response:
        await asyncio.to_thread(self._service.remove, self._number(request))
        return Response(status_code=204)

    async def snapshot(self, request: Request) -> Response:
        overlay = request.query_params.get("overlay", "0")
        if overlay not in ("0", "1"):
            raise VisoloError("overlay is 0 or 1")
        number = self._number(request)
        picture = await asyncio.to_thread(self._service.snapshot, number, overlay == "1")
        return Response(picture, media_type="image/jpeg")

    async def record(self, request: Request) -> Response:
        recording = await asyncio.to_thread(self._service.record, self._number(request))
        return JSONResponse(recording.describe(), 201)

    async def recording(self, request: Request) -> Response:
        return JSONResponse(self._service.recording(self._number(request)).describe())

    async def stop_recording(self, request: Request) -> Response:
        recording = self._service.recording(self._number(request))
        await asyncio.to_thread(recording.stop)
        return JSONResponse(recording.describe())

    async def video(self, request: Request) -> Response:
        with tempfile.TemporaryDirectory(prefix="visolo-upload-") as folder:
            path = Path(folder) / "upload"
            await receive_file(request, path, self._service.options.largest_upload)
            return JSONResponse(await asyncio.to_thread(self._service.track_video, path))

    # ------------------------------------------------------------------------- the sockets

    async def watch(self, socket: WebSocket) -> None:
        """Frames of streams, to a viewer: ``/api/watch?stream=1&stream=2``."""
        await socket.accept()
        try:
            texts = socket.query_params.getlist("stream")
            streams = [self._service.stream(self._service.number_of(text)) for text in texts]
        except VisoloError as error:
            await _close(socket, _POLICY, str(error))
            return
        viewer = Viewer(self._service.hub, streams)
        self._counters.viewers += 1
        try:
            await until_first(
                viewer.send(lambda message: self._send(socket, message)), _answers(socket, viewer)
            )
        finally:
            self._counters.viewers -= 1
            viewer.close()
        await _close(socket)

    async def visit(self, socket: WebSocket) -> None:
        """A visitor's own frames, tracked and answered without the pictures."""
        await socket.accept()
        name = socket.query_params.get("name", "visitor")[:80]
        visitor = Visitor(name)
        try:
            stream = self._service.hub.add(visitor.clip, policy="all", sends_picture=False)
        except FullError as error:
            await _close(socket, _TRY_LATER, str(error))
            return
        loop, answers = asyncio.get_running_loop(), asyncio.Queue[TrackedFrame | None]()

        def answer(_: HubStream, frame: TrackedFrame | None) -> None:
            loop.call_soon_threadsafe(answers.put_nowait, frame)

        stop = self._service.hub.listen(stream, answer)
        try:
            greeting = {"stream": stream.number, "in_flight": IN_FLIGHT}
            await until_first(
                self._answer(socket, greeting, answers), _take_frames(socket, visitor)
            )
        finally:
            stop()
            visitor.close()
            self._service.hub.remove(stream.number)
        await _close(socket)

    async def _answer(
        self,
        socket: WebSocket,
        greeting: dict[str, int],
        answers: asyncio.Queue[TrackedFrame | None],
    ) -> None:
        await socket.send_json(greeting)
        while (frame := await answers.get()) is not None:
            await self._send(socket, await asyncio.to_thread(frame.message))

    async def _send(self, socket: WebSocket, message: bytes) -> None:
        await socket.send_bytes(message)
        self._counters.sent_bytes += len(message)


async def until_first(*work: Awaitable[None]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    pending = others
    while pending:
        for task in pending:
            task.cancel()
        # Again, since before Python 3.12 asyncio.wait_for swallows a cancellation that comes at the
        # same moment as what it waits for.
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        error = task.exception()
        if error is not None and not isinstance(error, (WebSocketDisconnect, RuntimeError)):
            raise error


async def _answers(socket: WebSocket, viewer: Viewer) -> None:
    while True:
        await socket.receive_text()
        viewer.answer()


async def _take_frames(socket: WebSocket, visitor: Visitor) -> None:
    while True:
        message = await socket.receive_bytes()
        try:
            await asyncio.to_thread(visitor.put, message)
        except TooFastError as error:
            await _close(socket, _TRY_LATER, str(error))
            return
        except VisoloError as error:
            await _close(socket, _POLICY, str(error))
            return


async def _close(socket: WebSocket, code: int = 1000, reason: str = "") -> None:
    try:
        await socket.close(code, reason[:100])
    except (RuntimeError, WebSocketDisconnect):  # it is closed already
        return


def _problem(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, StatusError) else 400
    return JSONResponse({"error": str(error)}, status)


def _no_such_address(request: Request, _: Exception | None) -> Response:
    return JSONResponse({"error": "there is nothing at this address"}, 404)


def _no_such_method(request: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None)
    text = f"this address does not know {request.method}"
    return JSONResponse({"error": text}, 405, headers=headers)


def _page_files() -> dict[str, bytes]:
    """The page's files by name: nothing else can be asked for."""
    folder = files("visolo_runtime.serving") / "page"
    page = {
        each.name: each.read_bytes()
        for each in folder.iterdir()
        if each.is_file() and Path(each.name).suffix in _MEDIA
    }
    static = files("visolo_runtime.web") / "page"
    return page | {f"web/{name}": static.joinpath(name).read_bytes() for name in _SHARED}
