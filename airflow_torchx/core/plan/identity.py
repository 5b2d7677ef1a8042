"""Names: app ids and container names, each computed in one place.

Rules they keep: Docker's names are ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``
(https://docs.docker.com/reference/cli/docker/container/create/), a host name has at most 63
characters (RFC 1035, 2.3.4), and where TorchX's own scheme
``{app_id[-30:]}-{role[:30]}-{replica}`` gives a good name, that is the name.
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
#: A container renamed to its name plus this was told to stop by somebody.
CANCELLED_SUFFIX: Final = ".cancelled"

#: TorchX cuts both parts of a name here.
_PART: Final = 30
#: What is left for the role, next to the longest app and the last replica.
_LEAST_ROLE_PART: Final = MAX_NAME - _PART - len("--9999")
_DIGEST: Final = 8
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_.-]+")
_ILLEGAL_START: Final = re.compile(r"^[^a-zA-Z0-9]+")
_LOOKS_DIGESTED: Final = re.compile(rf"-[0-9a-f]{{{_DIGEST}}}$")

# TorchX's alphabets: no vowels and no 8, so that ids spell no words.
_FIRST: Final = "bcdfghjklmnpqrstvwxz"
_REST: Final = _FIRST + "012345679"


def random_app_id(name: str, entropy: int) -> str:
    """Return TorchX's kind of app id, ``{name}-{random}``, from 64 random bits.

    Characters that are illegal in Docker's names become dashes; TorchX leaves them in.
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
        dag_id: the DAG.
        run_id: the DAG run.
        task_id: the task, with its task groups.
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
        """The app id of this attempt, always the same for the same attempt.

        A second submit so meets Docker's name conflict instead of making a twin.
        """
        place = (self.dag_id, self.run_id, self.task_id, str(self.map_index))
        name = legal(f"{self.dag_id}-{self.task_id}")[:40] or "app"
        return f"{name}-{_digest(*place, length=12)}-m{self.max_tries}-t{self.try_number}"

    @property
    def labels(self) -> dict[str, str]:
        """Where in Airflow the app was launched, for its containers."""
        return {
            labels.DAG_ID: self.dag_id,
            labels.RUN_ID: self.run_id,
            labels.TASK_ID: self.task_id,
            labels.MAP_INDEX: str(self.map_index),
            labels.MAX_TRIES: str(self.max_tries),
            labels.TRY_NUMBER: str(self.try_number),
        }


def container_name(app_id: str, role: str, replica: int) -> str:
    """Return the name of a replica's container: legal, at most 63 characters, unique in its app.

    It is the host name and the network alias too, so peers resolve it. Names of different apps
    differ as long as the last 30 characters of their ids do, which holds for the ids made here.
    """
    app_part = legal(app_id[-_PART:]) or _digest(app_id, length=_DIGEST)
    room = min(MAX_NAME - len(f"{app_part}--{MAX_REPLICAS - 1}"), _PART)
    return f"{app_part}-{_role_part(role, room)}-{replica}"


def cancelled_name(name: str) -> str:
    """Return the name that marks a container as told to stop."""
    return name if is_cancelled_name(name) else name + CANCELLED_SUFFIX


def is_cancelled_name(name: str) -> bool:
    """Tell whether a container of this name was told to stop."""
    return name.endswith(CANCELLED_SUFFIX)


def legal(text: str) -> str:
    """Return ``text`` as Docker allows it in a name; may be empty."""
    return _ILLEGAL_START.sub("", _ILLEGAL.sub("-", text))


def _role_part(role: str, room: int) -> str:
    """Return the role, unchanged where that is legal, else shortened and told apart by a digest."""
    unchanged = len(role) <= room and role and not _ILLEGAL.search(role)
    if unchanged and not _LOOKS_DIGESTED.search(role):
        return role
    kept = _ILLEGAL.sub("-", role)[: _LEAST_ROLE_PART - _DIGEST - 1]
    return f"{kept}-{_digest(role, length=_DIGEST)}"


def _digest(*parts: str, length: int) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:length]
