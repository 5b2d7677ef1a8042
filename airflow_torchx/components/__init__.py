"""Components: functions that make an app, known by name as on TorchX's command line."""

from airflow_torchx.components import dist
from airflow_torchx.components.registry import COMPONENTS, Component, call, get, parse

__all__ = ["COMPONENTS", "Component", "call", "dist", "get", "parse"]
