"""How sources are read: what they are taken for, and what happens when they are lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visolo_core.errors import VisoloError

SourceType = Literal["auto", "recording", "live"]
RtspTransport = Literal["auto", "tcp", "udp"]
AfterGap = Literal["keep", "new"]


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read."""

    source_type: SourceType = "auto"
    """``recording`` reads every frame to the end; ``live`` may drop frames and connects again;
    ``auto`` takes each source for what it is"""
    rtsp_transport: RtspTransport = "auto"
    """``auto`` asks for TCP, which loses no packets and passes firewalls, and takes UDP from a
    server that refuses TCP"""
    timeout_s: float = 10.0
    """seconds without an answer or a frame after which a source counts as lost"""
    retry_s: float = 60.0
    """seconds for which a live source is tried again, each time that it is lost; 0 for never"""
    after_gap: AfterGap = "keep"
    """what happens to the tracks when a source is back: ``keep`` them, or begin a ``new`` clip"""
    deinterlace: bool = False
    """make whole pictures of the fields of interlaced video"""

    def __post_init__(self) -> None:
        # Written so that NaN is refused as well.
        if not 0 < self.timeout_s <= 3600:
            raise VisoloError(
                f"--timeout must be more than 0 and at most 3600 s, not {self.timeout_s:g}"
            )
        if not self.retry_s >= 0:
            raise VisoloError(f"--retry must be 0 s or more, not {self.retry_s:g}")


DEFAULTS = SourceOptions()
