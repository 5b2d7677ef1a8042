"""How our containers differ from TorchX's, and why: all that may differ is on these lists.

`test_containers` fails for what is missing here, and for what is here and no longer happens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from airflow_torchx import __version__
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import MAX_NAME, legal
from tests.parity.comparison import Difference, Intended, Pair

#: What Docker generates for each container.
OF_EACH_CONTAINER: Final = (
    "Id",
    "Created",
    "GraphDriver.Data.*",
    # A volume without a name, which the image asks for.
    "Mounts./anonymous.Name",
    "Mounts./anonymous.Source",
    # Of a container that runs.
    "State.Pid",
    "State.StartedAt",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "NetworkSettings.SandboxID",
    "NetworkSettings.SandboxKey",
    "NetworkSettings.Networks.*.EndpointID",
    "NetworkSettings.Networks.*.IPAddress",
    "NetworkSettings.Networks.*.MacAddress",
)


def _command_is_the_role(pair: Pair, _difference: Difference) -> bool:
    ours = pair.ours["Config.Entrypoint"] + pair.ours.get("Config.Cmd", [])
    return len(pair.ours["Config.Entrypoint"]) == 1 and bool(ours == pair.theirs["Config.Cmd"])


def _image_had_an_entrypoint(pair: Pair, _difference: Difference) -> bool:
    ran = [pair.ours["Path"], *pair.ours.get("Args", [])]
    return "Config.Entrypoint" in pair.theirs and ran == pair.theirs["Config.Cmd"]


def _name_has_room(pair: Pair, difference: Difference) -> bool:
    """Whether TorchX's name would be too long a host name for replica 9999, or another role's."""
    role = pair.ours[f"Config.Labels.{labels.ROLE_NAME}"]
    longest = re.sub(r"\d+$", "9999", pair.theirs["Config.Hostname"])
    doubtful = len(longest) > MAX_NAME or len(role) > 30 or re.search(r"-[0-9a-f]{8}$", role)
    ours = str(difference.ours).removeprefix("/")
    shortened = re.fullmatch(r"[a-zA-Z0-9][\w.-]*-[0-9a-f]{8}-\d+", ours)
    return bool(doubtful and shortened and len(ours) <= MAX_NAME)


def _host_is_rank0(pair: Pair, difference: Difference) -> bool:
    """Whether replica 0 is found under our name; and is called otherwise by TorchX, or there."""
    theirs, ours = (side["Config.Hostname"] for side in (pair.theirs_rank0, pair.ours_rank0))
    return bool(difference.ours == ours and (difference.theirs != theirs or theirs != ours))


def _alias_is_the_name(pair: Pair, difference: Difference) -> bool:
    sides = zip((pair.theirs, pair.ours), difference[1:], strict=True)
    # Docker adds the id of a container when it starts.
    theirs, ours = ({*_listed(found)} - {side["Id"][:12]} for side, found in sides)
    return ours == {pair.ours["Config.Hostname"]} and theirs <= {pair.theirs["Config.Hostname"]}


def _replica_knows_itself(pair: Pair, difference: Difference) -> bool:
    index, role, roles = (
        pair.ours[f"Config.Labels.{name}"]
        for name in (labels.REPLICA_ID, labels.ROLE_NAME, labels.ROLES)
    )
    count = f"{json.dumps(role)}: {difference.ours}"
    is_index = difference.path.endswith("_IDX")
    told = difference.ours == index if is_index else re.search(rf"{re.escape(count)}[,}}]", roles)
    return difference.theirs is None and bool(told)


def _has_rounds(pair: Pair) -> bool:
    return f"Config.Labels.{labels.RETRIES}" in pair.ours


def _restarts_by_rounds(pair: Pair, difference: Difference) -> bool:
    return _has_rounds(pair) and difference.ours in {None, "", "no", 0}


def _gpu_is_asked_for(_pair: Pair, difference: Difference) -> bool:
    asked = [{**request, "Capabilities": _GPU} for request in _listed(difference.theirs)]
    return bool(asked) and difference.ours == asked


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_nearer(_pair: Pair, difference: Difference) -> bool:
    """Whether ours is a whole number of millionths of a cpu, and theirs is the one below."""
    theirs, ours = (side if isinstance(side, int) else 0 for side in difference[1:])
    return theirs == ours - 1 and ours % 1000 == 0


def _is_a_workspace(pair: Pair, _difference: Difference) -> bool:
    theirs, ours = (side["Config.Image"] for side in (pair.theirs, pair.ours))
    return bool(re.match("sha256:", theirs) and re.match("airflow-torchx/workspace:", ours))


def _is_made_legal(_pair: Pair, difference: Difference) -> bool:
    theirs, ours = (str(side).removeprefix(_HANDLE) for side in difference[1:])
    return legal(theirs) == ours


_GPU: Final = [["gpu"]]
_HANDLE: Final = "local_docker://torchx/"

INTENDED: Final = {
    "the role's command replaces the image's": Intended(
        paths=("Config.Entrypoint", "Config.Cmd"),
        holds=_command_is_the_role,
        why="TorchX passes the entrypoint of a role as the first word of Docker's command, so an"
        " image with an ENTRYPOINT of its own runs that one with the role's words as arguments.",
    ),
    "what runs in an image with an ENTRYPOINT": Intended(
        paths=("Path", "Args"),
        holds=_image_had_an_entrypoint,
        why="The effect of the same: the role's program runs, not the image's.",
    ),
    "our labels": Intended(
        paths=(f"Config.Labels.{labels.OWN_PREFIX}*",),
        holds=lambda _pair, difference: difference.theirs is None,
        why="All that is known of an app is written on its containers.",
    ),
    "the version label": Intended(
        paths=(f"Config.Labels.{labels.VERSION}",),
        holds=lambda _pair, difference: difference.ours == __version__,
        why="It tells who launched the app.",
    ),
    "the time to stop": Intended(
        paths=("Config.StopTimeout",),
        holds=lambda _pair, difference: difference == ("Config.StopTimeout", None, 10),
        why="The option stop_grace_s applies to every client that stops the container; Docker's"
        " default is the same.",
    ),
    "the time that torchrun leaves its workers": Intended(
        paths=("Config.Env.TORCH_ELASTIC_SHUTDOWN_TIMEOUT",),
        holds=lambda _pair, difference: difference[1:] == (None, "7"),
        why="torchrun kills its workers 30 s after it has passed SIGTERM on; Docker kills torchrun"
        " after stop_grace_s. A save of 45 s is lost by the first, so the time is derived.",
    ),
    "the file with a program's progress": Intended(
        paths=("Config.Env.TORCHX_PROGRESS_FILE",),
        holds=lambda _pair, difference: (
            difference[1:] == (None, "/tmp/torchx_progress.jsonl")  # noqa: S108 - in a container
        ),
        why="A program that appends its step to the file is shown with its progress.",
    ),
    "the file with a worker's error": Intended(
        paths=("Config.Env.TORCHELASTIC_ERROR_FILE",),
        holds=lambda _pair, difference: (
            difference[1:] == (None, "/tmp/torchelastic_error.json")  # noqa: S108 - in a container
        ),
        why="torchrun ends with code 1 whatever its workers end with. TorchX's local scheduler sets"
        " this variable for the same reason; its Docker scheduler does not.",
    ),
    "the session of TorchX's process": Intended(
        paths=("Config.Env.TORCHX_INTERNAL_SESSION_ID",),
        holds=lambda _pair, difference: difference.ours is None,
        why="An id of the launching process for TorchX's own telemetry; there is no such process.",
    ),
    "a replica's index and the number of replicas": Intended(
        paths=("Config.Env.TORCHX_REPLICA_IDX", "Config.Env.TORCHX_NUM_REPLICAS"),
        holds=_replica_knows_itself,
        why="A program can divide its work by them. A role or the option env that sets such a"
        " variable keeps it; one that is copied is of the launching process.",
    ),
    "the restarts of an app or a role": Intended(
        paths=("HostConfig.RestartPolicy*",),
        holds=_restarts_by_rounds,
        why="TorchX has Docker restart a failed replica alone, whatever the policy. Its peers have"
        " lost their rendezvous. The process that waits for the app restarts them together.",
    ),
    "the number of restarts": Intended(
        paths=("Config.Env.TORCHX_RESTART",),
        holds=lambda pair, difference: difference[1:] == (None, "0") and _has_rounds(pair),
        why="A program learns whether it continues, in an app that is restarted as one.",
    ),
    "names with room for every replica": Intended(
        paths=("Name", "Config.Hostname"),
        holds=_name_has_room,
        why="A host name has at most 63 characters, also that of replica 9999, and roles that begin"
        " alike are told apart: a long role, or one that looks like a shortened one, is given a"
        " digest.",
    ),
    "the host of replica 0": Intended(
        paths=("Config.Env.TORCHX_RANK0_HOST",),
        holds=_host_is_rank0,
        why="It is the name of replica 0's container; TorchX forgets that it took punctuation from"
        " the front of that name, so its peers cannot resolve it.",
    ),
    "the network alias": Intended(
        paths=("NetworkSettings.Networks.torchx.Aliases",),
        holds=_alias_is_the_name,
        why="Peers resolve a container that a cancel has renamed. Docker makes the same alias of a"
        " host name when it starts a container, but promises it nowhere.",
    ),
    "the capability of a GPU": Intended(
        paths=("HostConfig.DeviceRequests",),
        holds=_gpu_is_asked_for,
        why="The drivers of all vendors have the capability gpu, which `docker run --gpus` names;"
        " some lack the others (https://github.com/meta-pytorch/torchx/issues/825). Where a daemon"
        " reports the ids of its GPUs, each replica has its own: auto_set_gpus, which is off here.",
    ),
    "cpus are rounded": Intended(
        paths=("HostConfig.NanoCpus",),
        holds=_is_nearer,
        why="TorchX cuts 1000999999.9999999 to a billionth of a cpu less than was asked for.",
    ),
    "the image of a workspace": Intended(
        paths=("Image", "Config.Image", "Config.Env.TORCHX_IMAGE"),
        holds=_is_a_workspace,
        why="Its tag is made of its content, so the same workspace is the same image.",
    ),
    "the folder of a workspace": Intended(
        paths=("Config.WorkingDir",),
        holds=lambda _pair, difference: difference[1:] == ("", "/workspace"),
        why="On a base without a working directory TorchX copies the files into the root folder.",
    ),
    "ids of legal characters": Intended(
        paths=(f"Config.Labels.{labels.APP_ID}", "Config.Env.TORCHX_JOB_ID"),
        holds=_is_made_legal,
        why="A slash in an app id breaks the handle that it is a part of.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An app that TorchX, we, or both refuse.

    Args:
        torchx: pattern of TorchX's error; None where TorchX accepts it.
        ours: pattern of our error; None where we accept it.
        why: the reason, where it is not both.
    """

    torchx: str | None
    ours: str | None
    why: str = ""


def _both(torchx: str, ours: str) -> Refusal:
    return Refusal(torchx=torchx, ours=ours)


_ILLEGAL_NAME: Final = Refusal(
    torchx="Invalid container name",
    ours=None,
    why="TorchX makes a name that Docker refuses; we make one that it takes.",
)


def _cannot_run(ours: str) -> Refusal:
    why = "Docker creates the container, and cannot run it; we refuse before anything is created."
    return Refusal(torchx=None, ours=ours, why=why)


def _mistake(ours: str) -> Refusal:
    why = "TorchX does not look at it, and so hides a mistake."
    return Refusal(torchx=None, ours=ours, why=why)


REFUSED: Final = {
    "an app with a space": _ILLEGAL_NAME,
    "an app with a slash": _ILLEGAL_NAME,
    "an app with an accent": _ILLEGAL_NAME,
    "a role with a space": _ILLEGAL_NAME,
    "a role with an accent": _ILLEGAL_NAME,
    "two roles that begin alike": Refusal(
        torchx="The container name .* is already in use",
        ours=None,
        why="TorchX gives both the same name; we tell them apart by a digest.",
    ),
    "two roles that differ in case only": Refusal(
        torchx=None,
        ours="2 roles are named 'ps'",
        why="Docker's name server takes them for one, so peers would reach either.",
    ),
    "the entrypoint that means none": _cannot_run("no entrypoint is given"),
    "an argument with a zero byte": _cannot_run("contains a zero byte"),
    "less than the least cpu": _cannot_run("below Docker's minimum"),
    "a variable with an equals sign in its name": _mistake("is not a valid environment variable"),
    "more replicas needed than launched": _mistake("3 is not a minimum of 2 replicas"),
    "retries that are negative": _mistake("-1 is negative"),
    "a port that is none": _mistake("70000 is not a port number"),
    "an app without roles": _both("No roles for app", "the app has no roles"),
    "two roles of one name": _both("is already in use", "2 roles are named 'trainer'"),
    "a role with a slash": _both("Invalid container name", "is not a valid name"),
    "no replicas": _both("Non-positive replicas", "0 replicas are not possible"),
    "no entrypoint": _both("No entrypoint for role", "no entrypoint is given"),
    "a variable without a name": _both(
        "invalid environment variable", "is not a valid environment variable"
    ),
    "less than the least memory": _both("Minimum memory limit", "below Docker's minimum"),
    "more cpus than there are": _both("Range of CPUs", "4096 CPUs are more than the"),
    "an image with capitals": _both("must be lowercase", "in lower case"),
    "mount: a source that is not there": _both("does not exist", "does not exist"),
    "mount: a target that is relative": _both("must be absolute", "is not an absolute path"),
    "mount: the root as a target": _both("can't be '/'", "can't be '/'"),
    "mount: a volume of a bad name": _both("invalid characters", "invalid characters"),
    "mount: two at one target": _both("Duplicate mount point", "2 mounts have the dst_path"),
}
