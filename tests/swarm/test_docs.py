"""What the pages tell people to type on a manager works on a swarm of three nodes.

These are all shell blocks with the name of the scheduler, and those that make a swarm.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_torchx.core.engine import labels
from tests import pages
from tests.conftest import BUSYBOX
from tests.integration.registry import program
from tests.swarm.hosts import swarm

if TYPE_CHECKING:
    from airflow_torchx.swarm_engine import SwarmEngine
    from tests.swarm.hosts import Hosts

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

BLOCKS = [
    block
    for block in pages.blocks("sh")
    if pages.is_for_swarm(block.text) and not block.text.startswith(pages.SETS_UP)
]
PROGRAM, CONFIG = "/registry", "/config.yml"
SERVE = [PROGRAM, "serve", CONFIG]
REGISTRY = b"""\
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000", secret: none}
"""
ASK = """
until python -c 'from urllib.request import urlopen
print(urlopen("http://{}:5000/v2/").read().decode(), end="")'
do sleep 0.1
done
"""


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{one.page}:{one.line}" for one in BLOCKS])
def test_blocks_on_a_manager(
    block: pages.Block, hosts: Hosts, swarm_engine: SwarmEngine, tmp_path: Path
) -> None:
    """Each block ends without an error, and leaves no app."""
    before = {row.id for row in swarm_engine.rows({labels.APP_ID: None})}

    hosts[1].shell(block.text.replace("busybox", BUSYBOX), tmp_path)

    assert before == {row.id for row in swarm_engine.rows({labels.APP_ID: None})}


def test_the_page_makes_a_swarm_of_three_boxes(tmp_path: Path) -> None:
    """Its commands make nodes with labels, a registry that all reach, and certificates."""
    make, listing, label, registry, certify = map(pages.block_with, pages.SETS_UP)
    with swarm(managers=0) as hosts:
        address = hosts[1].address
        printed = hosts[1].shell(make.replace("192.0.2.11", address), tmp_path)
        join = printed[printed.rindex("docker swarm join ") :].strip()
        for host in (hosts[2], hosts[3]):
            host.shell(join, tmp_path)
        listed = hosts[1].shell(listing, tmp_path)
        hosts[1].shell(label, tmp_path)
        with closing(hosts[1].client) as client:
            labels_of = {
                one["Description"]["Hostname"]: one["Spec"]["Labels"] for one in client.nodes()
            }
            client.import_image_from_data(
                _registry_image(), "registry", "local", changes=[f"ENTRYPOINT {json.dumps(SERVE)}"]
            )
        hosts[1].shell(registry.replace("registry:2", "registry:local"), tmp_path)
        answer = hosts[2].shell(ASK.format(address), tmp_path)
        hosts[1].shell(certify.replace("192.0.2.1", address[:-1]), tmp_path)
        hosts[1].stop()
        hosts[1].start(*_tls(tmp_path, "box1"))
        own = shlex.join(["docker", *_tls(tmp_path, "airflow"), "--host", hosts[1].tls_url, "info"])
        described = hosts[2].shell(own, tmp_path)

    # The training at the end of the page asks for three nodes with this label.
    assert {f"box{number}": {"gpu": "a100"} for number in (1, 2, 3)} == labels_of
    assert all(name in listed for name in labels_of)
    assert "{}" == answer
    assert "Name: box1" in described


def _tls(folder: Path, name: str) -> list[str]:
    """Return the options of a daemon or a client that shows a certificate of the page."""
    files = {"cacert": "ca", "cert": name, "key": f"{name}-key"}
    return [
        "--tlsverify",
        *(f"--tls{option}={folder}/{file}.pem" for option, file in files.items()),
    ]


def _registry_image() -> bytes:
    """Return the files of an image like the page's, which cannot be pulled everywhere."""
    path = program()
    linked = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(path, PROGRAM)
        for library in re.findall(r"(/\S+) \(", linked):
            tar.add(Path(library).resolve(), library)
        config = tarfile.TarInfo(CONFIG)
        config.size = len(REGISTRY)
        tar.addfile(config, io.BytesIO(REGISTRY))
    return packed.getvalue()
