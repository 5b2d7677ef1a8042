"""Re-exports what TorchX users import from ``torchx.schedulers.api``."""

from airflow_torchx.runtime.replica_log import Stream
from airflow_torchx.schedulers.dry_run import AppDryRunInfo
from airflow_torchx.specs import DescribeAppResponse, ListAppResponse

__all__ = ["AppDryRunInfo", "DescribeAppResponse", "ListAppResponse", "Stream"]
