"""What visitors send: in time, and no more than is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from visolo_runtime.serving.refusals import StatusError

_LARGEST_BODY = 64_000  # bytes of json
_BODY_S, _UPLOAD_S = 10.0, 300.0  # seconds that a visitor may take to send a body
_Body = TypeVar("_Body", bound=BaseModel)


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """A json body.

    Raises:
        VisoloError: if it is too large, too slow or not as it should be.
    """
    data = bytearray()

    async def receive() -> None:
        async for part in request.stream():
            data.extend(part)
            if len(data) > _LARGEST_BODY:
                raise StatusError(f"a request may have {_LARGEST_BODY} bytes at most", 413)

    await _in_time(receive(), _BODY_S)
    try:
        return kind.model_validate_json(bytes(data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise StatusError(f"{where}: {first['msg']}", 422) from error


async def receive_file(request: Request, path: Path, limit: int) -> None:
    """A file, into ``path``.

    Raises:
        VisoloError: if it has more than ``limit`` bytes, or is too slow.
    """

    async def receive() -> None:
        size = 0
        with path.open("wb") as file:
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise StatusError(f"a video may have {limit} bytes at most", 413)
                await asyncio.to_thread(file.write, part)

    await _in_time(receive(), _UPLOAD_S)


async def _in_time(work: Awaitable[None], seconds: float) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError as error:  # noqa: UP041 - Python 3.10 has two of them
        raise StatusError(f"the request took longer than {seconds:g} seconds", 408) from error
    except ClientDisconnect as error:
        raise StatusError("the request was cut short", 400) from error
