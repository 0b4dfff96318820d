"""What the server refuses, and with which status."""

from __future__ import annotations

from visolo_core.errors import VisoloError


class StatusError(VisoloError):
    """A request that is refused.

    Args:
        reason: one sentence.
        status: of the answer.
    """

    status = 400

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        if status is not None:
            self.status = status


class ForbiddenError(StatusError):
    """Something that this server does not allow."""

    status = 403


class MissingError(StatusError):
    """Something that is not there."""

    status = 404


class ConflictError(StatusError):
    """Something that cannot be done as things are."""

    status = 409


class FullError(StatusError):
    """All streams of a server are in use, or whatever else there is only so much of."""

    status = 503
