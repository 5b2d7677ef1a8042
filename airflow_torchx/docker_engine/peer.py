"""Whether the process behind a socket is on the same host; only the standard library is used."""

from __future__ import annotations

import contextlib
import socket
import struct

_TIMEOUT_S = 1.0


def is_visible(path: str) -> bool:
    """Return whether this process can see the one that listens on a unix socket, or cannot know.

    Linux reports the process id 0 for a process that is not in the same PID namespace, such as a
    daemon whose socket is mounted into a container. A container on the network of its host has the
    host's name, so the name says less.
    """
    credentials = getattr(socket, "SO_PEERCRED", None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(_TIMEOUT_S)
        sock.connect(path)
        if credentials is not None:
            answer = sock.getsockopt(socket.SOL_SOCKET, credentials, struct.calcsize("3i"))
            return bool(struct.unpack("3i", answer)[0])
    return True
