"""Draw the picture of the README: the end of a task log, with the card of an app that failed.

python docs/tools/failure_card.py docs/failure-card.svg

A fake engine runs the app, and the package itself writes the card.
"""

from __future__ import annotations

import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_torchx.core.state.report import failure_card, relevant_lines
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import AppDef, Role
from airflow_torchx.testing import FakeEngine, ManualClock, Program

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGE: Final = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
#: The id that a task's app has; one that is submitted outside of a task ends at random.
_APP_ID: Final = "nightly-train-cqgmu5x3kd-m1-t1"
_BEGIN_S: Final = datetime(2026, 11, 29, 9, 14, 2, tzinfo=UTC).timestamp()
_STEP_S: Final = 4.0
_LINES: Final = (
    "[0]:epoch 1 loss 0.6931",
    "[0]:epoch 2 loss 0.4127",
)
_ERROR: Final = (
    "[0]:Traceback (most recent call last):",
    '[0]:  File "/workspace/train.py", line 41, in <module>',
    '[0]:    raise ValueError(f"loss is {loss}")',
    "[0]:ValueError: loss is nan",
)
_COLUMNS: Final = 98
_STYLES: Final = {
    "CANCELLED": "yellow",
    "FAILED": "bold red",
    "failed first": "bold red",
}


def picture() -> str:
    """Return the picture as SVG; the same text each time, without fonts from elsewhere."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(file=io.StringIO(), record=True, width=_COLUMNS, force_terminal=True)
    for moment, level, text in _log():
        line = Text()
        line.append(f"{moment} ", style="bright_black")
        line.append(f"{level:5} ", style="bold red" if level == "ERROR" else "cyan")
        line.append(text)
        for words, style in _STYLES.items():
            line.highlight_words([words], style)
        console.print(line, soft_wrap=True)
    drawn = console.export_svg(
        title="Airflow task log: nightly / train", theme=MONOKAI, unique_id="failure-card"
    )
    return re.sub(r"@font-face\s*{.*?}\s*", "", drawn, flags=re.DOTALL) + "\n"


def _log() -> Iterator[tuple[str, str, str]]:
    """Yield time, level and text of each line of the log."""
    first, *rest = _card().splitlines()
    for step, text in enumerate(_LINES):
        for replica in ("train/0", "train/1"):
            yield _moment(step), "INFO", f"{replica} {text}"
    for text in _ERROR:
        yield _moment(len(_LINES)), "INFO", f"train/1 {text}"
    yield _moment(len(_LINES)), "ERROR", first
    for text in rest:
        yield " " * len(_moment(0)), "", text


def _moment(step: int) -> str:
    return datetime.fromtimestamp(_BEGIN_S + step * _STEP_S, tz=UTC).strftime("%H:%M:%S")


def _card() -> str:
    """Run the app, and return the text of its error."""
    clock = ManualClock(_BEGIN_S)
    programs = {
        "train/0": Program(lines=_LINES, line_every_s=_STEP_S, runs_for_s=None),
        "train/1": Program(lines=(*_LINES, "\n".join(_ERROR)), line_every_s=_STEP_S, exit_code=1),
    }
    engine = FakeEngine(images=[_IMAGE], programs=programs, clock=clock, sleep=clock.sleep)
    role = Role("train", _IMAGE, entrypoint="torchrun", args=["train.py"], num_replicas=2)
    with DockerScheduler("torchx", engine) as scheduler:
        app_id = scheduler.submit(AppDef("train", [role]), {})
        clock.advance(len(_LINES) * _STEP_S)
        scheduler.wait(app_id)
        failed = scheduler.describe(app_id, inspect_all=True)
        lines = [line.rstrip("\n") for line in scheduler.log_iter(app_id, "train", 1)]
    assert failed is not None  # noqa: S101 - for the types
    return failure_card(failed, relevant_lines(lines)).replace(app_id, _APP_ID)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture())
