"""An RTSP camera of GStreamer: FPS WIDTH HEIGHT any|tcp|udp PORT, or --check.

Debian's Python runs it, which has the modules of python3-gi and gir1.2-gst-rtsp-server-1.0.
"""

from __future__ import annotations

import sys
from typing import Any


def libraries() -> tuple[Any, Any, Any, Any]:
    """GLib, GStreamer, and its RTSP modules."""
    import gi

    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    return GLib, Gst, GstRtsp, GstRtspServer


def check() -> int:
    """0 if a camera can be served here."""
    _, gst, _, _ = libraries()
    return 0 if all(map(gst.ElementFactory.find, ("x264enc", "rtph264pay"))) else 1


def serve(fps: str, width: str, height: str, transport: str, port: str) -> None:
    """A moving picture at ``/cam``, without an end."""
    glib, _, rtsp, rtsp_server = libraries()
    lower = rtsp.RTSPLowerTrans
    protocols = {"any": lower.TCP | lower.UDP, "tcp": lower.TCP, "udp": lower.UDP}
    server, factory = rtsp_server.RTSPServer(), rtsp_server.RTSPMediaFactory()
    server.set_service(port)
    server.set_address("127.0.0.1")
    factory.set_protocols(protocols[transport])
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},"
        f"framerate={fps}/1 ! x264enc tune=zerolatency key-int-max={fps} bitrate=800 "
        "speed-preset=ultrafast ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    glib.MainLoop().run()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    serve(*sys.argv[1:])
