"""Defines what a dry run returns, under TorchX's names."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_torchx.core.engine.labels import LAUNCH_ID
from airflow_torchx.core.plan.plan_text import render
from airflow_torchx.specs import Workspace
from airflow_torchx.workspace.reading import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_torchx.core.plan.job_plan import JobPlan, LaunchContext
    from airflow_torchx.core.plan.options import Opts
    from airflow_torchx.core.plan.preflight import DaemonFacts
    from airflow_torchx.specs import AppDef
    from airflow_torchx.workspace.reading import Key, ReadWorkspace, WorkspaceImage


@dataclass(frozen=True, kw_only=True)
class CheckedApp:
    """An app whose options are parsed and whose workspaces are read, without the daemon.

    Args:
        app: the app.
        opts: its run options, with defaults.
        workspaces: content of each of its workspaces.
    """

    app: AppDef
    opts: Opts
    workspaces: Mapping[Key, ReadWorkspace] = field(default_factory=dict)

    @property
    def by_content(self) -> AppDef:
        """The app with each workspace replaced by the digest of its content."""
        roles = []
        for role in self.app.roles:
            if role.workspace:
                digest = self.workspaces[key_of(role.image, role.workspace)].content.digest
                roles.append(replace(role, workspace=Workspace({digest: ""})))
            else:
                roles.append(role)
        return replace(self.app, roles=roles)


@dataclass(frozen=True)
class AppDryRunInfo:
    """The plan of a launch; ``print`` shows it as YAML, with secret values masked.

    Args:
        request: the containers to create.
        app: the app that was planned.
        cfg: its run options, with defaults.
        checked: the app as `check` returned it.
        context: ids, environment and labels of the launch.
        facts: facts about the daemon; None if it did not answer.
        images: the workspace images that are not built or pulled yet.
    """

    request: JobPlan
    app: AppDef
    cfg: Opts
    checked: CheckedApp = field(kw_only=True)
    context: LaunchContext = field(kw_only=True)
    facts: DaemonFacts | None = field(default=None, kw_only=True)
    images: Mapping[Key, WorkspaceImage] = field(default_factory=dict, kw_only=True)

    def renewed(self) -> AppDryRunInfo:
        """Return the same launch with a new id, so that its undo spares an earlier launch."""
        context, plan = replace(self.context, launch_id=secrets.token_hex(8)), self.request
        label = {LAUNCH_ID: context.launch_id}
        own = tuple(replace(one, labels={**one.labels, **label}) for one in plan.containers)
        request = replace(plan, launch_id=context.launch_id, containers=own)
        return replace(self, request=request, context=context)

    @property
    def known_images(self) -> dict[str, bool]:
        """Whether the daemon has each image, except for missing ones that a build pulls."""
        found = self.facts.images if self.facts else {}
        pulled = {image.read.content.base for image in self.images.values()}
        return {
            name: detail is not None
            for name, detail in found.items()
            if detail is not None or name not in pulled
        }

    def __repr__(self) -> str:
        return render(self.request)
