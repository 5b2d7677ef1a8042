"""`TorchXDockerSensor`: one Airflow task waits for a TorchX app that it did not launch."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from airflow_torchx.airflow_compat import masked
from airflow_torchx.core.state.app_ref import AppRef, app_ref
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.core.task.arguments import exactly_one
from airflow_torchx.errors import ConditionError
from airflow_torchx.hooks import default_conn_id
from airflow_torchx.task.final_failure import without_retry
from airflow_torchx.task.poke import (
    AppGoneError,
    AppStateUnknownError,
    StateUnreachableError,
    describe,
    describe_for_xcom,
    description,
    gone_error,
    handle_of,
    unreachable_error,
)
from airflow_torchx.task.templates import TemplatesMixin
from airflow_torchx.task.tracebacks import without_traceback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import Context, XComArg

    from airflow_torchx.specs import AppState

__all__ = ["AppGoneError", "AppStateUnknownError", "StateUnreachableError", "TorchXDockerSensor"]

# The trigger reports a timeout itself; this one is for a trigger that died with its triggerer.
_PAD_S: Final = 60.0


class TorchXDockerSensor(TemplatesMixin, BaseSensorOperator):
    """Waits until a TorchX app on a Docker daemon reaches one of the target states.

    Example::

        from airflow_torchx.sensors import TorchXDockerSensor

        TorchXDockerSensor(
            task_id="serves",
            app_handle="{{ params.app_handle }}",
            target_states="RUNNING",
            min_replicas=2,
            deferrable=True,
        )

    An operator, TorchX's command line or a program may have launched the app. The sensor only reads
    its state: it never stops or removes an app, and does not act on its failure policy.

    As targets, SUBMITTED, PENDING and RUNNING mean "at least that far": an app that has SUCCEEDED
    has also been RUNNING. SUCCEEDED, FAILED and CANCELLED mean that every replica has ended. An app
    that can no longer reach a target state fails the task.

    Args:
        app_handle: handle of the app. Its session is the id of the connection to the daemon, unless
            ``torchx_conn_id`` is set; the session ``torchx`` names no connection.
        app_id: id of the app; used instead of ``app_handle``.
        target_states: states to wait for, as a collection or separated by commas; one is enough.
        failed_states: states that fail the task as soon as one replica is in one of them.
        role: role whose replicas count; None for all roles.
        min_replicas: how many replicas in a target state are enough, whatever the state of the
            others; None for the state of the whole app or role.
        torchx_conn_id: connection to the daemon; wins over the session of the handle. If neither
            names one, ``[torchx] default_conn_id`` counts, then the daemon that the docker command
            line would use.
        wait_for_launch: wait also for an app that is not on the daemon yet. False makes a missing
            app an error.
        deferrable: wait in the triggerer instead of a worker slot; ``mode`` and ``poke_interval``
            are not used then.
        start_from_trigger: start in the triggerer, without a worker slot; a mapped task still takes
            one for a moment. The states cannot be templates then, and ``xcom_pull`` in a template
            needs ``map_indexes=-1``.

    Returns:
        A mapping with ``app_handle``, ``app_id``, ``state`` and ``replicas``; each replica has
        ``role``, ``id``, ``state`` and ``exit_code``.

    Raises:
        ValueError: ``app_handle`` and ``app_id`` are both set or both missing.
        ConditionError: the states, ``min_replicas`` or the handle are invalid.
        StateUnreachableError: the app failed, or can no longer reach a target state.
        AppGoneError: the daemon has no container of the app.
        AppStateUnknownError: the daemon has not answered for one minute, or for ten minutes in the
            triggerer.
        AirflowSensorTimeout: the app did not reach a target state within ``timeout``.
    """

    template_fields: Sequence[str] = (
        "app_handle",
        "app_id",
        "target_states",
        "failed_states",
        "role",
        "min_replicas",
        "torchx_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "target_states": "json",
        "failed_states": "json",
    }
    ui_color = "#fbe3dc"
    #: How long to retry in a worker while the daemon does not answer, in seconds; None for 60.
    outage_s: ClassVar[float | None] = None

    def __init__(  # noqa: PLR0913 - Airflow's way to configure a task
        self,
        *,
        app_handle: str | XComArg | None = None,
        app_id: str | XComArg | None = None,
        target_states: Collection[str] | str = ("SUCCEEDED",),
        failed_states: Collection[str] | str = ("FAILED", "CANCELLED"),
        role: str | None = None,
        min_replicas: int | str | None = None,
        torchx_conn_id: str | None = None,
        wait_for_launch: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,  # noqa: ANN401 - BaseSensorOperator's own arguments
    ) -> None:
        exactly_one(app_handle=app_handle, app_id=app_id)
        super().__init__(**kwargs)
        # Any: the output of another task before rendering.
        self.app_handle: Any = app_handle
        self.app_id: Any = app_id
        self.target_states = target_states
        self.failed_states = failed_states
        self.role = role
        self.min_replicas = min_replicas
        self.torchx_conn_id = torchx_conn_id
        self.wait_for_launch = wait_for_launch
        self.deferrable = deferrable
        self.start_from_trigger = start_from_trigger
        if _are_plain(target_states, failed_states, min_replicas):
            self._condition()
        if start_from_trigger:
            self._start_from_trigger()

    @without_traceback
    def execute(self, context: Context) -> Any:  # noqa: ANN401 - any JSON
        """Wait in this process, or poke once and then wait in the triggerer."""
        with self._soft_fail():
            if not (self.deferrable or self.start_from_trigger):
                return super().execute(context)
            seen = self.poke(context)
            return seen.xcom_value if seen else self._defer()

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Check the app once; the value is the description that the task returns."""
        from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate

        ref, condition = self._app_ref(), self._condition()
        app = describe(ref, self.outage_s)
        if app is None:
            if not self.wait_for_launch:
                raise gone_error(ref)
            self.log.info("waiting for the launch of app %r", ref.app_id)
            return PokeReturnValue(is_done=False)
        match evaluate(app, condition):
            case Met(message=message):
                self.log.info("%s", message)
                return PokeReturnValue(
                    is_done=True, xcom_value=describe_for_xcom(app, self._handle(ref))
                )
            case Unreachable(message=message):
                raise unreachable_error(ref, message)
            case Pending(message=message):
                self.log.info("%s", message)
                return PokeReturnValue(is_done=False)

    @without_traceback
    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - Airflow's signature
        event: Mapping[str, Any],
        **_stored: Any,  # noqa: ANN401 - any JSON
    ) -> Any:  # noqa: ANN401 - any JSON
        """End the task by what the trigger saw.

        This release stores nothing when it defers; what another release stored is ignored.
        """
        ref, message = self._app_ref(), event.get("message") or ""
        match event.get("reason"):
            case "reached":
                self.log.info("%s", message)
                return self._after(ref, event)
            case "failed":
                raise unreachable_error(ref, message)
            case "gone":
                raise gone_error(ref)
            case "timeout":
                raise AirflowSensorTimeout(message)
            case _:
                raise AppStateUnknownError(message)

    def _condition(self) -> Condition:
        return Condition.parse(self.target_states, self.failed_states, self.role, self.min_replicas)

    def _app_ref(self) -> AppRef:
        return app_ref(str(self.app_handle or self.app_id or ""), self.torchx_conn_id)

    def _handle(self, ref: AppRef) -> str:
        session = ref.torchx_conn_id or default_conn_id()
        return str(self.app_handle or handle_of(ref._replace(torchx_conn_id=session)))

    def _after(self, ref: AppRef, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the description of an app that reached its target when the trigger fired.

        Since then the app may have changed its state, or its task may have removed it.
        """
        handle = self._handle(ref)
        try:
            app = describe(ref, self.outage_s)
        except AppStateUnknownError as error:
            self.log.warning("%s", masked(str(error)))
            app = None
        if app is not None:
            return describe_for_xcom(app, handle)
        return description(handle, ref.app_id, event.get("state"))

    def _defer(self) -> NoReturn:
        from airflow_torchx.task.trigger_hold import not_before
        from airflow_torchx.triggers import TorchXDockerTrigger

        ref, condition = self._app_ref(), self._condition()
        self.defer(
            trigger=TorchXDockerTrigger(
                app_id=ref.app_id,
                torchx_conn_id=ref.torchx_conn_id,
                target_states=_names(condition.targets),
                failed_states=_names(condition.failed),
                role=condition.role,
                min_replicas=condition.min_replicas,
                deadline=time.time() + self.timeout,
                not_before=not_before(),
                wait_for_launch=self.wait_for_launch,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + _PAD_S),
        )

    def _start_from_trigger(self) -> None:
        """Let the scheduler start the trigger; the triggerer renders templates."""
        from airflow.triggers.base import StartTriggerArgs

        from airflow_torchx.core.state.trigger_event import FORMAT_VERSION, TRIGGER_CLASS

        if not _are_plain(self.target_states, self.failed_states):
            raise ValueError(
                "start_from_trigger=True needs target_states and failed_states without templates:"
                " the states are checked when the DAG file is parsed"
            )
        condition = Condition.parse(self.target_states, self.failed_states)
        # The class attribute stays None, or Airflow would start mapped tasks from the trigger, too.
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=TRIGGER_CLASS,
            trigger_kwargs={
                "app_id": _text("app_handle", self.app_handle) or _text("app_id", self.app_id),
                "torchx_conn_id": _text("torchx_conn_id", self.torchx_conn_id),
                "target_states": _names(condition.targets),
                "failed_states": _names(condition.failed),
                "role": _text("role", self.role),
                "min_replicas": _text("min_replicas", self.min_replicas),
                "wait_for_launch": self.wait_for_launch,
                "format_version": FORMAT_VERSION,
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    @contextmanager
    def _soft_fail(self) -> Iterator[None]:
        """Skip the task instead of failing it, with ``soft_fail`` or ``never_fail``, in every mode.

        Airflow does so for deferred sensors. For sensors that poke it does so only for some errors,
        and not for a timeout with ``never_fail``.
        """
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            soft = self.soft_fail and isinstance(error, AirflowException | AirflowTaskTimeout)
            if soft or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            if isinstance(error, ConditionError):
                raise without_retry(error) from error
            raise


def _names(states: Collection[AppState]) -> list[str]:
    return [state.name for state in sorted(states)]


def _are_plain(*values: object) -> bool:
    """Return whether these arguments contain neither templates nor outputs of other tasks."""
    items: list[object] = []
    for value in values:
        items += value if isinstance(value, set | frozenset | list | tuple) else [value]
    return all(
        item is None or isinstance(item, int) or (isinstance(item, str) and "{" not in item)
        for item in items
    )


def _text(argument: str, value: object) -> str | None:
    """Return an argument as a template that Airflow's triggerer can render."""
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(value, PlainXComArg):
        task_id = value.operator.task_id
        return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={value.key!r}, map_indexes=-1) }}}}"
    text = None if value is None else str(value)
    # Without map_indexes, the triggerer of Airflow 3.3.2 hangs: it asks for a list of values.
    if text is not None and "xcom_pull" in text and "map_indexes" not in text:
        raise ValueError(
            f"Airflow's triggerer cannot render {argument}={text!r} with start_from_trigger=True."
            " Use xcom_pull(..., map_indexes=-1), or the .output of the other task"
        )
    return text
