"""An RTSP camera of GStreamer: FPS WIDTH HEIGHT any|tcp|udp PORT, or --check.

Debian's Python runs it, which has the modules of python3-gi and gir1.2-gst-rtsp-server-1.0.
"""

# mypy: ignore-errors
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

Gst.init(None)
if sys.argv[1] == "--check":
    sys.exit(0 if all(map(Gst.ElementFactory.find, ("x264enc", "rtph264pay"))) else 1)
fps, width, height, transport, port = sys.argv[1:]
lower = GstRtsp.RTSPLowerTrans
protocols = {"any": lower.TCP | lower.UDP, "tcp": lower.TCP, "udp": lower.UDP}
server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
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
GLib.MainLoop().run()
