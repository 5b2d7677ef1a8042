"""Implements the command gpus."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_torchx.cli.screen import print_message, print_result, table, warn
from airflow_torchx.core.gpu import report
from airflow_torchx.core.gpu.ids import ALL, GpuIds, unlisted, used_ids
from airflow_torchx.core.plan.gpu_problems import (
    GPU_ID_SOURCES,
    NO_GPUS_ON_PODMAN,
    gpu_ids_problem,
)
from airflow_torchx.core.state.report import age_text
from airflow_torchx.docker_engine import DockerEngine, local_models
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.runtime.gpus.ledger_reader import LedgerReader

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from airflow_torchx.core.engine.containers import EngineInfo
    from airflow_torchx.core.engine.protocol import Engine
    from airflow_torchx.core.gpu.ledger import Ledger
    from airflow_torchx.errors import Problem


def gpus(args: Namespace) -> int:
    """List the GPUs of a daemon, what holds them, and the apps that wait for some."""
    engine, gpu_ids = _connect(args.conn)
    with engine:
        found = list_gpus(engine, gpu_ids)
    for text in found.warnings:
        warn(text)
    if args.json:
        print_result(json.dumps(found.to_json(), indent=2))
    elif text := found.table(sys.stdout):
        print_result(text)
    if problems := found.problems:
        subject = f"connection {args.conn!r}" if args.conn else found.info.url
        raise InvalidAppError(problems, subject=subject)
    if not args.json:
        for text in found.messages:
            print_message(text)
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuListing:
    """The GPUs of one daemon at one moment.

    Args:
        listed: the GPUs that a launch would use.
        ids_known: whether the daemon or its connection lists all GPUs.
        unlisted: GPUs of the connection that the daemon does not report.
        models: the models of its GPUs by id, as far as this process knows them.
    """

    info: EngineInfo
    ledger: Ledger
    listed: Sequence[str]
    ids_known: bool
    unlisted: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        """Why no launch by this connection can get GPUs."""
        engine = replace(self.info, gpu_ids=tuple(self.listed))
        found = gpu_ids_problem(engine, self.info.gpu_ids, self.unlisted)
        return [found] if found else []

    @property
    def warnings(self) -> Iterator[str]:
        """What is wrong on this daemon."""
        if self.ledger.requesting_all:
            yield report.requested_all_text(self.ledger.requesting_all)

    @property
    def messages(self) -> Iterator[str]:
        """What the table does not show."""
        if self.info.is_podman:
            yield f"{self.info.url} {NO_GPUS_ON_PODMAN}"
        elif not self.ids_known:
            yield f"{self.info.url} reports no ids of GPUs, so only what holds some is listed"
            yield f"if it has GPUs, {GPU_ID_SOURCES}; use a connection with --conn"

    def table(self, stream: TextIO) -> str:
        """Return the GPUs and the apps that wait; empty if there are none."""
        now = self.info.system_time or datetime.now(UTC)
        held = [
            {
                "HOST": self.info.host,
                "GPU": use.id or "unknown",
                "MODEL": use.model,
                "STATE": use.state,
                "HELD BY": use.app_id or (f"container {use.container}" if use.container else ""),
                **_context(use, now),
            }
            for use in self._uses()
        ]
        waiting = [
            {"WAITING APP": one.app_id, "GPUS": str(one.gpus), **_context(one, now)}
            for one in report.waiting(self.ledger)
        ]
        return "\n\n".join(_columns(rows, stream) for rows in (held, waiting) if rows)

    def to_json(self) -> dict[str, Any]:
        """Return the output of ``gpus --json``; no key is ever removed."""
        return {
            "host": self.info.host,
            "url": self.info.url,
            "ids_known": self.ids_known,
            "gpus": [_entry(use) for use in self._uses()],
            "waiting": [_entry(one) for one in report.waiting(self.ledger)],
            "requested_all": list(self.ledger.requesting_all),
            "unlisted": list(self.unlisted),
        }

    def _uses(self) -> list[report.GpuUse]:
        if not self.ids_known:
            return report.uses_without_ids(self.ledger)
        return report.uses(self.ledger, self.listed, self.models)


def list_gpus(engine: Engine, gpu_ids: Sequence[str] = ()) -> GpuListing:
    """Return the GPUs of a daemon with the ids that a launch would use; start no container.

    If ids are unknown, only what holds GPUs is listed. ``gpu_ids`` are those of the connection.
    """
    info = engine.info()
    reported = GpuIds(info.gpu_ids, info.gpus_are_indexed)
    listed = used_ids(gpu_ids, reported)
    gpus = reported if reported.ids else GpuIds(listed or (ALL,))
    ledger = LedgerReader(engine, gpus).read()
    absent = unlisted(gpu_ids, reported)
    return GpuListing(
        info=info,
        ledger=ledger.without(ledger.expired(info.system_time or datetime.now(UTC))),
        listed=[one for one in listed if one not in absent],
        ids_known=bool(listed),
        unlisted=absent,
        models=local_models() if info.is_local else {},
    )


def _connect(conn_id: str | None) -> tuple[DockerEngine, Sequence[str]]:
    """Return the engine of a connection, and its ``gpu_ids``."""
    if conn_id is None:
        return DockerEngine.connect(), ()
    # Importing Airflow takes seconds, and it logs to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        from airflow_torchx.airflow_compat import use_metadata_database
        from airflow_torchx.hooks import TorchXDockerHook

        use_metadata_database()
        settings = TorchXDockerHook(conn_id).settings("--conn")
    return DockerEngine.connect(settings.endpoint), settings.gpu_ids


def _context(one: report.GpuUse | report.WaitingApp, now: datetime) -> dict[str, str]:
    index = "" if one.map_index is None else f"[{one.map_index}]"
    return {
        "DAG": one.dag_id,
        "RUN": one.run_id,
        "TASK": f"{one.task_id}{index}",
        "AGE": age_text((now - one.since).total_seconds()) if one.since else "",
    }


def _columns(rows: Sequence[dict[str, str]], stream: TextIO) -> str:
    """Return a table without columns that are empty."""
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    return table([[row[title] for title in titles] for row in rows], titles, stream)


def _entry(one: report.GpuUse | report.WaitingApp) -> dict[str, Any]:
    since = one.since.isoformat() if one.since else None
    return {key: None if value == "" else value for key, value in asdict(one).items()} | {
        "since": since
    }
