"""What ``run`` is asked for: its command line over ``.torchxconfig``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from airflow_torchx import components
from airflow_torchx.cli.commands import SCHEDULERS
from airflow_torchx.components.literals import split_dict
from airflow_torchx.core.plan.option_text import read_options
from airflow_torchx.core.plan.options import Opts, snake_case
from airflow_torchx.errors import InvalidAppError, UsageError
from airflow_torchx.specs import MISSING, NONE
from airflow_torchx.specs.suggest import suggest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from airflow_torchx.cli.torchxconfig import TorchXConfig
    from airflow_torchx.specs import AppDef

#: TorchX's, for experiment tracking.
PARENT_RUN_ID: Final = "TORCHX_PARENT_RUN_ID"
_SEE: Final = "`airflow-torchx runopts` shows all run options."


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Args:
        component: its name.
        words: its command line.
        options: run options, checked.
        workspace: code to lay over; None for the current folder, empty for none.
        unknown: options in ``.torchxconfig`` that do not exist.
    """

    component: str
    words: tuple[str, ...]
    options: Opts
    workspace: str | None
    unknown: tuple[str, ...] = ()


def requested(args: Namespace, config: TorchXConfig) -> Request:
    """Return what a command line asks for, and the configuration where it is silent.

    Raises:
        UsageError: one of both is wrong.
    """
    defaults = config.command("run")
    words = [*args.component_name_and_args]
    if words[:1] == ["--"]:
        del words[0]
    component = defaults.get("component", "")
    if words and not words[0].startswith("-"):
        component, *words = words
    if not component:
        fix = "Name one, like dist.ddp, or set it in .torchxconfig: [cli:run] component = dist.ddp."
        raise UsageError("no component is given.", fix=fix)
    scheduler = args.scheduler or defaults.get("scheduler") or SCHEDULERS[0]
    options, unknown = _options(args.scheduler_args or "", config.scheduler(_known(scheduler)))
    workspace = defaults.get("workspace") if args.workspace is None else args.workspace
    return Request(component, tuple(words), options, workspace, unknown)


def app_of(request: Request, config: TorchXConfig) -> AppDef:
    """Return the app that the component makes, with defaults from ``[component:NAME]``.

    Raises:
        ComponentError: there is no such component, or it does not take these arguments.
    """
    name = request.component
    return components.parse(name, request.words, defaults=config.component(name))


def ensure_images(app: AppDef, component: str) -> None:
    """Refuse an app without an image as long as somebody can say how to give one.

    Raises:
        UsageError: a role has none.
    """
    if all(role.image not in {"", MISSING, NONE} for role in app.roles):
        return
    if "image" in inspect.signature(components.get(component)).parameters:
        fix = f"Give --image, or set image under [component:{component}] in .torchxconfig."
    else:
        fix = "It takes none here. In a DAG image= gives one; utils.sh runs a program of any image."
    raise UsageError(f"component {component!r} has no image to run in.", fix=fix)


def with_parent(app: AppDef, run_id: str | None) -> AppDef:
    """Return an app whose processes know the run that they belong to."""
    if not run_id:
        return app
    roles = [replace(role, env={**role.env, PARENT_RUN_ID: run_id}) for role in app.roles]
    return replace(app, roles=roles)


def wants_help(request: Request) -> bool:
    """Tell whether the component's help is asked for; ``-h`` is an argument of components."""
    words = request.words
    return "--help" in words[: words.index("--") if "--" in words else len(words)]


def _known(scheduler: str) -> str:
    if scheduler not in SCHEDULERS:
        what = f"there is no scheduler {scheduler!r} here, which .torchxconfig names."
        raise UsageError(what, fix=f"{suggest(scheduler, SCHEDULERS).capitalize()}.")
    return scheduler


def _options(written: str, config: Mapping[str, str]) -> tuple[Opts, tuple[str, ...]]:
    names = set(Opts.__dataclass_fields__)
    unknown = tuple(name for name in config if snake_case(name) not in names)
    try:
        pairs = split_dict(written)
    except ValueError:
        what = "-cfg is no list of KEY=VALUE pairs."
        fix = f"Write -cfg KEY=VALUE,KEY2=VALUE2, a value with = in it in quotes. {_SEE}"
        raise UsageError(what, fix=fix) from None
    own, problems = read_options(pairs)
    under, more = read_options({name: config[name] for name in config if name not in unknown})
    spelled = {snake_case(name) for name in own}
    chosen = {name: value for name, value in under.items() if snake_case(name) not in spelled} | own
    try:
        options = Opts.parse(chosen)
    except InvalidAppError as why:
        more += why.problems
    else:
        if not problems and not more:
            return options, unknown
    listed = "\n".join(f"  - {problem}" for problem in (*problems, *more))
    what = f"these run options, from -cfg and .torchxconfig, cannot be:\n{listed}"
    raise UsageError(what, fix=_SEE)
