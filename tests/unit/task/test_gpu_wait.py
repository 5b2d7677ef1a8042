"""A task that waits for GPUs, on the fake engine."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from structlog.testing import capture_logs

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.engine import labels
from airflow_torchx.core.gpu.demand import GpuDemand
from airflow_torchx.core.task.arguments import OnWorkerShutdown
from airflow_torchx.core.task.record import Deferral
from airflow_torchx.errors import (
    AppCancelledError,
    EngineConflictError,
    EngineError,
    EngineUnreachableError,
    GpuWaitTimeoutError,
    LaunchInterruptedError,
    WorkerShutdownError,
)
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.runtime import lifecycle
from airflow_torchx.runtime.gpus.queue import DEFERRED, Claim, GpuQueue, TicketLost
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Resource, Role
from airflow_torchx.task.context import TaskContext
from airflow_torchx.task.plan import requested
from airflow_torchx.task.runner import AppTask
from airflow_torchx.testing import FakeEngine, ManualClock, Program
from airflow_torchx.triggers import TorchXDockerTrigger
from tests.receivers import spans
from tests.unit.task.task_options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.hooks import TorchXDockerHook
    from airflow_torchx.testing import Verb

GPUS: Final = ("GPU-a", "GPU-b")
STARTED: Final = datetime(2026, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)


class Attempt:
    """A task instance with the attributes that a task reads; it keeps its XComs."""

    dag_id, run_id, task_id, map_index, start_date = "dag", "run", "task", -1, STARTED

    def __init__(self, try_number: int, max_tries: int) -> None:
        self.try_number = try_number
        self.max_tries = max_tries
        self.pushed: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        """Keep an XCom."""
        self.pushed[key] = value


class Context(TaskContext):
    """A task whose state on the API server is given."""

    def __init__(self, attempt: Attempt, state: str | None, *, is_resumed: bool) -> None:
        context: Any = {"ti": attempt}
        super().__init__(context, is_resumed=is_resumed)
        self._state = state

    def state(self, timeout_s: float) -> str | None:  # noqa: ARG002 - the same signature
        """Return the given state."""
        return self._state


class Task:
    """Processes of one deferrable task on one daemon with two GPUs, which its app needs both."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self._scheduler = DockerScheduler("torchx", engine)
        #: State of the task instance on the API server.
        self.state: str | None = "running"
        self.max_tries = 2
        self.options = replace(OPTIONS, deferrable=True, execution_timeout=HOUR)
        self.attempt = Attempt(1, self.max_tries)

    def run(
        self,
        try_number: int = 1,
        *,
        app: AppDef | None = None,
        deferral: Deferral | None = None,
        event: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        """Run one process of the task; with an event, one that continues after a deferral."""
        self.attempt = Attempt(try_number, self.max_tries)
        context = Context(self.attempt, self.state, is_resumed=event is not None)
        one = AppTask(context, self._scheduler, self.options, self._killed_at)
        request = requested(self._scheduler, app or needing(2), options, {}, None, lambda: False)
        with one.shutdown.guard_earlier():
            if event is not None:
                assert deferral is not None
                assert deferral.gpu_demand is not None
                one.gpu_wait.resume(event, deferral.gpu_demand)
            one.run(request)

    def deferred(self, try_number: int = 1, **arguments: Any) -> TaskDeferred:  # noqa: ANN401 - those of `run`
        """Run one process of the task, which defers, and return how."""
        with pytest.raises(TaskDeferred) as caught:
            self.run(try_number, **arguments)
        return caught.value

    def demand(self, deferred: TaskDeferred) -> GpuDemand:
        """Return what the trigger of a deferral waits for."""
        assert isinstance(deferred.trigger, TorchXDockerTrigger)
        demand = GpuDemand.parse(deferred.trigger.gpu_demand)
        assert demand is not None
        return demand

    def claim(self, deferred: TaskDeferred) -> Claim:
        """Claim GPUs as the trigger of a deferral does."""
        step = GpuQueue(self.engine, self.demand(deferred), DEFERRED).attempt()
        assert isinstance(step, Claim)
        return step

    def resume(
        self,
        deferred: TaskDeferred,
        reason: str,
        try_number: int = 1,
        **options: Any,  # noqa: ANN401 - run options
    ) -> None:
        """Continue after the event of a trigger."""
        stored = Deferral.parse(deferred.kwargs or {})
        event = {"reason": reason, "message": "waiting for 2 GPUs on fake: …"}
        self.run(try_number, deferral=stored, event=event, **options)

    def places(self, place: str) -> list[ContainerRow]:
        """Return the containers on the daemon that stand for tickets or claims."""
        return list(self.engine.rows({labels.GPU_MARKER: place}))

    def _killed_at(self) -> float | None:
        """Ask a process that waits in its worker to end, once it has a ticket."""
        is_asked = not self.options.deferrable and self.places("ticket")
        return time.monotonic() if is_asked else None

    @property
    def replicas(self) -> list[str]:
        """The GPUs of each replica of the task's apps, in order."""
        rows = self.engine.rows({labels.TASK_ID: "task", labels.APP_ID: None})
        return sorted(row.labels.get(labels.GPUS, "") for row in rows)


class Hook:
    """Reaches a daemon in memory."""

    torchx_conn_id = None
    docker_conn_ids = ()

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def get_conn(self) -> DockerScheduler:
        """Return a scheduler on the daemon."""
        return DockerScheduler("torchx", self._engine)


class OnDaemon(TorchXDockerOperator):
    """The operator on a daemon in memory."""

    daemon: Any = None

    @property
    def hook(self) -> TorchXDockerHook:
        """The way to the daemon."""
        hook: Any = Hook(self.daemon)
        return hook  # type: ignore[no-any-return]


def needing(gpus: int) -> AppDef:
    """Return an app that needs this many GPUs: one replica for each, and one more without any."""
    resource = Resource(cpu=1, gpu=1, memMB=64)
    role = Role("main", "base", entrypoint="run", num_replicas=gpus, resource=resource)
    other = Role("other", "base", entrypoint="run")
    return AppDef("app", [role, other] if gpus else [other])


@pytest.fixture
def engine() -> FakeEngine:
    """Return a daemon with two GPUs, on which apps run until they are stopped."""
    clock = ManualClock()
    program = Program(runs_for_s=None)
    return FakeEngine(
        pullable=["base"],
        images=["base"],
        programs=program,
        gpus=GPUS,
        clock=clock,
        sleep=clock.sleep,
    )


@pytest.fixture
def holder(engine: FakeEngine) -> str:
    """Return an app that holds both GPUs."""
    return DockerScheduler("other", engine).submit(needing(2), {})


@pytest.fixture
def task(engine: FakeEngine, holder: str) -> Task:
    """Return a task whose app has to wait."""
    assert holder
    return Task(engine)


def test_it_defers_and_keeps_its_place(task: Task, holder: str) -> None:
    """The trigger gets what the app demands, the queue has one ticket, and nothing was pushed."""
    deferred = task.deferred(gpu_wait_timeout_s=60)

    (ticket,) = task.places("ticket")
    _, kwargs = deferred.trigger.serialize()
    demand = kwargs["gpu_demand"]
    assert (2, list(GPUS)) == (demand["count"], demand["listed"])
    assert ticket.name == f"airflow-torchx-gpu-ticket-{demand['key']}"
    assert kwargs["app_id"] == f"{demand['key']}-t1" == ticket.labels[labels.GPU_APP]
    assert kwargs["owned"]
    assert kwargs["deadline"] == (STARTED + HOUR).timestamp()
    assert "execute_complete" == deferred.method_name
    assert demand == (deferred.kwargs or {})["gpu_demand"]
    assert {} == task.attempt.pushed
    assert [] == task.replicas
    assert lifecycle.exists(task.engine, holder)


def test_it_launches_with_the_claimed_gpus(task: Task, holder: str) -> None:
    """The process after the event launches with the GPUs of the claim, and leaves no place."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    claim = task.claim(deferred)

    with pytest.raises(TaskDeferred) as second:
        task.resume(deferred, "claimed")

    assert ["", *sorted(claim.ids)] == task.replicas
    assert [] == task.places("ticket") + task.places("claim")
    assert isinstance(second.value.trigger, TorchXDockerTrigger)
    assert second.value.trigger.gpu_demand is None
    pushed = {"app_handle", "app_id", "container_ids", "image_ids", "torchx_app"}

    assert pushed | {"_link_TorchXAppLink"} == task.attempt.pushed.keys()


def test_a_broken_claim_means_another_wait_until_the_same_time(task: Task) -> None:
    """If others have the GPUs, the task waits again, and its longest wait does not begin again."""
    deferred = task.deferred(gpu_wait_timeout_s=60)

    with pytest.raises(TaskDeferred) as again:
        task.resume(deferred, "claimed", gpu_wait_timeout_s=60)

    assert task.demand(deferred).until_s is not None
    assert task.demand(deferred).until_s == task.demand(again.value).until_s
    assert task.demand(deferred).since_s == task.demand(again.value).since_s
    assert 1 == len(task.places("ticket"))


def test_the_span_of_a_wait_over_two_processes(task: Task, holder: str) -> None:
    """The process that launches the app makes one span of the whole wait."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    task.claim(deferred)
    with spans() as found:
        with pytest.raises(TaskDeferred):
            task.resume(deferred, "claimed")

        wait = found["torchx.gpu_wait"]
    assert wait.start_time is not None
    assert task.demand(deferred).since_s == pytest.approx(wait.start_time / 1e9)
    assert 2 == (wait.attributes or {})["torchx.app.gpus"]


def test_an_event_without_a_reason_does_not_end_the_wait(task: Task) -> None:
    """The process that such an event starts looks at the GPUs itself."""
    deferred = task.deferred()
    stored = Deferral.parse(deferred.kwargs or {})

    with pytest.raises(TaskDeferred):
        task.run(deferral=stored, event={})

    assert 1 == len(task.places("ticket"))


@pytest.mark.parametrize(
    ("reason", "error", "text"),
    [
        ("busy", GpuWaitTimeoutError, r"after 60 s \(gpu_wait_timeout_s\), waiting for 2 GPUs"),
        ("timeout", AirflowTaskTimeout, r"no app was launched: .* execution_timeout \(1:00:00\)"),
    ],
)
def test_it_leaves_the_queue_when_the_time_is_over(
    task: Task, reason: str, error: type[Exception], text: str
) -> None:
    """The task fails, and its ticket is gone although another try follows."""
    deferred = task.deferred(gpu_wait_timeout_s=60)

    with pytest.raises(error, match=text):
        task.resume(deferred, reason)

    assert [] == task.places("ticket")


@pytest.mark.parametrize(
    ("try_number", "durable", "left", "text"),
    [
        (1, True, 1, "The next try keeps its place in the queue."),
        (1, False, 0, "The next try queues up again."),
        (3, True, 0, "Clear the task to run it again."),
    ],
)
def test_an_outage_keeps_the_place_for_the_next_try(
    task: Task, try_number: int, left: int, text: str, *, durable: bool
) -> None:
    """After an outage of the daemon the next try finds the ticket; the error says whether so."""
    task.options = replace(task.options, durable=durable)
    deferred = task.deferred(try_number)

    with pytest.raises(EngineUnreachableError, match="waiting for 2 GPUs") as caught:
        task.resume(deferred, "unreachable", try_number)

    assert text == caught.value.fix
    assert left == len(task.places("ticket"))


def test_a_reason_of_another_release(task: Task) -> None:
    """A triggerer that knows no waits for GPUs reports the app as gone: the task asks again."""
    deferred = task.deferred()

    with pytest.raises(TaskDeferred) as again:
        task.resume(deferred, "gone")

    assert task.demand(deferred).key == task.demand(again.value).key
    assert 1 == len(task.places("ticket"))


def test_a_request_that_the_daemon_refused_the_triggerer(task: Task, holder: str) -> None:
    """The task makes the request itself, and fails at once with the daemon's error."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    foreign = replace(task.demand(deferred).spec("lock"), labels={})
    task.engine.create(foreign)

    with pytest.raises(EngineConflictError, match="exists, and has no label of this package"):
        task.resume(deferred, "gone")

    assert [] == [*task.places("ticket"), *task.places("claim")]


@pytest.mark.parametrize("reason", ["claimed", "unreachable"])
def test_a_stored_demand_of_another_release(task: Task, holder: str, reason: str) -> None:
    """A task that cannot read for how many GPUs it waited asks for GPUs again."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    operator = OnDaemon(task_id="task", app=needing(2), deferrable=True)
    operator.daemon = task.engine
    context: Any = {"ti": task.attempt}
    stored = {**(deferred.kwargs or {}), "gpu_demand": {"gpus": 2}}

    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(context, {"reason": reason, "message": ""}, **stored)

    assert isinstance(again.value.trigger, TorchXDockerTrigger)
    assert again.value.trigger.gpu_demand is None
    assert ["", *GPUS] == task.replicas


def test_a_task_that_does_not_wait_for_its_app(task: Task, holder: str) -> None:
    """It waits for GPUs in the triggerer, too, and ends when its app runs."""
    task.options = replace(task.options, wait_for_completion=False)
    deferred = task.deferred(gpu_wait_timeout_s=0.1)
    lifecycle.delete(task.engine, holder)
    task.claim(deferred)

    task.resume(deferred, "claimed")

    assert ["", *GPUS] == task.replicas


@pytest.mark.parametrize("state", ["failed", "success", None])
@pytest.mark.parametrize("earlier", [0, 1])
def test_a_user_ends_it_before_it_defers(task: Task, state: str | None, earlier: int) -> None:
    """A task that a user has marked or cleared leaves the queue, with the place of its tries."""
    for number in range(earlier):
        task.deferred(number + 1)
    task.state = state

    with pytest.raises(AppCancelledError, match="the task was ended"):
        task.run(earlier + 1)

    assert [] == task.places("ticket")


def test_another_process_has_the_task(task: Task) -> None:
    """The place is left to the process that follows."""
    task.state = "up_for_retry"

    with pytest.raises(WorkerShutdownError):
        task.run()

    assert 1 == len(task.places("ticket"))


def test_a_worker_shutdown_moves_the_wait_to_the_triggerer(task: Task) -> None:
    """A task that waits in its worker keeps its place, and the time that it may wait."""
    task.options = replace(task.options, deferrable=False)
    before_s = time.time()

    deferred = task.deferred(gpu_wait_timeout_s=60)

    demand = task.demand(deferred)
    assert [demand.name("ticket")] == [row.name for row in task.places("ticket")]
    assert demand.until_s is not None
    assert before_s + 60 <= demand.until_s <= time.time() + 60


@pytest.mark.parametrize("deferrable", [True, False])
def test_what_others_respect(task: Task, holder: str, *, deferrable: bool) -> None:
    """A ticket outlasts the change of processes; a claim need not where the launch follows."""
    task.options = replace(task.options, deferrable=deferrable)
    task.deferred()
    claims: list[str] = []
    (ticket,) = task.places("ticket")
    lifecycle.delete(task.engine, holder)

    def note(verb: Verb, name: str) -> None:
        if verb == "discard" and "-claim-" in name:
            task.engine.before = None
            claims.extend(row.labels[labels.GPU_TIMEOUT] for row in task.places("claim"))

    task.engine.before = note
    task.options = replace(task.options, deferrable=True)
    task.deferred(2)

    assert ("60", ["30"]) == (ticket.labels[labels.GPU_TIMEOUT], claims)


def test_a_worker_shutdown_keeps_the_place_for_the_next_try(task: Task) -> None:
    """With ``on_worker_shutdown="keep"`` the try fails, and the next one has the same place."""
    task.options = replace(task.options, deferrable=False, on_worker_shutdown=OnWorkerShutdown.KEEP)

    with pytest.raises(WorkerShutdownError, match="keeps its place in the queue"):
        task.run()

    assert 1 == len(task.places("ticket"))


@pytest.mark.parametrize(
    ("state", "policy"),
    [
        ("running", OnWorkerShutdown.STOP),
        ("failed", OnWorkerShutdown.DEFER),
        (None, OnWorkerShutdown.KEEP),
    ],
)
def test_a_user_ends_it_while_it_waits(
    task: Task, state: str | None, policy: OnWorkerShutdown
) -> None:
    """A task that waits in its worker leaves the queue when it is asked to end for good."""
    task.options = replace(task.options, deferrable=False, on_worker_shutdown=policy)
    task.state = state

    with pytest.raises(AppCancelledError, match=r"while app .* waited for GPUs"):
        task.run()

    assert [] == task.places("ticket")


def test_a_retry_takes_over_the_ticket(task: Task) -> None:
    """The place of a try whose processes were killed is that of the next one."""
    task.deferred()
    (ticket,) = task.places("ticket")

    deferred = task.deferred(2)

    assert [ticket.id] == [row.id for row in task.places("ticket")]
    assert task.demand(deferred).labels[labels.TRY_NUMBER] == "2"


def test_a_retry_launches_with_the_claim(task: Task, holder: str) -> None:
    """The GPUs that were claimed for a try that was killed then are those of the next one."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    claim = task.claim(deferred)

    task.deferred(2)

    assert ["", *sorted(claim.ids)] == task.replicas
    assert [] == task.places("claim")


def test_a_clear_queues_up_again(task: Task) -> None:
    """The place of an attempt that a user has cleared is removed."""
    task.deferred()
    (old,) = task.places("ticket")
    task.max_tries = 4

    task.deferred(3)

    (new,) = task.places("ticket")
    assert old.id != new.id


def test_a_clear_beside_a_trigger_that_lives_on(task: Task, holder: str) -> None:
    """The trigger of the cleared attempt claims GPUs meanwhile; the next attempt removes that."""
    deferred = task.deferred()
    trigger = GpuQueue(task.engine, task.demand(deferred), DEFERRED)
    lifecycle.delete(task.engine, holder)

    def claim(verb: Verb, name: str) -> None:
        if verb == "discard" and "-ticket-" in name:
            task.engine.before = None
            assert isinstance(trigger.attempt(may_join=False), Claim)

    task.engine.before = claim
    task.max_tries = 4

    task.deferred(3)

    assert ["", *GPUS] == task.replicas
    assert [] == task.places("ticket") + task.places("claim")
    with pytest.raises(TicketLost):
        trigger.attempt(may_join=False)


def test_a_claim_whose_ticket_a_later_attempt_has_removed(task: Task, holder: str) -> None:
    """A trigger that claims GPUs while its place is removed gives them up."""
    deferred = task.deferred()
    trigger = GpuQueue(task.engine, task.demand(deferred), DEFERRED)
    (ticket,) = task.places("ticket")
    lifecycle.delete(task.engine, holder)

    def remove(verb: Verb, name: str) -> None:
        if verb == "discard" and name == ticket.name:
            task.engine.before = None
            assert 1 == len(task.places("claim"))
            task.engine.discard(ticket.id)

    task.engine.before = remove

    with pytest.raises(TicketLost):
        trigger.attempt(may_join=False)

    assert [] == task.places("claim")


def test_an_app_without_gpus_leaves_the_queue(task: Task) -> None:
    """A retry whose app was changed and needs no GPUs any more launches, and leaves the queue."""
    task.deferred()

    task.deferred(2, app=needing(0))

    assert [""] == task.replicas
    assert [] == task.places("ticket")


def test_a_claim_for_more_gpus_is_given_up(task: Task, holder: str) -> None:
    """A retry whose app was changed and needs fewer GPUs holds no more than these."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)
    task.claim(deferred)

    task.deferred(2, app=needing(1))

    assert ["", "GPU-a"] == task.replicas
    assert [] == task.places("claim")


@pytest.mark.parametrize("try_number", [1, 3])
@pytest.mark.parametrize(
    ("verb", "error"), [("networks", EngineError("no network")), ("pull", StopRequested())]
)
def test_a_launch_that_ends_before_it_uses_its_claim(
    task: Task, holder: str, verb: Verb, error: Exception, try_number: int
) -> None:
    """The GPUs that a trigger has claimed are free again if the launch fails, or is stopped."""
    deferred = task.deferred(try_number)
    lifecycle.delete(task.engine, holder)
    task.claim(deferred)
    task.engine.fail_next(verb, error)

    with pytest.raises((EngineError, LaunchInterruptedError)):
        task.resume(deferred, "claimed", try_number, pull_policy="always")

    assert [] == task.places("claim")
    assert [] == task.replicas


def test_a_failed_launch_beside_a_later_one(task: Task, holder: str) -> None:
    """A process that ends late leaves the claim of the next try alone."""
    deferred = task.deferred()
    lifecycle.delete(task.engine, holder)

    def take_over(verb: Verb, _: str) -> None:
        if verb == "networks":
            task.engine.before = None
            later = {**task.demand(deferred).labels, labels.TRY_NUMBER: "2"}
            queue = GpuQueue(task.engine, replace(task.demand(deferred), labels=later), DEFERRED)
            assert isinstance(queue.attempt(), Claim)

    task.engine.before = take_over
    task.engine.fail_next("networks", EngineError("no network"))

    with pytest.raises(EngineError, match="no network"):
        task.resume(deferred, "claimed")

    assert 1 == len(task.places("claim"))


def test_a_failed_launch_whose_place_cannot_be_removed(task: Task, holder: str) -> None:
    """The first error is raised, and the log says how to remove what may be left."""
    deferred = task.deferred(3)
    lifecycle.delete(task.engine, holder)
    task.claim(deferred)
    claim = task.demand(deferred).name("claim")
    task.engine.fail_next("networks", EngineError("no network"))
    task.engine.fail_next("discard", EngineError("busy"), on=claim)

    with capture_logs() as logs, pytest.raises(EngineError, match="no network"):
        task.resume(deferred, "claimed", 3)

    assert "containers of task task may be left: busy" in str(logs)


def test_a_probe_that_hangs(task: Task) -> None:
    """A probe that still runs when its process was killed does not stop the next try."""
    deferred = task.deferred()
    owner = task.demand(deferred)
    probe = replace(owner.spec("probe"), name=owner.name("probe"))
    task.engine.start(task.engine.create(probe))

    task.deferred(2)

    assert [] == task.places("probe")
