"""Workspace images, side by side with TorchX's and with BuildKit.

All three lay the same files over the same base, in the same working directory. What is timed is one
call: TorchX's and ours of `build_workspace_and_update_role`, in a process that is connected to the
daemon, and the whole docker command line for BuildKit. TorchX's pull of the base is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import statistics
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docker

from airflow_torchx.docker_engine import DockerEngine
from tests.benchmarks.comparison import Comparison, console, measure
from tests.integration.registry import Wire, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS: Final = 5
FILES: Final = 2_000
FILE_BYTES: Final = 25_000
ONE_FILE: Final = "package7/file7.bin"
TAG: Final = "airflow-torchx/busybox:local"
DOCKERFILE: Final = "ARG IMAGE\nFROM $IMAGE\nCOPY . .\n"
# Since this version the docker command line leaves BuildKit to its plugin buildx.
WITHOUT_BUILDKIT: Final = 23

#: Seconds of one round, by what was measured.
Spent = dict[str, float]

results = Comparison(f"workspace images, {FILES:,} files, {FILES * FILE_BYTES / 1e6:.0f} MB")


def builds(client: docker.APIClient) -> None:
    """Build, build with nothing changed, and with one file changed; the three take turns."""
    cli = find_buildkit()
    with tempfile.TemporaryDirectory() as folder, base_image(client) as base:

        def package(name: str) -> Callable[[], Spent]:
            return lambda: measure("workspace_worker.py", name, "builds", folder, base, ONE_FILE)

        contestants = {name: package(name) for name in ("airflow_torchx", "torchx")}
        if cli:
            contestants["buildkit"] = lambda: with_buildkit(cli, folder, base)
        names = list(contestants)
        spent: dict[str, list[Spent]] = defaultdict(list)
        for turn in range(ROUNDS):
            fill(Path(folder))
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                spent[name].append(contestants[name]())
            remove_images(client, base, keep_base=True)
    compare({name: medians(rounds) for name, rounds in spent.items()})


def compare(spent: dict[str, Spent]) -> None:
    """Add the rows on builds to the table.

    Args:
        spent: the medians of each contestant.
    """
    ours, theirs, buildkit = spent["airflow_torchx"], spent["torchx"], spent.get("buildkit")
    row = results.row
    row("unchanged, s, against TorchX", ours["unchanged"], theirs["unchanged"], "at most", 0.15)
    row("unchanged, s, against hashing", ours["unchanged"], ours["hash"], "at most", 1.5)
    row("one file changed, s, against TorchX", ours["changed"], theirs["changed"], "at most", 0.10)
    if buildkit:
        against = buildkit["changed"]
        row("one file changed, s, against BuildKit", ours["changed"], against, "at most", 0.40)
        told = ", ".join(f"{what} {buildkit[what]:.3f} s" for what in buildkit)
        console.print(f"BuildKit: {told}")
    else:
        console.print("no docker on the PATH can do BuildKit: nothing to compare with")
    row("first build, s, against TorchX", ours["first"], theirs["first"], "at most", 1.0)


def pushes(client: docker.APIClient) -> None:
    """Push, and push after one changed file; what counts is what arrives at the registry."""
    sent: dict[str, list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        folder, data = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2))
        wire = stack.enter_context(Wire(stack.enter_context(serving(Path(data), auth=False)).host))
        base = stack.enter_context(base_image(client))
        fill(Path(folder))
        for _ in range(2):
            for name in ("airflow_torchx", "torchx"):
                before, repository = wire.sent_bytes, f"{wire.host}/{name}"
                args = (folder, base, ONE_FILE, repository)
                measure("workspace_worker.py", name, "push", *args)
                sent[name].append((wire.sent_bytes - before) / 1e6)
    ours, theirs = sent["airflow_torchx"], sent["torchx"]
    results.row("push after one changed file, MB, against 1 MB", ours[1], 1.0, "at most", 1.0)
    console.print(
        f"first push {ours[0]:.1f} MB; TorchX's pushes: {theirs[0]:.1f} and {theirs[1]:.1f} MB"
    )


def memory(client: docker.APIClient) -> None:
    """Build 1 GB, and look how far memory went above what it was before."""
    with tempfile.TemporaryDirectory() as folder, base_image(client) as base:
        fill(Path(folder), files=500, file_bytes=1_000_000)
        with Path(folder, "large.bin").open("wb") as large:
            large.truncate(500_000_000)
        grown = measure("workspace_worker.py", "airflow_torchx", "memory", folder, base)["grown_mb"]
    results.row("build of 1 GB, MB of memory, against 150 MB", grown, 150.0, "at most", 1.0)


def fill(folder: Path, files: int = FILES, file_bytes: int = FILE_BYTES) -> None:
    """Write new files, and wait until they are on the disk."""
    for number in range(files):
        path = folder / f"package{number % 40}" / f"file{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(file_bytes))
    os.sync()


def medians(rounds: list[Spent]) -> Spent:
    """Return the median of each thing that was measured in every round."""
    return {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}


def find_buildkit() -> list[str] | None:
    """Return the command of a docker that can build with BuildKit; None if there is none."""
    for folder in os.get_exec_path():
        program = f"{folder}/docker"
        if not os.access(program, os.X_OK):
            continue
        if subprocess.run([program, "buildx", "version"], capture_output=True, check=False).stdout:
            return [program, "buildx", "build", "--builder=default", "--load"]
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"version (\d+)", answer.stdout)
        if version and int(version[1]) < WITHOUT_BUILDKIT:
            return [program, "build"]
    return None


def with_buildkit(cli: list[str], folder: str, base: str) -> Spent:
    """Return the seconds of three builds with BuildKit: first, unchanged, one file changed."""
    command = [*cli, "-q", f"--build-arg=IMAGE={base}", "-f", "-", folder]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}

    def build() -> float:
        began = time.perf_counter()
        subprocess.run(
            command,
            input=DOCKERFILE.encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - began

    spent = {"first": build(), "unchanged": build()}
    path = Path(folder, ONE_FILE)
    path.write_bytes(os.urandom(path.stat().st_size))
    return {**spent, "changed": build()}


@contextlib.contextmanager
def base_image(client: docker.APIClient) -> Iterator[str]:
    """Hold an image of its own: with its own layer and a working directory.

    At the end it is gone, with all that was made of it.
    """
    run = f"bench-{uuid.uuid4().hex[:8]}"
    tag = f"airflow-torchx/{run}:base"
    known = {row["ID"] for row in build_cache(client)}
    with DockerEngine.connect() as engine:
        container = engine.images.prepare(TAG, run, {})
        try:
            client.put_archive(container, "/", tar_of(run))
            engine.images.commit(container, tag, "/workspace")
        finally:
            engine.remove(container)
    try:
        yield tag
    finally:
        remove_images(client, tag, keep_base=False)
        remove_build_cache(client, known)


def remove_images(client: docker.APIClient, base: str, *, keep_base: bool) -> None:
    """Remove the images made of a base, and their containers: those that have its last layer."""
    inspected = client.inspect_image(base)
    own = inspected["RootFS"]["Layers"][-1]
    for row in client.containers(all=True, filters={"ancestor": inspected["Id"]}):
        client.remove_container(row["Id"], force=True, v=True)
    found: list[dict[str, Any]] = []
    for row in client.images(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            found.append(client.inspect_image(row["Id"]))
    made = [one for one in found if own in (one["RootFS"].get("Layers") or ())]
    made.sort(key=lambda one: one["Created"], reverse=True)
    for one in made:
        if keep_base and one["Id"] == inspected["Id"]:
            continue
        with contextlib.suppress(docker.errors.NotFound):  # it went with one made of it
            client.remove_image(one["Id"], force=True)


def build_cache(client: docker.APIClient) -> list[dict[str, Any]]:
    """Return what BuildKit keeps on the daemon."""
    return client.df().get("BuildCache") or []


def remove_build_cache(client: docker.APIClient, known: set[str]) -> None:
    """Remove BuildKit's cache of our files.

    Its records name no build, so ours are those that are new and as large as the workspace.

    Args:
        client: the daemon.
        known: ids of what was there before.
    """
    size_bytes = FILES * FILE_BYTES
    for record in build_cache(client):
        is_ours = 0.9 * size_bytes <= record["Size"] <= 1.1 * size_bytes
        if is_ours and record["ID"] not in known:
            client.prune_builds(filters={"id": [record["ID"]]}, all=True)


def tar_of(text: str) -> bytes:
    """Return a tar of one file with this name and content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(text)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
