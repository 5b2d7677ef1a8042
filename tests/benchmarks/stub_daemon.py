"""A daemon that answers like Docker's for so many running apps of one container each.

Usage: stub_daemon.py SOCKET APPS
``POST /end?apps=200&within_s=10`` lets apps end; ``GET /told`` says when each of them did, on the
monotonic clock, which all processes of a machine share, and how many streams of events were opened.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

from airflow_torchx.core.engine import labels

# What fills a real list: about 1.5 KB for each container.
_FILLER: Final = {
    "Ports": [],
    "HostConfig": {"NetworkMode": "torchx"},
    "Mounts": [],
    "NetworkSettings": {"Networks": {"torchx": dict.fromkeys(map(str, range(12)), "0" * 64)}},
}
_NO_END: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class StubDaemon:
    """Containers by app, and the streams of their events."""

    def __init__(self, apps: int) -> None:
        self._live = {f"app-{index}": True for index in range(apps)}
        self._rows = {app_id: self._row(app_id, live=True) for app_id in self._live}
        self._ends: dict[str, float] = {}
        self._streams: list[asyncio.StreamWriter] = []
        self._opened = 0
        self._requests = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            url = urlsplit(line.decode().split()[1])
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            self._requests += 1
            if url.path.endswith("/events"):
                self._opened += 1
                self._streams.append(writer)
                writer.write(_NO_END)
            else:
                body = self._answer(url.path, query)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()

    def _answer(self, path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/containers/json"):
            wanted = json.loads(query["filters"])["label"][0].partition("=")[2]
            rows = self._rows.values() if not wanted else [self._rows[wanted]]
            return b"[" + b",".join(rows) + b"]"
        if path == "/end":
            asyncio.get_running_loop().create_task(
                self._end(int(query["apps"]), float(query["within_s"]))
            )
        told = {"ends": self._ends, "streams": self._opened, "requests": self._requests}
        return json.dumps({"ApiVersion": "1.41"} if path.endswith("/version") else told).encode()

    async def _end(self, apps: int, within_s: float) -> None:
        began_s = time.monotonic()
        chosen = random.sample([app_id for app_id, live in self._live.items() if live], apps)
        for at_s, app_id in sorted((random.uniform(0, within_s), app_id) for app_id in chosen):  # noqa: S311
            await asyncio.sleep(began_s + at_s - time.monotonic())
            self._live[app_id] = False
            self._rows[app_id] = self._row(app_id, live=False)
            self._ends[app_id] = time.monotonic()
            event = self._event(app_id)
            for stream in self._streams if event else ():
                stream.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _row(self, app_id: str, *, live: bool) -> bytes:
        state = "running" if live else "exited"
        status = "Up 2 minutes" if live else "Exited (0) Less than a second ago"
        row = {
            "Id": app_id.encode().hex().ljust(64, "0"),
            "Names": [f"/{app_id}-bench-0"],
            "Image": "busybox",
            "Created": 1_700_000_000,
            "State": state,
            "Status": status,
            "Labels": {
                labels.APP_ID: app_id,
                labels.ROLE_NAME: "bench",
                labels.REPLICA_ID: "0",
                labels.ROLES: '{"bench": 1}',
                labels.FAILURE_POLICY: "fail_fast",
            },
            **_FILLER,
        }
        return json.dumps(row).encode()

    def _event(self, app_id: str) -> bytes:
        actor = {
            "ID": app_id.encode().hex().ljust(64, "0"),
            "Attributes": {labels.APP_ID: app_id, "exitCode": "0"},
        }
        event = {"Type": "container", "Action": "die", "Actor": actor, "timeNano": time.time_ns()}
        return json.dumps(event).encode() + b"\n"


async def serve(path: str, daemon: StubDaemon) -> None:
    """Answer until the process ends."""
    server = await asyncio.start_unix_server(daemon.converse, path, backlog=1000)
    print("ready", flush=True)  # noqa: T201 - its parent waits for this
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], StubDaemon(int(sys.argv[2]))))
