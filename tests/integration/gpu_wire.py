"""The connection of a launch in `gpu_race`, which writes down each request, and has faults."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from requests.adapters import BaseAdapter

from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import DISCARDED_PREFIX
from tests.integration.gpu_launches import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest, Response

    from tests.integration.gpu_launches import Fault

_WHOLE_NAME: Final = (labels.APP_ID, labels.ROLE_NAME, labels.REPLICA_ID)


class Journal:
    """Appends lines to the journal of a race, about one launch."""

    def __init__(self, folder: str, who: str) -> None:
        self._file = os.open(Path(folder, JOURNAL), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._who = who

    def say(self, did: str, **facts: object) -> None:
        """Append a line at once."""
        # The clock that the replicas read in /proc/uptime.
        now = round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
        line = {"t": now, "who": self._who, "did": did, **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Wire(BaseAdapter):
    """Sends requests, writes down those that matter, and has the process killed or stopped.

    Args:
        inner: sends the requests.
        fault: what happens to the process; None for nothing.
    """

    def __init__(self, inner: BaseAdapter, journal: Journal, fault: Fault | None) -> None:
        super().__init__()
        self._inner = inner
        self._journal = journal
        self._fault = fault
        #: What each container is: one of `labels.GPU_MARKER`, or a replica.
        self._kinds: dict[str, str] = {}
        #: The containers of the last list by their names.
        self._ids: dict[str, str] = {}
        #: The container of the lock while this process is in it.
        self._lock_id = ""

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # noqa: ANN401
        """Send a request and return the response."""
        step, facts = self._step(request)
        if not step:
            return self._inner.send(request, *args, **options)
        self._reach(f"before {step}", facts)
        response = self._inner.send(request, *args, **options)
        facts["status"] = response.status_code
        if response.ok:
            self._learn(step, facts, response)
        self._reach(f"after {step}", facts)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()

    def _step(self, request: PreparedRequest) -> tuple[str, dict[str, Any]]:
        """Return the name of a request and its object; an empty name if the race ignores it."""
        url = urlsplit(str(request.path_url))
        step, facts = "", dict[str, Any]()
        # The first part is the version.
        match [request.method, *url.path.split("/")[2:]]:
            case ["GET", "containers", "json"]:
                of_lock = f"{labels.GPU_MARKER}=lock" in parse_qs(url.query)["filters"][0]
                inside, outside = ("fence", "watch") if of_lock else ("list in lock", "list")
                step = inside if self._lock_id else outside
            case ["GET", "containers", one, "json"] if one == self._lock_id:
                # It leaves, and looks first whether its container is still there.
                self._lock_id = ""
            case ["POST", "containers", "create"]:
                own = json.loads(str(request.body))["Labels"]
                step = f"create {_kind(own)}"
                facts["name"] = "/".join(own.get(part, "") for part in _WHOLE_NAME)
                facts["gpus"] = own.get(labels.GPUS, "")
            case ["POST", "containers", str(given), "rename" | "start" as verb]:
                one = self._ids.get(given, given)  # a ticket is renamed by its name
                step, facts["id"] = _verb(verb, self._kinds[one], url.query), one
            case ["DELETE", "containers", str(one)]:
                step, facts["id"] = f"remove {self._kinds[one]}", one
            case _:
                pass
        return step, facts

    def _learn(self, step: str, facts: dict[str, Any], response: Response) -> None:
        if not step.startswith(("create", "rename", "ask", "remove", "start")):
            rows = response.json()
            self._kinds |= {row["Id"]: _kind(row["Labels"]) for row in rows}
            self._ids = {name.removeprefix("/"): row["Id"] for row in rows for name in row["Names"]}
        elif step.startswith("create"):
            facts["id"] = made = response.json()["Id"]
            self._kinds[made] = step.removeprefix("create ")
            if step == "create lock":
                self._lock_id = made

    def _reach(self, at: str, facts: Mapping[str, Any]) -> None:
        self._journal.say(at, **facts)
        fault = self._fault
        if fault is None or fault.at != at or facts.get("status", 0) >= 400:
            return
        self._fault = replace(fault, skips=fault.skips - 1) if fault.skips else None
        if self._fault is None:
            self._journal.say("stop" if fault.stops_s else "die", text=at)
            # Sent to the process, it could arrive when this thread has gone on.
            how = signal.SIGSTOP if fault.stops_s else signal.SIGKILL
            signal.pthread_kill(threading.get_ident(), how)
            self._journal.say("continue")


def _verb(verb: str, kind: str, query: str) -> str:
    """Return the name of a request; the ticket of an app that is asked or answers stays one."""
    name = parse_qs(query).get("name", [""])[0]
    is_asked = (verb, kind) == ("rename", "ticket") and not name.startswith(DISCARDED_PREFIX)
    return f"{'ask' if is_asked else verb} {kind}"


def _kind(own: Mapping[str, str]) -> str:
    return own.get(labels.GPU_MARKER, "replica")
