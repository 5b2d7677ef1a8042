"""Whether lack of memory made a replica fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_torchx.specs import ReplicaStatus

_KILLED: Final = (137, -9)
#: What programs, Python and PyTorch's data loader write of a lack of memory on the host.
_SAYS_SO: Final = re.compile(
    r"\bMemoryError\b|[Cc]annot allocate memory|\bstd::bad_alloc\b|killed by signal: Killed"
)


def ran_out_of_memory(replica: ReplicaStatus) -> bool:
    """Return whether a replica, or the worker that is blamed for its failure, lacked memory.

    Docker's flag alone does not say so: it stays once the kernel has killed any process of a
    container. So the process that ended the replica must have been killed, or its error must say
    so. Without an exit code, the flag counts.
    """
    if not replica.oom_killed:
        return False
    worker = replica.worker
    codes = {replica.exit_code, worker.exit_code if worker else None} - {None}
    if not codes or codes & {*_KILLED} or (worker and worker.signal == "SIGKILL"):
        return True
    texts = (replica.error, *((worker.message, worker.traceback) if worker else ()))
    return any(_SAYS_SO.search(text) for text in texts)
