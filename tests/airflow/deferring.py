"""An operator of the tests that waits by a trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_torchx.triggers import APP_ID_KEY, TorchXDockerTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context


class Waits(BaseOperator):
    """Waits for an app by a trigger of these arguments, and returns its event.

    Args:
        trigger: arguments of the trigger.
        names: the app that the task names as its own; None for none, and then it does not wait.
    """

    def __init__(
        self,
        *,
        trigger: Mapping[str, Any] | None = None,
        names: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - BaseOperator's own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.trigger = trigger
        self.names = names

    def execute(self, context: Context) -> None:
        """Defer."""
        if self.names is not None:
            context["ti"].xcom_push(APP_ID_KEY, self.names)
        if self.trigger is not None:
            self.defer(trigger=TorchXDockerTrigger(**self.trigger), method_name="resume")

    def resume(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the trigger fired."""
        del context
        return dict(event)
