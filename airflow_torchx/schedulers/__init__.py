"""Schedulers under the module paths of TorchX."""

from airflow_torchx.schedulers.factories import get_default_scheduler_name, get_scheduler_factories

__all__ = ["get_default_scheduler_name", "get_scheduler_factories"]
