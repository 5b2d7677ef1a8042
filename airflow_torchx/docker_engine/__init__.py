"""The Docker door: the only package that imports Docker's SDK, and only once a daemon is asked."""

from airflow_torchx.docker_engine.diagnosis import look, why_unreachable
from airflow_torchx.docker_engine.engine import NETWORK_LABEL, DockerEngine

__all__ = ["NETWORK_LABEL", "DockerEngine", "look", "why_unreachable"]
