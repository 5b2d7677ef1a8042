"""Runs the command line as ``python -m airflow_torchx.cli``."""

import sys

from airflow_torchx.cli import main

if __name__ == "__main__":
    sys.exit(main())
