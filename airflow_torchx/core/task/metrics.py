"""The names of all metrics and spans of a task, with their tags and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from airflow_torchx.core.state.describe import replicas_of
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory
from airflow_torchx.specs import AppState, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_torchx.specs import DescribeAppResponse

#: What a task does about its app. Each phase is a span and a timer.
Phase = Literal["launch", "build", "push", "pull", "gpu_wait", "create", "start", "wait", "collect"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
#: The tags that every metric has, where they are known.
TAGS: Final = ("dag_id", "task_id", "team_name", "conn_id")

LAUNCHED: Final = "torchx.app.launched"
REATTACHED: Final = "torchx.app.reattached"
RESTARTS: Final = "torchx.app.restarts"
REPLICA_RESTARTS: Final = "torchx.replica.restarts"
OUT_OF_MEMORY: Final = "torchx.replica.out_of_memory"
_FINISHED: Final = "torchx.app.finished"
_BY_RULE: Final = "torchx.failure_rule"
_SPANS: Final = "torchx"

#: Attributes of spans; those of images are OpenTelemetry's semantic conventions.
APP_ID: Final = "torchx.app.id"
ROLES: Final = "torchx.app.roles"
REPLICAS: Final = "torchx.app.replicas"
STATE: Final = "torchx.app.state"
GPUS: Final = "torchx.app.gpus"
ERROR: Final = "error.type"
_IMAGE_ID: Final = "container.image.id"
_IMAGE_NAME: Final = "container.image.name"
_IMAGE_TAGS: Final = "container.image.tags"
_IMAGE_DIGESTS: Final = "container.image.repo_digests"
ATTRIBUTES: Final = frozenset(
    {APP_ID, ROLES, REPLICAS, STATE, GPUS, ERROR}
    | {_IMAGE_ID, _IMAGE_NAME, _IMAGE_TAGS, _IMAGE_DIGESTS}
)

#: The value of an attribute.
Value = str | int | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, as its documentation lists it.

    Args:
        name: its name without the prefix of Airflow's configuration; ``<…>`` is a part that varies.
        kind: ``counter``, or ``timer`` in milliseconds.
        tag: the tag that has the varying part, too; empty without one.
    """

    name: str
    kind: Literal["counter", "timer"]
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """A number to add to a counter; ``tags`` are those besides `TAGS`."""

    name: str
    tags: Mapping[str, str]
    number: int = 1


METRICS: Final = (
    Metric(LAUNCHED, "counter"),
    Metric(REATTACHED, "counter"),
    Metric(f"{_FINISHED}.<STATE>", "counter", "state"),
    Metric(RESTARTS, "counter"),
    Metric(REPLICA_RESTARTS, "counter"),
    Metric(OUT_OF_MEMORY, "counter"),
    Metric(f"{_BY_RULE}.<rule>", "counter", "rule"),
    *(Metric(f"{_SPANS}.{phase}.duration", "timer") for phase in PHASES),
)


def duration_name(phase: Phase) -> str:
    """Return the timer of a phase."""
    return f"{_SPANS}.{phase}.duration"


def span_name(phase: Phase) -> str:
    """Return the name of the span of a phase."""
    return f"{_SPANS}.{phase}"


def rule_count(rule: str) -> Count:
    """Return the count of a failure that a failure rule explains.

    A dot of the rule's name is ``__`` in that of the metric, whose parts are separated by dots.
    """
    return Count(f"{_BY_RULE}.{rule.replace('.', '__')}", {"rule": rule})


def end_counts(app: DescribeAppResponse) -> Iterator[Count]:
    """Yield what the end of an app adds to counters; nothing for an app that has not ended.

    The app is described with ``inspect_all``; otherwise the Engine's restarts are unknown.
    """
    if not is_terminal(app.state):
        return
    yield Count(f"{_FINISHED}.{app.state}", {"state": str(app.state)})
    replicas = replicas_of(app)
    numbers = {
        RESTARTS: max(0, app.num_restarts),
        REPLICA_RESTARTS: sum(replica.num_restarts or 0 for replica in replicas),
        OUT_OF_MEMORY: sum(
            ran_out_of_memory(replica) for replica in replicas if replica.state is AppState.FAILED
        ),
    }
    yield from (Count(name, {}, number) for name, number in numbers.items() if number)


def attributes(image: str = "", gpus: int = 0, state: AppState | None = None) -> dict[str, Value]:
    """Return the attributes of the span of a phase, besides those of its app."""
    found = _image_attributes(image) if image else {}
    if gpus:
        found[GPUS] = gpus
    if state is not None:
        found[STATE] = str(state)
    return found


def _image_attributes(image: str) -> dict[str, Value]:
    if image.startswith("sha256:"):
        return {_IMAGE_ID: image}
    rest, _, digest = image.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    found: dict[str, Value] = {_IMAGE_NAME: name}
    if tag:
        found[_IMAGE_TAGS] = (tag,)
    if digest:
        found[_IMAGE_DIGESTS] = (f"{name}@{digest}",)
    return found
