"""Run tasks of this package and of Airflow's Docker provider in one DAG, and time each `execute`.

Usage: python tests/benchmarks/tasks_worker.py airflow_torchx ROUNDS IMAGE

Prints one JSON object: the seconds of each `execute` of our operator, and of Airflow's own on the
`torchx` network and on Docker's default one.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Final

_DAG_FILE: Final = '''\
"""Operators in turn, each with one container that ends at once."""

import json
import time
from pathlib import Path

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import DAG, chain

from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import AppDef, Role

HERE = Path(__file__).parent


class Timed:
    def execute(self, context):
        began = time.perf_counter()
        result = super().execute(context)
        spent = [self.task_id.partition("_")[0], time.perf_counter() - began]
        with (HERE / "seconds.jsonl").open("a") as file:
            print(json.dumps(spent), file=file)
        return result


class Ours(Timed, TorchXDockerOperator):
    pass


class Theirs(Timed, DockerOperator):
    pass


app = AppDef("bench", [Role("one", {image!r}, entrypoint="true")])
docker = {{
    "image": {image!r},
    "command": "true",
    "auto_remove": "force",
    "mount_tmp_dir": False,
}}
with DAG("bench", schedule=None) as dag:
    chain(*(
        task
        for number in range({rounds})
        for task in (
            Ours(task_id=f"ours_{{number}}", app=app),
            Theirs(task_id=f"torchx_{{number}}", network_mode="torchx", **docker),
            Theirs(task_id=f"bridge_{{number}}", **docker),
        )
    ))
'''


def main() -> None:
    """Run the DAG in a fresh Airflow, and print what its tasks took."""
    rounds, image = int(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory(prefix="airflow-torchx-bench-") as home:
        os.environ |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        }
        file = Path(home, "bench.py")
        file.write_text(_DAG_FILE.format(rounds=rounds + 1, image=image))
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from airflow.utils.db import initdb

            initdb()
            sys.path.insert(0, home)
            bench = importlib.import_module("bench")

            run = bench.dag.test()
        if run.state != "success":
            raise RuntimeError(f"the DAG run is {run.state}")
        spent: dict[str, list[float]] = {"ours": [], "torchx": [], "bridge": []}
        for line in Path(home, "seconds.jsonl").read_text().splitlines():
            operator, seconds = json.loads(line)
            spent[operator].append(seconds)
    # The first of each has imported what it needs.
    print(json.dumps({operator: seconds[1:] for operator, seconds in spent.items()}))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
