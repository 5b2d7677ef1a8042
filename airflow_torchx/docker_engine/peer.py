"""Finds out whether the daemon behind a socket is on this host, with the standard library only."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_TIMEOUT_S = 1.0
# Docker and Podman create one of these in each container.
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


def is_visible(path: str) -> bool:
    """Return whether this process sees the files of the one that listens on a unix socket.

    It also returns True if it cannot know. Linux reports the process id 0 for a process that is not
    in the same PID namespace, such as a daemon whose socket is mounted into a container. The name
    of the host says less: a container on the network of its host has it, too.
    """
    credentials = getattr(socket, "SO_PEERCRED", None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(_TIMEOUT_S)
        sock.connect(path)
        if credentials is not None:
            answer = sock.getsockopt(socket.SOL_SOCKET, credentials, struct.calcsize("3i"))
            pid = struct.unpack("3i", answer)[0]
            return pid != 0 and _shares_root(pid)
    return True


def _shares_root(pid: int) -> bool:
    """Return whether a process has the same root folder, which a container with its ids does not.

    Only root may look at that of another user's process.
    """
    try:
        return Path("/").samefile(f"/proc/{pid}/root")
    except OSError:
        return not any(mark.exists() for mark in _CONTAINER_MARKS)
