"""Implements the command gpus."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_torchx.cli.daemon import connect, settings_of
from airflow_torchx.cli.gpu_table import gpu_entry, gpu_table, waiting_entry
from airflow_torchx.cli.screen import print_message, print_result, warn
from airflow_torchx.cli.swarm_gpus import SwarmGpuListing
from airflow_torchx.core.gpu import report
from airflow_torchx.core.gpu.ids import ALL, GpuIds, unlisted, used_ids
from airflow_torchx.core.plan.gpu_problems import (
    GPU_ID_SOURCES,
    NO_GPUS_ON_PODMAN,
    gpu_ids_problem,
)
from airflow_torchx.docker_engine import local_models
from airflow_torchx.errors import InvalidAppError
from airflow_torchx.runtime import engines, placing
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
    engine, gpu_ids = _connect(args)
    with engine:
        found = _listing(engine, gpu_ids)
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
        uses = [(self.info.host, use) for use in self._uses()]
        return gpu_table(uses, report.waiting(self.ledger), now, stream)

    def to_json(self) -> dict[str, Any]:
        """Return the output of ``gpus --json``; no key is ever removed."""
        return {
            "host": self.info.host,
            "url": self.info.url,
            "ids_known": self.ids_known,
            "gpus": [gpu_entry(self.info.host, use) for use in self._uses()],
            "waiting": [waiting_entry(one) for one in report.waiting(self.ledger)],
            "requested_all": list(self.ledger.requesting_all),
            "unlisted": list(self.unlisted),
        }

    def _uses(self) -> list[report.GpuUse]:
        if not self.ids_known:
            return report.uses_without_ids(self.ledger)
        return report.uses(self.ledger, self.listed, self.models)


def _listing(engine: Engine, gpu_ids: Sequence[str]) -> GpuListing | SwarmGpuListing:
    of_swarm = placing.gpus_of(engine)
    if of_swarm is None:
        return list_gpus(engine, gpu_ids)
    found, kind = of_swarm
    return SwarmGpuListing(info=engine.info(), found=found, kind=kind)


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


def _connect(args: Namespace) -> tuple[Engine, Sequence[str]]:
    """Return the engine of a connection, or that of ``-s``, and its ``gpu_ids``."""
    if args.conn is None:
        return connect(args.scheduler), ()
    settings = settings_of(args.scheduler, args.conn)
    return engines.connect(settings.endpoint), settings.gpu_ids
