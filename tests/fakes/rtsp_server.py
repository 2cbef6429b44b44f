"""A real RTSP server, GStreamer's own. Run by the system's Python, which has its bindings.

    rtsp_server.py PORT LAUNCH

Serves the pipeline LAUNCH at /door, to loopback only, begun anew for each viewer, and
prints its port. PORT 0 takes a free one.
"""

from __future__ import annotations

import sys

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402


def main() -> None:
    port, launch = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    server.get_mount_points().add_factory("/door", factory)
    if not server.attach(None):
        sys.exit(f"port {port} cannot be taken")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
