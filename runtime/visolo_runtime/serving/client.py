"""A client of ``visolo serve``: the frames of a stream with their instances."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from urllib.parse import urlencode, urlsplit, urlunsplit

from visolo_core.distribution import pip_install
from visolo_core.errors import NotHereError, VisoloError
from visolo_runtime.serving.wire import SentFrame, decode_frame


def watch(address: str, *streams: int | str, token: str = "") -> Generator[SentFrame]:
    """The newest frames of streams, until they are over.

    Args:
        address: of the server, such as ``http://127.0.0.1:8765``.
        streams: their numbers or names.
        token: of the server, if it has one.

    Yields:
        a frame with its instances; its picture is a JPEG.

    Raises:
        VisoloError: if the server cannot be reached or refuses.
    """
    try:
        from websockets.exceptions import ConnectionClosed, WebSocketException
        from websockets.sync.client import connect
    except ImportError as error:
        raise NotHereError(f"watching needs websockets: run {pip_install('serve')}") from error
    parts = urlsplit(address)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None:
        raise VisoloError(
            f"'{address}' is no address of a server: it begins with http:// or https://"
        )
    query = urlencode([("stream", each) for each in streams])
    path = f"{parts.path.rstrip('/')}/api/watch"
    target = urlunsplit((scheme, parts.netloc, path, query, ""))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with connect(target, additional_headers=headers, max_size=None) as socket:
            for message in socket:
                if isinstance(message, str):
                    continue
                frame = decode_frame(message)
                with suppress(ConnectionClosed):  # the last frames of a stream that is over
                    socket.send("shown")
                yield frame
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code != 1000:
            raise VisoloError(f"the server ended the connection: {error.rcvd.reason}") from error
    except (OSError, WebSocketException) as error:
        raise VisoloError(f"cannot watch '{address}': {error}") from error
