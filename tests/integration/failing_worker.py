"""A worker of torchrun that fails in the way of its argument, on one rank; copied to containers."""

from __future__ import annotations

import os
import signal
import sys
import time


def main() -> None:
    """Fail as the last rank, or lose that peer."""
    how = sys.argv[1]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if how.startswith("gloo"):
        import torch.distributed as dist

        dist.init_process_group("gloo")
    if rank == world - 1:
        fail(how)
    if how.startswith("gloo"):
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.ones(1))
    time.sleep(100)


def fail(how: str) -> None:
    """End this process: by a code, a signal, the memory of its container, or an exception."""
    if how.endswith("exit"):
        sys.exit(85)
    if how.endswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how.endswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if how.endswith("memory"):
        taken = []
        while True:
            taken.append(b"x" * 50_000_000)
    if how.endswith("oom"):
        message = "CUDA out of memory. Tried to allocate 20.00 GiB."
        raise RuntimeError(message)
    message = "loss is NaN"
    raise ValueError(message)


if __name__ == "__main__":
    if "record" in sys.argv[1]:
        from torch.distributed.elastic.multiprocessing.errors import record

        main = record(main)
    main()
