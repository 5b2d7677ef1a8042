"""A DAG of one task, run by `dag.test()`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow.sdk import DAG

from airflow_torchx.core.engine import labels
from airflow_torchx.operators import TorchXDockerOperator
from tests.airflow.in_process import run_dag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk import BaseOperator, Context

    from airflow_torchx.core.engine.containers import ContainerRow
    from airflow_torchx.core.engine.protocol import Engine

TASK_ID: Final = "gang"

# dag.test() runs only what is in the DAGs folder of its Airflow.
_DAG_FILE: Final = f"""\
from {__name__} import read_dag

dag = read_dag(__file__)
"""


class Ended:
    """What became of a DAG run.

    Args:
        run: the run.
        errors: what was raised by the attempts of its task that failed, in their order.
        rows: the containers of its apps that are left on the daemon.
    """

    def __init__(
        self, run: DagRun, errors: Sequence[BaseException], rows: Sequence[ContainerRow]
    ) -> None:
        self._run = run
        self.state: str = run.state
        self.errors = errors
        self.rows = rows

    @property
    def task_state(self) -> str:
        """The state of the task, which is not mapped."""
        return str(self.ti.state)

    @property
    def ti(self) -> TaskInstance:
        """The task instance, which is not mapped."""
        ti = self._run.get_task_instance(TASK_ID)
        assert ti is not None
        return ti

    @property
    def error(self) -> BaseException:
        """The only error."""
        (error,) = self.errors
        return error

    def xcom(self, key: str = "return_value", *, map_index: int = -1) -> Any:  # noqa: ANN401 - any JSON
        """Return what a task instance pushed, None if nothing."""
        ti = self._run.get_task_instance(TASK_ID, map_index=map_index)
        assert ti is not None
        return ti.xcom_pull(task_ids=TASK_ID, key=key, map_indexes=map_index)


class OneTask:
    """Runs a TorchXDockerOperator, or another operator, as the only task of a DAG.

    Args:
        dags: the DAGs folder.
        engine: the daemon on which its apps run.
        dag_id: id of the DAG.
        deferrable: how its task waits, unless an argument of `run` says otherwise.
    """

    def __init__(
        self, dags: Path, engine: Engine, dag_id: str, *, deferrable: bool = False
    ) -> None:
        self._engine = engine
        self._file = dags / f"{dag_id}.py"
        self._deferrable = deferrable

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for file in (self._file, self._pickle):
            file.unlink(missing_ok=True)

    @property
    def _pickle(self) -> Path:
        return self._file.with_suffix(".pickle")

    def run(
        self,
        operator: type[BaseOperator] = TorchXDockerOperator,
        *,
        expand: Mapping[str, Any] | None = None,
        **arguments: Any,  # noqa: ANN401 - the operator's arguments
    ) -> Ended:
        """Run the task with these arguments, mapped over those in ``expand``."""
        if issubclass(operator, TorchXDockerOperator):
            arguments.setdefault("deferrable", self._deferrable)
        self._pickle.write_bytes(pickle.dumps((operator, arguments, dict(expand or {}))))
        self._file.write_text(_DAG_FILE)
        errors: list[BaseException] = []

        def remember(context: Context) -> None:
            error = context["exception"]
            assert isinstance(error, BaseException)
            errors.append(error)

        dag = read_dag(self._file, on_failure_callback=remember, on_retry_callback=remember)
        run = run_dag(dag)
        return Ended(run, errors, self.rows())

    def rows(self) -> list[ContainerRow]:
        """Return the containers on the daemon that this DAG's tasks launched."""
        return list(self._engine.rows({labels.DAG_ID: self._file.stem}))


def read_dag(file: Path | str, **callbacks: Any) -> DAG:  # noqa: ANN401 - BaseOperator's arguments
    """Return the DAG that belongs to a file of the DAGs folder."""
    written = Path(file).with_suffix(".pickle").read_bytes()
    operator, arguments, expand = pickle.loads(written)  # noqa: S301 - our own
    arguments |= callbacks
    with DAG(Path(file).stem, schedule=None) as dag:
        if expand:
            operator.partial(task_id=TASK_ID, **arguments).expand(**expand)
        else:
            operator(task_id=TASK_ID, **arguments)
    return dag
