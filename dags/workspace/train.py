"""Fit a small network to two spirals of points, on all processes that torchrun starts."""
# ruff: noqa: INP001, T201 -- a script that prints
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import gc
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

POINTS = 4096
WIDTH = 64


def spirals() -> TensorDataset:
    """Return points on two interleaved spirals, and the spiral that each is on."""
    random = torch.Generator().manual_seed(0)
    radius = torch.rand(POINTS, generator=random).sqrt()
    spiral = torch.randint(2, (POINTS,), generator=random)
    angle = 7 * radius + torch.pi * spiral
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return TensorDataset(points, spiral.float())


def train(epochs: int, lr: float) -> list[float]:
    """Return the mean loss of all processes for each epoch."""
    data = spirals()
    # Each process gets its own shard of the points.
    sampler = DistributedSampler(data)
    batches = DataLoader(data, batch_size=128, sampler=sampler)
    torch.manual_seed(0)
    layers = [nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(WIDTH, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for epoch in range(1, epochs + 1):
        sampler.set_epoch(epoch)
        loss = train_epoch(model, optimizer, batches)
        # One write: torchrun copies what it finds at the time, even half a line.
        print(f"rank {dist.get_rank()} epoch {epoch} loss {loss:.3f}\n", end="")
        dist.all_reduce(loss)
        losses.append(loss.item() / dist.get_world_size())
        report(epoch, epochs, loss=losses[-1])
    return losses


def report(step: int, total: int, **metrics: float) -> None:
    """Say how far this program is, for the page and the task log."""
    # By one process of each node: the file of replica 0 is read, and rank 0 may be on any node.
    path = os.environ.get("TORCHX_PROGRESS_FILE")
    if path and os.environ["LOCAL_RANK"] == "0":
        with Path(path).open("a") as file:
            print(json.dumps({"step": step, "total": total, "metrics": metrics}), file=file)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader
) -> torch.Tensor:
    """Return the mean loss of one pass over this process's points."""
    criterion = nn.BCEWithLogitsLoss()
    total = torch.zeros(())
    for points, spiral in batches:
        optimizer.zero_grad()
        loss = criterion(model(points).squeeze(1), spiral)
        # DistributedDataParallel averages the gradients of all processes here.
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total / len(batches)


def main() -> None:
    """Train and write the metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--metrics", type=Path, help="JSON file, written once per node")
    args = parser.parse_args()
    dist.init_process_group("gloo")
    losses = train(args.epochs, args.lr)
    metrics = {
        "first_loss": losses[0],
        "final_loss": losses[-1],
        "epochs": args.epochs,
        "lr": args.lr,
        "world_size": dist.get_world_size(),
    }
    # On every node, since torchrun assigns ranks in order of arrival: rank 0 may be on any node.
    if args.metrics and os.environ["LOCAL_RANK"] == "0":
        args.metrics.write_text(json.dumps(metrics))
    # Threads that hold tensors at exit abort Python (terminate called without an active exception):
    # 11 of 60 runs on two busy cores, 0 of 60 with the next two lines.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
