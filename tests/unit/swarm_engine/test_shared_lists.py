"""Apps that wait for room in one process share the lists of the manager."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.errors import EngineUnreachableError
from airflow_torchx.swarm_engine.placing import BUSY, Placing
from airflow_torchx.swarm_engine.services import Services
from airflow_torchx.swarm_engine.shared_lists import KEEP_S
from airflow_torchx.testing import FakeNode
from tests.unit.core.swarm.swarm_json import node
from tests.unit.swarm_engine.model import ModelServices
from tests.unit.test_fake_swarm import gang, launch, made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_torchx.schedulers.swarm_scheduler import SwarmScheduler
    from airflow_torchx.testing import FakeSwarm

#: What is listed for all apps that wait.
ONCE: Final = {"GET /services": 1, "GET /tasks": 1, "GET /nodes": 1, "GET /info": 1}
WAITING: Final = 100


class Client(Placing):
    """A client of the manager of a fake swarm, which has no part in what others change.

    Args:
        swarm: the fake swarm.
    """

    def __init__(self, swarm: FakeSwarm) -> None:
        self._manager = swarm._manager  # noqa: SLF001 - as its engine has it
        self.services = Services(self._manager, swarm.clock, swarm.sleep)
        super().__init__(self.services)

    @property
    def requests(self) -> Counter[str]:
        """How many requests the manager has had of each kind."""
        return Counter(self._manager.requests)


def create(engine: FakeSwarm, scheduler: SwarmScheduler, app_id: str, replicas: int) -> list[str]:
    """Create an app that is not placed, and return the ids of its services."""
    info = scheduler.submit_dryrun(gang(replicas), {}, context=scheduler.new_context(app_id))
    return [engine.create(one) for one in info.request.containers]


def started(engine: FakeSwarm, app_id: str) -> int:
    """Return how many replicas of an app are on a node."""
    rows = engine.rows({labels.APP_ID: app_id})
    return sum(bool(row.node) for row in rows)


def first(engine: FakeSwarm) -> str:
    """Return the replica that has the room."""
    (row,) = engine.rows({labels.APP_ID: "first"})
    return row.id


def _full(cpus: float = 1) -> tuple[FakeSwarm, SwarmScheduler, Client]:
    """Return a swarm of a node that ``first`` has in full, and of one that is lost."""
    engine, scheduler = made([FakeNode("box1", cpus=cpus), FakeNode("box2", cpus=4)])
    engine.lose("box2")
    launch(scheduler, "first", gang(1, cpu=cpus))
    return engine, scheduler, Client(engine)


def test_a_hundred_apps_take_one_list_of_each_kind() -> None:
    """Each of them is tried within a second, and none makes a request of its own."""
    engine, scheduler, client = _full()
    info = scheduler.submit_dryrun(gang(1), {}, context=scheduler.new_context("app"))
    (spec,) = info.request.containers
    names = [f"app-{number}" for number in range(WAITING)]
    for name in names:
        engine.create(replace(spec, name=name, labels={**spec.labels, labels.APP_ID: name}))
    whys = {client.place(name) for name in names}
    engine.sleep(KEEP_S)
    before = client.requests

    for name in names:
        whys.add(client.place(name))
        engine.sleep(KEEP_S / (WAITING + 1))

    assert ONCE == client.requests - before
    asked = "asked are 1 replica with 1 CPU, 64.0 MiB; 0 of 1 would fit"
    assert {f"{asked}. Free are box1: 0 CPUs, 262,080.0 MiB"} == whys


def test_the_lists_are_read_again_after_a_second() -> None:
    """So an app starts once the replicas of another one have ended."""
    engine, scheduler, client = _full()
    create(engine, scheduler, "app", 1)
    assert client.place("app")
    engine.end(first(engine))

    assert client.place("app")
    assert 0 == started(engine, "app")
    engine.sleep(KEEP_S)
    assert "" == client.place("app")

    assert 1 == started(engine, "app")


@pytest.mark.parametrize("verb", ["stop", "rename", "remove", "discard", "start", "create"])
def test_the_lists_are_read_again_after_a_change_of_this_client(verb: str) -> None:
    """What it starts, stops, removes or creates, it finds in the next list, at once."""
    engine, scheduler, client = _full(cpus=2)
    create(engine, scheduler, "app", 1)
    (other,) = create(engine, scheduler, "other", 1)
    running = first(engine)
    assert client.place("app")
    before = client.requests
    changes: dict[str, Callable[[], object]] = {
        "stop": partial(client.services.stop, running),
        "rename": partial(client.services.rename, running, "first.cancelled"),
        "remove": partial(client.services.remove, running),
        "discard": partial(client.services.discard, other),
        "start": partial(client.services.start, other),
        "create": partial(client.services.create, _body(client, other), "more", {}),
    }

    changes[verb]()
    client.place("app")

    assert 1 <= (client.requests - before)["GET /info"]
    is_end = verb in ("stop", "rename", "remove")
    assert int(is_end) == started(engine, "app")


def _body(client: Client, service_id: str) -> dict[str, Any]:
    spec = client.services.find(service_id)["Spec"]
    return {**spec, "Name": "more"}


def test_why_an_app_waits_changes_nothing_that_runs() -> None:
    """It is written for each app, and the lists stay."""
    engine, scheduler, client = _full()
    for name in ("a", "b", "c"):
        create(engine, scheduler, name, 1)
    client.place("a")
    client.place("b")
    before = client.requests

    client.place("c")

    written = {"GET /services/id": 1, "POST /services/id": 1}
    assert written == client.requests - before


@pytest.mark.parametrize("taken", [1, 2])
def test_old_lists_start_no_part_of_an_app(taken: int) -> None:
    """Another client has taken the room, or a part of it, since; the app waits as a whole."""
    engine, scheduler, client = _full(cpus=2)
    for name, replicas in (("large", 3), ("larger", 4), ("app", 2), ("other", taken)):
        create(engine, scheduler, name, replicas)
    engine.end(first(engine))
    for name in ("large", "larger"):
        assert client.place(name).endswith("Free are box1: 2 CPUs, 262,144.0 MiB")
    assert "" == Client(engine).place("other")

    why = client.place("app")

    assert f"{2 - taken} of 2 would fit" in why
    assert (taken, 0) == (started(engine, "other"), started(engine, "app"))


def test_old_lists_start_no_app_twice() -> None:
    """Another client has started it since; its replicas run on."""
    engine, scheduler, client = _full(cpus=2)
    for name, replicas in (("large", 3), ("larger", 4), ("app", 2)):
        create(engine, scheduler, name, replicas)
    engine.end(first(engine))
    for name in ("large", "larger"):
        assert client.place(name)
    assert "" == Client(engine).place("app")
    before = client.requests

    assert "" == client.place("app")

    assert 2 == started(engine, "app")
    assert 0 == (client.requests - before)["POST /services/id"]


class Listed(ModelServices):
    """A model that keeps what was listed, and may refuse to list."""

    def __init__(self) -> None:
        super().__init__([node("a", gpus=1)])
        self.listed: list[str] = []
        self.is_down = False

    def of_apps(self, app_id: str) -> list[dict[str, Any]]:
        """Return the services of an app, or of all."""
        self.listed.append(app_id)
        if self.is_down:
            raise EngineUnreachableError("no manager answers.", fix="Wait.")
        return super().of_apps(app_id)


def test_an_app_that_waits_alone_lists_its_services_alone() -> None:
    """A process that waits for one app needs no service of another one."""
    model = Listed()
    for name in "abc":
        model.add(name, 2)
    placing = Placing(model)

    for name in ("a", "a", "b", "c", "a"):
        placing.place(name)

    assert ["a", ""] == model.listed
    model.later(KEEP_S)
    placing.place("a")
    assert ["a", "", ""] == model.listed


def test_an_error_is_shared_too() -> None:
    """While a manager does not answer, it has one request a second of all apps that wait."""
    model = Listed()
    for name in "abc":
        model.add(name, 2)
    placing = Placing(model)
    model.is_down = True

    for name in "abc":
        with pytest.raises(EngineUnreachableError, match=r"no manager answers\.\nWait\."):
            placing.place(name)

    assert ["a"] == model.listed
    model.is_down = False
    model.later(KEEP_S)
    assert placing.place("b")


def test_threads_share_the_lists() -> None:
    """Those that ask at the same time wait for one answer."""
    model = Listed()
    names = [f"app-{number}" for number in range(WAITING)]
    for name in names:
        model.add(name, 2)
    placing = Placing(model)
    for name in names:
        placing.place(name)
    model.later(KEEP_S)
    model.listed.clear()

    whys = map_concurrently(placing.place, names)

    assert [""] == model.listed
    assert WAITING == sum("1 of 2 would fit" in why for why in whys)


class Meanwhile(ModelServices):
    """A model on which a client places an app while another app is started."""

    def __init__(self) -> None:
        super().__init__([node("a", gpus=2)])
        self.placing = Placing(self)
        self.found: list[str] = []
        self.locks = 0

    def start(self, ref: str, node_id: str = "") -> None:
        """Start a service, after the other app was tried."""
        self.found.append(self.placing.place("b"))
        super().start(ref, node_id)

    def create(self, body: dict[str, Any], name: str, headers: Mapping[str, str]) -> str:
        """Create a service."""
        self.locks += labels.SWARM_LOCK in body["Labels"]
        return super().create(body, name, headers)


def test_one_app_of_a_process_at_a_time_asks_for_the_lock() -> None:
    """Another one that fits meanwhile waits for its turn, without a request for the lock."""
    model = Meanwhile()
    model.add("a", 1)
    model.add("b", 1)

    assert "" == model.placing.place("a")

    assert ([BUSY], 1) == (model.found, model.locks)
    assert (1, 0) == (model.running("a"), model.running("b"))
