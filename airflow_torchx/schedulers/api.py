"""What schedulers of this package share: the dry run, under TorchX's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_torchx.core.plan.plan_text import render

if TYPE_CHECKING:
    from airflow_torchx.core.plan.job_plan import JobPlan
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.core.workspace.recipe import SourceRoot
    from airflow_torchx.specs import AppDef


@dataclass(frozen=True)
class AppDryRunInfo:
    """What a launch would do; ``print`` it to read it as YAML, with secret values masked.

    Args:
        request: every container, decided.
        app: the app that was planned.
        cfg: its run options, with defaults.
        source_root: where relative sources of its workspaces lie; None for the current folder.
    """

    request: JobPlan
    app: AppDef
    cfg: Opts
    source_root: SourceRoot | None = None

    def __repr__(self) -> str:
        return render(self.request)
