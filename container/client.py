"""Makes the Engine API calls that the set-up needs, for hosts without a docker command.

client.py ping             exit with 0 if an engine answers, 2 if none is configured, else 1
client.py has IMAGE        exit with 0 if the engine has the image, else 1
client.py pull IMAGE       pull an image; fails within seconds if the registry is unreachable
client.py load IMAGE [CHANGE ...]   import a file system (tar, on stdin) as an image
client.py tag OLD NEW      add a name to an image
client.py remove IMAGE ... remove images by name; missing ones are ignored
"""
# ruff: noqa: INP001, T201, TID253 -- a script: it prints, and it always needs docker

import os
import sys
import time

import docker
from docker.context import ContextAPI
from docker.errors import DockerException, ImageNotFound
from requests import RequestException

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
TICK_S = 2


def ping() -> None:
    """Exit with 2 if no engine answers, or with 1 if one is configured but does not answer."""
    host = os.environ.get("DOCKER_HOST") or ""
    try:
        host = host or ContextAPI.kwargs_from_context().get("base_url", DEFAULT_SOCKET)
        docker.from_env(timeout=10).ping()
    except (DockerException, RequestException) as error:
        if "Permission denied" in str(error):
            sys.exit(
                f"no permission for the Docker Engine at {host}: join the group docker or use sudo"
            )
        if host != DEFAULT_SOCKET or os.environ.get("DOCKER_HOST"):
            sys.exit(
                f"the Docker Engine at {host} does not answer: start it, or unset DOCKER_HOST "
                f"and run `docker context use default` ({error})"
            )
        sys.exit(2)


def has(image: str) -> None:
    """Exit with 1 if the engine does not have the image."""
    try:
        docker.from_env().api.inspect_image(image)
    except ImageNotFound:
        sys.exit(1)


def pull(image: str) -> None:
    """Pull an image, after a request for its digest, which fails within seconds."""
    try:
        docker.from_env(timeout=20).api.inspect_distribution(image)
        events = docker.from_env(timeout=600).api.pull(image, stream=True, decode=True)
        show_progress(events)
    except (DockerException, RequestException) as error:
        sys.exit(f"cannot pull {image}: {getattr(error, 'explanation', None) or error}")


def show_progress(events) -> None:  # noqa: ANN001 -- the SDK has no types
    """Read a pull to its end, print its progress, and raise its error."""
    layers, shown_s = {}, time.monotonic()
    for event in events:
        if "error" in event:
            raise DockerException(event["error"])
        detail = event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and detail.get("total"):
            layers[event["id"]] = (detail["current"], detail["total"])
        elif event.get("status") == "Download complete" and event["id"] in layers:
            layers[event["id"]] = (layers[event["id"]][1],) * 2
        if time.monotonic() - shown_s > TICK_S:
            shown_s = time.monotonic()
            done_mb = sum(current for current, _ in layers.values()) // 10**6
            all_mb = sum(total for _, total in layers.values()) // 10**6
            print(f"{event.get('status')}; {done_mb} of {all_mb} MB downloaded", flush=True)


def load(image: str, *changes: str) -> None:
    """Import a tar of a file system from standard input."""
    # Iterating over a file would send one request chunk per line.
    chunks = iter(lambda: sys.stdin.buffer.read(2**20), b"")
    name, _, tag = image.rpartition(":")
    answer = docker.from_env(timeout=600).api.import_image_from_stream(
        chunks, name, tag, changes=list(changes)
    )
    if '"error"' in answer:
        sys.exit(f"cannot import {image}: {answer}")


def tag(old: str, new: str) -> None:
    """Add a name to an image."""
    name, _, version = new.rpartition(":")
    docker.from_env().api.tag(old, name, version)


def remove(*images: str) -> None:
    """Remove images by name, and ignore missing ones."""
    for image in images:
        try:
            docker.from_env().api.remove_image(image)
        except ImageNotFound:
            continue


if __name__ == "__main__":
    command = {call.__name__: call for call in (ping, has, pull, load, tag, remove)}[sys.argv[1]]
    command(*sys.argv[2:])
