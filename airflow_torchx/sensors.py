"""`TorchXDockerSensor`: one Airflow task waits for a TorchX app that somebody else launched."""

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

from airflow_torchx.core.state.app_ref import AppRef, app_ref
from airflow_torchx.core.state.condition import Condition
from airflow_torchx.hooks import default_conn_id
from airflow_torchx.task.poke import (
    AppStateUnknownError,
    describe,
    describe_for_xcom,
    description,
    gone_error,
    unreachable_error,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import Context, XComArg

    from airflow_torchx.specs import AppState

# The trigger tells of a timeout itself; this is for one that has died with its triggerer.
_PAD_S: Final = 60.0


class TorchXDockerSensor(BaseSensorOperator):
    """Waits until a TorchX app on a Docker daemon has come as far as one of the target states.

    Whoever launched the app, an operator, TorchX's command line or a program, it is only looked at:
    never stopped, never removed, and no failure policy is acted on.

    SUBMITTED, PENDING and RUNNING as targets mean "at least that far": an app that has SUCCEEDED
    has been RUNNING. SUCCEEDED, FAILED and CANCELLED mean the end of every replica. An app that can
    reach no target any more, because it has ended otherwise, fails the task.

    Args:
        app_handle: handle of the app. Without ``torchx_conn_id`` its session says where the app is:
            it is the id of a connection, but ``torchx``, TorchX's own, stands for none.
        app_id: instead of a handle, the app's id.
        target_states: states to wait for, one of which is enough; a text with commas does too.
        failed_states: states that fail the task at once, while other replicas still run.
        role: only this role's replicas count; None for all of the app.
        min_replicas: so many replicas in a target state are enough, whatever becomes of the others;
            None for the state of the whole app or role.
        torchx_conn_id: connection to the daemon, whatever a handle's session says. Where there is
            none, ``[torchx] default_conn_id`` of Airflow's configuration counts, and without that
            the daemon that the docker command line would use.
        wait_for_launch: wait also for an app that is not on the daemon yet. Without it that is an
            error, as is an app whose containers somebody has removed.
        deferrable: wait in the triggerer instead of in a worker slot; ``mode`` and
            ``poke_interval`` do not count then.
        start_from_trigger: defer without taking a worker slot before the end. A mapped task still
            takes one for a moment. States cannot be templates then, and ``xcom_pull`` in one needs
            ``map_indexes=-1``.

    Returns:
        The app as it is by then: ``app_handle``, ``app_id``, ``state`` and ``replicas``, each with
        ``role``, ``id``, ``state`` and ``exit_code``.

    Raises:
        ConditionError: the states, the number or the handle make no sense.
        StateUnreachableError: the app failed, or cannot reach a target state any more.
        AppGoneError: nothing of the app is on the daemon.
        AppStateUnknownError: the daemon has not answered for a minute, or ten in the triggerer.
        AirflowSensorTimeout: none of this has happened within ``timeout``.
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
    #: Seconds without an answer of the daemon to sit out in a worker; None for a minute.
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
        if (app_handle is None) == (app_id is None):
            given = "neither" if app_id is None else "both"
            raise ValueError(f"exactly one of app_handle= and app_id= is needed, not {given}")
        super().__init__(**kwargs)
        # Any: another task's result, until it is rendered.
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

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - any JSON
        """Wait here, or look once and wait in the triggerer."""
        with self._softly():
            if not (self.deferrable or self.start_from_trigger):
                return super().execute(context)
            seen = self.poke(context)
            return seen.xcom_value if seen else self._defer()

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look once; the value is the description that the task returns."""
        from airflow_torchx.core.state.evaluate import Met, Pending, Unreachable, evaluate

        ref, condition = self._app_ref(), self._condition()
        app = describe(ref, self.outage_s)
        if app is None:
            if not self.wait_for_launch:
                raise gone_error(ref)
            self.log.info("no app %r on this daemon yet", ref.app_id)
            return PokeReturnValue(is_done=False)
        match evaluate(app, condition):
            case Met(message=message):
                self.log.info("%s", message)
                return PokeReturnValue(
                    is_done=True, xcom_value=describe_for_xcom(app, self._handle(ref))
                )
            case Unreachable(message=message):
                raise unreachable_error(message)
            case Pending(message=message):
                self.log.info("%s", message)
                return PokeReturnValue(is_done=False)

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
                raise unreachable_error(message)
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
        return str(self.app_handle or AppRef(ref.app_id, session).handle)

    def _after(self, ref: AppRef, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the description of an app that has reached its target a moment ago.

        Meanwhile it may be further, or its task has removed it: it has been there.
        """
        handle = self._handle(ref)
        try:
            app = describe(ref, self.outage_s)
        except AppStateUnknownError as why:
            self.log.warning("%s", why)
            app = None
        if app is not None:
            return describe_for_xcom(app, handle)
        return description(handle, ref.app_id, event.get("state"))

    def _defer(self) -> NoReturn:
        from airflow_torchx.task.deferral import not_before
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
        """Have the scheduler start the trigger, which renders what is a template here."""
        from airflow.triggers.base import StartTriggerArgs

        from airflow_torchx.core.state.trigger_event import FORMAT_VERSION, TRIGGER_CLASS

        if not _are_plain(self.target_states, self.failed_states):
            raise ValueError(
                "start_from_trigger=True does not go with a template in target_states or"
                " failed_states: the states are checked when the DAG file is read"
            )
        condition = Condition.parse(self.target_states, self.failed_states)
        # The class attribute stays None: by it Airflow knows that it cannot start a mapped task so.
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
    def _softly(self) -> Iterator[None]:
        """Skip the task where it would fail and the user wants it so, in all modes alike.

        Airflow itself does that for a deferred sensor, but one that pokes it skips only for some
        errors, and with ``never_fail`` not for a timeout.
        """
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (Exception, AirflowTaskTimeout) as why:
            soft = self.soft_fail and isinstance(why, AirflowException | AirflowTaskTimeout)
            if soft or self.never_fail:
                raise AirflowSkipException(str(why)) from why
            raise


def _names(states: Collection[AppState]) -> list[str]:
    return [state.name for state in sorted(states)]


def _are_plain(*values: object) -> bool:
    """Tell whether no template and no other task's result is among these arguments."""
    words: list[object] = []
    for value in values:
        words += value if isinstance(value, set | frozenset | list | tuple) else [value]
    return all(
        word is None or isinstance(word, int) or (isinstance(word, str) and "{" not in word)
        for word in words
    )


def _text(argument: str, value: object) -> str | None:
    """Return an argument as a template that Airflow's triggerer can render."""
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(value, PlainXComArg):
        task_id = value.operator.task_id
        return f"{{{{ ti.xcom_pull(task_ids={task_id!r}, key={value.key!r}, map_indexes=-1) }}}}"
    text = None if value is None else str(value)
    # Without it the triggerer is asked for a list of values, which 3.3.2 never answers.
    if text is not None and "xcom_pull" in text and "map_indexes" not in text:
        raise ValueError(
            f"start_from_trigger=True: Airflow's triggerer cannot render {argument}={text!r}."
            " Write xcom_pull(..., map_indexes=-1), or give the other task's .output"
        )
    return text
