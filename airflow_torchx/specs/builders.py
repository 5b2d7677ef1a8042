"""Re-exports what TorchX users import from ``torchx.specs.builders``."""

from airflow_torchx.components.lookup import materialize_appdef
from airflow_torchx.specs import BindMount, DeviceMount, VolumeMount, make_app_handle, parse_mounts

__all__ = [
    "BindMount",
    "DeviceMount",
    "VolumeMount",
    "make_app_handle",
    "materialize_appdef",
    "parse_mounts",
]
