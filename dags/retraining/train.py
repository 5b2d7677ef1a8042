"""Train a model on the points of some days, on all processes that torchrun starts."""
# ruff: noqa: INP001, T201 -- a script that prints
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import gc
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist
from spirals import new_model, points_between
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train(since: date, until: date, epochs: int) -> nn.Module:
    """Return a model trained on the points of these days."""
    points, spirals = points_between(since, until)
    model = new_model()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(parallel.parameters(), lr=0.01)
    shard = slice(dist.get_rank(), None, dist.get_world_size())
    for epoch in range(1, epochs + 1):
        logits = parallel(points[shard])[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, spirals[shard])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 50 == 0 or epoch == epochs:
            # See ../workspace/train.py for the reason.
            print(f"rank {dist.get_rank()} epoch {epoch} loss {loss.item():.3f}\n", end="")
    return model


def main() -> None:
    """Train and save the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", type=date.fromisoformat, required=True)
    parser.add_argument("--until", type=date.fromisoformat, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    dist.init_process_group("gloo")
    model = train(args.since, args.until, args.epochs)
    if dist.get_rank() == 0:
        args.model.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), args.model)
    # See ../workspace/train.py for the reason.
    del model
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
