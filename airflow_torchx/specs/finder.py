"""Re-exports what TorchX users import from ``torchx.specs.finder``."""

from airflow_torchx.components.lookup import get_builtin_source, get_component, get_components
from airflow_torchx.errors import ComponentNotFoundError as ComponentNotFoundException
from airflow_torchx.errors import InvalidComponentError as ComponentValidationException

__all__ = [
    "ComponentNotFoundException",
    "ComponentValidationException",
    "get_builtin_source",
    "get_component",
    "get_components",
]
