"""``@task.torchx``: run the body of a function in the containers of a TorchX app."""

from __future__ import annotations

import inspect
import math
import posixpath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_torchx.errors import FunctionError
from airflow_torchx.function.source import FunctionSource, ensure_portable
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.task.app import with_overrides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from airflow_torchx.function.app import Replicas
    from airflow_torchx.specs import AppDef

#: The file in a container for the function's return value.
RESULT_PATH: Final = "/tmp/airflow-torchx/result.json"  # noqa: S108 - the folder is the container's

# The function takes their place.
_REPLACED: Final = frozenset({"app", "component", "component_args"})


class _TorchXDecoratedOperator(DecoratedOperator, TorchXDockerOperator):
    """Runs a function in every replica of an app.

    Args:
        python_callable: the function. Only its source reaches the containers: it must import what
            it needs in its body, possibly from ``workspace``.
        num_replicas: number of containers.
        cpu: CPUs of each container.
        gpu: GPUs of each container.
        memMB: memory of each container in MB.
        mounts: mounts of each container, like ``"type=bind,src=/data,dst=/data"``, or a list of
            such options.
        nproc_per_node: processes per container, started by torchrun with its rendezvous at replica
            0; None for one process without torchrun.
        python: command that starts Python 3.8 or newer in the image.
        result_path: file in the container for the function's return value.
        kwargs: arguments of `TorchXDockerOperator`, except those for an app or a component.

    Returns:
        The function's return value in replica 0 (rank 0 under torchrun), as JSON.

    Raises:
        FunctionError: the function needs names outside its body, or an argument is not JSON.
    """

    custom_operator_name = "@task.torchx"
    template_fields: Sequence[str] = (
        *(name for name in TorchXDockerOperator.template_fields if name not in _REPLACED),
        *("op_args", "op_kwargs", "num_replicas", "cpu", "gpu", "memMB", "mounts"),
        *("nproc_per_node", "python"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **TorchXDockerOperator.template_fields_renderers,
        **DecoratedOperator.template_fields_renderers,
    }

    def __init__(  # noqa: PLR0913 - Airflow's way to configure a task
        self,
        *,
        python_callable: Callable[..., Any],
        num_replicas: int | str = 1,
        cpu: float | str = 2,
        gpu: int | str = 0,
        memMB: int | str = 1024,  # noqa: N803 - TorchX's name
        mounts: Sequence[str] | str = (),
        nproc_per_node: int | str | None = None,
        python: str = "python3",
        wait_for_completion: bool = True,
        result_path: str | None = RESULT_PATH,
        **kwargs: Any,  # noqa: ANN401 - TorchXDockerOperator's own arguments
    ) -> None:
        ensure_portable(python_callable)
        for name in _REPLACED & kwargs.keys():
            what = f"@task.torchx does not accept {name}=: it runs the function."
            raise FunctionError(what, fix="Use TorchXDockerOperator for another program.")
        super().__init__(
            python_callable=python_callable,
            wait_for_completion=wait_for_completion,
            result_path=result_path if wait_for_completion else None,
            **kwargs,
        )
        self.num_replicas = num_replicas
        self.cpu = cpu
        self.gpu = gpu
        self.memMB = memMB
        self.mounts = mounts
        self.nproc_per_node = nproc_per_node
        self.python = python

    def _bind(self, context: Context) -> None:
        """Give the function the values of the context that its parameters name."""
        signature = inspect.signature(self.python_callable)
        given = signature.bind_partial(*self.op_args, **self.op_kwargs).arguments
        asked = (signature.parameters.keys() & context.keys()) - given.keys()
        known = {name: context[name] for name in asked}  # type: ignore[literal-required]
        self.op_kwargs = {**known, **self.op_kwargs}

    def app_def(self) -> AppDef:
        """Return the app that calls the function.

        Raises:
            FunctionError: the function needs names outside its body, or an argument is not JSON.
            WorkspaceError: ``workspace`` is empty.
        """
        from airflow_torchx.function.app import app_of_function
        from airflow_torchx.function.call import Call

        source = FunctionSource.of(self.python_callable)
        call = Call.of(self.python_callable, [*self.op_args], self.op_kwargs)
        app = app_of_function(
            source,
            call.env(source, file=self._shown_file(source), result_path=self.result_path),
            self._replicas(),
            workspace=self.workspace,
            python=self.python,
        )
        return with_overrides(app, image=self.image, env=self.env or {})

    def _replicas(self) -> Replicas:
        from airflow_torchx.function.app import Replicas

        processes = self.nproc_per_node
        return Replicas(
            count=_whole("num_replicas", self.num_replicas),
            cpu=_number("cpu", self.cpu),
            gpu=_whole("gpu", self.gpu),
            memMB=_whole("memMB", self.memMB),
            mounts=self.mounts,
            nproc_per_node=None if processes is None else _whole("nproc_per_node", processes),
        )

    def _shown_file(self, source: FunctionSource) -> str:
        """Return the function's file relative to the DAGs folder, whose path changes per commit."""
        if not self.has_dag():  # type: ignore[no-untyped-call]
            return source.file
        file = self.dag.fileloc
        relative = self.dag.relative_fileloc or posixpath.basename(file)
        return source.file_below(file.removesuffix(relative))


def torchx_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,
    **kwargs: Any,  # noqa: ANN401 - the operator's own arguments
) -> TaskDecorator:
    """Turn a function into a task that runs it in the replicas of an app.

    Example::

        from airflow.sdk import task

        @task.torchx(image="python:3.12-slim", num_replicas=2)
        def greet(name: str) -> str:
            import socket

            return f"{name} from {socket.gethostname()}"

    Args:
        python_callable: the function.
        multiple_outputs: also push each item of a returned dict under its own key.
        kwargs: arguments of the task: those of `TorchXDockerOperator`, and ``num_replicas``,
            ``cpu``, ``gpu``, ``memMB``, ``mounts``, ``nproc_per_node`` and ``python``; see
            docs/decorator.md.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_TorchXDecoratedOperator,
        **kwargs,
    )


def _whole(name: str, value: int | str) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise _not(name, value, "a whole number")
    return int(number)


def _number(name: str, value: float | str) -> float:
    from airflow_torchx.specs.scalars import as_number

    try:
        number = float(as_number(value))
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise _not(name, value, "a number")
    return number


def _not(name: str, value: object, expected: str) -> FunctionError:
    what = f"{name}={value!r} is not {expected}."
    return FunctionError(what, fix=f"Give {expected}, or a template that renders to one.")
