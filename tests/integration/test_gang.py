"""Gangs on a real daemon: what users of the scheduler see."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.errors import AppExistsError, AppNotFoundError, InvalidAppError, LaunchError
from airflow_torchx.runtime import lifecycle
from airflow_torchx.schedulers.docker_scheduler import (
    DockerScheduler,
    Stream,
    has_docker,
    why_no_docker,
)
from airflow_torchx.specs import AppDef, AppState, BindMount, Resource, RetryPolicy, Role
from tests.airflow.processes import until
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_torchx.docker_engine import DockerEngine

pytestmark = pytest.mark.docker


@pytest.fixture
def scheduler(docker_engine: DockerEngine) -> DockerScheduler:
    """Return a scheduler on the real daemon."""
    return DockerScheduler("test", docker_engine)


@pytest.fixture
def gang(app_id: str) -> Callable[..., AppDef]:
    """Return a maker of apps that run a shell command in each replica."""

    def make(command: str, replicas: int = 2, **role: Any) -> AppDef:  # noqa: ANN401 - Role's fields
        fields = {"resource": Resource(cpu=-1, gpu=-1, memMB=-1), **role}
        only = Role(
            "worker",
            BUSYBOX,
            entrypoint="sh",
            args=["-c", command],
            num_replicas=replicas,
            **fields,
        )
        return AppDef(app_id, [only])

    return make


def log(scheduler: DockerScheduler, app: str, replica: int = 0, **query: Any) -> list[str]:  # noqa: ANN401 - log_iter's arguments
    """Return the lines of one replica."""
    return [line.rstrip("\n") for line in scheduler.log_iter(app, "worker", replica, **query)]


def test_an_app_runs_and_ends(scheduler: DockerScheduler, gang: Callable[..., AppDef]) -> None:
    """Submit, wait, log and delete work in a row and leave nothing."""
    app = scheduler.submit(gang("echo I am $TORCHX_RANK0_HOST; hostname", 3))

    ended = scheduler.wait(app, timeout_s=60)

    assert ended.state is AppState.SUCCEEDED
    assert [0, 0, 0] == [replica.exit_code for replica in replicas_of(ended)]
    rank0 = container_name(app, "worker", 0)
    assert [f"I am {rank0}", rank0] == log(scheduler, app)
    scheduler.delete(app)
    assert scheduler.describe(app) is None
    assert not scheduler.exists(app)


@pytest.mark.parametrize(
    "name", ["plain", "ünïcode näme", "UPPER_and.dots", "x" * 80, "-._leading", "a/b c"]
)
def test_peers_resolve_rank_0_whatever_the_names(
    scheduler: DockerScheduler, app_id: str, name: str
) -> None:
    """The host in TORCHX_RANK0_HOST answers on the network, for any app and role name."""
    script = (
        'if [ "$TORCHX_REPLICA" = 0 ]; then nc -l -p 7777 -e echo hello; '
        "else until nc $TORCHX_RANK0_HOST 7777; do sleep 0.3; done; fi"
    )
    roles = [
        Role(
            name.replace("/", "-"),
            BUSYBOX,
            entrypoint="sh",
            args=["-c", script],
            num_replicas=1,
            env={"TORCHX_REPLICA": "0"},
        ),
        Role("peer", BUSYBOX, entrypoint="sh", args=["-c", script], env={"TORCHX_REPLICA": "1"}),
    ]
    app = scheduler.submit(AppDef(f"{name}-{app_id}", roles))

    ended = scheduler.wait(app, timeout_s=60)

    assert ended.state is AppState.SUCCEEDED


@pytest.mark.parametrize(
    ("network", "replicas"), [("host", 2), ("host", 1), ("none", 1), ("bridge", 1), ("joined", 1)]
)
def test_names_resolve_on_networks_without_names(
    scheduler: DockerScheduler,
    gang: Callable[..., AppDef],
    network: str,
    replicas: int,
) -> None:
    """Rank 0 and the own host name, which torchrun announces, resolve on every other network."""
    names = ["$TORCHX_RANK0_HOST"]
    if (network, replicas) != ("host", 1):  # there, the own name is that of the host
        names.append("$(hostname)")
    script = " && ".join(f"ping -c 1 -W 5 {name}" for name in names)
    if network == "joined":
        owner = scheduler.describe(scheduler.submit(gang("sleep 100", 1)))
        assert owner is not None
        network = f"container:{replicas_of(owner)[0].container_id}"

    app = scheduler.submit(gang(script, replicas), {"network": network})

    ended = scheduler.wait(app, timeout_s=60)
    assert [0] * replicas == [replica.exit_code for replica in replicas_of(ended)]


def test_a_peer_resolves_rank_0_while_it_is_cancelled(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """The mark of a cancel is a rename, and the name still resolves for a graceful shutdown."""
    # A name resolves as long as its container runs, so rank 0 stays until its peer has found it.
    script = (
        "trap 'case $HOSTNAME in *-0) nc -l -p 4000;; *)"
        " until nc $TORCHX_RANK0_HOST 4000 2>/dev/null; do sleep 0.1; done; echo found;;"
        " esac; exit' TERM; echo ready; while true; do sleep 0.1; done"
    )
    app = scheduler.submit(gang(script), {"stop_grace_s": 60})
    until(lambda: log(scheduler, app, 0) == ["ready"] == log(scheduler, app, 1), "both are ready")

    scheduler.cancel(app)

    assert ["ready", "found"] == log(scheduler, app, 1)


def test_the_entrypoint_of_the_role_wins_over_the_image(
    scheduler: DockerScheduler, docker_engine: DockerEngine, gang: Callable[..., AppDef]
) -> None:
    """The role's entrypoint replaces that of the image."""
    app = scheduler.submit(gang("exit 0", 1))

    container = replicas_of(scheduler.wait(app, timeout_s=60))[0].container_id

    inspected = _inspect(container)
    assert ["sh"] == inspected["Config"]["Entrypoint"]
    assert ["-c", "exit 0"] == inspected["Config"]["Cmd"]
    del docker_engine


def test_half_a_gang_is_never_left(
    scheduler: DockerScheduler,
    gang: Callable[..., AppDef],
    app_id: str,
    docker_engine: DockerEngine,
) -> None:
    """A program that does not exist fails the launch by its replica, and no container stays."""
    app = gang("", 4)
    broken = AppDef(app.name, [replace(app.roles[0], entrypoint="/no/such/program")])

    with pytest.raises(LaunchError, match=r"replica worker/\d did not start: .*no/such/program"):
        scheduler.submit(broken)

    assert [] == [row for row in docker_engine.rows({}) if app_id in row.name]


def test_everything_wrong_is_told_at_once(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """The app's mistakes and the daemon's limits come in one error, before anything is created."""
    app = gang(
        "true",
        1,
        resource=Resource(cpu=100_000, gpu=0, memMB=5),
        mounts=[BindMount("/no/such/folder", "/x")],
    )

    with pytest.raises(InvalidAppError) as caught:
        scheduler.submit(app, {"pull_policy": "never"})

    assert {
        "roles[0].resource.cpu",
        "roles[0].resource.memMB",
        "roles[0].mounts[0].src_path",
    } == {problem.where for problem in caught.value.problems}


def test_two_submissions_of_one_app_id_make_no_twin(
    scheduler: DockerScheduler,
    gang: Callable[..., AppDef],
    app_id: str,
    docker_engine: DockerEngine,
) -> None:
    """Of eight submissions at once one wins whole, and seven raise an error."""
    plans = [
        scheduler.submit_dryrun(gang("sleep 600", 3), context=scheduler.new_context(app_id))
        for _ in range(8)
    ]
    outcomes: list[str] = []

    def launch(index: int) -> None:
        try:
            scheduler.schedule(plans[index])
        except AppExistsError:
            outcomes.append("exists")
        else:
            outcomes.append("launched")

    threads = [threading.Thread(target=launch, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["exists"] * 7 + ["launched"] == sorted(outcomes)
    found = scheduler.describe(app_id)
    assert found is not None
    assert ["RUNNING"] * 3 == [replica.state.name for replica in replicas_of(found)]
    lifecycle.cancel(docker_engine, app_id, grace_s=0)


def test_an_app_ends_with_its_essential_role(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """A role that only serves is stopped, by its own grace period, when the trainer is done."""
    trainer = replace(gang("sleep 1", 1).roles[0], name="trainer")
    app = gang("trap 'echo saved; exit 3' TERM; echo up; while true; do sleep 0.1; done", 2)
    options = {"essential_roles": "trainer", "auxiliary_grace_s": 20, "stop_grace_s": 0}

    app_id = scheduler.submit(AppDef(app.name, [*app.roles, trainer]), options)
    # Before its handler is set, process 1 ignores SIGTERM. Without a wait, no client sends any.
    until(lambda: log(scheduler, app_id, 0) == ["up"] == log(scheduler, app_id, 1), "both are up")
    ended = scheduler.wait(app_id, timeout_s=60)

    assert AppState.SUCCEEDED is ended.state
    assert ["CANCELLED", "CANCELLED", "SUCCEEDED"] == [r.state.name for r in replicas_of(ended)]
    assert ["up", "saved"] == log(scheduler, app_id)


@pytest.mark.parametrize("on_term", ["exit 0", "exit 1", ""])
def test_a_cancelled_app_is_cancelled_for_every_client(
    scheduler: DockerScheduler, gang: Callable[..., AppDef], on_term: str
) -> None:
    """Another process sees a cancelled app as CANCELLED, whatever its exit codes."""
    trap = f"trap '{on_term}' TERM; " if on_term else ""
    app = scheduler.submit(gang(f"{trap}while true; do sleep 0.1; done"), {"stop_grace_s": 1})

    scheduler.cancel(app)
    scheduler.cancel(app)

    code = (
        "import sys; from airflow_torchx.schedulers.docker_scheduler import create_scheduler\n"
        "with create_scheduler('other') as s: print(s.describe(sys.argv[1]).state)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, app], check=True, capture_output=True, text=True
    )
    assert "CANCELLED\n" == other.stdout


def test_the_peers_of_a_lost_replica_are_stopped(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """Under fail_fast a wait cancels the peers of a replica that fails."""
    script = 'case "$HOSTNAME" in *-1) sleep 1; exit 7;; esac; while true; do sleep 0.05; done'
    app = scheduler.submit(gang(f"trap 'exit 0' TERM; {script}", 3))

    scheduler.wait(app, timeout_s=60)

    found = scheduler.describe(app)
    assert found is not None
    states = {replica.id: replica.state.name for replica in replicas_of(found)}
    assert {0: "CANCELLED", 1: "FAILED", 2: "CANCELLED"} == states


def test_wait_all_lets_peers_end(scheduler: DockerScheduler, gang: Callable[..., AppDef]) -> None:
    """Under wait_all every other replica succeeds, and the app fails."""
    script = 'case "$HOSTNAME" in *-1) exit 7;; esac; sleep 2'
    app = scheduler.submit(gang(script, 3), {"failure_policy": "wait_all"})

    ended = scheduler.wait(app, timeout_s=60)

    assert ["SUCCEEDED", "FAILED", "SUCCEEDED"] == [r.state.name for r in replicas_of(ended)]


def test_following_a_log_survives_restarts(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """A followed log has every line of three runs of a container once, and then ends."""
    app = scheduler.submit(
        gang(
            "for i in 1 2 3; do echo $i; sleep 0.1; done; exit 1",
            1,
            max_retries=2,
            retry_policy=RetryPolicy.REPLICA,
        )
    )

    followed = log(scheduler, app, should_tail=True)

    assert ["1", "2", "3"] * 3 == followed
    described = scheduler.describe(app)
    assert described is not None
    assert 2 == replicas_of(described)[0].num_restarts


def test_lines_are_whole_and_streams_apart(
    scheduler: DockerScheduler, gang: Callable[..., AppDef]
) -> None:
    """A line of 40,000 characters stays whole, and a progress bar is its last state."""
    script = (
        "head -c 40000 /dev/zero | tr '\\0' x; echo; printf '10%%\\r20%%\\r100%%\\n'; "
        "printf 'bad \\377 byte\\n'; echo oops >&2"
    )
    app = scheduler.submit(gang(script, 1))
    scheduler.wait(app, timeout_s=60)

    out = log(scheduler, app, streams=Stream.STDOUT)

    assert ["x" * 40_000, "100%", "bad \N{REPLACEMENT CHARACTER} byte"] == out
    assert ["oops"] == log(scheduler, app, streams=Stream.STDERR)
    assert ["100%"] == log(scheduler, app, regex=r"^\d+%$")


def test_an_unknown_app(scheduler: DockerScheduler) -> None:
    """Wait and logs of an app that is gone are errors, and cancel and delete do nothing."""
    scheduler.cancel("no-such-app")
    scheduler.delete("no-such-app")
    with pytest.raises(AppNotFoundError):
        scheduler.wait("no-such-app")
    with pytest.raises(AppNotFoundError):
        scheduler.log_iter("no-such-app", "worker")
    assert scheduler.describe("no-such-app") is None


def test_delete_removes_anonymous_volumes(
    scheduler: DockerScheduler, gang: Callable[..., AppDef], app_id: str
) -> None:
    """A delete removes the anonymous volumes of its containers."""
    image = f"{app_id}:volume"
    _docker("create", "--name", app_id, BUSYBOX, "true")
    _docker("commit", "--change", "VOLUME /scratch", app_id, image)
    _docker("rm", app_id)
    try:
        app = gang("sleep 600", 1)
        of_image = AppDef(app.name, [replace(app.roles[0], image=image)])
        launched = scheduler.submit(of_image, {"stop_grace_s": 0})
        (volume,) = (m["Name"] for m in _inspect(container_name(launched, "worker", 0))["Mounts"])
        scheduler.delete(launched)
    finally:
        _docker("rmi", image)

    assert volume not in _docker("volume", "ls", "-q")


def test_a_marker_has_no_volume(docker_engine: DockerEngine, app_id: str) -> None:
    """Docker copies no files of an image to the container of a ticket, a claim or a lock."""
    image = f"{app_id}:volume"
    _docker("create", "--name", app_id, BUSYBOX, "true")
    _docker("commit", "--change", 'VOLUME ["/scratch", "/a/../b/"]', app_id, image)
    _docker("rm", app_id)
    try:
        found = docker_engine.images.inspect(image)
        assert found is not None
        demand = GpuDemand(
            key=app_id, count=1, listed=("GPU-0",), image=image, volumes=found.volumes
        )
        container_id = docker_engine.create(demand.spec("ticket"))
        mounts = _inspect(container_id)["Mounts"]
        docker_engine.discard(container_id)
    finally:
        _docker("rmi", image)

    assert 2 == len(found.volumes)
    assert [] == mounts


def test_a_docker_engine_is_found_or_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """has_docker never raises; its companion says what is wrong and what to do."""
    assert (True, None) == (has_docker(), why_no_docker())
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")

    assert not has_docker()
    assert "/no/such.sock" in (why_no_docker() or "")


def _docker(*args: str) -> str:
    """Return what the docker command line prints."""
    return subprocess.run(["docker", *args], check=True, capture_output=True, text=True).stdout


def _inspect(container: str) -> dict[str, Any]:
    """Return what the docker command line says of a container."""
    found: dict[str, Any] = json.loads(_docker("inspect", container))[0]
    return found
