"""An app on a swarm of three nodes: launched, described, followed, cancelled and deleted."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine.request import request
from airflow_torchx.errors import AppExistsError, LaunchError
from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
from airflow_torchx.specs import AppDef, AppState, BindMount, Resource, Role, macros
from airflow_torchx.swarm_engine import SwarmEngine
from tests.conftest import BUSYBOX
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_torchx.core.plan.job_plan import LaunchContext
    from airflow_torchx.specs import DescribeAppResponse
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

#: It ends with 0 when it is asked to.
OBEDIENT = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
OPTIONS = {"stop_grace_s": 3}


def _app(*commands: str, **fields: object) -> AppDef:
    """Return an app with one role for each command, and a replica for each node in the first."""
    return AppDef(
        "swarmed",
        roles=[
            Role(
                f"role{index}",
                image=BUSYBOX,
                entrypoint="sh",
                args=["-c", command],
                num_replicas=1 if index else 3,
                resource=Resource(cpu=0.1, gpu=0, memMB=32),
                **fields,  # type: ignore[arg-type]
            )
            for index, command in enumerate(commands)
        ],
    )


def _context(scheduler: SwarmScheduler, app_id: str) -> LaunchContext:
    return scheduler.new_context(app_id)


def _launch(scheduler: SwarmScheduler, app_id: str, app: AppDef, **options: object) -> str:
    given, context = {**OPTIONS, **options}, _context(scheduler, app_id)
    return scheduler.schedule(scheduler.submit_dryrun(app, given, context=context))


def _by_replica(app: DescribeAppResponse) -> dict[str, tuple[AppState, int | None]]:
    return {
        f"{role.role}/{one.id}": (one.state, one.exit_code)
        for role in app.roles_statuses
        for one in role.replicas
    }


def _await_ready(scheduler: SwarmScheduler, app_id: str) -> None:
    """Wait until each replica of an app of `OBEDIENT` runs, and ends with 0 when it is asked to."""
    for index in range(3):
        assert "ready\n" == next(scheduler.log_iter(app_id, "role0", index, should_tail=True))
    # The log may be faster than the state.
    wait_until(lambda: scheduler.describe(app_id).state is AppState.RUNNING)  # type: ignore[union-attr]


def test_to_its_end(scheduler: SwarmScheduler, app_id: str) -> None:
    """Each replica has its name, its index and its environment, and its exit code is known.

    A text in braces arrives as it is, and /dev/shm has the size of the memory.
    """
    command = (
        'echo "$(hostname) ${replica_id} $BRACES"; df -m /dev/shm | tail -1; exit ${replica_id}'
    )
    app = _app(command.replace("${replica_id}", macros.replica_id), env={"BRACES": "{{ .x }}{{"})

    _launch(scheduler, app_id, app, failure_policy="wait_all")
    ended = scheduler.wait(app_id)

    assert AppState.FAILED is ended.state
    expected = {
        "role0/0": (AppState.SUCCEEDED, 0),
        "role0/1": (AppState.FAILED, 1),
        "role0/2": (AppState.FAILED, 2),
    }
    assert expected == _by_replica(ended)
    for index in range(3):
        name, size = scheduler.log_iter(app_id, "role0", index)
        assert f"{app_id}-role0-{index} {index} {{{{ .x }}}}{{{{\n" == name
        assert "32" == size.split()[1]
    (listed,) = [one for one in scheduler.list() if one.app_id == app_id]
    assert f"docker_swarm://gpu_cluster/{app_id}" == listed.app_handle
    scheduler.delete(app_id)
    assert scheduler.describe(app_id) is None


def test_braces_arrive_as_they_are(scheduler: SwarmScheduler, app_id: str, tmp_path: Path) -> None:
    """A manager expands texts in braces; those of a user are no templates, wherever they are."""
    tmp_path.joinpath("a{{b").mkdir()
    tmp_path.joinpath("a{{b", "file").write_text("found\n")
    app = _app(
        'echo "$BRACES"; echo "{{ .Service.Name }}"; cat "/x{{ y }}/file"; df "/t{{mp" | tail -1',
        env={"BRACES": "{{ .Task.Slot }}"},
        mounts=[BindMount(f"{tmp_path}/a{{{{b", "/x{{ y }}")],
    )

    _launch(scheduler, app_id, app, tmpfs={"/t{{mp": "size=1m"}, labels={"note": "{{ .x }}"})

    assert AppState.SUCCEEDED is scheduler.wait(app_id).state
    lines = list(scheduler.log_iter(app_id, "role0", 0))
    assert ["{{ .Task.Slot }}\n", "{{ .Service.Name }}\n", "found\n"] == lines[:3]
    assert lines[3].endswith(" /t{{mp\n")
    rows = scheduler.engine.rows({labels.APP_ID: app_id})
    assert ["{{ .x }}"] * 3 == [row.labels["note"] for row in rows]


def test_replicas_reach_each_other(scheduler: SwarmScheduler, app_id: str) -> None:
    """Rank 0 is found by its name from the other nodes."""
    serve = "while :; do echo pong | nc -l -p 4000; done"
    ask = f'until [ "$(nc -w 1 {app_id}-role0-0 4000 </dev/null)" = pong ]; do sleep 0.2; done'

    _launch(scheduler, app_id, _app(f"case $(hostname) in *-0) {serve};; *) {ask};; esac"))
    while (app := scheduler.describe(app_id)) is not None:
        states = {key: state for key, (state, _) in _by_replica(app).items()}
        if all(states[f"role0/{index}"] is AppState.SUCCEEDED for index in (1, 2)):
            break

    scheduler.cancel(app_id)
    assert AppState.CANCELLED is scheduler.describe(app_id).state  # type: ignore[union-attr]


def test_cancelled(scheduler: SwarmScheduler, app_id: str, hosts: Hosts) -> None:
    """Each client sees that an app was cancelled, with exit codes; its log goes on to its end."""
    # SIGTERM comes late on a busy machine, and a replica that is killed says nothing.
    _launch(scheduler, app_id, _app(OBEDIENT), stop_grace_s=60)
    logs = [scheduler.log_iter(app_id, "role0", index, should_tail=True) for index in range(3)]
    assert ["ready\n"] * 3 == [next(log) for log in logs]

    scheduler.cancel(app_id)

    assert [["bye\n"]] * 3 == [list(log) for log in logs]
    with SwarmEngine.connect(hosts.endpoint()) as other:
        seen = SwarmScheduler("other", other).describe(app_id)
    assert seen is not None
    assert {(AppState.CANCELLED, 0)} == set(_by_replica(seen).values())


def test_what_other_programs_do(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str, hosts: Hosts
) -> None:
    """A second task of a replica ends with it, and a service that has the app's id is left out."""
    other = {
        "Name": f"{app_id}-other",
        "Labels": {labels.APP_ID: app_id},
        "Mode": {"Global": {}},
        "TaskTemplate": {"ContainerSpec": {"Image": BUSYBOX, "Command": ["sleep", "60"]}},
    }
    with closing(hosts[1].client) as client:
        other_id = request(client, "POST", "/services/create", json=other).json()["ID"]
        _launch(scheduler, app_id, _app(OBEDIENT))
        found = client.inspect_service(swarm_engine.rows({labels.APP_ID: app_id})[0].id)
        twice = {**found["Spec"], "Mode": {"Replicated": {"Replicas": 2}}}
        path, version = f"/services/{found['ID']}/update", found["Version"]["Index"]
        request(client, "POST", path, json=twice, params={"version": version})

        def running() -> list[str]:
            tasks = client.tasks({"service": found["ID"]})
            return [one["ID"] for one in tasks if one["Status"]["State"] == "running"]

        wait_until(lambda: len(running()) == 2)
        scheduler.cancel(app_id)
        wait_until(lambda: not running())
        client.remove_service(other_id)

    assert AppState.CANCELLED is scheduler.describe(app_id).state  # type: ignore[union-attr]


def test_a_second_launch_changes_nothing(scheduler: SwarmScheduler, app_id: str) -> None:
    """Of two launches of an app id, one is refused, and the other goes on."""
    _launch(scheduler, app_id, _app(OBEDIENT))

    with pytest.raises(AppExistsError):
        _launch(scheduler, app_id, _app(OBEDIENT))

    assert 3 == len(scheduler.engine.rows({labels.APP_ID: app_id}))


def test_a_launch_that_fails_leaves_nothing(
    scheduler: SwarmScheduler, swarm_engine: SwarmEngine, app_id: str
) -> None:
    """If one replica cannot be created, none is left."""
    spec = scheduler.submit_dryrun(
        _app("true"), OPTIONS, context=_context(scheduler, app_id)
    ).request.containers[2]
    taken = swarm_engine.create(spec)
    other = swarm_engine.rows({labels.APP_ID: app_id})[0]

    with pytest.raises((AppExistsError, LaunchError)):
        _launch(scheduler, app_id, _app("true"))

    assert [taken] == [row.id for row in swarm_engine.rows({labels.APP_ID: app_id})]
    assert other.id == taken
