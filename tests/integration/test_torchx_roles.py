"""TorchX's own roles, which can be changed, in the hands of our workspace."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import BUSYBOX

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / ".venv-torchx" / "bin" / "python"

SCRIPT: Final = """
import json, sys
from torchx.specs import AppDef, Role, Workspace
from airflow_torchx.workspace.docker_workspace import DockerWorkspaceMixin

folder, image = sys.argv[1:]
built = Role("a", image)
own = Role("b", image, workspace=Workspace({folder: ""}))
with DockerWorkspaceMixin(terminal=False) as mixin:
    mixin.build_workspace_and_update_role(built, Workspace({folder: ""}), {})
    mixin.build_workspaces([own], {"quiet": True})
    app = AppDef("app", [built, own])
    before = built.image
    images = mixin.dryrun_push_images(app, {"image_repo": "reg.example.com/x"})
print(json.dumps([before, own.workspace is not None, built.image, own.image, dict(images)]))
"""


@pytest.mark.docker
@pytest.mark.usefixtures("no_images_left")
def test_a_role_of_torchx_is_changed_in_place(tmp_path: Path) -> None:
    """TorchX's role gets the built image, and then the one to push, as its contract says."""
    tmp_path.joinpath("train.py").write_text("1")

    ran = subprocess.run(
        [PYTHON, "-c", SCRIPT, str(tmp_path), BUSYBOX],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == ran.returncode, ran.stderr
    local, kept, first, second, images = json.loads(ran.stdout.splitlines()[-1])
    key = local.removeprefix("airflow-torchx/workspace:")
    assert kept
    assert {local: ["reg.example.com/x", key]} == images
    assert f"reg.example.com/x:{key}" == first == second
