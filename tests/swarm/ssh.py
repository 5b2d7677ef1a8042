"""SSH servers in this process, in front of the daemons of hosts, for the program `ssh`."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import asyncssh

from tests.airflow.processes import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.swarm.hosts import Host

#: What a client of Docker runs on a host.
_DIAL: Final = "docker system dial-stdio"
_BLOCK_BYTES: Final = 65_536


async def _dial(host: Host, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Join a command to the socket of a daemon, until either ends."""
    assert process.command == _DIAL
    reader, writer = await asyncio.open_unix_connection(host.url.removeprefix("unix://"))
    to_daemon = asyncio.create_task(_copy(process.stdin, writer))
    try:
        await _copy(reader, process.stdout)
    finally:
        to_daemon.cancel()
        writer.close()
        process.exit(0)


async def _copy(source: Any, target: Any) -> None:  # noqa: ANN401 - of asyncio and of asyncssh
    with contextlib.suppress(OSError, asyncssh.Error):
        while block := await source.read(_BLOCK_BYTES):
            target.write(block)
            await target.drain()
        target.write_eof()


@contextmanager
def _serving(host: Host, own: Path, user: Path) -> Iterator[int]:
    """Serve a host on loopback, and return the port."""
    started: Future[tuple[int, Callable[[], object]]] = Future()

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[str(own)],
            authorized_client_keys=f"{user}.pub",
            process_factory=partial(_dial, host),
            encoding=None,
        )
        started.set_result((server.get_port(), partial(loop.call_soon_threadsafe, end.set)))
        await end.wait()
        server.close()
        await server.wait_closed()

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(asyncio.run, serve())
        port, end = started.result(PATIENCE_S)
        try:
            yield port
        finally:
            end()
    served.result()


@contextmanager
def reached_by_ssh(hosts: Sequence[Host], folder: Path) -> Iterator[Path]:
    """Make hosts reachable as ``ssh://train@NAME`` by the program `ssh` in a folder; return it.

    `ssh` takes its settings from the home of the user who runs it, which the tests leave alone.
    """
    user, own, known, config = (folder / name for name in ("user", "own", "known", "config"))
    for key in (user, own):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(make, check=True)
    kind, public, *_ = own.with_suffix(".pub").read_text().split()
    settings, lines = [], []
    with ExitStack() as held:
        for host in hosts:
            port = held.enter_context(_serving(host, own, user))
            settings += [f"Host {host.name}", "HostName 127.0.0.1", f"Port {port}"]
            lines.append(f"[127.0.0.1]:{port} {kind} {public}\n")
        settings += ["Host *", f"IdentityFile {user}", "IdentitiesOnly yes"]
        settings += [f"UserKnownHostsFile {known}", "StrictHostKeyChecking yes"]
        config.write_text("\n".join(settings))
        known.write_text("".join(lines))
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        program.chmod(0o755)
        yield program.parent
