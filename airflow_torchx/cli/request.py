"""Builds the request of ``run`` from its command line and ``.torchxconfig``."""

from __future__ import annotations

import contextlib
import inspect
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_torchx import components
from airflow_torchx.cli.commands import RUN, SCHEDULERS, canonical
from airflow_torchx.cli.screen import warn
from airflow_torchx.core.connection.swarm import SWARM_NETWORK
from airflow_torchx.core.plan.option_text import read_options
from airflow_torchx.core.plan.options import Opts, snake_case
from airflow_torchx.core.workspace.source import parse_workspace
from airflow_torchx.errors import AirflowTorchXError, InvalidAppError, UsageError, WorkspaceError
from airflow_torchx.specs import MISSING, NONE
from airflow_torchx.specs.handle import SWARM_SCHEDULER
from airflow_torchx.specs.suggest import nearest, suggest
from airflow_torchx.workspace.dockerignore import IGNORE_FILE
from airflow_torchx.workspace.left_out import is_listed
from airflow_torchx.workspace.source import check_local

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow_torchx.cli.torchxconfig import TorchXConfig
    from airflow_torchx.specs import AppDef

#: TorchX's variable for experiment tracking.
PARENT_RUN_ID: Final = "TORCHX_PARENT_RUN_ID"
_SEE: Final = "See `airflow-torchx runopts`."
_OPTIONS: Final = frozenset(Opts.__dataclass_fields__)
#: Keys of ``[cli:run]``.
_DEFAULTS: Final = ("component", "scheduler", "workspace")
#: Run options of a scheduler that differ from those of one daemon.
_OF_SCHEDULER: Final = {SWARM_SCHEDULER: {"network": SWARM_NETWORK}}
_FLAGS: Final = frozenset(flag for argument in RUN.arguments for flag in argument.flags)


#: What to do about a workspace that the user may not have meant.
WORKSPACE_FIX: Final = (
    'Set --workspace to another folder, or to "" for none: --workspace "". '
    "The default is the current folder."
)


@dataclass(frozen=True)
class Request:
    """Holds the arguments of ``run``."""

    component: str
    arguments: tuple[str, ...]
    options: Opts
    #: None for the current folder, empty for none.
    workspace: str | None
    #: Its name in handles.
    scheduler: str = SCHEDULERS[0]
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
    workspace = defaults.get("workspace") if args.workspace is None else args.workspace
    request = Request(component, tuple(arguments), Opts(), workspace, canonical(scheduler))
    try:
        options = run_options(args.scheduler_args or "", _configured(config, scheduler))
    except UsageError as error:
        more = [] if wants_help(request) else messages_of(lambda: prepare(request, config))
        raise UsageError("\n".join([str(error), *more])) from None
    if not options.trackers:
        options = replace(options, trackers=config.trackers(environ))
    warnings = _warnings(component, scheduler, config, environ)
    return replace(request, options=options, warnings=tuple(warnings))


def _configured(config: TorchXConfig, scheduler: str) -> dict[str, str]:
    """Return the run options of a scheduler in the configuration, over its own defaults."""
    return {**_OF_SCHEDULER.get(scheduler, {}), **config.scheduler(scheduler)}


def build_app(request: Request, config: TorchXConfig) -> AppDef:
    """Return the app that the component builds, with defaults from ``[component:NAME]``.

    Defaults that the component does not have are warned of.
    """
    name, defaults = request.component, config.component(request.component)
    function = components.get(name)
    known = [*inspect.signature(function).parameters]
    for key in defaults:
        if key not in known:
            warn(f"ignoring {_hinted(key, known)} in [component:{name}] of .torchxconfig")
    return components.call(name, function, request.arguments, defaults=defaults, outer=_FLAGS)


def prepare(request: Request, config: TorchXConfig) -> tuple[AppDef, str]:
    """Return the app of a request and its workspace, or raise one error with all problems."""
    # The component's code may change the folder.
    try:
        workspace = workspace_of(request.workspace)
    except (UsageError, WorkspaceError) as error:
        more = messages_of(lambda: _app_with_images(request, config))
        if not more:
            raise
        raise UsageError("\n".join([str(error), *more])) from None
    return _app_with_images(request, config), workspace


def messages_of(check: Callable[[], object]) -> list[str]:
    """Return the message of the error that a check raises, or an empty list."""
    try:
        check()
    except AirflowTorchXError as error:
        return [str(error)]
    return []


def _app_with_images(request: Request, config: TorchXConfig) -> AppDef:
    # The component's code may print.
    with contextlib.redirect_stdout(sys.stderr):
        app = build_app(request, config)
    ensure_images(app, request.component)
    return app


def workspace_of(given: str | None) -> str:
    """Return the workspace; the default is the current folder unless it is empty, as in TorchX.

    A folder with nothing but version control and the like counts as empty.

    Raises:
        UsageError: the current folder cannot be a workspace.
        WorkspaceError: the given one is invalid, or a folder of it does not exist.
    """
    if given is not None:
        check_local(parse_workspace(given), Path())
        return given
    try:
        here = Path.cwd()
    except FileNotFoundError:
        fix = "Change to another folder."
        raise UsageError("the current folder does not exist", fix=fix) from None
    # Naming a folder takes all of it, but standing in one does not name it.
    if here == here.parent or is_listed(here.name, is_folder=True):
        raise UsageError(f"{here} cannot be the workspace", fix=WORKSPACE_FIX)
    has_files = any(
        item.name == IGNORE_FILE or not is_listed(item.name, is_folder=item.is_dir())
        for item in here.iterdir()
    )
    return str(here) if has_files else ""


def _warnings(
    component: str, scheduler: str, config: TorchXConfig, environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield what of ``.torchxconfig`` is ignored, with the nearest known name."""
    for name in _unknown(config.scheduler(scheduler)):
        yield f"ignoring unknown run option {_hinted(name, _OPTIONS)} in .torchxconfig"
    for name in config.command("run"):
        if name not in _DEFAULTS:
            yield f"ignoring {_hinted(name, _DEFAULTS)} in [cli:run] of .torchxconfig"
    for tracker in config.trackers(environ):
        for name in config.section(section := f"tracker:{tracker}"):
            if name != "config":
                yield f"ignoring {_hinted(name, ['config'])} in [{section}] of .torchxconfig"
    if unread := [*_unread(component, config, environ)]:
        yield f"sections of .torchxconfig without effect: {', '.join(unread)}"


def _unread(component: str, config: TorchXConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the sections without effect, with the section that may be meant."""
    known = [*SCHEDULERS, "cli:run", "torchx:tracker", f"component:{component}"]
    trackers = [f"tracker:{name}" for name in config.trackers(environ)]
    for name in config.without_effect(environ):
        near = nearest(name, trackers if name.startswith("tracker:") else known)
        yield f"[{name}]" + (f" (did you mean [{near}]?)" if near else "")
    ours = [f"component:{name}" for name in components.names()]
    for name in config.sections:
        is_ours = name.startswith(("component:dist.", "component:utils."))
        if is_ours and name not in ours and (near := nearest(name, ours)):
            yield f"[{name}] (did you mean [{near}]?)"


def _hinted(name: str, known: Iterable[str]) -> str:
    """Return a name in quotes, with the nearest known one."""
    near = nearest(name, known)
    return f"{name!r} (did you mean {near!r}?)" if near else repr(name)


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


def run_options(cfg: str, config: Mapping[str, str] | None = None) -> Opts:
    """Return the run options of ``-cfg`` over those in a configuration.

    Names in the configuration that are unknown are ignored.

    Raises:
        UsageError: ``-cfg`` has another form, or options are invalid; it has all problems.
    """
    given, problems = read_options(cfg)
    config = config or {}
    unknown = _unknown(config)
    defaults, more = read_options({name: config[name] for name in config if name not in unknown})
    overridden = {snake_case(name) for name in given}
    values = {key: value for key, value in defaults.items() if snake_case(key) not in overridden}
    try:
        options = Opts.parse(values | given)
    except InvalidAppError as error:
        more += error.problems
    else:
        if not problems and not more:
            return options
    lines = "\n".join(f"  - {problem}" for problem in (*problems, *more))
    raise UsageError(f"invalid run options in -cfg or .torchxconfig:\n{lines}", fix=_SEE)


def _unknown(config: Mapping[str, str]) -> list[str]:
    return [name for name in config if snake_case(name) not in _OPTIONS]
