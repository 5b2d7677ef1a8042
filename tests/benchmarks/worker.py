"""One measurement with one scheduler; the same lines drive TorchX's and ours.

Usage: worker.py PACKAGE launch REPLICAS IMAGE
       worker.py PACKAGE describe APP_ID TIMES
       worker.py PACKAGE list TIMES
       worker.py airflow_torchx log CONTAINER
       worker.py airflow_torchx gang_log APP_ID rules|plain
PACKAGE is torchx or airflow_torchx. Prints one JSON object.
"""

import importlib
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def main(package: str, verb: str, *args: str) -> dict[str, object]:
    """Measure one verb and return seconds, and what else it is asked for."""
    if verb == "log":
        return log(args[0])
    if verb == "gang_log":
        return gang_log(args[0], with_rules=args[1] == "rules")
    specs = importlib.import_module(f"{package}.specs")
    module = importlib.import_module(f"{package}.schedulers.docker_scheduler")
    scheduler = module.create_scheduler("bench")
    if verb == "launch":
        role = specs.Role(
            "bench",
            args[1],
            entrypoint="sleep",
            args=["600"],
            num_replicas=int(args[0]),
            resource=specs.Resource(cpu=1, gpu=0, memMB=64),
        )
        info = scheduler.submit_dryrun(specs.AppDef("bench", [role]), {})
        began = time.perf_counter()
        app_id = scheduler.schedule(info)
        return {"seconds": time.perf_counter() - began, "app_id": app_id}
    if verb == "describe":
        return {"seconds": median(lambda: scheduler.describe(args[0]), int(args[1]))}
    if verb == "list":
        return {"seconds": median(scheduler.list, int(args[0]))}
    raise SystemExit(__doc__)


def log(container: str) -> dict[str, object]:
    """Read a log to its end; return its lines too, and the peak of this process's memory in MB."""
    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.runtime.replica_log import ReplicaLog

    with DockerEngine.connect() as engine:
        began = time.perf_counter()
        lines = sum(1 for _ in ReplicaLog(engine, container))
        seconds = time.perf_counter() - began
    # Not `ru_maxrss`: a process begins with that of the one that started it, which may be larger.
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": seconds, "lines": lines, "peak_mb": int(peak_kb) / 1024}


def gang_log(app_id: str, *, with_rules: bool) -> dict[str, object]:
    """Write the logs of an app that has ended to nowhere; return the CPU seconds of this process.

    They are the cost whatever else the machine does: the threads of a log share one core.
    """
    from airflow_torchx.core.state.rule_matches import RuleMatches
    from airflow_torchx.core.state.rule_search import RuleSearch
    from airflow_torchx.docker_engine import DockerEngine
    from airflow_torchx.runtime import attach
    from airflow_torchx.runtime.gang_log import GangLog

    class NoLog(GangLog):
        """Counts the lines."""

        lines = 0

        def emit(self, _replica: object, lines: Sequence[object]) -> None:
            self.lines += len(lines)

    with DockerEngine.connect() as engine, NoLog(engine, attach.look(engine, app_id)) as written:
        if not with_rules:
            written.matches = RuleMatches(RuleSearch(()))
        began = time.process_time()
        written.finish(600, lambda: False)
        seconds = time.process_time() - began
    return {"seconds": seconds, "lines": written.lines}


def median(call: Callable[[], object], times: int) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    call()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201 - the answer
