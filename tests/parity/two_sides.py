"""The corpus on one daemon, launched by TorchX and then by us."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import docker

from airflow_torchx.concurrency.parallel import map_concurrently
from airflow_torchx.core.engine import labels
from airflow_torchx.core.plan.identity import random_app_id
from airflow_torchx.docker_engine import DockerEngine
from airflow_torchx.errors import AirflowTorchXError
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler
from airflow_torchx.specs import to_dict
from tests.conftest import BUSYBOX
from tests.parity.comparison import Pair, facts
from tests.parity.corpus import ENVIRON, Given, corpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.parity.corpus import Case

#: How many share the work; it waits for the daemon, mostly.
_SHARES: Final = 3
TORCHX_SIDE: Final = Path(__file__).with_name("torchx_side.py")
#: Settings of an image that a container of it inherits, as an inspect tells them.
_SETTINGS: Final = {
    "Entrypoint": ["/bin/echo", "of the image"],
    "Cmd": ["also of the image"],
    "Env": ["PATH=/bin:/usr/bin", "FROM_IMAGE=of the image", "EMPTY="],
    "Labels": {"of.the.image": "1"},
    "User": "1000:1000",
    "WorkingDir": "/tmp",  # noqa: S108 - in the container
    "Volumes": {"/anonymous": {}},
    "ExposedPorts": {"8000/tcp": {}},
    "StopSignal": "SIGINT",
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000},
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a case on one side.

    Args:
        containers: facts of the container of each replica, by the role's name and the index.
        refused: why there are none, in the words that a user reads.
    """

    containers: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    refused: str = ""

    @classmethod
    def of(cls, containers: Sequence[Mapping[str, Any]] = (), refused: str = "") -> Outcome:
        """Return the outcome that inspects of containers, or words of refusal, tell."""
        found = [facts(inspect) for inspect in containers]
        role, replica = (f"Config.Labels.{name}" for name in (labels.ROLE_NAME, labels.REPLICA_ID))
        return cls(containers={(one[role], one[replica]): one for one in found}, refused=refused)


@dataclass(frozen=True, kw_only=True)
class TwoSides:
    """What became of all cases.

    Args:
        theirs, ours: by the name of the case.
        pairs: the two containers of each replica; none where a side refused the app.
        vocabulary: names of the fields of TorchX's types, and of its run options.
        members: names of the public members of TorchX's classes.
    """

    theirs: Mapping[str, Outcome]
    ours: Mapping[str, Outcome]
    pairs: Mapping[str, Sequence[Pair]]
    vocabulary: Mapping[str, Sequence[str]]
    members: Mapping[str, Sequence[str]]


def _pairs(case: Case, theirs: Outcome, ours: Outcome) -> list[Pair]:
    if theirs.refused or ours.refused:
        return []
    assert sorted(theirs.containers) == sorted(ours.containers)
    rank0 = (case.app.roles[0].name, "0")
    return [
        Pair(
            theirs=container,
            ours=ours.containers[replica],
            theirs_rank0=theirs.containers[rank0],
            ours_rank0=ours.containers[rank0],
        )
        for replica, container in theirs.containers.items()
    ]


class _Unstarted(DockerEngine):
    """A daemon on which containers are created and never started: that is the slow part."""

    def start(self, container_id: str) -> None:
        """Leave it as it is."""


def launch_all(python: Path, folder: Path) -> TwoSides:
    """Launch every case with TorchX and then with us, under the same names.

    Args:
        python: an interpreter that has TorchX.
        folder: an empty folder.
    """
    with closing(docker.from_env()) as client, _given(client, folder) as given:
        shares: list[dict[str, Case]] = [{} for _ in range(_SHARES)]
        for name, case in corpus(given).items():
            # Cases of one app stay together: they are compared.
            shares[crc32(repr(case.app).encode()) % _SHARES][name] = case
        parts = map_concurrently(
            lambda share: _launch(python, client, share), shares, threads=_SHARES
        )
    return TwoSides(
        theirs={name: side for part in parts for name, side in part.theirs.items()},
        ours={name: side for part in parts for name, side in part.ours.items()},
        pairs={name: pairs for part in parts for name, pairs in part.pairs.items()},
        vocabulary=parts[0].vocabulary,
        members=parts[0].members,
    )


def _launch(python: Path, client: Any, cases: Mapping[str, Case]) -> TwoSides:  # noqa: ANN401 - the SDK has no types
    """Launch a share of the cases, one after the other: their apps have one id but for the name."""
    entropy = secrets.randbits(64)
    answer = _launched_by_torchx(python, cases, entropy)
    theirs = {name: Outcome.of(**found) for name, found in answer["cases"].items()}
    with _Unstarted.connect() as creating, DockerEngine.connect() as starting:
        ours = {
            name: _launched_by_us(starting if case.start else creating, client, case, entropy)
            for name, case in cases.items()
        }
        ids = {row.labels[labels.APP_ID] for row in creating.rows({labels.APP_ID: None})}
    word = random_app_id("app", entropy).removeprefix("app")
    assert [] == [app_id for app_id in ids if app_id.endswith(word)]
    pairs = {name: _pairs(case, theirs[name], ours[name]) for name, case in cases.items()}
    return TwoSides(
        theirs=theirs,
        ours=ours,
        pairs=pairs,
        vocabulary=answer["vocabulary"],
        members=answer["members"],
    )


def _launched_by_torchx(python: Path, cases: Mapping[str, Case], entropy: int) -> dict[str, Any]:
    asked = {
        name: {"app": to_dict(case.app), "options": case.options, "start": case.start}
        for name, case in cases.items()
    }
    ran = subprocess.run(
        [python, "-W", "ignore", TORCHX_SIDE],
        env=os.environ | ENVIRON,
        input=json.dumps({"entropy": entropy, "cases": asked}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def _launched_by_us(engine: DockerEngine, client: Any, case: Case, entropy: int) -> Outcome:  # noqa: ANN401 - the SDK has no types
    # Which GPUs there are is the host's own matter; TorchX asks for a number of them.
    scheduler = DockerScheduler("torchx", engine, defaults={"auto_set_gpus": False})
    app_id = random_app_id(case.app.name, entropy)
    context = scheduler.new_context(app_id)
    try:
        scheduler.schedule(scheduler.submit_dryrun(case.app, case.options, context=context))
        rows = engine.rows({labels.APP_ID: app_id})
        return Outcome.of([client.api.inspect_container(row.id) for row in rows])
    except AirflowTorchXError as why:
        return Outcome(refused=str(why))
    finally:
        rows = engine.rows({labels.APP_ID: app_id})
        for row in rows:
            engine.remove(row.id)
        if any(role.workspace for role in case.app.roles):
            for image in {row.image for row in rows}:
                engine.images.untag(image)


@contextmanager
def _given(client: Any, folder: Path) -> Iterator[Given]:  # noqa: ANN401 - the SDK has no types
    """Put what the corpus takes onto the daemon and the host; and remove it."""
    word = secrets.token_hex(4)
    repository, volume = f"airflow-torchx/parity-{word}", f"airflow-torchx-parity-{word}"
    source = folder / "a b,c é"
    source.mkdir()
    source.joinpath("train.py").write_text(f"# {word}")
    base = client.containers.create(BUSYBOX)
    base.commit(repository, "settings", conf=_SETTINGS)
    base.remove()
    try:
        yield Given(
            image=f"{repository}:settings",
            image_id=client.images.get(BUSYBOX).id,
            volume=volume,
            folder=str(source),
        )
    finally:
        client.images.remove(f"{repository}:settings")
        for found in client.volumes.list(filters={"name": volume}):
            found.remove()
