"""Provides components: functions that build an app, addressed by name as in TorchX."""

from airflow_torchx.components import dist, utils
from airflow_torchx.components.registry import COMPONENTS, Component, call, get, names, parse
from airflow_torchx.components.usage import usage

__all__ = [
    "COMPONENTS",
    "Component",
    "call",
    "dist",
    "get",
    "names",
    "parse",
    "usage",
    "utils",
]
