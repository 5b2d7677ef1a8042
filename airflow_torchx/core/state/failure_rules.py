"""Why an app failed, in one word: the failure rules, and what follows from the one that matches."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from airflow_torchx.core.plan.failure_rule import FailureRule, parse_rule
from airflow_torchx.core.state.blame import blamed_replica
from airflow_torchx.core.state.describe import FAILURE_RULES
from airflow_torchx.core.state.out_of_memory import ran_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_torchx.core.state.rule_search import RuleSearch
    from airflow_torchx.specs import DescribeAppResponse, ReplicaStatus

#: Characters of a line in which the match of a rule is shown.
_SEARCHED: Final = 2_000
#: Rules of every app, by priority. docs/why-did-it-fail.md has their advice.
BUILT_IN: Final = (
    # The same model and batch need the same memory in the next try.
    FailureRule(
        name="cuda_out_of_memory",
        pattern=r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        action="fail",
        hints=("out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
        advice="Use a smaller batch, gradient checkpointing, or a larger GPU.",
    ),
    # The driver takes bad memory out of use when the program has ended.
    FailureRule(
        name="gpu_hardware",
        pattern=r"uncorrectable ECC error|NVRM: Xid|GPU has fallen off the bus",
        action="restart",
        hints=("uncorrectable ECC", "NVRM: Xid", "fallen off the bus"),
        advice=(
            "Check the GPU with nvidia-smi -q -d ECC, and take a broken one "
            "out with gpu_ids of the connection."
        ),
    ),
    # `systemctl daemon-reload` takes the GPUs from running containers; a new container has them.
    FailureRule(
        name="gpu_lost",
        pattern=r"Failed to initialize NVML|GPU is lost|no CUDA-capable device is detected",
        action="restart",
        hints=("initialize NVML", "GPU is lost", "no CUDA-capable device"),
        advice=(
            "Run the app again: a new container has the GPUs that systemctl "
            "daemon-reload took from a running one."
        ),
    ),
    # A peer or the network hung; all ranks have to begin again together.
    FailureRule(
        name="nccl_timeout",
        pattern=r"Watchdog caught collective operation timeout",
        action="restart",
        advice=(
            "Find the rank that hung, or raise the timeout of init_process_group if a step is slow."
        ),
    ),
    # The disk is as full for the next try.
    FailureRule(
        name="no_space_left",
        pattern=r"No space left on device",
        action="fail",
        advice="Free space on the disk of the host, or set ipc_mode=host if /dev/shm is full.",
    ),
    # A token that is missing or refused is so in the next try, too.
    FailureRule(
        name="hugging_face_401",
        pattern=r"(?:GatedRepoError|RepositoryNotFoundError): 401 Client Error"
        r"|401 Client Error.{0,200}huggingface\.co",
        action="fail",
        hints=("401 Client Error",),
        advice=(
            'Pass a token with private_env={"HF_TOKEN": ...}, and accept the licence of the model.'
        ),
    ),
    # A node that was late, or a port that an earlier run has not released yet.
    FailureRule(
        name="rendezvous_refused",
        pattern=r"RendezvousConnectionError|DistNetworkError: The client socket has",
        action="restart",
        hints=("RendezvousConnectionError", "DistNetworkError"),
        advice="Check that replica 0 has started, and that its port is free.",
    ),
)


def rules_of(app: DescribeAppResponse) -> tuple[FailureRule, ...]:
    """Return the rules of an app: its own, then the built-in ones without one of the same name.

    Any client can write a label: an entry that is not valid is ignored.
    """
    try:
        entries = json.loads(app.metadata.get(FAILURE_RULES, "[]"))
    except (ValueError, RecursionError):
        entries = []
    own: list[FailureRule] = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            own.append(parse_rule(entry))
        except ValueError:
            continue
    names = {rule.name for rule in own}
    return (*own, *(rule for rule in BUILT_IN if rule.name not in names))


def advice_of(app: DescribeAppResponse, name: str) -> str:
    """Return what to do about a failure that a rule explains; empty for an app's own rule."""
    return next((rule.advice for rule in rules_of(app) if rule.name == name), "")


def failure_action(app: DescribeAppResponse) -> Literal["fail", "restart"] | None:
    """Return what the failure rule of an app asks for; None without one, or if it only names.

    The app is described by `root_cause.diagnosed`.
    """
    name = rule_name(app)
    actions = [rule.action for rule in rules_of(app) if rule.name == name]
    return actions[0] if actions and actions[0] != "none" else None


def final_reason(app: DescribeAppResponse, final_codes: frozenset[int]) -> str | None:
    """Return why the failure of an app, described likewise, does not restart it; None if it does.

    A rule says so, a lack of memory, or the exit code of the worker that failed.
    """
    blamed = blamed_replica(app)
    if failure_action(app) == "fail":
        return f"its failure is explained by the failure rule {rule_name(app)}"
    if blamed is not None and ran_out_of_memory(blamed):
        return "it would lack memory again"
    if blamed is not None and blamed.blamed_exit_code in final_codes:
        return f"a worker ended with exit code {blamed.blamed_exit_code}"
    return None


def rule_name(app: DescribeAppResponse) -> str:
    """Return the name of the rule that explains the failure of an app; empty without one."""
    blamed = blamed_replica(app)
    return blamed.rule if blamed else ""


def rule_line(app: DescribeAppResponse, lines: Sequence[str], search: RuleSearch) -> str:
    """Return the line that the app's own rule for its failure matches; empty if it is not found.

    It is one of the worker's error, or else the last of ``lines``, which have no secrets. The
    built-in rules have advice instead. ``search`` searches for the rules of the app.
    """
    blamed = blamed_replica(app)
    rule = next((one for one in search.rules if blamed and one.name == blamed.rule), None)
    if blamed is None or rule is None or rule.advice:
        return ""
    worker = blamed.worker
    error = f"{worker.message}\n{worker.traceback}".split("\n") if worker else []
    texts = (line[:_SEARCHED] for line in (*error, *reversed(lines)))
    return next((line.strip() for line in texts if search.matches(rule, line)), "")


def with_replicas(
    app: DescribeAppResponse, change: Callable[[ReplicaStatus], ReplicaStatus]
) -> DescribeAppResponse:
    """Return an app with each of its replicas changed."""
    roles = [
        replace(role, replicas=[change(one) for one in role.replicas])
        for role in app.roles_statuses
    ]
    return replace(app, roles_statuses=roles)
