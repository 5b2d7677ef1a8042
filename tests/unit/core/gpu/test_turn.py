"""Who holds GPUs, and who is next, read from the containers of a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import ContainerDetail, ContainerRow, GpuRequest
from airflow_torchx.core.gpu.demand import GpuDemand, Marker
from airflow_torchx.core.gpu.ids import ALL, GpuIds
from airflow_torchx.core.gpu.ledger import Ledger, needs_inspect, read
from airflow_torchx.core.gpu.turn import Blocked, Claimable, Claimed, decide, own_ticket

REPORTED = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINE = GpuDemand(key="mine", count=2, listed=REPORTED, image="busybox")


def demand(key: str, count: int, *listed: str) -> GpuDemand:
    """Return the demand of another app."""
    return GpuDemand(key=key, count=count, listed=listed or REPORTED, image="busybox")


def row(name: str, state: str, found: dict[str, str], age_s: float = 0) -> ContainerRow:
    """Return a container that was created this long before noon."""
    return ContainerRow(
        id=f"id-{name}",
        name=name,
        image="busybox",
        state=state,
        status="",
        labels=found,
        created_at=NOON - timedelta(seconds=age_s),
    )


def place(one: GpuDemand, kind: Marker, *ids: str, age_s: float = 0) -> ContainerRow:
    """Return a claim or a ticket of an app, which others respect for half a minute."""
    spec = one.spec(kind, ids=ids, timeout_s=30)
    return row(spec.name, "created", dict(spec.labels), age_s)


def replica(state: str, *ids: str, age_s: float = 0, name: str = "app-t-0") -> ContainerRow:
    """Return a replica with GPUs."""
    found = {
        labels.APP_ID: "app",
        labels.ROLE_NAME: "t",
        labels.REPLICA_ID: "0",
        labels.LAUNCH_ID: "l",
        labels.GPUS: ",".join(ids),
    }
    return row(name, state, found, age_s)


def ledger(*rows: ContainerRow, **foreign: GpuRequest) -> Ledger:
    """Return the ledger of these containers, of which ``foreign`` are those of other programs."""
    others = [row(name, "running", {}) for name in foreign]
    details = {f"id-{name}": detail(f"id-{name}", one) for name, one in foreign.items()}
    details |= {one.id: detail(one.id, created_at=one.created_at) for one in rows}
    return read([*rows, *others], GpuIds(REPORTED, is_indexed=True), details)


def detail(
    container_id: str, *requests: GpuRequest, created_at: datetime | None = None
) -> ContainerDetail:
    """Return the result of an inspect."""
    unused: dict[str, Any] = {"exit_code": None, "oom_killed": False, "error": "", "restarts": 0}
    return ContainerDetail(
        id=container_id,
        state="running",
        started_at=None,
        finished_at=None,
        gpus=requests,
        created_at=created_at,
        **unused,
    )


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        ("created", True),
        ("running", True),
        ("restarting", True),
        ("paused", True),
        ("removing", True),
        ("exited", False),
        ("dead", False),
    ],
)
def test_a_replica_holds_its_gpus_while_it_lives(state: str, holds: bool) -> None:
    """A replica that has ended holds nothing, although its container is kept."""
    free = ledger(replica(state, "GPU-b")).free()

    assert (("GPU-a", "GPU-c", "GPU-d") if holds else REPORTED) == free


def test_other_programs() -> None:
    """A request by count holds the first GPUs; one for all holds none, and is named."""
    found = ledger(
        notebook=GpuRequest(count=1),
        tool=GpuRequest(count=1, device_ids=("GPU-c",)),
        browser=GpuRequest(count=-1),
    )

    assert ("GPU-b", "GPU-d") == found.free()
    assert ("browser",) == found.requesting_all


def test_an_image_that_was_committed_from_a_replica_holds_nothing() -> None:
    """Such a container has the replica's labels, but not its name."""
    assert REPORTED == ledger(replica("running", "GPU-a", name="mine")).free()


def test_a_claim_that_is_being_discarded_holds_nothing() -> None:
    """Of several clients, one has already decided about it."""
    claim = place(MINE, "claim", "GPU-a", "GPU-b")
    found = ledger(replace(claim, name=f"airflow-torchx-discarded-{claim.id}"))

    assert REPORTED == found.free()
    assert (claim.id,) == found.discarded


def test_a_newcomer_takes_free_gpus() -> None:
    """No app waits before it."""
    assert Claimable(("GPU-b", "GPU-c")) == decide(ledger(replica("running", "GPU-a")), MINE)


def test_the_oldest_is_served_first() -> None:
    """An app that needs few GPUs does not overtake one that needs many."""
    big, small = demand("big", 4), demand("small", 1)
    rows = [
        replica("running", "GPU-a"),
        place(small, "ticket", age_s=1),
        place(big, "ticket", age_s=2),
    ]

    step = decide(ledger(*rows), small)

    assert isinstance(step, Blocked)
    assert ["airflow-torchx-gpu-ticket-big"] == [one.name for one in step.ahead]
    assert step.served is None
    assert isinstance(decide(ledger(*rows), big), Blocked)
    assert Claimable(REPORTED) == decide(ledger(*rows[1:]), big)


def test_who_could_be_served_is_named() -> None:
    """An app that waits knows which older one has not taken the GPUs that are free for it."""
    old, young = demand("old", 2), demand("young", 1)

    step = decide(ledger(place(young, "ticket", age_s=1), place(old, "ticket", age_s=2)), young)

    assert isinstance(step, Blocked)
    assert step.served is not None
    assert "airflow-torchx-gpu-ticket-old" == step.served.name


def test_apps_with_other_gpus_are_not_ahead() -> None:
    """Two connections may select different GPUs of a daemon."""
    other = demand("other", 2, "GPU-c", "GPU-d")
    mine = demand("mine", 1, "GPU-a")
    rows = [place(other, "ticket", age_s=5), replica("running", "GPU-d")]

    assert Claimable(("GPU-a",)) == decide(ledger(*rows), mine)
    assert isinstance(decide(ledger(*rows), demand("late", 1, "GPU-c")), Blocked)
    # It waits, and could not be served with GPUs that it may not have.
    late = decide(ledger(*rows), demand("late", 1, "GPU-c"))
    assert isinstance(late, Blocked)
    assert late.served is None


def test_an_app_behind_a_younger_and_an_older_one() -> None:
    """A waiting app that another one is before does not count as one that could be served."""
    first = demand("first", 2, "GPU-a", "GPU-b")
    second = demand("second", 1, "GPU-b", "GPU-c")
    rows = [
        replica("running", "GPU-a"),
        place(first, "ticket", age_s=3),
        place(second, "ticket", age_s=2),
    ]

    step = decide(ledger(*rows), demand("third", 1, "GPU-c"))

    assert isinstance(step, Blocked)
    assert ["airflow-torchx-gpu-ticket-second"] == [one.name for one in step.ahead]
    assert step.served is None


def test_an_app_that_ignores_other_programs() -> None:
    """It takes their GPUs, but does not think that an app before it could."""
    polite = demand("polite", 4)
    rude = replace(demand("rude", 1), respects_foreign=False)
    notebook = GpuRequest(count=1)

    all_four = replace(rude, count=4)
    assert isinstance(decide(ledger(notebook=notebook), all_four), Claimable)
    step = decide(ledger(place(polite, "ticket"), notebook=notebook), rude)

    assert isinstance(step, Blocked)
    assert step.served is None
    assert () == step.holders


def test_gpus_that_no_container_uses_are_taken_first() -> None:
    """An app that ignores other programs takes their GPUs after all others."""
    found = ledger(
        place(demand("late", 1), "claim", "GPU-b", age_s=31),
        notebook=GpuRequest(count=1, device_ids=("GPU-a",)),
    )
    rude = replace(MINE, respects_foreign=False)
    expired = found.expired(NOON)

    assert Claimable(("GPU-c", "GPU-d")) == decide(found, rude)
    assert Claimable(("GPU-c", "GPU-d", "GPU-a")) == decide(found, replace(rude, count=3))
    last = Claimable(("GPU-c", "GPU-d", "GPU-b", "GPU-a"))
    assert last == decide(found, replace(rude, count=4), expired)


def test_an_app_of_the_last_release_is_not_of_another_program() -> None:
    """Its replicas have no label for GPUs, but device requests."""
    rude = replace(demand("rude", 1), respects_foreign=False)
    old = row("old-t-0", "running", {labels.APP_ID: "old", labels.LAUNCH_ID: "l"})
    details = {old.id: detail(old.id, GpuRequest(count=1, device_ids=("GPU-a",)))}

    found = read([old], GpuIds(REPORTED, is_indexed=True), details)

    assert Claimable(("GPU-b",)) == decide(found, rude)


def test_clients_that_know_different_ids_of_a_silent_daemon() -> None:
    """One learns ids from the labels of the other, and so sees that a dead one could be served."""
    dead = demand("dead", 4)
    mine = demand("mine", 1, "GPU-b")
    unknown = demand("unknown", 3, ALL)

    for one, known in ((mine, GpuIds(("GPU-b",))), (unknown, GpuIds((ALL,)))):
        found = read([place(dead, "ticket")], known, {})
        step = decide(found, one)
        assert isinstance(step, Blocked)
        assert step.served is not None
    free = read([], GpuIds((ALL,)), {})
    assert Claimable((ALL,)) == decide(free, unknown)
    held = read([replica("running", "GPU-a")], GpuIds((ALL,)), {})
    assert isinstance(decide(held, unknown), Blocked)
    # It waits for all GPUs, of which one is held.
    waits = read([place(unknown, "ticket"), replica("running", "GPU-c")], GpuIds(("GPU-b",)), {})
    step = decide(waits, mine)
    assert isinstance(step, Blocked)
    assert step.served is None


def test_a_retry_takes_over_the_claim() -> None:
    """A claim is found by its name, which all tries of a task since a clear share."""
    step = decide(ledger(place(MINE, "claim", "GPU-c", "GPU-d")), MINE)

    assert isinstance(step, Claimed)
    assert ("GPU-c", "GPU-d") == step.claim.ids


@pytest.mark.parametrize("ids", [("GPU-a",), ("GPU-a", "GPU-b", "GPU-c")])
def test_a_claim_for_another_number_is_not_used(ids: tuple[str, ...]) -> None:
    """The app of the try before may have needed other GPUs."""
    assert not isinstance(decide(ledger(place(MINE, "claim", *ids)), MINE), Claimed)


def test_a_claim_on_gpus_that_are_held_is_not_used() -> None:
    """A client that was killed before it noticed that it had lost the lock left it."""
    found = ledger(place(MINE, "claim", "GPU-a", "GPU-b"), replica("running", "GPU-b"))

    assert not isinstance(decide(found, MINE), Claimed)


def test_what_expires() -> None:
    """A claim expires after its timeout, a replica that never started after a minute."""
    rows = [
        place(demand("late", 1), "claim", "GPU-a", age_s=31),
        place(demand("fresh", 1), "claim", "GPU-b", age_s=29),
        replica("created", "GPU-c", age_s=61),
        replace(replica("running", "GPU-d", age_s=61), id="other"),
    ]

    found = ledger(*rows)

    expired = found.expired(NOON)
    assert {"GPU-a", "GPU-c"} == {one for holder in expired for one in holder.ids}
    assert ("GPU-a", "GPU-c") == found.without(expired).free()


def test_free_gpus_are_taken_before_expired_ones() -> None:
    """An app removes no more of what killed launches left than it needs."""
    rows = [
        place(demand("late", 2), "claim", "GPU-a", "GPU-b", age_s=31),
        replica("running", "GPU-d"),
    ]
    found = ledger(*rows)

    assert Claimable(("GPU-c", "GPU-a")) == decide(found, MINE, found.expired(NOON))
    three = replace(MINE, count=3)
    assert Claimable(("GPU-c", "GPU-a", "GPU-b")) == decide(found, three, found.expired(NOON))


def test_tickets_of_one_second_are_ordered_by_their_inspects() -> None:
    """A row has whole seconds; a ticket that cannot be inspected yet is the last of its second."""
    one, two, three = (place(demand(key, 1), "ticket") for key in ("one", "two", "three"))
    details = {
        one.id: detail(one.id, created_at=NOON + timedelta(microseconds=2)),
        two.id: detail(two.id, created_at=NOON + timedelta(microseconds=1)),
    }

    found = read([three, one, two], GpuIds(REPORTED), details)

    assert [two.id, one.id, three.id] == [ticket.container_id for ticket in found.tickets]


def test_what_is_inspected() -> None:
    """Tickets, and live containers of others.

    The labels of a replica show that it has no GPUs, unless another container has them.
    """
    without = replica("running")
    rows = [
        place(MINE, "ticket"),
        place(MINE, "claim", "GPU-a"),
        replica("running", "GPU-b"),
        without,
        replace(without, id="id-cancelled", name=f"{without.name}.cancelled"),
        replace(without, id="id-copy", name="mine"),
        row("notebook", "running", {}),
        row("created", "created", {}),
        row("ended", "exited", {}),
    ]
    ticket = "id-airflow-torchx-gpu-ticket-mine"

    assert [ticket, "id-copy", "id-notebook"] == list(needs_inspect(rows))


@pytest.mark.parametrize("text", ["soon", "", "-1", "1e99"])
def test_a_claim_with_a_damaged_label_expires_at_once(text: str) -> None:
    """Any client can write a label; one that cannot be read gives no time."""
    claim = place(demand("odd", 1), "claim", "GPU-a")
    damaged = replace(claim, labels={**claim.labels, labels.GPU_TIMEOUT: text})

    assert ["GPU-a"] == [one for holder in ledger(damaged).expired(NOON) for one in holder.ids]


def test_a_ticket_with_a_damaged_label_is_ignored() -> None:
    """It would keep all others waiting."""
    one = place(demand("odd", 1), "ticket")
    damaged = replace(one, labels={**one.labels, labels.GPU_COUNT: "many"})

    assert Claimable(("GPU-a", "GPU-b")) == decide(ledger(damaged), MINE)


def test_labels_with_too_many_digits() -> None:
    """A label that any client can write neither fails a launch nor blocks one for long."""
    among = {labels.GPU_MARKER: "ticket", labels.GPU_AMONG: "GPU-a", labels.GPU_COUNT: "9" * 5000}
    claim = place(demand("other", 1), "claim", "GPU-a")
    year = replace(claim, labels={**claim.labels, labels.GPU_TIMEOUT: "31000000"})
    found = ledger(row("airflow-torchx-gpu-ticket-x", "created", among), year)

    assert () == found.tickets
    assert ["airflow-torchx-gpu-claim-other"] == [
        one.name for one in found.expired(NOON + timedelta(seconds=600))
    ]


@pytest.mark.parametrize(
    "changed", [replace(MINE, listed=("GPU-c", "GPU-d")), replace(MINE, respects_foreign=False)]
)
def test_the_ticket_of_another_demand_is_not_used(changed: GpuDemand) -> None:
    """The ``gpu_ids`` of the connection, or an option of the app, were changed before a retry."""
    found = ledger(place(MINE, "ticket"))

    assert own_ticket(found, MINE) is not None
    assert own_ticket(found, changed) is None
