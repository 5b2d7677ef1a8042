"""The labels on our containers; what must be known about an app is written there.

The first four are TorchX's, which makes its own command line work on what we launch. The others
are ours. A user's label may use neither prefix.
"""

from __future__ import annotations

from typing import Final

TORCHX_PREFIX: Final = "torchx.pytorch.org/"
OWN_PREFIX: Final = "airflow-torchx/"
RESERVED_PREFIXES: Final = (TORCHX_PREFIX, OWN_PREFIX)

VERSION: Final = f"{TORCHX_PREFIX}version"
APP_ID: Final = f"{TORCHX_PREFIX}app-id"
ROLE_NAME: Final = f"{TORCHX_PREFIX}role-name"
REPLICA_ID: Final = f"{TORCHX_PREFIX}replica-id"

#: JSON object, role name to number of replicas: what a complete app consists of.
ROLES: Final = f"{OWN_PREFIX}roles"
#: One random word per launch, so that an undo removes its own containers and nobody else's.
LAUNCH_ID: Final = f"{OWN_PREFIX}launch-id"
#: ``fail_fast`` or ``wait_all``, for whoever waits.
FAILURE_POLICY: Final = f"{OWN_PREFIX}failure-policy"
#: Seconds between SIGTERM and SIGKILL, for whoever stops.
STOP_GRACE: Final = f"{OWN_PREFIX}stop-grace-s"
#: The app's name as the user wrote it.
APP_NAME: Final = f"{OWN_PREFIX}app-name"
#: The app's handle, as the session that launched it knows it.
HANDLE: Final = f"{OWN_PREFIX}handle"

#: Digest of the app and its options, by which a later attempt of a task knows its own.
CONFIG_HASH: Final = f"{OWN_PREFIX}config-hash"

#: On workspace images: which workspace, the digest of all that is in it, the id of the image below,
#: and how many layers its files take (0: it was made by a Dockerfile).
WORKSPACE_ID: Final = f"{OWN_PREFIX}workspace-id"
WORKSPACE_KEY: Final = f"{OWN_PREFIX}workspace-key"
WORKSPACE_BASE_ID: Final = f"{OWN_PREFIX}workspace-base-id"
WORKSPACE_DEPTH: Final = f"{OWN_PREFIX}workspace-depth"

#: Where in Airflow the app was launched.
DAG_ID: Final = f"{OWN_PREFIX}dag-id"
RUN_ID: Final = f"{OWN_PREFIX}run-id"
TASK_ID: Final = f"{OWN_PREFIX}task-id"
MAP_INDEX: Final = f"{OWN_PREFIX}map-index"
TRY_NUMBER: Final = f"{OWN_PREFIX}try-number"
MAX_TRIES: Final = f"{OWN_PREFIX}max-tries"
