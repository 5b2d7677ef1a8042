"""What one package makes of one workspace; the same lines drive TorchX's and ours.

Usage: workspace_worker.py PACKAGE builds FOLDER BASE FILE
       workspace_worker.py PACKAGE push FOLDER BASE FILE REPOSITORY
       workspace_worker.py PACKAGE memory FOLDER BASE
PACKAGE is torchx or airflow_torchx; FILE is the one in FOLDER that changes. Prints one JSON object.
"""

import contextlib
import hashlib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker


class Client:
    """As much of docker's client as TorchX's workspace asks for, without the pull.

    TorchX pulls the base before each build, also when it is there. How long that takes, or takes to
    fail, says something of the network only, so it is left out of TorchX's times.
    """

    def __init__(self) -> None:
        client = docker.from_env(timeout=600)
        self.api = client.api
        self.images = SimpleNamespace(
            pull=lambda _: None, get=client.images.get, push=client.images.push
        )


@contextlib.contextmanager
def connected(package: str) -> Iterator[Any]:
    """Return the package's own builder, which is connected to the daemon already."""
    module = importlib.import_module(f"{package}.workspace.docker_workspace")
    if package == "torchx":
        yield module.DockerWorkspaceMixin(docker_client=Client())
    else:
        with module.DockerWorkspaceMixin() as ours:
            ours.engine.info()
            yield ours


def main(package: str, verb: str, *args: str) -> dict[str, object]:
    """Measure one verb, and return seconds or bytes."""
    specs = importlib.import_module(f"{package}.specs")
    with connected(package) as mixin:

        def build() -> str:
            role = specs.Role("bench", args[1], entrypoint="true")
            # TorchX's changes the role that it is given and returns nothing.
            made = mixin.build_workspace_and_update_role(role, args[0], {}) or role
            return str(made.image)

        if verb == "builds":
            return builds(build, *args[:3:2])
        if verb == "push":
            change(*args[:3:2])
            app = specs.AppDef("bench", [specs.Role("bench", build(), entrypoint="true")])
            mixin.push_images(mixin.dryrun_push_images(app, {"image_repo": args[3]}))
            return {}
        before = memory_kb("VmRSS")
        build()
        return {"grown_mb": (memory_kb("VmHWM") - before) / 1000}


def builds(build: Callable[[], str], folder: str, file: str) -> dict[str, object]:
    """Return the seconds of a first build, of one with nothing changed, and with one file changed.

    And of reading and hashing the same files in a plain loop, next to the second one.
    """
    spent: dict[str, object] = {
        "first": clocked(build),
        "hash": clocked(lambda: read_and_hash(folder)),
    }
    spent["unchanged"] = clocked(build)
    change(folder, file)
    spent["changed"] = clocked(build)
    return spent


def clocked(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def read_and_hash(folder: str) -> str:
    """Read all files one after the other, and hash them."""
    digest = hashlib.sha256()
    for above, _, names in os.walk(folder):
        for name in names:
            with open(f"{above}/{name}", "rb") as file:  # noqa: PTH123 - no Path per file
                digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def change(folder: str, file: str) -> None:
    """Give a file another content of the same length."""
    path = Path(folder, file)
    path.write_bytes(os.urandom(path.stat().st_size))


def memory_kb(what: str) -> int:
    """Return what Linux counts of this process; `ru_maxrss` would begin with the parent's peak."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201 - the answer
