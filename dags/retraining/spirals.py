"""Provides the training data and the model."""
# ruff: noqa: INP001 -- a module in the containers, not in the package
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from datetime import date, timedelta

import torch
from torch import nn

POINTS_A_DAY = 512


def points_of(day: date) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points of one day, and the spiral that each is on.

    Replace this with a query of your storage; the same day always has the same points.
    """
    random = torch.Generator().manual_seed(day.toordinal())
    radius = torch.rand(POINTS_A_DAY, generator=random).sqrt()
    spiral = torch.randint(2, (POINTS_A_DAY,), generator=random)
    angle = 7 * radius + torch.pi * spiral
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return points, spiral.float()


def points_between(since: date, until: date) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the points of the days from ``since`` until before ``until``."""
    days = [points_of(since + timedelta(days=n)) for n in range((until - since).days)]
    points, spirals = zip(*days, strict=True)
    return torch.cat(points), torch.cat(spirals)


def new_model() -> nn.Module:
    """Return an untrained model with the same initial weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )


def loss_of(file: str, day: date) -> float:
    """Return the loss of a saved model on the points of one day."""
    model = new_model()
    model.load_state_dict(torch.load(file))
    points, spirals = points_of(day)
    with torch.no_grad():
        loss = nn.functional.binary_cross_entropy_with_logits(model(points)[:, 0], spirals)
    return float(loss)
