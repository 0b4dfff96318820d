"""Addresses of sources: what they name, and how they are shown without their passwords."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from visolo_core.errors import VisoloError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SECRET = re.compile(
    r"([a-z0-9_.%-]*(?:pass|pwd|psw|token|key|secret|auth|sig|cred|session)[a-z0-9_.%-]*=)[^&;#\s]*",
    re.IGNORECASE,
)
MASK = "***"


def scheme_of(source: str) -> str | None:
    """What the address begins with, in small letters, such as ``rtsp``; None for other sources."""
    match = _ADDRESS.match(source)
    return match[1].lower() if match else None


def file_at(address: str) -> Path:
    """The file of a ``file://`` address.

    Raises:
        VisoloError: if it is on another machine.

    >>> file_at("file:///videos/my%20cat.mp4")
    PosixPath('/videos/my cat.mp4')
    """
    host, slash, path = address[len("file://") :].partition("/")
    if host.lower() not in ("", "localhost"):
        raise VisoloError(
            f"'{address}' names a file on the machine '{host}': write file:///PATH for a file here"
        )
    return Path(unquote(slash + path))


def without_secrets(address: str) -> str:
    """The address without user and password, and with a mask for parameters such as ``token``.

    >>> without_secrets("rtsp://user:secret@camera/stream?channel=1&token=abc")
    'rtsp://camera/stream?channel=1&token=***'
    """
    match = _ADDRESS.match(address)
    if match is None:
        return address
    rest = address[match.end() :]
    return match[0] + _SECRET.sub(rf"\1{MASK}", rest[_length_of_credentials(rest) :])


def _length_of_credentials(rest: str) -> int:
    """How long ``user:password@`` is, at the beginning of what follows ``scheme://``."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rindex("@") + 1
    _, colon, port = authority.partition(":")
    # Someone wrote a password with a slash in it as it is. FFmpeg cannot use such an address, but
    # it must not be printed either.
    broken = colon and not port.isdecimal() and not authority.startswith("[")
    return rest.rfind("@") + 1 if broken else 0
