"""Tests the small components; tests/integration/test_component_parity.py compares TorchX's."""

from __future__ import annotations

import pytest

from airflow_torchx.components import utils
from airflow_torchx.errors import ComponentError
from airflow_torchx.specs import NONE, AppDef, BindMount, Resource, Role

SMALL = Resource(cpu=1, gpu=0, memMB=1024)


def test_echo_and_touch() -> None:
    """The components echo and touch run one program with one argument."""
    echo = Role("echo", "i", entrypoint="echo", args=["hi"], num_replicas=2, resource=SMALL)
    touch = Role("touch", "", entrypoint="touch", args=["/x"], resource=SMALL)

    assert AppDef("echo", [echo]) == utils.echo("hi", image="i", num_replicas=2)
    assert AppDef("touch", [touch]) == utils.touch("/x")


def test_sh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments are quoted, and passed separately to a custom entrypoint."""
    monkeypatch.setenv("LOGLEVEL", "INFO")
    (role,) = utils.sh("echo", "$A b", env={"A": "1"}, max_retries=2).roles
    (other,) = utils.sh("-c", "a b", entrypoint="bash").roles

    assert ("sh", ("-c", "echo '$A b'")) == (role.entrypoint, role.args)
    assert {"A": "1", "LOGLEVEL": "INFO"} == role.env
    assert 2 == role.max_retries
    assert ("bash", ("-c", "'a b'")) == (other.entrypoint, other.args)


def test_python() -> None:
    """Python runs a module, a program text or a script, with arguments."""
    module = utils.python("x", m="a.b", name="n", num_replicas=2).roles[0]

    assert ("-m", "a.b", "x") == module.args
    assert ({"HYDRA_MAIN_MODULE": "a.b"}, 2) == (module.env, module.num_replicas)
    assert ("-c", "1", "x") == utils.python("x", c="1").roles[0].args
    assert ("s.py", "x") == utils.python("x", script="s.py").roles[0].args


@pytest.mark.parametrize("given", [{}, {"m": ""}, {"m": "a", "c": "b"}, {"m": "", "script": "s"}])
def test_python_runs_one_program(given: dict[str, str]) -> None:
    """Zero, two or empty programs are rejected."""
    with pytest.raises(ComponentError, match="Give exactly one of m, c and script"):
        utils.python(m=given.get("m"), c=given.get("c"), script=given.get("script"))


def test_binary_has_no_image() -> None:
    """The component leaves the image to the task."""
    (role,) = utils.binary("-l", entrypoint="ls", cpu=2).roles

    assert (NONE, "ls", ("-l",)) == (role.image, role.entrypoint, role.args)
    assert Resource(cpu=2, gpu=0, memMB=1024) == role.resource


def test_torchx_programs() -> None:
    """The components copy and booth run TorchX's own modules."""
    (copy,) = utils.copy("a", "b", mounts=["type=bind", "src=/x", "dst=/y"]).roles
    (booth,) = utils.booth(1, 2.5).roles

    assert ("-m", "torchx.apps.utils.copy_main", "--src", "a", "--dst", "b") == copy.args
    assert (BindMount("/x", "/y"),) == copy.mounts
    assert ["--x1", "1", "--x2", "2.5", "--trial_idx", "0"] == booth.args[2:8]
