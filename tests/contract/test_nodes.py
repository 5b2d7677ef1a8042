"""The nodes of a swarm: what fits is placed, the rest waits; nodes are drained, lost and back.

A replica of these tests has more than half of the CPUs of a node, so three of them are on three
nodes. Engine 20.10 ends tasks with GPUs when anything of their node changes (moby#44378).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import GpuRequest, LogQuery
from airflow_torchx.core.plan.identity import is_failed_name
from airflow_torchx.runtime.placing import Places
from airflow_torchx.testing import FakeSwarm
from tests.contract.bench import unframed
from tests.contract.script import Script
from tests.swarm.hosts import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.bench import Bench
    from tests.swarm.hosts import Host, Hosts

pytestmark = pytest.mark.timeout(180)

FOREVER = Script(lines=("ready",), then_s=None)
LOST = "node box3 is lost; the replica may still run there until it returns"


@dataclass(frozen=True, kw_only=True)
class Show(Script):
    """A script that writes the ids of its GPUs, and runs until it is stopped."""

    def command(self) -> str:
        """Return it as a shell command."""
        return f"echo $DOCKER_RESOURCE_GPU\n{super().command()}"


class Nodes(Protocol):
    """What happens to nodes."""

    def lose(self, node: str) -> None:
        """Let a node not answer any more."""

    def drain(self, node: str) -> None:
        """Stop what runs on a node, which takes no more replicas."""

    def bring_back(self, node: str) -> None:
        """Let a node take replicas again."""


class RealNodes:
    """The nodes of a real swarm."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._away: set[str] = set()

    def lose(self, node: str) -> None:
        """Pull the cable of a node."""
        self._away.add(node)
        self._host(node).cut()

    def drain(self, node: str) -> None:
        """Set its availability."""
        self._away.add(node)
        self._hosts.make(node, "drain")

    def bring_back(self, node: str) -> None:
        """Plug its cable in, and set its availability."""
        self._host(node).heal()
        wait_until(lambda: self._hosts.ready() == len(self._hosts.all))
        self._hosts.make(node, "active")
        self._away.discard(node)

    def bring_all_back(self) -> None:
        """Bring back those that are away."""
        for node in [*self._away]:
            self.bring_back(node)

    def _host(self, node: str) -> Host:
        return next(one for one in self._hosts.all if one.name == node)


@pytest.fixture
def nodes(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Nodes]:
    """Return the nodes of the swarm, all of which are back at the end."""
    if isinstance(bench.engine, FakeSwarm):
        yield bench.engine
        return
    found = RealNodes(request.getfixturevalue("hosts"))
    yield found
    found.bring_all_back()


class Gang:
    """Some replicas that are placed together."""

    def __init__(self, bench: Bench, app_id: str, ids: list[str]) -> None:
        self.app_id = app_id
        self.ids = ids
        self._bench = bench

    def place(self) -> str:
        """Start all of them, and return why they wait."""
        assert isinstance(self._bench.engine, Places)
        return self._bench.engine.place(self.app_id)

    def states(self) -> list[str]:
        """Return their states."""
        rows = {row.id: row for row in self._bench.engine.rows({labels.APP_ID: self.app_id})}
        return [rows[one].state for one in self.ids if one in rows]

    def run(self) -> None:
        """Place them, and wait until all of them run."""
        assert not self.place()
        wait_until(lambda: self.states() == ["running"] * len(self.ids))

    def gpus(self) -> list[str]:
        """Return the ids of the GPUs of each, as its program sees them."""
        if isinstance(self._bench.engine, FakeSwarm):
            return [",".join(self._bench.engine.gpus_of(one)) for one in self.ids]
        return [_first_line(self._bench, one) for one in self.ids]


def _first_line(bench: Bench, container_id: str) -> str:
    stream = bench.engine.logs(container_id, LogQuery(follow=True))
    ((_, line), *_) = unframed([next(iter(stream))])
    stream.close()
    return line.decode().strip()


def gang(bench: Bench, count: int, gpus: int = 0, script: Script = FOREVER, app: str = "") -> Gang:
    """Create an app; its replicas ask for so many GPUs, else for most CPUs of a node."""
    cpus = 0 if gpus else int(bench.engine.info().cpus * 0.6 * 10**9)
    app_id, ids = f"{bench.app_id}{app}", []
    for _ in range(count):
        spec = bench.spec(script)
        own = {**spec.labels, labels.APP_ID: app_id, labels.ROLES: f'{{"": {count}}}'}
        ids.append(
            bench.create(
                replace(
                    spec,
                    labels=own,
                    gpus=GpuRequest(count=gpus) if gpus else None,
                    nano_cpus=cpus or None,
                )
            )
        )
    return Gang(bench, app_id, ids)


def test_all_are_placed_or_none(bench: Bench) -> None:
    """An app that fits runs on the nodes; one that does not starts nothing, and says why."""
    first, second = gang(bench, 3, gpus=2), gang(bench, 2, gpus=1, app="-b")
    first.run()

    why = second.place()

    begin = "asked are 2 replicas with 0 CPUs, 0.0 MiB, 1 gpu each; 0 of 2 would fit. Free are "
    rooms = "; ".join(rf"box{number}: [\d.]+ CPUs, [\d,.]+ [GM]iB, 0 gpu" for number in (1, 2, 3))
    assert re.fullmatch(re.escape(begin) + rooms, why)
    assert ["pending"] * 2 == second.states()


def test_room_is_free_again(bench: Bench) -> None:
    """An app that waits is started once another one has ended."""
    first, second = gang(bench, 3), gang(bench, 1, app="-b")
    first.run()
    assert second.place()

    bench.engine.stop(first.ids[1], 1)

    second.run()
    assert ["running", "exited", "running"] == first.states()


def test_place_twice(bench: Bench) -> None:
    """An app that runs is not started again."""
    app = gang(bench, 2)
    app.run()
    before = [bench.detail(one).started_at for one in app.ids]

    assert not app.place()

    assert before == [bench.detail(one).started_at for one in app.ids]


def test_what_waits_can_be_stopped_and_removed(bench: Bench) -> None:
    """A replica that waits is stopped, renamed and removed as one that was created."""
    first, second = gang(bench, 3), gang(bench, 2, app="-b")
    first.run()
    assert second.place()

    bench.engine.stop(second.ids[0], 1)
    bench.engine.rename(second.ids[0], f"{bench.app_id}.cancelled")
    bench.engine.remove(second.ids[1])

    (row,) = bench.engine.rows({labels.APP_ID: second.app_id})
    assert (second.ids[0], f"{bench.app_id}.cancelled", "created") == (row.id, row.name, row.state)
    assert not second.place()  # it is being cancelled
    assert ["created"] == second.states()


def test_a_gpu_is_in_one_replica(bench: Bench) -> None:
    """Replicas of all apps have different GPUs."""
    show = Show(then_s=None)
    first, second = gang(bench, 2, gpus=1, script=show), gang(bench, 4, 1, show, app="-b")
    first.run()
    second.run()

    expected = {f"GPU-{number}{letter}" for number in (1, 2, 3) for letter in "ab"}
    assert expected == {*first.gpus(), *second.gpus()}


def test_a_drained_node(bench: Bench, nodes: Nodes) -> None:
    """A replica that a drain has stopped is dead, whatever it ended with; the others run on."""
    app = gang(bench, 3)
    app.run()

    nodes.drain("box3")
    wait_until(lambda: app.states().count("dead") == 1)

    dead = app.ids[app.states().index("dead")]
    assert "node box3 " in bench.detail(dead).error
    assert 2 == app.states().count("running")
    assert "box3" not in gang(bench, 3, app="-b").place()


def test_a_node_is_lost_and_returns(bench: Bench, nodes: Nodes) -> None:
    """A replica of a lost node is dead with the node's name, has no twin, and stays dead."""
    app = gang(bench, 3)
    app.run()

    nodes.lose("box3")
    wait_until(lambda: app.states().count("dead") == 1)
    dead = app.ids[app.states().index("dead")]
    assert LOST == bench.detail(dead).error
    # A list of rows has recorded that.
    assert not app.place()
    states = app.states()
    nodes.bring_back("box3")

    # The node ends what it still runs.
    wait_until(lambda: "has returned" in bench.detail(dead).error)
    assert states == app.states()
    (row,) = (one for one in bench.engine.rows({labels.APP_ID: app.app_id}) if one.id == dead)
    assert is_failed_name(row.name)
    assert bench.detail(dead).exit_code is None
