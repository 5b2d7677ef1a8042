"""The command line ``airflow-torchx``: TorchX's words, on the code path of the operator.

It is quick to answer: nothing but `argparse` is imported before a command is known.
"""

from airflow_torchx.cli.dispatch import main

__all__ = ["main"]
