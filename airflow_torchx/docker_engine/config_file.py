"""The docker configuration of this user, a folder that the docker CLI writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_torchx.core.connection.docker_config import DockerConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


def folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the docker configuration."""
    if given := environ.get("DOCKER_CONFIG"):
        return Path(given)
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.expanduser can raise
    return Path(home, ".docker")


def path(environ: Mapping[str, str]) -> Path:
    """Return the path of the docker configuration."""
    return folder(environ) / "config.json"


def read(environ: Mapping[str, str]) -> DockerConfig:
    """Return the docker configuration; one that cannot be read is empty, and has a problem."""
    file = path(environ)
    try:
        config = DockerConfig.parse(file.read_text("utf-8-sig", errors="replace"))
    except FileNotFoundError:
        return DockerConfig()
    except OSError as error:
        config = DockerConfig(problem=f"it cannot be read ({error.strerror})")
    problem = f"the docker configuration {file} is ignored: {config.problem}"
    return replace(config, problem=problem) if config.problem else config
