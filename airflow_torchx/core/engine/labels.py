"""The labels of containers and workspace images, which are the only database.

The labels with TorchX's prefix let TorchX's command line find our apps. Both prefixes are
reserved: users' labels cannot start with them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TORCHX_PREFIX: Final = "torchx.pytorch.org/"
OWN_PREFIX: Final = "airflow-torchx/"
RESERVED_PREFIXES: Final = (TORCHX_PREFIX, OWN_PREFIX)

VERSION: Final = f"{TORCHX_PREFIX}version"
APP_ID: Final = f"{TORCHX_PREFIX}app-id"
ROLE_NAME: Final = f"{TORCHX_PREFIX}role-name"
REPLICA_ID: Final = f"{TORCHX_PREFIX}replica-id"

#: JSON object, role name to number of replicas.
ROLES: Final = f"{OWN_PREFIX}roles"
#: Random id of the launch, so that an undo removes only the containers of its own launch.
LAUNCH_ID: Final = f"{OWN_PREFIX}launch-id"
#: ``fail_fast`` or ``wait_all``.
FAILURE_POLICY: Final = f"{OWN_PREFIX}failure-policy"
#: The app's own failure rules, a JSON list of objects with name, action and pattern.
FAILURE_RULES: Final = f"{OWN_PREFIX}failure-rules"
PROGRESS_PATTERN: Final = f"{OWN_PREFIX}progress-pattern"
#: Seconds between SIGTERM and SIGKILL.
STOP_GRACE: Final = f"{OWN_PREFIX}stop-grace-s"
#: JSON list of the roles whose end is the end of the app; absent if all are.
ESSENTIAL_ROLES: Final = f"{OWN_PREFIX}essential-roles"
#: Seconds between SIGTERM and SIGKILL for the other roles.
AUXILIARY_GRACE: Final = f"{OWN_PREFIX}auxiliary-grace-s"
#: Signal by which replicas are asked to save a checkpoint, like ``SIGUSR1``; absent for none.
CHECKPOINT_SIGNAL: Final = f"{OWN_PREFIX}checkpoint-signal"
#: Seconds that they need for that.
CHECKPOINT_S: Final = f"{OWN_PREFIX}checkpoint-s"
#: Volume, host path or URL of an app's checkpoints; also on a volume that a launch has created.
CHECKPOINT: Final = f"{OWN_PREFIX}checkpoint"
#: The app's folder in it.
CHECKPOINT_FOLDER: Final = f"{OWN_PREFIX}checkpoint-folder"
#: Seconds between two uploads to that URL; absent without a URL.
CHECKPOINT_INTERVAL: Final = f"{OWN_PREFIX}checkpoint-interval-s"
#: Seconds without progress after which the app is stopped; absent for never.
STALLED_AFTER: Final = f"{OWN_PREFIX}stalled-after-s"
#: JSON object, role name to ``[retry policy, max_retries]`` of the roles that new containers
#: restart; on all containers of an app. Absent if no process waits for the app.
RETRIES: Final = f"{OWN_PREFIX}retries"
#: Exit codes that do not restart the app, separated by commas.
NO_RESTART_EXIT_CODES: Final = f"{OWN_PREFIX}no-restart-exit-codes"
#: Number of the round that created the container, over the whole app; absent for the launch.
ROUND: Final = f"{OWN_PREFIX}round"
#: JSON list of the roles that this round restarts.
ROUND_ROLES: Final = f"{OWN_PREFIX}round-roles"
#: JSON object, role name to the number of rounds that a failure of this role has caused so far.
RESTARTS: Final = f"{OWN_PREFIX}restarts"
#: The app's name, as given by the user.
APP_NAME: Final = f"{OWN_PREFIX}app-name"
#: The app's handle.
HANDLE: Final = f"{OWN_PREFIX}handle"

#: Hash of the app and its options; a later attempt reattaches only to an app with the same hash.
CONFIG_HASH: Final = f"{OWN_PREFIX}config-hash"

#: Workspace images: id of the workspace, digest of its content, id of the base image, number of
#: layers with its files (0: built from a Dockerfile).
WORKSPACE_ID: Final = f"{OWN_PREFIX}workspace-id"
WORKSPACE_KEY: Final = f"{OWN_PREFIX}workspace-key"
WORKSPACE_BASE_ID: Final = f"{OWN_PREFIX}workspace-base-id"
WORKSPACE_DEPTH: Final = f"{OWN_PREFIX}workspace-depth"

#: The task attempt that launched the app.
DAG_ID: Final = f"{OWN_PREFIX}dag-id"
RUN_ID: Final = f"{OWN_PREFIX}run-id"
TASK_ID: Final = f"{OWN_PREFIX}task-id"
MAP_INDEX: Final = f"{OWN_PREFIX}map-index"
TRY_NUMBER: Final = f"{OWN_PREFIX}try-number"
MAX_TRIES: Final = f"{OWN_PREFIX}max-tries"
#: What the task does with the containers at its end: ``delete``, ``keep`` or ``keep_failed``; or
#: ``detached``, if it does not wait for the app.
ON_FINISH: Final = f"{OWN_PREFIX}on-finish"

#: Ids of the GPUs that a container holds, separated by commas; empty for none. Of the markers, a
#: claim has some.
GPUS: Final = f"{OWN_PREFIX}gpus"
#: What a container is for: a ``lock``, ``ticket`` or ``claim`` never starts, and a ``probe`` runs
#: ``nvidia-smi``.
GPU_MARKER: Final = f"{OWN_PREFIX}gpu-marker"
#: Id of the app that waits for GPUs; not `APP_ID`, because the container is not a replica.
GPU_APP: Final = f"{OWN_PREFIX}gpu-app"
#: Number of GPUs that a ticket waits for.
GPU_COUNT: Final = f"{OWN_PREFIX}gpu-count"
#: Ids of the GPUs that a ticket waits for some of.
GPU_AMONG: Final = f"{OWN_PREFIX}gpu-among"
#: Whether GPUs of other programs are free for an app: ``respect`` or ``ignore``.
GPU_FOREIGN: Final = f"{OWN_PREFIX}gpu-foreign"
#: Seconds after which others may remove a ticket that could be served, a claim, or a lock.
GPU_TIMEOUT: Final = f"{OWN_PREFIX}gpu-timeout-s"

#: Of a service of a swarm, which cannot be renamed: the name of its container at its creation.
SWARM_NAME: Final = f"{OWN_PREFIX}container-name"
#: The name that its container has now; absent until it is renamed.
SWARM_MARK: Final = f"{OWN_PREFIX}renamed-to"

#: Of the service that one client has while it starts the replicas of an app: the id of the app.
SWARM_LOCK: Final = f"{OWN_PREFIX}placing"
#: Of the services of an app of a swarm: why they wait for room, on the first one that waits.
SWARM_WAITS: Final = f"{OWN_PREFIX}waits-for-room"
#: How often, and when last, their replicas were taken back because the others had no room, like
#: ``2 2026-08-01T12:00:00+00:00``.
SWARM_TAKEN_BACK: Final = f"{OWN_PREFIX}taken-back"
#: Id of the node that a replica was given to by an option of placement.
SWARM_PIN: Final = f"{OWN_PREFIX}pinned-to"

#: JSON list of the constraints that the nodes of an app's replicas meet; absent for none.
CONSTRAINTS: Final = f"{OWN_PREFIX}constraints"
#: How many replicas of an app a node runs at most; absent for no limit.
MAX_PER_NODE: Final = f"{OWN_PREFIX}max-replicas-per-node"
#: ``pack`` or ``spread``; absent if the swarm chooses.
PLACEMENT: Final = f"{OWN_PREFIX}placement"
#: Seconds that an app waits for room before it fails; absent for no limit.
PENDING_TIMEOUT: Final = f"{OWN_PREFIX}pending-timeout-s"

#: Value of a label that a container does not have, and that its image has. It names
#: this package, because a role, a DAG or a task may be named ``of-image``.
OF_IMAGE: Final = "airflow-torchx:of-image"
# What describes an image also describes its containers.
_OF_IMAGES: Final = frozenset({WORKSPACE_ID, WORKSPACE_KEY, WORKSPACE_BASE_ID, WORKSPACE_DEPTH})


def masked(of_image: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """Return a container's own labels, and `OF_IMAGE` for reserved ones that its image has.

    An image that a user has committed from a container of an app has its labels. A container
    inherits each label that it does not set, and cannot be without it.
    """
    reserved = (name for name in of_image if name.startswith(RESERVED_PREFIXES))
    return {**{name: OF_IMAGE for name in reserved if name not in _OF_IMAGES}, **own}


def without_masked(found: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a container without those that `masked` has added."""
    return {name: value for name, value in found.items() if value != OF_IMAGE}


def are_in(wanted: Mapping[str, str | None], found: Mapping[str, str]) -> bool:
    """Return whether all wanted labels are there; the value None matches any."""
    for name, value in wanted.items():
        if name not in found or value not in (None, found[name]):
            return False
    return True


def json_of(found: Mapping[str, str], name: str) -> Any:  # noqa: ANN401 - any client can write it
    """Return the JSON in a label; None for anything else."""
    if name not in found:
        return None
    try:
        return json.loads(found[name])
    except (ValueError, RecursionError):
        return None


def number(text: str, *, max_digits: int = 6) -> int | None:
    """Return the number in a label, which any client can write; None for anything else.

    A longer number counts as something else: Python raises for more than 4,300 digits.
    """
    return int(text) if text.isdecimal() and len(text) <= max_digits else None


def printable(text: str) -> str:
    """Return a label, which any client can write, as one line for a log or a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)
