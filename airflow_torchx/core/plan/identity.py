"""App ids and container names.

Docker's names match ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``
(https://docs.docker.com/reference/cli/docker/container/create/), and a host name has at most 63
characters (RFC 1035, 2.3.4). If TorchX's scheme, ``{app_id[-30:]}-{role[:30]}-{replica}``, makes a
valid name of an id like TorchX's, that name is used. It would cut DAG and task off the id of a
task's app, so such an id is shortened before its digest instead.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from airflow_torchx.core.engine import labels

MAX_NAME: Final = 63
#: Replica indices have at most four digits.
MAX_REPLICAS: Final = 10_000
#: A container is renamed with this suffix before it is stopped.
CANCELLED_SUFFIX: Final = ".cancelled"
#: A container is renamed with this suffix before it is asked to save a checkpoint.
SAVING_SUFFIX: Final = ".saving"
#: The same for one that is stopped because its app makes no progress.
STALLED_SUFFIX: Final = ".stalled"
#: The same for one that is stopped because new containers will replace those of its app or role.
RESTARTING_SUFFIX: Final = ".restarting"
#: A container is renamed with this suffix if its failure is final although restarts are left.
FAILED_SUFFIX: Final = ".failed"

#: TorchX's maximum length of both parts of a name.
_PART: Final = 30
#: The space for the app and the role, beside replica 9999.
_ROOM: Final = MAX_NAME - len("--9999")
_LEAST_ROLE_PART: Final = _ROOM - _PART
#: The space for DAG and task in an app id: beside ``trainer``, it is in the names of containers.
_READABLE: Final = 33
#: The least space for the role in the name of a task's container; DAG and task get the rest.
_TASK_ROLE_PART: Final = 20
_DIGEST: Final = 8
_MARKS: Final = "-_."
_SUFFIXES: Final = (
    CANCELLED_SUFFIX,
    SAVING_SUFFIX,
    STALLED_SUFFIX,
    FAILED_SUFFIX,
    RESTARTING_SUFFIX,
)
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_.-]+")
_ILLEGAL_START: Final = re.compile(r"^[^a-zA-Z0-9]+")
_STARTING: Final = re.compile(r"\.starting-[0-9a-f]+$")
_LOOKS_DIGESTED: Final = re.compile(rf"-[0-9a-f]{{{_DIGEST}}}$")
# The digest is not hexadecimal: an id with twelve such digits has names by TorchX's scheme.
_TASK_APP: Final = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9_.-]*)(-[a-z2-7]{10}-m\d{1,4}-t\d{1,4})")

# TorchX's alphabets, without vowels and 8, so that ids do not spell words.
_FIRST: Final = "bcdfghjklmnpqrstvwxz"
_REST: Final = _FIRST + "012345679"


def random_app_id(name: str, entropy: int) -> str:
    """Return an app id like TorchX's, ``{name}-{random}``, from 64 random bits.

    Characters that Docker does not allow in names become dashes; TorchX keeps them.
    """
    word = ""
    while entropy > 0:
        alphabet = _REST if word else _FIRST
        entropy, index = divmod(entropy, len(alphabet))
        word += alphabet[index]
    return f"{legal(name) or 'app'}-{word or _FIRST[0]}"


@dataclass(frozen=True, kw_only=True)
class TaskAttempt:
    """One attempt of one Airflow task instance.

    Args:
        task_id: the task, including its task groups.
        map_index: index of a mapped task instance, -1 for an unmapped one.
        max_tries: ``ti.max_tries``, which grows when a user clears the task and not on a retry.
        try_number: the attempt, from 1.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int
    try_number: int

    @property
    def app_id(self) -> str:
        """The app id of this attempt, equal for equal attempts.

        A second submit of the attempt fails with a name conflict instead of starting a second app.
        """
        index = f"-{self.map_index}" if self.map_index >= 0 else ""
        name = _joined(legal(self.dag_id), legal(f"{self.task_id}{index}")) or "app"
        hashed = _sha256(self.dag_id, self.run_id, self.task_id, str(self.map_index)).digest()
        digest = base64.b32encode(hashed)[:10].decode().lower()
        return f"{name}-{digest}{try_suffix(self.max_tries, self.try_number)}"

    @property
    def task_labels(self) -> dict[str, str]:
        """The labels that all attempts of this task in this run have."""
        return {
            labels.DAG_ID: self.dag_id,
            labels.RUN_ID: self.run_id,
            labels.TASK_ID: self.task_id,
            labels.MAP_INDEX: str(self.map_index),
        }

    @property
    def labels(self) -> dict[str, str]:
        """The labels that identify this attempt."""
        return {
            **self.task_labels,
            labels.MAX_TRIES: str(self.max_tries),
            labels.TRY_NUMBER: str(self.try_number),
        }


def try_suffix(max_tries: int, try_number: int) -> str:
    """Return the end of the app id of a task's try."""
    return f"-m{max_tries}-t{try_number}"


def container_name(app_id: str, role: str, replica: int) -> str:
    """Return the name of a replica's container: valid, at most 63 characters, unique in its app.

    It is also the host name and the network alias. Names of different apps differ if their ids end
    in different digests or random words, which is true for ids from this module.
    """
    return f"{_name_of_role(app_id, role)}-{replica}"


@lru_cache(maxsize=256)
def _name_of_role(app_id: str, role: str) -> str:
    """Return the name of a container without the index of its replica."""
    if of_task := _TASK_APP.fullmatch(app_id):
        room = max(_TASK_ROLE_PART, _ROOM - len(app_id))
        role_part = _role_part(role, room, _TASK_ROLE_PART)
        readable, rest = of_task.groups()
        app_part = _shortened(readable, _ROOM - len(role_part) - len(rest)) + rest
    else:
        app_part = legal(app_id[-_PART:]) or _digest(app_id)
        role_part = _role_part(role, min(_ROOM - len(app_part), _PART), _LEAST_ROLE_PART)
    return f"{app_part}-{role_part}"


def first_name(name: str) -> str:
    """Return the name that a container had before it was renamed."""
    if "." not in name:
        return name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return _STARTING.sub("", name)


def cancelled_name(name: str) -> str:
    """Return the name of a container that was cancelled, and has had its time to save."""
    return name if is_stalled_name(name) else first_name(name) + CANCELLED_SUFFIX


def saving_name(name: str, *, cancelled: bool) -> str:
    """Return the name of a container that was asked to save, because it will be stopped."""
    return first_name(name) + SAVING_SUFFIX + (CANCELLED_SUFFIX if cancelled else "")


def is_saving_name(name: str) -> bool:
    """Return whether a container of this name was asked to save, and has not got SIGTERM."""
    return name.removesuffix(CANCELLED_SUFFIX).endswith(SAVING_SUFFIX)


def is_cancelled_name(name: str) -> bool:
    """Return whether a container of this name was cancelled."""
    return name.endswith(CANCELLED_SUFFIX)


def stalled_name(name: str) -> str:
    """Return the name of a container that is stopped because its app makes no progress."""
    return name if is_stopped_name(name) else first_name(name) + STALLED_SUFFIX


def is_stalled_name(name: str) -> bool:
    """Return whether a container of this name was stopped because its app made no progress."""
    return name.endswith(STALLED_SUFFIX)


def restarting_name(name: str) -> str:
    """Return the name of a container that is stopped because new ones will replace it."""
    is_named = is_marked(name) or is_stopped_name(name)
    return name if is_named else first_name(name) + RESTARTING_SUFFIX


def is_restarting_name(name: str) -> bool:
    """Return whether a container of this name was stopped because new ones will replace it."""
    return name.endswith(RESTARTING_SUFFIX)


def is_stopped_name(name: str) -> bool:
    """Return whether a client of ours has stopped a container of this name, or is about to."""
    return is_cancelled_name(name) or is_stalled_name(name) or is_restarting_name(name)


def is_ending_name(name: str) -> bool:
    """Return whether the client that gave a container this name sends SIGTERM to it."""
    return is_stopped_name(name) and not is_saving_name(name)


def failed_name(name: str) -> str:
    """Return the name of a container whose failure is final; one that was stopped keeps its."""
    return name if is_marked(name) else first_name(name) + FAILED_SUFFIX


def is_failed_name(name: str) -> bool:
    """Return whether the failure of a container of this name is final."""
    return name.endswith(FAILED_SUFFIX)


def is_marked(name: str) -> bool:
    """Return whether a container of this name was asked to save or to end, or failed for good."""
    return name.endswith((CANCELLED_SUFFIX, SAVING_SUFFIX, STALLED_SUFFIX, FAILED_SUFFIX))


def round_name(name: str, number: int) -> str:
    """Return the name of a replica's container in a round; that of the launch is the host name."""
    return f"{name}-r{number}" if number else name


def starting_name(name: str, token: str) -> str:
    """Return the name of a container of a round while a client with this token starts it."""
    return f"{name}.starting-{token}"


def is_starting_name(name: str) -> bool:
    """Return whether a client starts the container of this name, or was killed while it did."""
    return _STARTING.search(name) is not None


def digested(start: str, whole: str) -> str:
    """Return a name of at most 63 characters with the start of one, and a digest of all of it."""
    return f"{start[: MAX_NAME - _DIGEST - 1].rstrip(_MARKS)}-{_digest(whole)}"


def legal(text: str) -> str:
    """Return ``text`` with only characters that Docker allows in a name; may be empty."""
    return _ILLEGAL_START.sub("", _ILLEGAL.sub("-", text))


def _role_part(role: str, room: int, shortened_room: int) -> str:
    """Return the role, or a shortened form with a digest if its name is not valid."""
    unchanged = len(role) <= room and role and not _ILLEGAL.search(role)
    if unchanged and not _LOOKS_DIGESTED.search(role):
        return role
    kept = _ILLEGAL.sub("-", role)[: shortened_room - _DIGEST - 1]
    return f"{kept}-{_digest(role)}"


def _joined(dag: str, task: str) -> str:
    """Return the start of a DAG's name and the end of a task's; a short one is kept whole."""
    if not (dag and task):
        return (dag or task)[:_READABLE]
    dag_part = dag[: max(_READABLE // 2, _READABLE - 1 - len(task))]
    return _pieced(dag_part, task[-(_READABLE - 1 - len(dag_part)) :])


def _shortened(text: str, room: int) -> str:
    """Return ``text`` without its middle if it is longer than ``room``."""
    half = room // 2
    return text if len(text) <= room else _pieced(text[: room - half - 1], text[-half:])


def _pieced(start: str, end: str) -> str:
    return f"{start.rstrip(_MARKS)}-{end.lstrip(_MARKS)}"


def _digest(text: str) -> str:
    return _sha256(text).hexdigest()[:_DIGEST]


def _sha256(*parts: str) -> hashlib._Hash:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass"))
