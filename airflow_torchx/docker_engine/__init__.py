"""The only package that imports Docker's SDK; it does so when it first connects to a daemon."""

from airflow_torchx.docker_engine.diagnosis import diagnose, unreachable_reason
from airflow_torchx.docker_engine.engine import NETWORK_LABEL, DockerEngine
from airflow_torchx.docker_engine.gpus import local_models

__all__ = ["NETWORK_LABEL", "DockerEngine", "diagnose", "local_models", "unreachable_reason"]
