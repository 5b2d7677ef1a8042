"""Tables of comparisons, and the processes that measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).parent
PYTHONS: Final = {
    "torchx": str(HERE.parents[1] / ".venv-torchx/bin/python"),
    "airflow_torchx": sys.executable,
}

console = Console()


class Comparison:
    """A table of what we take, what others take, and the ratio to reach.

    Args:
        title: of the table.
    """

    def __init__(self, title: str) -> None:
        self._table = Table("what", "ours", "theirs", "ratio", "to reach", title=title)

    def row(self, what: str, ours: float, theirs: float, bound: str, limit: float) -> None:
        """Add one comparison to the table and show it at once.

        Args:
            what: what is compared, with its unit.
            ours: what we take.
            theirs: what they take.
            bound: ``at most`` or ``at least``.
            limit: of the ratio.
        """
        ratio = ours / theirs
        verdict = "ok" if (ratio <= limit if bound == "at most" else ratio >= limit) else "MISSED"
        numbers = (f"{number:.3f}" for number in (ours, theirs, ratio))
        cells = (what, *numbers, f"{bound} {limit}: {verdict}")
        self._table.add_row(*cells)
        console.print("  ".join(cells))

    def show(self) -> None:
        """Show the table, unless it is empty."""
        if self._table.row_count:
            console.print(self._table)


def measure(script: str, package: str, *args: object) -> dict[str, Any]:
    """Run one measurement in a process of its own, and return its answer.

    Args:
        script: a file of this folder, which prints one JSON object.
        package: torchx or airflow_torchx.
        args: what the script takes besides.
    """
    command = [PYTHONS[package], str(HERE / script), package, *map(str, args)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return dict(json.loads(ended.stdout))
