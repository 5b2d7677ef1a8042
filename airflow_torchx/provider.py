"""What Airflow's provider discovery reads; imports nothing but the version."""

from __future__ import annotations

from airflow_torchx import __version__


def get_provider_info() -> dict[str, object]:
    """Return this provider's metadata, as ``airflow providers get airflow-torchx`` shows it."""
    integration = "TorchX Docker"
    return {
        "package-name": "airflow-torchx",
        "name": "TorchX",
        "description": "Launches TorchX apps as gangs of Docker containers.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://pytorch.org/torchx/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {"integration-name": integration, "python-modules": ["airflow_torchx.operators"]}
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_torchx.hooks"]}],
        "connection-types": [
            {
                "connection-type": "torchx_docker",
                "hook-class-name": "airflow_torchx.hooks.TorchXDockerHook",
                "hook-name": "TorchX Docker",
            }
        ],
    }
