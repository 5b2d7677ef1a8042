"""What `gpu_race` launches, and which of its processes are killed or stop, and where."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.plan.identity import TaskAttempt
from airflow_torchx.specs import AppDef, BindMount, Resource, Role, macros
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The file that processes and replicas append to, in the folder of a race.
JOURNAL: Final = "journal"
#: How long others respect a lock, a ticket, a claim and a replica that has not started.
TIMEOUT_S: Final = (3.0, 1.0, 30.0, 60.0)
#: The roles of an app: how many replicas each has, and how many GPUs each of these needs.
SHAPES: Final = (
    ((1, 1),),
    ((1, 1),),
    ((1, 1),),
    ((1, 2),),
    ((1, 2),),
    ((2, 1),),
    ((1, 3),),
    ((1, 1), (1, 2)),
    ((2, 2),),
)
#: The requests of a launch that others depend on, about in their order.
STEPS: Final = (
    "list",
    "create ticket",
    "create lock",
    "list in lock",
    "create claim",
    "fence",
    "rename lock",
    "remove lock",
    "rename ticket",
    "remove ticket",
    "create replica",
    "rename claim",
    "remove claim",
    "start replica",
)
_FOLDER: Final = "/race"
#: A replica says which GPUs it uses, and when it has used them.
_USE: Final = f"""
me=$1
say() {{
  read -r up _ </proc/uptime
  echo "{{\\"t\\": $up, \\"who\\": \\"$me\\", \\"did\\": \\"$1\\",\
 \\"gpus\\": \\"$NVIDIA_VISIBLE_DEVICES\\"}}" >>{_FOLDER}/{JOURNAL}
}}
trap 'say end; exit 143' TERM
say use
sleep "$2" & wait
say end
"""


@dataclass(frozen=True, kw_only=True)
class Race:
    """Launches on one daemon.

    Args:
        url: the daemon.
        folder: of the journal.
        seed: of what is drawn.
        launches: number of apps.
        faults: how many of the processes are killed or stop.
        timeout_s: in place of `TIMEOUT_S`.
        idle_s: longest pause between two looks of an app that waits.
    """

    url: str
    folder: str
    seed: str
    launches: int
    faults: int
    timeout_s: Sequence[float] = field(default=TIMEOUT_S)
    idle_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a process.

    Args:
        at: ``before`` or ``after``, and one of `STEPS`.
        stops_s: for how long it stops; 0 if it is killed.
        skips: how many of these requests it makes before.
    """

    at: str
    stops_s: float = 0.0
    skips: int = 0


@dataclass(frozen=True, kw_only=True)
class Launch:
    """An app to launch.

    Args:
        shape: one of `SHAPES`.
        use_s: how long its replicas use their GPUs.
        is_task: whether it belongs to a task, which is tried again when its process was killed.
        is_doubled: whether the next try begins already when the process has stopped.
    """

    number: int
    shape: Sequence[tuple[int, int]]
    use_s: float
    is_task: bool = False
    is_doubled: bool = False
    fault: Fault | None = None
    try_number: int = 1

    @property
    def who(self) -> str:
        """The name in the journal."""
        return f"{self.number}.{self.try_number}"

    @property
    def is_superseded(self) -> bool:
        """Whether the next try may begin while the process exists."""
        return self.is_task and self.is_doubled and self.fault is not None

    @property
    def gpus(self) -> int:
        """The number of GPUs of all replicas."""
        return sum(replicas * gpus for replicas, gpus in self.shape)

    @property
    def attempt(self) -> TaskAttempt:
        """The try of the task."""
        return TaskAttempt(
            dag_id="race",
            run_id="race",
            task_id=f"app-{self.number}",
            map_index=-1,
            max_tries=9,
            try_number=self.try_number,
        )

    def app(self, folder: str) -> AppDef:
        """Return the app, whose replicas append to the journal in a folder."""
        return AppDef(
            "race",
            [
                Role(
                    f"r{index}",
                    BUSYBOX,
                    entrypoint="sh",
                    args=[
                        "-c",
                        _USE,
                        "sh",
                        f"{macros.app_id}/r{index}/{macros.replica_id}",
                        f"{self.use_s:.2f}",
                    ],
                    num_replicas=replicas,
                    resource=Resource(cpu=-1, gpu=gpus, memMB=-1),
                    mounts=[BindMount(src_path=folder, dst_path=_FOLDER)],
                )
                for index, (replicas, gpus) in enumerate(self.shape)
            ],
        )


def drawn(race: Race) -> list[Launch]:
    """Return the launches of a race, of which the last quarter has no faults.

    So the end of a race does not wait for one process that has stopped. The faults that find most
    are always there; the steps of the others are spread evenly.
    """
    rng = random.Random(race.seed)  # noqa: S311 - no secret
    steps = [step for _ in range(race.faults) for step in rng.sample(STEPS, len(STEPS))]
    faults: list[Fault | None] = [
        Fault(at=f"before {step}", stops_s=stop_s * rng.uniform(1.2, 2))
        for step, stop_s in _long_stops(race.timeout_s)
    ]
    faults += [_fault(rng, step, race.timeout_s) for step in steps[len(faults) : race.faults]]
    faults += [None] * (race.launches * 3 // 4 - len(faults))
    rng.shuffle(faults)
    faults += [None] * (race.launches - len(faults))
    return [
        Launch(
            number=number,
            shape=rng.choice(SHAPES),
            use_s=rng.choice((0.1, 0.1, 0.1, 0.3, 0.8)),
            is_task=rng.random() < 0.5,
            is_doubled=rng.random() < 0.5,
            fault=fault,
        )
        for number, fault in enumerate(faults)
    ]


def _long_stops(timeout_s: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Yield where a process has to find that others have done without it, and after how long."""
    lock_s, ticket_s, claim_s, replica_s = timeout_s
    # It claims GPUs long after it has seen that they are free. Meanwhile others may have to remove
    # two tickets.
    yield "create claim", lock_s + 2 * ticket_s
    # It creates replicas after others have removed its claim.
    yield "remove lock", claim_s
    # It starts replicas after others have removed its claim and them.
    yield "rename claim", replica_s


def _fault(rng: random.Random, step: str, timeout_s: Sequence[float]) -> Fault:
    return Fault(
        at=f"{rng.choice(('before', 'after'))} {step}",
        stops_s=_stop_s(rng, timeout_s) if rng.random() < 0.4 else 0.0,
        skips=rng.choice((0, 0, 1)) if step.endswith("replica") else 0,
    )


def _stop_s(rng: random.Random, timeout_s: Sequence[float]) -> float:
    """Return how long a process stops: so long that others do without what it has."""
    lock_s, ticket_s, claim_s, replica_s = timeout_s
    # That others do without a claim or a replica takes long, so it is rare.
    (stop_s,) = rng.choices((lock_s + ticket_s, claim_s, replica_s), (8, 1, 1))
    return stop_s * rng.uniform(1.2, 2)
