"""Fit a small network, save it every few steps, and continue from the last save."""
# ruff: noqa: INP001, T201 -- a script that prints
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

LAST = Path(os.environ["TORCHX_CHECKPOINT_DIR"], "last.pt")


class StopRequest:
    """Remembers the signal that asks this process to save and end."""

    def __init__(self) -> None:
        self.signal = 0
        # torchrun and Docker send them; the handler only notes it, because it may interrupt a step.
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = number

    def of_any_rank(self) -> int:
        """Return the signal that any rank has got, so that all ranks end after the same step."""
        asked = torch.tensor(self.signal)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return int(asked)


class Training:
    """A model, its optimizer, and the number of steps that it has been trained for."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        points = torch.randn(512, 8)
        shard = slice(dist.get_rank(), None, dist.get_world_size())
        self.points, self.labels = points[shard], points.prod(dim=1).sign().relu()[shard]
        layers = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        self.model = DistributedDataParallel(layers)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.step, self.loss = 0, 0.0

    def restore(self) -> None:
        """Continue from the last checkpoint, if it exists."""
        if LAST.exists():
            state = torch.load(LAST, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.loss = state["step"], state["loss"]

    def advance(self) -> None:
        """Train for one step."""
        self.optimizer.zero_grad()
        logits = self.model(self.points)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, self.labels)
        loss.backward()
        self.optimizer.step()
        self.step, self.loss = self.step + 1, loss.item()

    def report(self, steps: int) -> None:
        """Say how far the training is, for the page and the task log."""
        path = os.environ.get("TORCHX_PROGRESS_FILE")
        if path and os.environ["LOCAL_RANK"] == "0":
            with Path(path).open("a") as file:
                done = {"step": self.step, "total": steps, "metrics": {"loss": self.loss}}
                print(json.dumps(done), file=file)

    def save(self, save_s: float) -> None:
        """Replace the last checkpoint; a process that is killed leaves the old one or the new."""
        new = LAST.with_suffix(".new")
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        with new.open("wb") as file:
            torch.save({**parts, "step": self.step, "loss": self.loss}, file)
            file.flush()
            os.fsync(file.fileno())
        time.sleep(save_s)  # as long as a large model takes
        new.replace(LAST)
        say(f"saved step {self.step}")


def say(line: str) -> None:
    """Print a line in one write: torchrun copies what it finds at the time, even half a line."""
    print(f"{line}\n", end="")


def train(steps: int, save_every: int, step_s: float, save_s: float) -> Training:
    """Train up to a step.

    Raises:
        SystemExit: a signal asked for the end; everything is saved.
    """
    request, rank = StopRequest(), dist.get_rank()
    training = Training()
    training.restore()
    say(f"rank {rank} starts after step {training.step} in process {os.getpid()}")
    while training.step < steps:
        training.advance()
        training.report(steps)
        say(f"rank {rank} step {training.step} loss {training.loss:.3f}")
        time.sleep(step_s)
        asked = request.of_any_rank()
        is_due = training.step % save_every == 0 or training.step == steps
        if rank == 0 and (asked or is_due):
            training.save(save_s if asked else 0.0)
        if asked:
            # Not with 0, which would mean that the training is complete.
            name = signal.Signals(asked).name
            raise SystemExit(f"rank {rank} ends after step {training.step}: {name}")
    return training


def main() -> None:
    """Train, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--save-every", type=int, default=20)
    parser.add_argument("--step-s", type=float, default=0.0, help="least seconds of a step")
    parser.add_argument("--save-s", type=float, default=0.0, help="seconds of a save at the end")
    parser.add_argument("--metrics", type=Path, help="JSON file, written once per node")
    args = parser.parse_args()
    dist.init_process_group("gloo")
    trained = train(args.steps, args.save_every, args.step_s, args.save_s)
    if args.metrics and os.environ["LOCAL_RANK"] == "0":
        args.metrics.write_text(json.dumps({"step": trained.step, "loss": trained.loss}))
    # Threads that hold tensors at exit abort Python (terminate called without an active exception).
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
