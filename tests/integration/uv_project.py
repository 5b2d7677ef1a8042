"""A uv project for container/build.sh, and all that it needs: an index, an image with uv."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BASE: Final = os.environ.get("AIRFLOW_TORCHX_BASE_IMAGE") or "airflow-torchx/pytorch:local"
#: A container without a network, in which torchrun finds itself nevertheless.
OFFLINE: Final = ("--network", "none", "--hostname", "localhost")
#: Before this version, a docker command could use BuildKit without a plugin.
_PLUGIN_SINCE: Final = 23

PYPROJECT: Final = """\
[project]
name = "trainer"
version = "0"
requires-python = ">=3.10"
dependencies = ["tiny==1.0", "torch"]

[build-system]
requires = ["uv_build>=0.9,<1"]
build-backend = "uv_build"
"""
TRAIN: Final = """\
import os

import tiny
import torch

print("epoch 1", tiny.VERSION, torch.ones(2).sum().item(), os.environ.get("WORLD_SIZE"))
"""


class Index:
    """A package index on loopback that remembers what was downloaded.

    Args:
        folder: an empty one, for its packages.
    """

    def __init__(self, folder: Path) -> None:
        self.downloads: list[str] = []
        downloads = self.downloads

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                if self.path.endswith(".whl"):
                    downloads.append(self.path.rpartition("/")[2])

        handler = functools.partial(Handler, directory=str(folder))
        self._folder = folder
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, version: str, code: str, requires: str = "") -> None:
        """Publish a package of one module, with metadata that can be had without the package."""
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += f"Requires-Dist: {requires}\n" if requires else ""
        files = {
            f"{name}.py": code,
            f"{info}/METADATA": metadata,
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        file = f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(folder / file, "w") as wheel:
            for path, text in files.items():
                wheel.writestr(path, text)
            wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in files))
        (folder / f"{file}.metadata").write_text(metadata)
        with (folder / "index.html").open("a") as page:
            page.write(f'<a href="{file}" data-core-metadata="true">{file}</a>\n')

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Project:
    """A uv project, and the images that are built of it.

    Args:
        folder: where it is.
        image: name of its images.
        variables: environment of the scripts, beside our own.
    """

    def __init__(self, folder: Path, image: str, variables: dict[str, str]) -> None:
        self.folder = folder
        self.image = image
        self.variables = {**os.environ, "AIRFLOW_TORCHX_IMAGE": image, **variables}
        self._images: list[str] = []
        (folder / "src/trainer").mkdir(parents=True)
        (folder / "src/trainer/__init__.py").touch()
        (folder / "src/trainer/__main__.py").write_text(TRAIN)
        (folder / "pyproject.toml").write_text(PYPROJECT)

    def build(self) -> subprocess.CompletedProcess[str]:
        """Run container/build.sh on it."""
        ran = script("build.sh", str(self.folder), env=self.variables)
        found = docker("image", "inspect", "--format", "{{.Id}}", self.image, check=False)
        self._images.extend([found] * bool(found))
        return ran

    def layers(self) -> list[str]:
        """Build it, and return the layers of its image."""
        ran = self.build()
        assert ran.returncode == 0, ran.stdout + ran.stderr
        layers = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", self.image)
        found: list[str] = json.loads(layers)
        return found

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in one of its files."""
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def run(self, *command: str) -> str:
        """Run a command in a container of its image, and return what it prints."""
        return docker("run", "--rm", *OFFLINE, self.image, *command)

    def remove(self) -> None:
        """Remove every image that was built of it."""
        remove_images(self.image, *reversed(self._images))


def script(name: str, *args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script of container/."""
    command = [str(ROOT / "container" / name), *args]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True)


def docker(*args: str, check: bool = True, stdin: bytes | None = None) -> str:
    """Run a docker command, and return what it prints; nothing if it fails and may."""
    ran = subprocess.run(["docker", *args], check=False, input=stdin, capture_output=True)
    assert ran.returncode == 0 or not check, ran.stderr.decode()
    return ran.stdout.decode().strip() * (ran.returncode == 0)


def remove_images(*images: str) -> None:
    """Remove images, and see that they are gone."""
    for image in images:
        docker("rmi", "--force", image, check=False)

    assert [] == [image for image in images if docker("image", "inspect", image, check=False)]


def buildkit_path() -> str:
    """Return a PATH whose docker command can build with BuildKit."""
    for folder in os.environ["PATH"].split(os.pathsep):
        if not (command := shutil.which("docker", path=folder)):
            continue
        version = [command, "version", "--format", "{{.Client.Version}}"]
        client = subprocess.run(version, check=True, capture_output=True, text=True).stdout
        buildx = subprocess.run([command, "buildx", "version"], check=False, capture_output=True)
        if int(client.split(".")[0]) < _PLUGIN_SINCE or buildx.returncode == 0:
            return os.pathsep.join([folder, os.environ["PATH"]])
    return pytest.fail("no docker command here can build with BuildKit: install docker-buildx")


def make_uv_image(folder: Path, name: str) -> None:
    """Make an image that holds uv and nothing else, as the real one does.

    Args:
        folder: an empty one.
        name: of the image, ``repo:tag``.
    """
    dockerfile = (ROOT / "container/Dockerfile").read_text()
    (version,) = re.findall(r"^ARG UV_IMAGE=.*:(.*)$", dockerfile, re.MULTILINE)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"uv=={version}"]
    subprocess.run(pip, check=True, cwd=folder, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        for tool in ("uv", "uvx"):
            (path,) = (path for path in files.namelist() if path.endswith(f"/scripts/{tool}"))
            (folder / tool).write_bytes(files.read(path))
            (folder / tool).chmod(0o755)
    tar = subprocess.run(["tar", "-c", "uv", "uvx"], check=True, cwd=folder, capture_output=True)
    docker("import", "-", name, stdin=tar.stdout)
