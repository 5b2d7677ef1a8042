"""What a client does next to start an app on a swarm as a whole; pure.

Any client can carry it out, also after another one was killed at any point: it is decided by the
services and tasks alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.core.engine.labels import (
    APP_ID,
    REPLICA_ID,
    ROLE_NAME,
    ROLES,
    ROUND,
    ROUND_ROLES,
    SWARM_MARK,
    SWARM_TAKEN_BACK,
    SWARM_WAITS,
    json_of,
    number,
)
from airflow_torchx.core.engine.times import parse_time
from airflow_torchx.core.swarm.capacity import demand
from airflow_torchx.core.swarm.packing import Rules, fit, shortage
from airflow_torchx.core.swarm.service_spec import is_started
from airflow_torchx.core.swarm.tasks import Replica, replicas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_torchx.core.swarm.capacity import Room

    Json = Mapping[str, Any]

#: How long a part of an app runs while the rest waits; the swarm may find room meanwhile.
PART_S: Final = 60.0
#: Between a part that was taken back and the next attempt: the first pause, and the longest.
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is to be done: all replicas have nodes, or the app is being stopped or created."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The app waits, and ``why``."""

    why: str


@dataclass(frozen=True, slots=True)
class Start:
    """All replicas that have not been started fit.

    Args:
        nodes: the node of each service, by its id; empty if the swarm chooses.
        order: the ids of the services, those that ask for most first.
    """

    nodes: Mapping[str, str] = field(default_factory=dict)
    order: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class TakeBack:
    """A part of the app runs and the rest has no room, and ``why``: all of it is to wait."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The app has waited for longer than its user allows, and ``why``: it fails."""

    why: str


Step = Leave | Wait | Start | TakeBack | GiveUp


@dataclass(frozen=True, kw_only=True)
class Gang:
    """The services that start together: those of an app's launch, or of its newest round.

    Args:
        services: as the API has them.
        tasks: of these services.
        free: what is free on each node of the swarm.
        now: the time of the manager.
    """

    services: Sequence[Json]
    tasks: Sequence[Json]
    free: Sequence[Room]
    now: datetime

    @property
    def app_id(self) -> str:
        """The id of the app."""
        return str(_labels(self.services[0]).get(APP_ID, "")) if self.services else ""

    @property
    def unstarted(self) -> list[Json]:
        """Those that have not been started."""
        return [one for one in self.services if not is_started(one["Spec"])]

    @property
    def said(self) -> str:
        """Why it waits, as a client has recorded; empty if none has."""
        return next(filter(None, (_labels(s).get(SWARM_WAITS, "") for s in self.services)), "")

    @property
    def rules(self) -> Rules:
        """How its replicas are placed."""
        return Rules.of(_labels(self.services[0]))

    @property
    def taken_back(self) -> tuple[int, datetime]:
        """How often a part of it has been taken back, and when last."""
        return max(map(_taken_back, self.services))

    @property
    def replicas(self) -> list[Replica]:
        """Its replicas."""
        return replicas(self.tasks, self.services)

    def reason(self, found: str) -> str:
        """Return why it waits, with the swarm's own reason, what is asked and what is free."""
        wanted = list(map(demand, self.services))
        return f"{found}; {shortage(self.free, wanted, self.rules)}"


def newest(services: Sequence[Json]) -> list[Json]:
    """Return the services of the newest round of an app, by role and index; those of the launch."""
    last = max(map(_round, services), default=0)
    return sorted((one for one in services if _round(one) == last), key=_key)


def next_step(gang: Gang) -> Step:
    """Return what a client does next."""
    if not gang.services or _is_incomplete(gang.services):
        return Leave()
    if any(SWARM_MARK in _labels(one) for one in gang.services):
        return Leave()
    if not gang.unstarted:
        return _after_start(gang)
    if any(one.get("DesiredState") == "remove" for one in gang.tasks):
        # Their names would lead to the old ones.
        return Wait("its replicas of the attempt before still end")
    return _before_start(gang)


def taken_back(gang: Gang) -> str:
    """Return the label of services whose replicas are taken back now."""
    return f"{gang.taken_back[0] + 1} {gang.now.isoformat()}"


def pause_s(times: int) -> float:
    """Return the seconds until the next attempt, after so many were taken back."""
    return min(_FIRST_PAUSE_S * 2.0 ** min(times - 1, 10), _LONGEST_PAUSE_S)


def _before_start(gang: Gang) -> Step:
    times, last = gang.taken_back
    is_pause = bool(times) and gang.now < last + timedelta(seconds=pause_s(times))
    counts = Counter(one.node_id for one in gang.replicas if one.node_id)
    unstarted = gang.unstarted
    wanted = list(map(demand, unstarted))
    found = fit(gang.free, wanted, gang.rules, counts)
    if not (is_pause or found.why_not):
        # The swarm, which takes each replica for itself, may have chosen other nodes before.
        has_pins = gang.rules.need_pins or times > 0
        pairs = list(zip(unstarted, found.nodes, wanted, strict=True))
        pairs.sort(key=lambda pair: pair[2].amounts.size, reverse=True)
        nodes = {one["ID"]: node for one, node, _ in pairs} if has_pins else {}
        return Start(nodes, tuple(one["ID"] for one, _, _ in pairs))
    if why := _too_long(gang, found.why_not or gang.said):
        return GiveUp(why)
    if counts and found.why_not:
        return TakeBack(found.why_not)
    return Wait(gang.said if is_pause and gang.said else found.why_not)


def _after_start(gang: Gang) -> Step:
    waiting = [one for one in gang.replicas if one.waits_because]
    if not waiting:
        return Leave()
    why = gang.reason(waiting[0].waits_because)
    if late := _too_long(gang, why):
        return GiveUp(late)
    since = [one.changed_at for one in waiting if one.changed_at is not None]
    is_old = bool(since) and (gang.now - min(since)).total_seconds() > PART_S
    has_part = any(one.node_id for one in gang.replicas)
    return TakeBack(why) if is_old or not has_part else Wait(why)


def _too_long(gang: Gang, why: str) -> str:
    """Return why an app that waits fails now; empty if it may go on waiting."""
    limit_s = gang.rules.timeout_s
    since = min(parse_time(one.get("CreatedAt")) or gang.now for one in gang.services)
    if limit_s is None or (gang.now - since).total_seconds() < limit_s:
        return ""
    return f"no room within {limit_s:g} s (pending_timeout_s, gpu_wait_timeout_s): {why}"


def _is_incomplete(services: Sequence[Json]) -> bool:
    """Return whether a client still creates services of a launch or a round."""
    given = json_of(_labels(services[0]), ROLES)
    counts = given.items() if isinstance(given, dict) else ()
    # Any client can write labels.
    sizes = {role: count for role, count in counts if isinstance(count, int)}
    made = Counter(_key(one)[0] for one in services)
    named = json_of(_labels(services[0]), ROUND_ROLES)
    roles = named if isinstance(named, list) else list(sizes)
    return any(made[str(role)] < sizes.get(str(role), 0) for role in roles)


def _labels(service: Json) -> Mapping[str, str]:
    return service["Spec"].get("Labels") or {}


def _round(service: Json) -> int:
    return number(_labels(service).get(ROUND, "")) or 0


def _key(service: Json) -> tuple[str, int]:
    found = _labels(service)
    return found.get(ROLE_NAME, ""), number(found.get(REPLICA_ID, "")) or 0


def _taken_back(service: Json) -> tuple[int, datetime]:
    times, _, at = _labels(service).get(SWARM_TAKEN_BACK, "").partition(" ")
    return number(times) or 0, parse_time(at) or datetime.fromtimestamp(0, UTC)
