"""Declares the commands and their arguments, from which our parser and Airflow's are built."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names of the schedulers: TorchX's of one daemon, a shorter one of it, and that of a swarm.
SCHEDULERS: Final = ("local_docker", "docker", "docker_swarm")
#: What only TorchX has of its command line, and what to do instead.
ONLY_TORCHX: Final = {
    "configure": "write .torchxconfig yourself",
    "tracker": "use the command torchx",
    "--stdin": "write the component and its arguments as arguments",
    "--buck-target": "use --workspace",
    **dict.fromkeys(
        ("aws_batch", "gcp_batch", "kubernetes", "local_cwd", "lsf", "slurm"),
        "here, the schedulers are local_docker and docker_swarm",
    ),
}
HANDLE: Final = "SCHEDULER://SESSION/APP_ID"


class Once(argparse.Action):
    """Accepts an option once, as TorchX does, or with the same value again."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Set the value, or raise `argparse.ArgumentError` if another one is already set."""
        before = getattr(namespace, self.dest, None)
        if before is not None and self.meaning(before) != self.meaning(values):
            raise argparse.ArgumentError(self, "given more than once, with different values")
        setattr(namespace, self.dest, values)

    def meaning(self, value: object) -> object:
        """Return what is equal for values that mean the same."""
        return value


class OneScheduler(Once):
    """Accepts both names of one daemon's scheduler."""

    def meaning(self, value: object) -> object:
        """Return the scheduler."""
        return canonical(str(value))


def canonical(scheduler: str) -> str:
    """Return the name of a scheduler in handles."""
    return SCHEDULERS[0] if scheduler == SCHEDULERS[1] else scheduler


class OneCfg(Once):
    """Accepts the same run options in any spelling and order."""

    def meaning(self, value: object) -> object:
        """Return the run options, or the text if they are invalid."""
        from airflow_torchx.core.plan.option_text import read_options
        from airflow_torchx.core.plan.options import Opts
        from airflow_torchx.errors import InvalidOptionsError

        options, problems = read_options(str(value))
        try:
            return value if problems else Opts.parse(options)
        except InvalidOptionsError:
            return value


@dataclass(frozen=True)
class Argument:
    """Holds the arguments of `argparse.ArgumentParser.add_argument`."""

    flags: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """Describes one command."""

    name: str
    help: str
    #: ``module:name`` in this package; it takes parsed arguments and returns the exit code.
    function: str
    arguments: tuple[Argument, ...] = ()
    epilog: str = ""


def _argument(*flags: str, **settings: Any) -> Argument:  # noqa: ANN401 - argparse's own
    once = {"action": Once} if flags[0].startswith("-") else {}
    return Argument(flags, {**once, **settings})


def _flag(*flags: str, help: str) -> Argument:  # noqa: A002 - argparse's name
    return _argument(*flags, action="store_true", default=False, help=help)


_SCHEDULER: Final = _argument(
    "-s",
    "--scheduler",
    choices=SCHEDULERS,
    action=OneScheduler,
    help="docker and local_docker: the daemon that the docker command line uses; docker_swarm: the "
    "swarm of which this daemon is a manager",
)
_CFG: Final = _argument(
    "-cfg",
    "--scheduler_args",
    metavar="KEY=VALUE,KEY2=VALUE2",
    action=OneCfg,
    help="run options, with lists as a;b and mappings as env=A:1;B:2 (see runopts)",
)
_APP: Final = _argument(
    "app_handle",
    metavar=HANDLE,
    help="app handle, app id, or unique prefix of an app id",
)
_JSON: Final = _flag("--json", help="print JSON to standard output")

_CONN: Final = _argument(
    "--conn",
    metavar="ID",
    help="Airflow connection of the daemon (default: the daemon that the docker command line uses)",
)

#: The command ``run``.
RUN: Final = Command(
    "run",
    "launch a component, show its logs, and wait for it to end",
    "run:run",
    (
        _SCHEDULER,
        _CFG,
        _flag("--dryrun", help="print the launch request, secrets masked, and do not launch it"),
        _flag("--wait", help="wait for the app to end (always on)"),
        _flag("--log", help="show the logs (always on)"),
        _flag("--tee_logs", help="prefix each log line with its replica (always on)"),
        _flag("-d", "--detach", help="print the handle and leave the app running"),
        _argument(
            "--workspace",
            metavar="FOLDER",
            help="folder to copy into the image of every role (default: the current folder; "
            'none: "")',
        ),
        _argument(
            "--parent_run_id",
            metavar="ID",
            help="id of the parent run, for experiment tracking; "
            "the variable TORCHX_PARENT_RUN_ID wins",
        ),
        _JSON,
        _argument(
            "component_name_and_args",
            nargs=argparse.REMAINDER,
            metavar="COMPONENT ...",
            help="component, like dist.ddp or path/to/file.py:function, and its arguments; "
            "see COMPONENT --help",
        ),
    ),
    "The handle is printed to standard output, everything else to standard error. The exit code is "
    "0 if the app succeeds, 2 if the command line is invalid, else 1. Ctrl-C asks whether to "
    "cancel the app; a second Ctrl-C leaves it running.",
)

COMMANDS: Final = (
    RUN,
    Command(
        "status",
        "show the state of an app and its replicas",
        "apps:status",
        (
            _SCHEDULER,
            _APP,
            _argument("--roles", metavar="ROLE,ROLE2", help="show only these roles"),
            _JSON,
        ),
    ),
    Command(
        "log",
        "show the logs of an app",
        "log:log",
        (
            _SCHEDULER,
            _argument("--regex", help="show only lines that match"),
            _flag("-t", "--tail", help="show new lines until the app ends"),
            _flag("--last-round", help="leave out what was written before the last restart"),
            _argument(
                "--streams", choices=("stdout", "stderr", "combined"), help="show only this output"
            ),
            _argument(
                "--since",
                metavar="TIME",
                help="show only lines after this time: 10m or 2h ago, or a date and time",
            ),
            _argument("--until", metavar="TIME", help="show only lines before this time"),
            _argument(
                "identifier",
                metavar=f"{HANDLE}[/ROLE[/ID,ID2]]",
                help="the app, one of its roles, or replicas of that role",
            ),
        ),
    ),
    Command(
        "list",
        "list the apps on the daemon or the swarm",
        "apps:list_apps",
        (_SCHEDULER, _CFG, _JSON),
    ),
    Command(
        "prune",
        "remove what has no owner, like apps whose task is over, and old images",
        "prune:prune",
        (
            _flag("--dry-run", help="print what would be removed, and change nothing"),
            _argument(
                "--older-than",
                metavar="DURATION",
                help="remove ended apps that are kept, and those outside Airflow, after this time, "
                "like 90m or 7d (default: 1d)",
            ),
            _flag(
                "--checkpoints",
                help="also remove volumes with checkpoints of a URL that only one DAG run uses, "
                "if it ended before that time, and its task is over",
            ),
            _flag(
                "--gone",
                help="also remove apps of DAG runs that this Airflow does not have: deleted ones, "
                "and those of any other Airflow on the daemon; ended ones at once",
            ),
            _SCHEDULER,
            _CONN,
            _JSON,
        ),
        "`airflow torchx prune` asks Airflow which tasks are over. `airflow-torchx prune` does so "
        "with --conn; without it, it leaves all apps of tasks alone, and --gone and --checkpoints "
        "have no effect.",
    ),
    Command(
        "gpus",
        "list the GPUs of a daemon or a swarm, what holds them, and the apps that wait for some",
        "gpus:gpus",
        (
            _SCHEDULER,
            _CONN,
            _JSON,
        ),
    ),
    Command("describe", "show all details of an app", "apps:describe", (_SCHEDULER, _APP, _JSON)),
    Command("cancel", "stop an app and keep its containers", "apps:cancel", (_SCHEDULER, _APP)),
    Command("delete", "stop an app and remove its containers", "apps:delete", (_SCHEDULER, _APP)),
    Command(
        "runopts",
        "list the run options for -cfg and .torchxconfig",
        "listings:runopts",
        (_argument("scheduler", nargs="?", choices=SCHEDULERS, help="a swarm has less options"),),
    ),
    Command(
        "builtins",
        "list the components, or show the help or the source of one",
        "listings:builtins",
        (
            _argument("component", nargs="?", metavar="COMPONENT", help="show its help"),
            _argument(
                "--print", metavar="COMPONENT", help="print its source, to start your own from it"
            ),
        ),
    ),
)
