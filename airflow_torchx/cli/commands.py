"""What the command line understands, as data: ours and Airflow's parser are made of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names of the one scheduler, TorchX's and a shorter one.
SCHEDULERS: Final = ("local_docker", "docker")
HANDLE: Final = "SCHEDULER://SESSION/APP_ID"


class Once(argparse.Action):
    """Takes one value, and refuses a second one, as TorchX does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Set the value.

        Raises:
            argparse.ArgumentError: there is one already.
        """
        if getattr(namespace, self.dest, None) is not None:
            raise argparse.ArgumentError(self, "is given more than once")
        setattr(namespace, self.dest, values)


@dataclass(frozen=True)
class Argument:
    """One argument, as `argparse.ArgumentParser.add_argument` takes it.

    Args:
        flags: its spellings, or its name if it is positional.
        settings: the keyword arguments.
    """

    flags: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: its name.
        help: what it does, in one line.
        function: where its function is, ``module:name`` in this package; it takes the parsed
            arguments and returns an exit code.
        arguments: what it takes.
        epilog: what else there is to say, below the help.
    """

    name: str
    help: str
    function: str
    arguments: tuple[Argument, ...] = ()
    epilog: str = ""


def _argument(*flags: str, **settings: Any) -> Argument:  # noqa: ANN401 - argparse's own
    return Argument(flags, settings)


def _flag(*flags: str, help: str) -> Argument:  # noqa: A002 - argparse's word
    return _argument(*flags, action="store_true", default=False, help=help)


_SCHEDULER: Final = _argument(
    "-s",
    "--scheduler",
    choices=SCHEDULERS,
    action=Once,
    help="docker and local_docker are the same: the Docker daemon that the docker command line "
    "would use",
)
_CFG: Final = _argument(
    "-cfg",
    "--scheduler_args",
    metavar="KEY=VALUE,KEY2=VALUE2",
    action=Once,
    help="run options; lists as a;b, mappings as env=A:1;B:2 (see runopts)",
)
_APP: Final = _argument(
    "app_handle",
    metavar=HANDLE,
    help="the app; its id alone will do, or the beginning of an id that no other app has",
)
_JSON: Final = _flag("--json", help="write JSON to standard output")

_RUN: Final = Command(
    "run",
    "launch a component, show its logs, and wait until it ends",
    "run:run",
    (
        _SCHEDULER,
        _CFG,
        _flag("--dryrun", help="only show what would be launched, secrets masked"),
        _flag("--wait", help="wait until the app ends, which is what happens anyway"),
        _flag("--log", help="show the logs meanwhile, which is what happens anyway"),
        _flag("--tee_logs", help="name the replica before each line, which is what happens anyway"),
        _flag("-d", "--detach", help="do not wait: write the handle and leave the app running"),
        _argument(
            "--workspace",
            action=Once,
            metavar="FOLDER",
            help="code to lay over the image of every role; the current folder unless given, "
            "none if empty",
        ),
        _argument(
            "--parent_run_id",
            action=Once,
            metavar="ID",
            help="run that this one belongs to, for experiment tracking",
        ),
        _JSON,
        _argument(
            "component_name_and_args",
            nargs=argparse.REMAINDER,
            metavar="COMPONENT ...",
            help="like dist.ddp or path/to/file.py:function, and its arguments; COMPONENT --help "
            "tells them",
        ),
    ),
    "The handle goes to standard output, all else to standard error. The exit code is 0 if the app "
    "succeeded, 2 if the command line is wrong, else 1. Ctrl-C asks whether to cancel the app; a "
    "second one leaves it running.",
)

COMMANDS: Final = (
    _RUN,
    Command(
        "status",
        "show the state of an app and of each replica",
        "apps:status",
        (
            _APP,
            _argument(
                "--roles", default="", metavar="ROLE,ROLE2", help="only the replicas of these roles"
            ),
            _JSON,
        ),
    ),
    Command(
        "log",
        "show what the replicas of an app write",
        "log:log",
        (
            _argument("--regex", help="only lines in which this matches"),
            _flag("-t", "--tail", help="stay, and show new lines until the app ends"),
            _argument("--streams", choices=("stdout", "stderr", "combined"), help="which output"),
            _argument(
                "--since",
                metavar="WHEN",
                help="only lines from then on: 10m, 2h, or a date and time",
            ),
            _argument("--until", metavar="WHEN", help="only lines up to then"),
            _argument(
                "identifier",
                metavar=f"{HANDLE}[/ROLE[/ID,ID2]]",
                help="the app, a role of it, or some replicas of that role",
            ),
        ),
    ),
    Command("list", "show all apps on the daemon", "apps:list_apps", (_SCHEDULER, _CFG, _JSON)),
    Command("describe", "show all that is known of an app", "apps:describe", (_APP, _JSON)),
    Command("cancel", "stop an app; its containers stay", "apps:cancel", (_APP,)),
    Command("delete", "stop an app if it runs, and remove it", "apps:delete", (_APP,)),
    Command(
        "runopts",
        "show the run options, for -cfg and .torchxconfig",
        "listings:runopts",
        (_argument("scheduler", nargs="?", choices=SCHEDULERS, help="docker or local_docker"),),
    ),
    Command(
        "builtins",
        "show the components, or one of them",
        "listings:builtins",
        (
            _argument("component", nargs="?", metavar="COMPONENT", help="how this one is called"),
            _argument("--print", metavar="COMPONENT", help="the same, as TorchX spells it"),
        ),
    ),
)
