"""Docker hosts on one machine: a daemon in namespaces of its own for each, joined by a bridge.

The bridge is in a namespace, too, so nothing of the machine's network changes. All processes end
with those of the tests, also when these are killed; the next tests remove the files of killed ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from docker.errors import APIError

from airflow_torchx.concurrency import host_lock
from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.connection.swarm import Swarm
from airflow_torchx.docker_engine.connection import open_client, resolve
from airflow_torchx.errors import EngineError
from tests.airflow.processes import PATIENCE_S
from tests.conftest import BUSYBOX, do_without, require_docker
from tests.integration import second_daemon
from tests.integration.registry import serving
from tests.integration.tls import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_torchx.docker_engine.request import Client
    from tests.integration.registry import Registry

wait_until = second_daemon.wait_until
_PROGRAMS: Final = ("dockerd", "ip", "nsenter", "setpriv", "unshare")
_NET: Final = "10.99.0"
#: The certificate of the daemons names so many hosts.
_MOST: Final = 9
_PREFIX: Final = "tx-swarm-"
#: Keeps the namespaces of a host, and is the init of its processes: they end with it, containers
#: among them, which a daemon that is killed leaves to it. An empty folder hides a containerd of the
#: system, and the key that its daemon has its id from.
_HOST: Final = """
hostname "$1"
for path in /run/containerd /etc/docker; do
  [ ! -d $path ] || mount -t tmpfs none $path || exit 1
done
ip link set lo up
sleep infinity &
wait
"""
_SWITCH: Final = f"""
ip link set lo up && ip link add br0 type bridge && ip addr add {_NET}.254/24 dev br0 &&
ip link set br0 up || exit 1
sleep infinity &
wait
"""


class Host:
    """One host; its daemon may be killed, and its cable pulled.

    Args:
        number: of its name and address.
        folder: all that it writes is in a folder there.
        switch: what its cable is plugged into.
        certificate: what its daemon shows to other hosts, and wants to be shown.
    """

    def __init__(
        self, number: int, folder: Path, switch: _Namespaces, certificate: Certificate
    ) -> None:
        self.number = number
        self.name = f"box{number}"
        self.address = f"{_NET}.{number}"
        self._folder = folder / self.name
        self._folder.mkdir()
        self._switch = switch
        self._certificate = certificate
        self._own = _Namespaces(["--uts"], _HOST, self.name)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._plug()

    @property
    def url(self) -> str:
        """The URL of its daemon."""
        return f"unix://{self._folder}/sock"

    @property
    def tls_url(self) -> str:
        """The URL of its daemon for other hosts."""
        return f"tcp://{self.address}:2376"

    @property
    def client(self) -> Client:
        """A client of its daemon, which the caller closes."""
        return open_client(resolve(Endpoint(url=self.url), {}))

    def start(self, *options: str) -> None:
        """Start its daemon, and wait until that answers."""
        for stale in ("pid", "exec/containerd/containerd.pid"):
            self._folder.joinpath(stale).unlink(missing_ok=True)
        folder = self._folder
        cert, key = self._certificate
        self._folder.joinpath("config.json").write_text("{}")
        command = [
            *("nsenter", f"--target={self._own.pid}", "--net", "--uts", "--mount", "--pid"),
            *("setpriv", "--pdeathsig=KILL"),
            *("dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
            *(f"--pidfile={folder}/pid", f"--host={self.url}", "--log-level=warn"),
            *(f"--host={self.tls_url}", "--tlsverify", f"--tlscacert={cert}"),
            *(f"--tlscert={cert}", f"--tlskey={key}"),
            *(f"--config-file={folder}/config.json", f"--insecure-registry={_NET}.0/24", *options),
        ]
        with folder.joinpath("log").open("ab") as log:
            self._daemon = _spawn(command, stdout=log, stderr=log)
        wait_until(self._answers, why=lambda: folder.joinpath("log").read_text()[-2000:])

    def kill(self) -> None:
        """Kill its daemon; containers live on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End its daemon, which stops its containers."""
        self._end(signal.SIGTERM)

    def shell(self, script: str, folder: Path) -> str:
        """Run a script as its user does, in a folder, and return what it prints.

        It sees the network and the host name of this host, and finds the docker command line, which
        asks the daemon of this host, and our own command.
        """
        inside = [f"--target={self._own.pid}", "--net", "--uts", f"--wd={folder}"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["nsenter", *inside, "bash", "-euo", "pipefail", "-c", script],
            check=False,
            env={**os.environ, "PATH": path, "DOCKER_HOST": self.url},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def cut(self) -> None:
        """Pull its cable."""
        self._inside_switch("ip", "link", "set", f"v{self.number}", "down")

    def heal(self) -> None:
        """Plug its cable in."""
        self._inside_switch("ip", "link", "set", f"v{self.number}", "up")

    def end(self) -> None:
        """End all that runs on it."""
        with contextlib.suppress(EngineError), closing(self.client) as client:
            for row in client.containers():
                with contextlib.suppress(Exception):
                    client.kill(row["Id"])
        self._own.end()
        if self._daemon is not None:
            self._daemon.wait()
        wait_until(lambda: not second_daemon.processes(str(self._folder)))

    def _end(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        # nsenter has it as a child, which is of another namespace, and ends with it.
        os.kill(_child_of(self._daemon.pid), number)
        self._daemon.wait(PATIENCE_S)

    def _answers(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, self._folder.joinpath("log").read_text()[-2000:]
        try:
            self.client.close()
        except EngineError:
            return False
        return True

    def _plug(self) -> None:
        cable, inner = f"v{self.number}", f"e{self.number}"
        self._inside_switch("ip", "link", "add", cable, "type", "veth", "peer", "name", inner)
        self._inside_switch("ip", "link", "set", inner, "netns", f"{self._own.pid}")
        self._inside_switch("ip", "link", "set", cable, "master", "br0", "up")
        for command in (
            f"ip link set {inner} name eth0",
            f"ip addr add {self.address}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {_NET}.254",
        ):
            _run("nsenter", f"--target={self._own.pid}", "--net", *command.split())

    def _inside_switch(self, *command: str) -> None:
        _run("nsenter", f"--target={self._switch.pid}", "--net", *command)


class Hosts:
    """Some hosts that form a swarm.

    Args:
        folder: all that they write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._switch = _Namespaces([], _SWITCH, str(folder))
        addresses = (f"{_NET}.{number}" for number in range(1, _MOST + 1))
        #: That of each daemon, and of its clients.
        self.certificate = Certificate.make(folder, *addresses)
        self.all: list[Host] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.all:
            host.end()
        self._switch.end()

    def __getitem__(self, number: int) -> Host:
        return self.all[number - 1]

    def add(self, count: int, options: Callable[[int], Sequence[str]] = lambda _: ()) -> None:
        """Start so many hosts; ``options`` returns the daemon's, by the number of the host."""
        added = [
            Host(number, self._folder, self._switch, self.certificate)
            for number in range(len(self.all) + 1, len(self.all) + count + 1)
        ]
        self.all += added
        for host in added:
            host.start(*options(host.number))

    def form_swarm(self, managers: int = 1) -> None:
        """Make the hosts a swarm; the first ones are its managers."""
        with closing(self[1].client) as first:
            first.init_swarm(advertise_addr=self[1].address)
            tokens = first.inspect_swarm()["JoinTokens"]
        for host in self.all[1:]:
            token = tokens["Manager" if host.number <= managers else "Worker"]
            with closing(host.client) as client:
                client.join_swarm([f"{self[1].address}:2377"], token, advertise_addr=host.address)
        wait_until(lambda: self.ready() == len(self.all))

    def rejoin(self, number: int) -> None:
        """Make a host that was removed from the swarm a worker of it again."""
        host = self[number]
        with closing(self[1].client) as first, closing(host.client) as client:
            token = first.inspect_swarm()["JoinTokens"]["Worker"]
            client.leave_swarm(force=True)
            client.join_swarm([f"{self[1].address}:2377"], token, advertise_addr=host.address)
        wait_until(lambda: self.ready() == len(self.all))

    def ready(self) -> int:
        """Return the number of nodes that answer, as the first host has it."""
        with closing(self[1].client) as client:
            return sum(node["Status"]["State"] == "ready" for node in client.nodes())

    @contextlib.contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Let a node take no replicas within a block."""
        self.make(name, "pause")
        try:
            yield
        finally:
            self.make(name, "active")

    def make(self, name: str, availability: str) -> None:
        """Set the availability of a node: active, pause or drain."""
        with closing(self[1].client) as client:
            (node,) = client.nodes({"name": name})

            def is_made() -> bool:
                found = client.inspect_node(node["ID"])
                spec = found["Spec"] | {"Availability": availability}
                try:
                    client.update_node(node["ID"], found["Version"]["Index"], spec)
                except APIError as refusal:
                    # The swarm changes a node, too, as when it comes back.
                    if "out of sequence" not in str(refusal):
                        raise
                    return False
                return True

            wait_until(is_made)

    @contextlib.contextmanager
    def registry(self, *, auth: bool = False, port: int = 5000) -> Iterator[Registry]:
        """Run a registry that all hosts reach; with ``auth``, it asks for a login."""
        folder = Path(tempfile.mkdtemp(prefix="registry-", dir=self._folder))
        inside = ("nsenter", f"--target={self._switch.pid}", "--net")
        with serving(folder, auth=auth, host=f"{_NET}.254:{port}", inside=inside) as found:
            yield found

    def bring_image(self, image: str, *numbers: int) -> None:
        """Copy an image of the machine's daemon to these hosts, else to each."""
        with require_docker() as engine:
            data = b"".join(engine.client.get_image(image))
        for host in [self[number] for number in numbers] or self.all:
            with closing(host.client) as client:
                client.load_image(data)

    def endpoint(self, *managers: int, **swarm: Any) -> Endpoint:  # noqa: ANN401 - a Swarm's fields
        """Return how the swarm is reached, by these managers, else by the first host."""
        first, *more = [self[number].url for number in managers or (1,)]
        node_url = f"unix://{self._folder}/{{hostname}}/sock"
        given = {"managers": tuple(more), "node_url": node_url, **swarm}
        return Endpoint(url=first, request_timeout_s=25.0, swarm=Swarm(**given))


@contextlib.contextmanager
def swarm(count: int = 3, managers: int = 1, **options: Any) -> Iterator[Hosts]:  # noqa: ANN401
    """Run a swarm, whose nodes have the image of the tests; at the end all of it is gone.

    Without managers, the hosts form a swarm later. Without root the test is skipped, but in CI it
    fails.
    """
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        do_without(f"a swarm takes root and {', '.join(missing or _PROGRAMS)}")
    with _hosts() as hosts:
        hosts.add(count, **options)
        if managers:
            hosts.form_swarm(managers)
        hosts.bring_image(BUSYBOX)
        yield hosts


@contextlib.contextmanager
def _hosts() -> Iterator[Hosts]:
    """Return hosts in a folder of their own; those that killed tests have left are removed."""
    # Not in the folder of pytest: the path of a socket must be short.
    parent = Path(tempfile.gettempdir())
    with host_lock.held("tests", _PREFIX):
        for left in parent.glob(f"{_PREFIX}*"):
            if not second_daemon.processes(str(left)):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # From now on, a process has its name.
        hosts = Hosts(folder)
    try:
        with hosts:
            yield hosts
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Namespaces:
    """New namespaces of a network, mounts and processes, and others, which end with this process.

    Args:
        others: options of `unshare`.
        script: sets them up, and goes on.
        arguments: those of the script.
    """

    def __init__(self, others: Sequence[str], script: str, *arguments: str) -> None:
        options = ["--net", "--mount-proc", "--pid", "--fork", "--kill-child=KILL", *others]
        command = ["unshare", *options, "sh", "-c", script, "sh", *arguments]
        self._process = _spawn(command)
        wait_until(lambda: self._process.poll() is not None or self._is_set_up())
        assert self._process.poll() is None, "cannot make namespaces"
        #: Its first process, as this one sees it.
        self.pid = _child_of(self._process.pid)

    def end(self) -> None:
        """End all processes in it."""
        self._process.kill()
        self._process.wait()

    def _is_set_up(self) -> bool:
        with contextlib.suppress(IndexError, OSError):
            last = _child_of(_child_of(self._process.pid))
            return Path(f"/proc/{last}/comm").read_text() == "sleep\n"
        return False


def _child_of(pid: int) -> int:
    """Return the first process that another one has started."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _spawn(command: Sequence[str], **streams: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
    """Start a process that ends with this one."""
    whole = ["setpriv", "--pdeathsig=KILL", *command]
    return subprocess.Popen(whole, start_new_session=True, **streams)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
