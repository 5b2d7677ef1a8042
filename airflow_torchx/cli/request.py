"""Builds the request of ``run`` from its command line and ``.torchxconfig``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx import components
from airflow_torchx.cli.commands import SCHEDULERS
from airflow_torchx.cli.screen import warn
from airflow_torchx.core.plan.option_text import read_options, split_dict
from airflow_torchx.core.plan.options import Opts, snake_case
from airflow_torchx.errors import InvalidAppError, UsageError
from airflow_torchx.specs import MISSING, NONE
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from airflow_torchx.cli.torchxconfig import TorchXConfig
    from airflow_torchx.specs import AppDef

#: TorchX's variable for experiment tracking.
PARENT_RUN_ID: Final = "TORCHX_PARENT_RUN_ID"
_SEE: Final = "See `airflow-torchx runopts`."


@dataclass(frozen=True)
class Request:
    """Holds the arguments of ``run``."""

    component: str
    arguments: tuple[str, ...]
    options: Opts
    #: None for the current folder, empty for none.
    workspace: str | None
    #: What of ``.torchxconfig`` is ignored.
    warnings: tuple[str, ...] = ()


def build_request(args: Namespace, config: TorchXConfig, environ: Mapping[str, str]) -> Request:
    """Return the request of a command line, with defaults from the configuration."""
    defaults = config.command("run")
    arguments = [*args.component_name_and_args]
    if arguments[:1] == ["--"]:
        del arguments[0]
    component = defaults.get("component", "")
    if arguments and not arguments[0].startswith("-"):
        component, *arguments = arguments
    if not component:
        fix = "Name one, like dist.ddp, or set it in .torchxconfig: [cli:run] component = dist.ddp."
        raise UsageError("no component given", fix=fix)
    scheduler = args.scheduler or defaults.get("scheduler") or SCHEDULERS[0]
    if scheduler not in SCHEDULERS:
        what = f"unknown scheduler {scheduler!r} in .torchxconfig"
        raise UsageError(f"{what}; {suggest(scheduler, SCHEDULERS)}")
    options, unknown = _options(args.scheduler_args or "", config.scheduler(scheduler))
    if not options.trackers:
        options = replace(options, trackers=config.trackers(environ))
    warnings = [f"ignoring unknown run option {name!r} in .torchxconfig" for name in unknown]
    if unread := ", ".join(f"[{name}]" for name in config.without_effect(environ)):
        warnings.append(f"sections of .torchxconfig without effect: {unread}")
    workspace = defaults.get("workspace") if args.workspace is None else args.workspace
    return Request(component, tuple(arguments), options, workspace, tuple(warnings))


def build_app(request: Request, config: TorchXConfig) -> AppDef:
    """Return the app that the component builds, with defaults from ``[component:NAME]``."""
    name = request.component
    return components.parse(name, request.arguments, defaults=config.component(name))


def ensure_images(app: AppDef, component: str) -> None:
    """Raise a `UsageError` that says how to set the image if a role has none."""
    if all(role.image not in {"", MISSING, NONE} for role in app.roles):
        return
    if "image" in inspect.signature(components.get(component)).parameters:
        fix = f"Pass --image, or set image under [component:{component}] in .torchxconfig."
    else:
        fix = "It has no option for one. Use utils.sh to run a program of any image, or a DAG."
    raise UsageError(f"component {component!r} has no image", fix=fix)


def parent_run_id(given: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the id of the parent run: as in TorchX, the variable wins over the command line.

    It prints a warning if the two differ.
    """
    run_id = environ.get(PARENT_RUN_ID, given)
    if given not in (None, run_id):
        warn(f"ignoring --parent_run_id {given}: {PARENT_RUN_ID}={run_id} wins, as in TorchX")
    return run_id


def with_parent(app: AppDef, run_id: str | None) -> AppDef:
    """Return the app with the id of its parent run in the environment."""
    if not run_id:
        return app
    roles = [replace(role, env={**role.env, PARENT_RUN_ID: run_id}) for role in app.roles]
    return replace(app, roles=roles)


def wants_help(request: Request) -> bool:
    """Return whether the component's ``--help`` is requested; its ``-h`` is another argument."""
    arguments = request.arguments
    return "--help" in arguments[: arguments.index("--") if "--" in arguments else None]


def _options(cfg: str, config: Mapping[str, str]) -> tuple[Opts, tuple[str, ...]]:
    """Return the run options of ``-cfg`` over the configuration, and its unknown names."""
    names = set(Opts.__dataclass_fields__)
    unknown = tuple(name for name in config if snake_case(name) not in names)
    try:
        pairs = split_dict(cfg)
    except ValueError:
        fix = f"Use -cfg KEY=VALUE,KEY2=VALUE2, and quote a value that contains =. {_SEE}"
        raise UsageError("-cfg is not a list of KEY=VALUE pairs", fix=fix) from None
    given, problems = read_options(pairs)
    defaults, more = read_options({name: config[name] for name in config if name not in unknown})
    overridden = {snake_case(name) for name in given}
    values = {key: value for key, value in defaults.items() if snake_case(key) not in overridden}
    try:
        options = Opts.parse(values | given)
    except InvalidAppError as error:
        more += error.problems
    else:
        if not problems and not more:
            return options, unknown
    lines = "\n".join(f"  - {problem}" for problem in (*problems, *more))
    raise UsageError(f"invalid run options in -cfg or .torchxconfig:\n{lines}", fix=_SEE)
