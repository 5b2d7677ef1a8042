"""App ids and container names.

Docker's names match ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``
(https://docs.docker.com/reference/cli/docker/container/create/), and a host name has at most 63
characters (RFC 1035, 2.3.4). If TorchX's scheme, ``{app_id[-30:]}-{role[:30]}-{replica}``, makes a
valid name, that name is used.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from airflow_torchx.core.engine import labels

MAX_NAME: Final = 63
#: Replica indices have at most four digits.
MAX_REPLICAS: Final = 10_000
#: A container is renamed with this suffix before it is stopped.
CANCELLED_SUFFIX: Final = ".cancelled"

#: TorchX's maximum length of both parts of a name.
_PART: Final = 30
#: The space for the role, beside the longest app part and replica 9999.
_LEAST_ROLE_PART: Final = MAX_NAME - _PART - len("--9999")
_DIGEST: Final = 8
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_.-]+")
_ILLEGAL_START: Final = re.compile(r"^[^a-zA-Z0-9]+")
_LOOKS_DIGESTED: Final = re.compile(rf"-[0-9a-f]{{{_DIGEST}}}$")

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
        key = (self.dag_id, self.run_id, self.task_id, str(self.map_index))
        name = legal(f"{self.dag_id}-{self.task_id}")[:40] or "app"
        return f"{name}-{_digest(*key, length=12)}{try_suffix(self.max_tries, self.try_number)}"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that identify this attempt."""
        return {
            labels.DAG_ID: self.dag_id,
            labels.RUN_ID: self.run_id,
            labels.TASK_ID: self.task_id,
            labels.MAP_INDEX: str(self.map_index),
            labels.MAX_TRIES: str(self.max_tries),
            labels.TRY_NUMBER: str(self.try_number),
        }


def try_suffix(max_tries: int, try_number: int) -> str:
    """Return the end of the app id of a task's try."""
    return f"-m{max_tries}-t{try_number}"


def container_name(app_id: str, role: str, replica: int) -> str:
    """Return the name of a replica's container: valid, at most 63 characters, unique in its app.

    It is also the host name and the network alias. Names of different apps differ if the last 30
    characters of their ids do, which is true for ids from this module.
    """
    app_part = legal(app_id[-_PART:]) or _digest(app_id, length=_DIGEST)
    room = min(MAX_NAME - len(f"{app_part}--{MAX_REPLICAS - 1}"), _PART)
    return f"{app_part}-{_role_part(role, room)}-{replica}"


def cancelled_name(name: str) -> str:
    """Return the name of a container that was cancelled."""
    return name if is_cancelled_name(name) else name + CANCELLED_SUFFIX


def is_cancelled_name(name: str) -> bool:
    """Return whether a container of this name was cancelled."""
    return name.endswith(CANCELLED_SUFFIX)


def legal(text: str) -> str:
    """Return ``text`` with only characters that Docker allows in a name; may be empty."""
    return _ILLEGAL_START.sub("", _ILLEGAL.sub("-", text))


def _role_part(role: str, room: int) -> str:
    """Return the role, or a shortened form with a digest if its name is not valid."""
    unchanged = len(role) <= room and role and not _ILLEGAL.search(role)
    if unchanged and not _LOOKS_DIGESTED.search(role):
        return role
    kept = _ILLEGAL.sub("-", role)[: _LEAST_ROLE_PART - _DIGEST - 1]
    return f"{kept}-{_digest(role, length=_DIGEST)}"


def _digest(*parts: str, length: int) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:length]
