"""What running containers use, and commands that run in them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.engine.usage import ContainerUsage, Execution
from airflow_torchx.docker_engine.errors import engine_errors
from airflow_torchx.docker_engine.request import request
from airflow_torchx.docker_engine.responses import short_id
from airflow_torchx.docker_engine.stream import LogStream
from airflow_torchx.errors import EngineNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.docker_engine.request import Client

    Json = Mapping[str, Any]


def read(client: Client, url: str, container_id: str) -> ContainerUsage | None:
    """Return what a container uses; None if it does not run, or does not exist."""
    # Without one-shot, the daemon waits a second for a second sample.
    params = {"stream": "false", "one-shot": "true"}
    path = f"/containers/{quote(container_id)}/stats"
    try:
        with engine_errors(f"read the usage of container {short_id(container_id)}", url):
            return container_usage(request(client, "GET", path, params=params).json())
    except EngineNotFoundError:
        return None


def container_usage(response: Json) -> ContainerUsage | None:
    """Return one entry of ``GET /containers/{id}/stats``; None for a container that does not run.

    As in `docker stats`, memory leaves out the part of the page cache that can be dropped:
    https://github.com/docker/cli/blob/v28.2.2/cli/command/container/stats_helpers.go
    """
    read_at = parse_time(response.get("read"))
    memory = response.get("memory_stats") or {}
    if read_at is None or "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    networks = (response.get("networks") or {}).values()
    return ContainerUsage(
        read_at=read_at,
        cpu_ns=response["cpu_stats"]["cpu_usage"]["total_usage"],
        memory_bytes=max(memory["usage"] - cache, 0),
        memory_limit_bytes=memory.get("limit") or None,
        received_bytes=sum(one.get("rx_bytes", 0) for one in networks),
        sent_bytes=sum(one.get("tx_bytes", 0) for one in networks),
    )


def execute(
    client: Client,
    url: str,
    container_id: str,
    command: Sequence[str],
    *,
    timeout_s: float,
    max_bytes: int,
) -> Execution:
    """Run a command in a container, and return its output and how it ended."""
    what = f"run {command[0]} in container {short_id(container_id)}"
    # A terminal merges both streams into one without frames.
    spec = {"AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": list(command)}
    with engine_errors(what, url):
        path = f"/containers/{quote(container_id)}/exec"
        created = request(client, "POST", path, json=spec).json()["Id"]
        started = {"Detach": False, "Tty": True}
        response = request(client, "POST", f"/exec/{created}/start", json=started, stream=True)
    stream = LogStream(response.raw, what=what, url=url, follow=True)
    timer = threading.Timer(timeout_s, stream.close)
    timer.daemon = True
    timer.start()
    output = b""
    try:
        for chunk in stream:
            output += chunk
            if len(output) >= max_bytes:
                break
    finally:
        timer.cancel()
        stream.close()
    with engine_errors(what, url):
        ended = request(client, "GET", f"/exec/{created}/json").json()
    exit_code = None if ended.get("Running") else ended.get("ExitCode")
    return Execution(exit_code=exit_code, output=output[:max_bytes].replace(b"\r\n", b"\n"))
