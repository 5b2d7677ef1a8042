"""Airflow provider for TorchX's Docker path: launch, watch and stop gangs of containers."""

__version__ = "0.1.0"
