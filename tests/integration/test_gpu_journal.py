"""What the journal of `gpu_race` shows if something is wrong."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Request, Response
from requests.adapters import BaseAdapter

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from tests.integration.gpu_journal import (
    Entry,
    outdated,
    overlaps,
    overtaken,
    read,
    uncommitted,
    wrong_uses,
)
from tests.integration.gpu_wire import Journal, Wire

if TYPE_CHECKING:
    from pathlib import Path


def entry(who: str, did: str, gpus: str = "", **facts: object) -> Entry:
    """Return a line of a journal."""
    return Entry.parse(json.dumps({"t": 1.0, "who": who, "did": did, "gpus": gpus, **facts}))


def test_an_overlap_is_found() -> None:
    """Two replicas that use one GPU overlap, unless the first one has ended or is killed."""
    first, second = entry("a/r0/0", "use", "GPU-a,GPU-b"), entry("b/r0/0", "use", "GPU-b")
    created = entry("1.1", "after create replica", id="c1", name="a/r0/0", status=201)
    killed = entry("2.1", "before remove replica", id="c1")

    assert ["b/r0/0 uses GPU-b at 1.0, which a/r0/0 uses"] == overlaps([first, second])
    assert [] == overlaps([first, entry("a/r0/0", "end"), second])
    assert [] == overlaps([created, first, killed, second])
    assert [] == overlaps([created, killed, first, second])


def test_a_wrong_number_is_found() -> None:
    """An app that was launched has to use as many GPUs as it needs, unless others kill it."""
    entries = [entry("1.1", "launch", count=2), entry("1.1", "launched", text="a")]
    created = entry("1.1", "after create replica", id="c1", name="a/r0/0", status=201)
    killed = entry("2.1", "before remove replica", id="c1")

    assert ["app a uses 0 GPUs, not 2"] == wrong_uses(entries)
    assert [] == wrong_uses([*entries, entry("a/r0/0", "use", "GPU-a,GPU-b")])
    assert [] == wrong_uses([created, *entries, killed])


def queue_up(who: str) -> list[Entry]:
    """Return the lines of an app that gets a ticket."""
    made = entry(who, "after create ticket", id=f"ticket {who}", status=201)
    return [entry(who, "before create ticket"), made]


def decide(who: str) -> list[Entry]:
    """Return the lines of an app that looks, and of its claim."""
    made = entry(who, "after create claim", status=201)
    return [entry(who, "before list in lock"), entry(who, "before create claim"), made]


def launch(who: str) -> Entry:
    """Return the line of an app that has GPUs."""
    return entry(who, "before create replica")


def test_overtaking_is_found() -> None:
    """An app must not take GPUs while there is a ticket that is older than its own."""
    look, *take = decide("2.1")
    asks = entry("2.1", "before rename ticket", id="ticket 1.1")
    leaves = [asks, entry("2.1", "after rename ticket", id="ticket 1.1", status=204)]
    stays = [asks, entry("2.1", "after rename ticket", id="ticket 1.1", status=404)]
    go = launch("2.1")

    late = ["2.1 takes GPUs at 1.0, but app 1 has an older ticket"]
    assert late == overtaken([*queue_up("1.1"), look, *take, go])
    assert late == overtaken([*queue_up("1.1"), *queue_up("2.1"), look, *take, go])
    assert late == overtaken([*queue_up("1.1"), look, *take, *leaves, go])
    assert late == overtaken([*queue_up("1.1"), *stays, look, *take, go])
    assert [] == overtaken([*queue_up("2.1"), *queue_up("1.1"), look, *take, go])
    assert [] == overtaken([*queue_up("1.1"), *leaves, look, *take, go])
    assert [] == overtaken([*queue_up("1.1"), look, *leaves, *take, go])
    assert [] == overtaken([look, *queue_up("1.1"), *take, go])
    assert [] == overtaken([*queue_up("1.1"), look, *take])


def test_an_outdated_choice_is_found() -> None:
    """An app must not launch after another one has claimed GPUs since it looked."""
    look, *take = decide("1.1")
    other = decide("2.1")

    late = ["1.1 claims GPUs at 1.0 and has not seen that 2.1 has at 1.0"]
    assert late == outdated([look, *other, launch("2.1"), *take, launch("1.1")])
    assert late == outdated([look, *other, *take, launch("1.1"), launch("2.1")])
    assert [] == outdated([look, *other, launch("2.1"), *take])
    assert [] == outdated([look, *other, *take, launch("1.1")])
    ask, made = other[1:]
    stops = [other[0], ask, look, entry("2.1", "continue"), made, launch("2.1")]
    assert late == outdated([*stops, *take, launch("1.1")])
    assert [] == outdated([other[0], ask, look, made, launch("2.1"), *take, launch("1.1")])
    gives_up = entry("1.1", "before rename claim", id="c1")
    assert [] == outdated([look, *other, *take, gives_up, launch("1.1"), launch("2.1")])
    assert [] == outdated([*other, launch("2.1"), look, *take, launch("1.1")])


def test_a_start_without_a_claim_is_found() -> None:
    """A launch must not start replicas if another one has removed its claim."""
    create, start = launch("1.1"), entry("1.1", "before start replica")
    own = entry("1.1", "after rename claim", status=204)
    refused = entry("1.1", "after rename claim", status=404)
    other = entry("2.1", "after rename claim", status=204)

    late = ["1.1 starts a replica at 1.0 and has not removed its claim"]
    assert late == uncommitted([create, start])
    assert late == uncommitted([create, other, start])
    assert late == uncommitted([create, refused, start])
    assert late == uncommitted([create, own, create, start])
    assert [] == uncommitted([create, own, start])
    assert [] == uncommitted([create, other])


class Daemon(BaseAdapter):
    """Carries out every request, on one container."""

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:  # noqa: ANN401
        """Return the response."""
        assert request.url
        response = Response()
        response.status_code = 200
        response.raw = io.BytesIO(b'{"Id": "c1"}')
        return response

    def close(self) -> None:
        """Do nothing."""


def test_a_question_does_not_end_a_ticket(tmp_path: Path) -> None:
    """An app keeps its place when others rename its ticket to ask if it waits, and it answers."""
    wire = Wire(Daemon(), Journal(str(tmp_path), "1.1"), None)

    def post(path: str, **data: Any) -> None:  # noqa: ANN401
        request = Request("POST", f"http://daemon/v1.44/containers/{path}", **data)
        wire.send(request.prepare())

    post("create", data=json.dumps({"Labels": {labels.GPU_MARKER: "ticket"}}))
    for name in ("ticket.asked-1", "ticket"):
        post("c1/rename", params={"name": name})
    waits = read(tmp_path)
    post("c1/rename", params={"name": f"{DISCARDED_PREFIX}c1"})
    leaves = read(tmp_path)
    take = [*decide("2.1"), launch("2.1")]

    assert ["2.1 takes GPUs at 1.0, but app 1 has an older ticket"] == overtaken([*waits, *take])
    assert [] == overtaken([*leaves, *take])
