"""Who lived when: the starts and ends of the containers of DAG runs, as the daemon tells them."""

from __future__ import annotations

import os
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

from airflow_torchx.core.connection.endpoint import Endpoint
from airflow_torchx.core.engine import labels
from airflow_torchx.docker_engine.connection import open_client, resolve


@dataclass
class Life:
    """One container from its start to its end.

    Args:
        app_id: its app.
        replica: its replica.
        round: its round.
        began: when it started, in the daemon's nanoseconds.
        ended: when it ended; None while it runs.
    """

    app_id: str
    replica: int
    round: int
    began: int
    ended: int | None = None


class Witness:
    """Sees every start and end, a kill included, while it is open."""

    def __init__(self) -> None:
        # Waits for the next event as long as it takes.
        self._client: Any = open_client(resolve(Endpoint(request_timeout_s=3600), os.environ))
        self._lives: dict[str, dict[str, Life]] = defaultdict(dict)
        self._rounds: dict[str, Counter[str]] = defaultdict(Counter)

    def __enter__(self) -> Self:
        self._stream = self._client.events(
            decode=True,
            filters={
                "type": "container",
                "event": ["create", "start", "die"],
                "label": [labels.RUN_ID],
            },
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._thread.join()
        self._client.close()

    def lives(self, run_id: str) -> list[Life]:
        """Return the containers of a DAG run that were ever started, in that order."""
        return list(self._lives[run_id].values())

    def rounds(self, run_id: str) -> dict[str, int]:
        """Return app id to the number of the newest round of which a container was created."""
        return dict(self._rounds[run_id])

    def alive(self, run_id: str) -> list[Life]:
        """Return the containers of a DAG run that run."""
        return [life for life in self.lives(run_id) if life.ended is None]

    def _watch(self) -> None:
        for event in self._stream:
            self._note(event["Action"], event["Actor"]["Attributes"], event)

    def _note(self, action: str, told: dict[str, str], event: dict[str, Any]) -> None:
        of_run = self._lives[told[labels.RUN_ID]]
        app_id, number = told[labels.APP_ID], int(told.get(labels.ROUND, 0))
        if action == "create":
            rounds = self._rounds[told[labels.RUN_ID]]
            rounds[app_id] = max(number, rounds[app_id])
        elif action == "start":
            replica = int(told[labels.REPLICA_ID])
            of_run[event["Actor"]["ID"]] = Life(app_id, replica, number, event["timeNano"])
        elif event["Actor"]["ID"] in of_run:  # else it started before all this
            of_run[event["Actor"]["ID"]].ended = event["timeNano"]


def generations(lives: list[Life]) -> list[tuple[str, list[Life]]]:
    """Return the rounds of the apps of these containers, in the order of their first start."""
    by_round: dict[str, list[Life]] = defaultdict(list)
    for life in lives:
        by_round[f"{life.app_id} r{life.round}"].append(life)
    return list(by_round.items())


def twins(lives: list[Life]) -> list[tuple[str, str]]:
    """Return the pairs of rounds of which the later started before the earlier had ended."""
    rounds = generations(lives)
    return [
        (before, after)
        for (before, old), (after, new) in combinations(rounds, 2)
        if any(one.ended is None or one.ended > min(n.began for n in new) for one in old)
    ]
