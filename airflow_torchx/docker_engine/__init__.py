"""The only package that imports Docker's SDK; it does so when it first connects to a daemon."""

from airflow_torchx.docker_engine.diagnosis import diagnose, unreachable_reason
from airflow_torchx.docker_engine.engine import NETWORK_LABEL, DockerEngine

__all__ = ["NETWORK_LABEL", "DockerEngine", "diagnose", "unreachable_reason"]
