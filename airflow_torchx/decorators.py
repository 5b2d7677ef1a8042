"""``@task.torchx``: a function whose body runs in the containers of a TorchX app."""

from __future__ import annotations

import inspect
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

#: Where a container leaves what the function returns.
RESULT_PATH: Final = "/tmp/airflow-torchx/result.json"  # noqa: S108 - the folder is the container's

# The function is what runs.
_INSTEAD: Final = frozenset({"app", "component", "component_args"})


class _TorchXDecoratedOperator(DecoratedOperator, TorchXDockerOperator):
    """Runs a function in every replica of an app.

    Args:
        python_callable: the function. Only its own text gets into the containers: it imports and
            defines what it needs inside of it, or imports it from ``workspace``.
        num_replicas: number of containers.
        cpu: CPUs of each.
        gpu: GPUs of each.
        memMB: memory of each in MB.
        mounts: what each sees of its host, like ``["type=bind", "src=/data", "dst=/data"]``.
        nproc_per_node: processes that torchrun starts in each container, which meet at replica 0
            and have rank 0 there; None for one process without torchrun.
        python: command that starts Python, 3.8 or newer, in the image.
        result_path: file in the container for what the function returns.
        kwargs: what `TorchXDockerOperator` takes, but for an app or a component.

    Returns:
        What the function returns in replica 0 (under torchrun, with rank 0), as JSON.

    Raises:
        FunctionError: the function needs more than its own text, or an argument is no JSON.
    """

    custom_operator_name = "@task.torchx"
    template_fields: Sequence[str] = (
        *(name for name in TorchXDockerOperator.template_fields if name not in _INSTEAD),
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
        mounts: Sequence[str] = (),
        nproc_per_node: int | str | None = None,
        python: str = "python3",
        wait_for_completion: bool = True,
        result_path: str | None = RESULT_PATH,
        **kwargs: Any,  # noqa: ANN401 - TorchXDockerOperator's own arguments
    ) -> None:
        ensure_portable(python_callable)
        for name in _INSTEAD & kwargs.keys():
            what = f"@task.torchx takes no {name}=: it runs the function."
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

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - any JSON
        """Run the app, and return what the function returned."""
        signature = inspect.signature(self.python_callable)
        given = signature.bind_partial(*self.op_args, **self.op_kwargs).arguments
        asked = (signature.parameters.keys() & context.keys()) - given.keys()
        known = {name: context[name] for name in asked}  # type: ignore[literal-required]
        self.op_kwargs = {**known, **self.op_kwargs}
        return super().execute(context)

    def app_def(self) -> AppDef:
        """Return the app that calls the function.

        Raises:
            FunctionError: the function needs more than its own text, or an argument is no JSON.
            WorkspaceError: ``workspace`` names no sources.
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
            count=int(_number("num_replicas", self.num_replicas)),
            cpu=_number("cpu", self.cpu),
            gpu=int(_number("gpu", self.gpu)),
            memMB=int(_number("memMB", self.memMB)),
            mounts=self.mounts,
            nproc_per_node=None if processes is None else int(_number("nproc_per_node", processes)),
        )

    def _shown_file(self, source: FunctionSource) -> str:
        """Return the function's file as seen from the DAGs folder, which moves with each commit."""
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
    """Make a task of a function: its body runs in the replicas of an app.

    Args:
        python_callable: the function.
        multiple_outputs: push each item of a dict that the function returns under its own key too.
        kwargs: arguments of the task; see ``TorchXDockerOperator``, and for ``num_replicas``,
            ``cpu``, ``gpu``, ``memMB`` and ``nproc_per_node`` docs/decorator.md.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_TorchXDecoratedOperator,
        **kwargs,
    )


def _number(name: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        what = f"{name}={value!r} is no number."
        raise FunctionError(what, fix="Give a number, or a template that renders to one.") from None
