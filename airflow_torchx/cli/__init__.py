"""Provides ``airflow-torchx``: TorchX's command line on the operator's code path.

It starts fast: only `argparse` is imported before the command is known.
"""

from airflow_torchx.cli.dispatch import main

__all__ = ["main"]
