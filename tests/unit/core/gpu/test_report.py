"""What people read about the GPUs of a daemon."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.ledger import Holder, Kind, Ledger, Ticket
from airflow_torchx.core.gpu.report import (
    GpuUse,
    holders_key,
    uses,
    uses_without_ids,
    waiting,
    waiting_text,
)
from airflow_torchx.core.gpu.turn import Blocked

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def holder(name: str, *ids: str, age_s: float = 0, kind: Kind = "replica", **found: str) -> Holder:
    """Return a holder with these labels."""
    return Holder(
        container_id=f"id-{name}",
        name=name,
        kind=kind,
        ids=ids,
        since=NOON - timedelta(seconds=age_s),
        labels={getattr(labels, label): value for label, value in found.items()},
    )


def ticket(app_id: str, **found: str) -> Ticket:
    """Return the ticket of an app."""
    return Ticket(
        container_id=f"id-{app_id}",
        name=f"airflow-torchx-gpu-ticket-{app_id}",
        current_name=f"airflow-torchx-gpu-ticket-{app_id}",
        count=2,
        among=("GPU-a",),
        needs_all=False,
        respects_foreign=True,
        since=NOON,
        timeout_s=1,
        labels={
            labels.GPU_APP: app_id,
            **{getattr(labels, label): value for label, value in found.items()},
        },
    )


def test_who_holds_the_gpus_and_who_is_before_it() -> None:
    """One line names each app and each container of others once, and the apps before it."""
    wait = Blocked(
        wanted=2,
        holders=(
            holder("x-1", "GPU-b", age_s=100, APP_ID="x", DAG_ID="nightly"),
            holder("x-0", "GPU-a", age_s=3700, APP_ID="x", DAG_ID="nightly"),
            holder("claim-y", "GPU-c", age_s=3, kind="claim", GPU_APP="y"),
            holder("notebook", "GPU-d", age_s=90_000, kind="foreign"),
        ),
        ahead=tuple(ticket(name) for name in ("p", "q", "r", "s")),
    )

    assert (
        "waiting for 2 GPUs on gpu-1: GPU-d is held by container notebook (1 d); "
        "GPU-a, GPU-b are held by app x (dag nightly, 1 h); GPU-c is claimed by app y (3 s); "
        "4 apps are ahead in the queue: p, q, r, …"
    ) == waiting_text(wait, "gpu-1", NOON)


def test_the_order_of_gpus_in_a_wait() -> None:
    """They have the order in which the daemon lists them; a replica and a claim hold theirs."""
    wait = Blocked(
        wanted=1,
        listed=("GPU-2", "GPU-10", "GPU-1"),
        holders=(
            holder("claim-x", "GPU-1", "GPU-0", age_s=2, kind="claim", GPU_APP="x"),
            holder("x-0", "GPU-10", age_s=1, APP_ID="x"),
            holder("x-1", "GPU-2", age_s=1, APP_ID="x"),
        ),
    )

    assert (
        "waiting for 1 GPU on gpu-1: GPU-2, GPU-10, GPU-1, GPU-0 are held by app x (2 s)"
    ) == waiting_text(wait, "gpu-1", NOON)


def test_a_wait_of_which_nothing_is_known() -> None:
    """The GPUs may have become free since the look."""
    assert "waiting for 1 GPU on gpu-1: none is free" == waiting_text(
        Blocked(wanted=1, holders=()), "gpu-1", NOON
    )
    assert "waiting for 1 GPU on gpu-1: 1 app is ahead in the queue: p" == waiting_text(
        Blocked(wanted=1, holders=(), ahead=(ticket("p"),)), "gpu-1", NOON
    )


def test_what_counts_as_a_change() -> None:
    """Other apps, other GPUs or another place in the queue do; time and a claim's swap do not."""
    one = Blocked(wanted=1, holders=(holder("claim-x", "GPU-a", kind="claim", GPU_APP="x"),))
    same = Blocked(wanted=1, holders=(holder("x-0", "GPU-a", age_s=9, APP_ID="x"),))
    others = [
        Blocked(wanted=1, holders=(holder("y-0", "GPU-a", APP_ID="y"),)),
        Blocked(wanted=1, holders=(holder("x-0", "GPU-b", APP_ID="x"),)),
        Blocked(wanted=1, holders=one.holders, ahead=(ticket("p"),)),
        Blocked(wanted=1, holders=()),
    ]

    assert holders_key(one) == holders_key(same)
    assert holders_key(one) not in [holders_key(other) for other in others]


def test_a_replica_and_the_claim_of_its_app() -> None:
    """The GPU has one entry, for the replica, also if the claim comes first."""
    ledger = Ledger(
        ids=("GPU-a",),
        holders=(
            holder("claim-x", "GPU-a", kind="claim", GPU_APP="x"),
            holder("x-0", "GPU-a", APP_ID="x"),
            holder("x-1", "GPU-a", APP_ID="x"),
        ),
    )

    assert [("held", "x-0")] == [(one.state, one.container) for one in uses(ledger, ledger.ids, {})]


def test_the_use_of_each_gpu() -> None:
    """Each GPU has an entry, one that is shared has several, and a task is named."""
    task: dict[str, Any] = {"DAG_ID": "d", "RUN_ID": "r", "TASK_ID": "t", "MAP_INDEX": "3"}
    ledger = Ledger(
        ids=("GPU-a", "GPU-b", "GPU-c"),
        holders=(
            holder("x-0", "GPU-a", APP_ID="x", **task),
            holder("notebook", "GPU-a", kind="foreign"),
            holder("claim-y", "GPU-c", kind="claim", GPU_APP="y", MAP_INDEX="-1"),
        ),
        tickets=(ticket("p", DAG_ID="d", MAP_INDEX="0"),),
    )
    odd = holder("odd", "GPU-a", MAP_INDEX="9" * 5000)
    damaged = Ledger(ids=("GPU-a",), holders=(odd,))

    assert [
        GpuUse(
            id="GPU-a",
            model="T4",
            state="held",
            app_id="x",
            container="x-0",
            dag_id="d",
            run_id="r",
            task_id="t",
            map_index=3,
            since=NOON,
        ),
        GpuUse(id="GPU-a", model="T4", state="held", container="notebook", since=NOON),
        GpuUse(id="GPU-b"),
        GpuUse(id="GPU-c", state="claimed", app_id="y", container="claim-y", since=NOON),
    ] == uses(ledger, ledger.ids, {"GPU-a": "T4"})
    assert [None] == [one.map_index for one in uses(damaged, ["GPU-a"], {})]
    (app,) = waiting(ledger)
    assert ("p", 2, "d", 0, NOON) == (app.app_id, app.gpus, app.dag_id, app.map_index, app.since)


def test_labels_are_printed_in_one_line() -> None:
    """Any client can write a label: it cannot forge a line of a log, or control a terminal."""
    odd = "a\x1b[2J\nb"
    held = holder("x", "GPU-a", GPU_APP=odd, DAG_ID=odd, RUN_ID=odd, TASK_ID=odd, GPUS=odd)
    queued = ticket(odd, DAG_ID=odd)
    ledger = Ledger(ids=("GPU-a",), holders=(held,), tickets=(queued,))
    wait = Blocked(wanted=1, listed=ledger.ids, holders=(held,), ahead=(queued,))

    assert waiting_text(wait, "gpu-1", NOON).isprintable()
    shown = [*map(asdict, uses_without_ids(ledger)), *map(asdict, waiting(ledger))]
    for one in shown:
        assert "".join(value for value in one.values() if isinstance(value, str)).isprintable()
    assert ["a?[2J?b"] * 2 == [one["app_id"] for one in shown]
