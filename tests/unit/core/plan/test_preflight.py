"""Tests of the problems that are found before a launch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_torchx.core.engine.containers import EngineInfo
from airflow_torchx.core.plan.gpu_problems import WITHOUT_CDI
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.preflight import (
    DaemonFacts,
    checked_options,
    daemon_problems,
    daemon_warnings,
    preflight,
)
from airflow_torchx.errors import InvalidAppError, Problem
from airflow_torchx.specs import (
    MISSING,
    NONE,
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    Role,
    VolumeMount,
    Workspace,
)

URL = "unix:///var/run/docker.sock"


def role(name: str = "trainer", **fields: object) -> Role:
    """Return a role that can run."""
    given: dict[str, Any] = {"image": "img:1", "entrypoint": "python", **fields}
    return Role(name, **given)


def app(*roles: Role, name: str = "train") -> AppDef:
    """Return an app of these roles."""
    return AppDef(name, roles)


def daemon(
    *,
    gpu_ids: tuple[str, ...] = (),
    has_cdi: bool = True,
    **looked_up: Any,  # noqa: ANN401 - fields of the facts
) -> DaemonFacts:
    """Return a daemon with 4 CPUs."""
    engine = EngineInfo(
        id="d1",
        url=URL,
        is_local=True,
        version="28.0.0",
        api_version="1.48",
        os="linux",
        cpus=4,
        memory_bytes=1 << 33,
        gpu_ids=gpu_ids,
        has_cdi=has_cdi,
    )
    return DaemonFacts(engine=engine, **looked_up)


def problems(
    what: AppDef | Role, cfg: dict[str, Any] | None = None, facts: DaemonFacts | None = None
) -> list[Problem]:
    """Return the problems of an app, or of an app with one role."""
    wanted, opts = what if isinstance(what, AppDef) else app(what), Opts.parse(cfg)
    found = preflight(wanted, opts)
    return [*found, *(daemon_problems(wanted, opts, facts) if facts else ())]


#: Mistakes, each with its problem.
MISTAKES: dict[str, tuple[AppDef | Role, Problem]] = {
    "an app without roles": (
        app(),
        Problem("roles", "the app has no roles", "give it at least one role"),
    ),
    "an app without a name": (
        app(role(), name=" "),
        Problem("name", "' ' is not a valid name", "use printable characters"),
    ),
    "an app with an unprintable name": (
        app(role(), name="a\0b"),
        Problem("name", "'a\\x00b' is not a valid name", "use printable characters"),
    ),
    "two roles of one name": (
        app(role("ps"), role("trainer"), role("ps")),
        Problem(
            "roles",
            "2 roles are named 'ps', ignoring case",
            "give each its own name",
        ),
    ),
    "two roles whose names differ in case": (
        app(role("Trainer"), role("trainer")),
        Problem(
            "roles",
            "2 roles are named 'trainer', ignoring case",
            "give each its own name",
        ),
    ),
    "a role without a name": (
        role(""),
        Problem(
            "roles[0].name", "'' is not a valid name", "use printable characters without a slash"
        ),
    ),
    "a role with a slash, which ends a replica's name in `torchx log`": (
        role("exp/run"),
        Problem(
            "roles[0].name",
            "'exp/run' is not a valid name",
            "use printable characters without a slash",
        ),
    ),
    "no image of a binary": (
        role(image=NONE),
        Problem("roles[0].image", "no image is given", "set image=, or the image of the role"),
    ),
    "no image": (
        role(image=""),
        Problem("roles[0].image", "no image is given", "set image=, or the image of the role"),
    ),
    "a missing image": (
        role(image=MISSING),
        Problem("roles[0].image", "no image is given", "set image=, or the image of the role"),
    ),
    "no entrypoint": (
        role(entrypoint=""),
        Problem(
            "roles[0].entrypoint",
            "no entrypoint is given",
            "name the program to run",
        ),
    ),
    "a missing entrypoint": (
        role(entrypoint=MISSING),
        Problem(
            "roles[0].entrypoint",
            "no entrypoint is given",
            "name the program to run",
        ),
    ),
    "no replicas": (
        role(num_replicas=0),
        Problem("roles[0].num_replicas", "0 replicas are not possible", "choose from 1 to 10000"),
    ),
    "more replicas than names": (
        role(num_replicas=10_001),
        Problem(
            "roles[0].num_replicas",
            "10001 replicas are not possible",
            "choose from 1 to 10000",
        ),
    ),
    "an elastic minimum above the number": (
        role(num_replicas=2, min_replicas=3),
        Problem(
            "roles[0].min_replicas",
            "3 is not a minimum of 2 replicas",
            "choose from 1 to 2",
        ),
    ),
    "negative retries": (
        role(max_retries=-1),
        Problem("roles[0].max_retries", "-1 is negative", "use 0 or more"),
    ),
    "a target outside the workspace": (
        role(workspace=Workspace({".": "../up"})),
        Problem(
            "roles[0].workspace",
            "target '../up' of '.' is outside the workspace",
            "Give a folder relative to the workspace, without '..'.",
        ),
    ),
    "an argument with a zero byte": (
        role(args=["a", "b\0c"]),
        Problem(
            "roles[0].args[1]",
            "contains a zero byte",
            "remove it",
        ),
    ),
    "more CPUs than any host has": (
        role(resource=Resource(cpu=1e300, gpu=0, memMB=-1)),
        Problem(
            "roles[0].resource.cpu",
            "1e+300 CPUs are more than any host has",
            "give 1000000 at most, 0 for no limit",
        ),
    ),
    "an invalid image": (
        role(image="../Containers"),
        Problem(
            "roles[0].image",
            "'../Containers' is not a valid image name",
            "write it like 'registry.example.com:5000/team/image:tag', in lower case",
        ),
    ),
    "an image with a login, which is not shown": (
        role(image="https://me:pass:word@h:5000/me/img:1"),
        Problem(
            "roles[0].image",
            "'…@h:5000/me/img:1' is not a valid image name",
            "write it like 'registry.example.com:5000/team/image:tag', in lower case",
        ),
    ),
    "an entrypoint with a zero byte": (
        role(entrypoint="a\0b"),
        Problem("roles[0].entrypoint", "contains a zero byte", "remove it"),
    ),
    "an argument that is a number": (
        role(args=["--lr", 0.1]),
        Problem("roles[0].args[1]", "expected a string, got 0.1", "put it in quotes"),
    ),
    "two mounts with one target": (
        role(mounts=[BindMount("/a", "/x"), BindMount("/b", "/x")]),
        Problem("roles[0].mounts", "2 mounts have the dst_path '/x'", "give each its own dst_path"),
    ),
    "a device with invalid permissions": (
        role(mounts=[DeviceMount("/dev/a", "/dev/a", permissions="x")]),
        Problem(
            "roles[0].mounts[0].permissions",
            "'x' is not a valid permission",
            "use only the letters r, w and m",
        ),
    ),
    "a port above 65535": (
        role(port_map={"http": 65_536}),
        Problem("roles[0].port_map.http", "65536 is not a port number", "choose from 1 to 65535"),
    ),
    "port 0": (
        role(port_map={"http": 0}),
        Problem("roles[0].port_map.http", "0 is not a port number", "choose from 1 to 65535"),
    ),
    "less memory than Docker allows": (
        role(resource=Resource(cpu=1, gpu=0, memMB=5)),
        Problem(
            "roles[0].resource.memMB",
            "5 MB is below Docker's minimum",
            "give 6 MB or more, 0 for no limit",
        ),
    ),
    "less CPU than Docker allows": (
        role(resource=Resource(cpu=0.009, gpu=0, memMB=6)),
        Problem(
            "roles[0].resource.cpu",
            "0.009 CPUs is below Docker's minimum",
            "give 0.01 or more, 0 for no limit",
        ),
    ),
    **{
        f"a negative number as {name}": (
            role(resource=resource),
            Problem(
                f"roles[0].resource.{name}",
                "-2 is negative",
                "use 0 or more, or -1 to leave it unset",
            ),
        )
        for name, resource in {
            "cpu": Resource(cpu=-2, gpu=-1, memMB=-1),
            "gpu": Resource(cpu=-1, gpu=-2, memMB=-1),
            "memMB": Resource(cpu=-1, gpu=-1, memMB=-2),
        }.items()
    },
    "something else among the mounts": (
        role(mounts=[BindMount("/a", "/b"), "type=bind"]),
        Problem(
            "roles[0].mounts[1]",
            "expected a dict, got 'type=bind'",
            "write the fields of a mount",
        ),
    ),
    "a relative target": (
        role(mounts=[BindMount("/a", "b")]),
        Problem(
            "roles[0].mounts[0].dst_path",
            "'b' is not an absolute path",
            "start it with a slash",
        ),
    ),
    "a relative source of a bind": (
        role(mounts=[BindMount("./a", "/b")]),
        Problem(
            "roles[0].mounts[0].src_path",
            "'./a' is not an absolute path",
            "start it with a slash",
        ),
    ),
    "a relative device": (
        role(mounts=[DeviceMount("dev/x", "/dev/x")]),
        Problem(
            "roles[0].mounts[0].src_path",
            "'dev/x' is not an absolute path",
            "start it with a slash",
        ),
    ),
    "a volume without a name": (
        role(mounts=[VolumeMount("", "/v")]),
        Problem("roles[0].mounts[0].src", "no volume is named", "name a volume of the daemon"),
    ),
}


@pytest.mark.parametrize(("what", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_problems_of_an_app(what: AppDef | Role, problem: Problem) -> None:
    """Each mistake is a problem with its path and how to fix it."""
    assert [problem] == problems(what)


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"": "c"}, {"A\0": "c"}, {"A": "c\0"}])
def test_invalid_variables(env: dict[Any, Any]) -> None:
    """Invalid names and values of variables are problems."""
    (problem,) = problems(role(env=env))

    assert "roles[0].env" == problem.where
    shown = next(iter(env)).replace("=B", "=…")  # the rest may be a secret
    assert f"{shown!r} is not a valid environment variable" == problem.what
    assert "remove '=' from its name, and zero bytes" == problem.fix


def test_a_variable_that_is_not_a_string() -> None:
    """A variable that is not a string is a problem, which does not repeat the value."""
    (problem,) = problems(role(env={"PIN": 271828}))

    assert Problem("roles[0].env['PIN']", "not a string", "give a string") == problem


def test_ports_are_published_once() -> None:
    """Two roles cannot publish the same port, and can use it without publishing."""
    both = app(role("a", port_map={"web": 80}), role("b", port_map={"web": 80, "ui": 81}))

    (problem,) = preflight(both, Opts(publish_ports=True))

    assert "port 80 is published 2 times" == problem.what
    assert () == preflight(both, Opts())


@pytest.mark.parametrize(
    ("what", "cfg", "facts", "problem"),
    [
        pytest.param(
            role(resource=Resource(cpu=4.5, gpu=0, memMB=6)),
            {},
            daemon(),
            Problem(
                "roles[0].resource.cpu",
                f"4.5 CPUs are more than the 4 of {URL}",
                "request at most 4",
            ),
            id="more CPUs than the host has",
        ),
        pytest.param(
            role(),
            {"pull_policy": "never"},
            daemon(images={"img:1": None}),
            Problem(
                "roles[0].image",
                f"'img:1' is not on {URL}, and pull_policy is 'never'",
                "load the image, or set pull_policy='missing'",
            ),
            id="an absent image that is not pulled",
        ),
        pytest.param(
            role(mounts=[VolumeMount("v", "/v"), BindMount("/gone", "/data")]),
            {},
            daemon(absent_paths=frozenset({"/gone"})),
            Problem(
                "roles[0].mounts[1].src_path",
                "'/gone' does not exist on this host",
                "create it first",
            ),
            id="a bind source that does not exist",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=1, gpu=2, memMB=6)),
            {},
            daemon(gpu_ids=("g0", "g1", "g2")),
            Problem(
                "roles",
                f"all replicas together request 4 GPUs, but {URL} has 3",
                "request at most 3, or share them between replicas with auto_set_gpus=False",
            ),
            id="more GPUs than the host has",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=1, gpu=4, memMB=6)),
            {},
            daemon(gpu_ids=("g0", "g1", "g2")),
            Problem(
                "roles",
                f"all replicas together request 8 GPUs, but {URL} has 3",
                "request at most 3",
            ),
            id="replicas that cannot share GPUs either",
        ),
        pytest.param(
            role(resource=Resource(cpu=1, gpu=4, memMB=6)),
            {},
            daemon(gpu_ids=("g0", "g1", "g2")),
            Problem(
                "roles",
                f"the replica requests 4 GPUs, but {URL} has 3",
                "request at most 3",
            ),
            id="one replica with more GPUs than the host has",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=1, gpu=2, memMB=6)),
            {"gpu_driver": "cdi"},
            daemon(gpu_ids=("g0", "g1", "g2")),
            Problem(
                "roles",
                f"all replicas together request 4 GPUs, but {URL} has 3",
                "request at most 3",
            ),
            id="replicas that cannot share the GPUs of CDI",
        ),
        pytest.param(
            role(resource=Resource(cpu=1, gpu=1, memMB=6)),
            {"gpu_driver": "cdi"},
            daemon(gpu_ids=("g0",), has_cdi=False),
            Problem(
                "options.gpu_driver",
                f"CDI is not enabled on {URL} (Docker 28.0.0)",
                WITHOUT_CDI,
            ),
            id="CDI on a daemon without it",
        ),
        pytest.param(
            role(resource=Resource(cpu=1, gpu=1, memMB=6)),
            {},
            daemon(gpu_ids=("GPU-aa", "0")),
            Problem(
                "gpu_ids",
                "indices and UUIDs may name the same GPU, and the daemon reports no ids",
                "list all by UUID, as `nvidia-smi -L` prints them",
            ),
            id="indices and UUIDs on a daemon that reports no ids",
        ),
        pytest.param(
            role(resource=Resource(cpu=1, gpu=1, memMB=6)),
            {},
            daemon(gpu_ids=("gpu0", "mig1:0", "2"), has_cdi=False),
            Problem(
                "gpu_ids",
                f"only CDI knows gpu0, mig1:0, and CDI is not enabled on {URL} (Docker 28.0.0)",
                "list UUIDs or indices (0) in gpu_ids of the connection, or enable CDI: upgrade"
                " the daemon to Docker 28.2, and run"
                " `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` on its host",
            ),
            id="names in CDI on a daemon without it",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=1, gpu=4, memMB=6)),
            {"auto_set_gpus": False},
            daemon(gpu_ids=("g0",), reported_gpus=("g0", "g1", "g2")),
            Problem(
                "roles[0].resource.gpu",
                f"4 GPUs are more than the 3 of {URL}",
                "request at most 3",
            ),
            id="more shared GPUs than the host has",
        ),
    ],
)
def test_problems_with_a_daemon(
    what: Role, cfg: dict[str, Any], facts: DaemonFacts, problem: Problem
) -> None:
    """Problems with the daemon are found only with facts about the daemon."""
    assert [problem] == problems(what, cfg, facts)
    assert [] == problems(what, cfg, None)


@pytest.mark.parametrize(
    ("what", "cfg", "facts"),
    [
        pytest.param(
            role(),
            {"pull_policy": "missing"},
            daemon(images={"img:1": None}),
            id="an image that will be pulled",
        ),
        pytest.param(
            role(),
            {"pull_policy": "never"},
            daemon(images={"img:2": None}),
            id="an image on the daemon",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=4, gpu=2, memMB=6)),
            {"auto_set_gpus": False},
            daemon(gpu_ids=("g0", "g1"), reported_gpus=("g0", "g1")),
            id="GPUs that replicas share",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=4, gpu=2, memMB=6)),
            {},
            daemon(gpu_ids=("g0", "g1", "g2", "g3")),
            id="all GPUs of the host",
        ),
        pytest.param(
            role(resource=Resource(cpu=4, gpu=2, memMB=6)),
            {},
            daemon(),
            id="GPUs of a daemon that does not report its ids",
        ),
        pytest.param(
            role(resource=Resource(cpu=4, gpu=2, memMB=6)),
            {},
            daemon(gpu_ids=("GPU-aa", "1"), reported_gpus=("GPU-aa", "1")),
            id="GPUs that a daemon reports in two forms",
        ),
        pytest.param(
            role(resource=Resource(cpu=4, gpu=0, memMB=6)),
            {"gpu_driver": "cdi"},
            daemon(has_cdi=False),
            id="a GPU driver of an app without GPUs",
        ),
        pytest.param(
            role(resource=Resource(cpu=4, gpu=1, memMB=6)),
            {"gpu_driver": "cdi"},
            daemon(gpu_ids=("g0",)),
            id="GPUs of CDI",
        ),
        pytest.param(
            role(resource=Resource(cpu=4, gpu=1, memMB=6)),
            {},
            daemon(gpu_ids=("gpu0",)),
            id="names in CDI",
        ),
        pytest.param(
            role(mounts=[BindMount("/data", "/data")]),
            {},
            daemon(absent_paths=frozenset({"/gone"})),
            id="a bind source that exists",
        ),
    ],
)
def test_valid_apps(what: Role, cfg: dict[str, Any], facts: DaemonFacts) -> None:
    """An app that can be launched has no problems."""
    assert [] == problems(what, cfg, facts)


def test_the_limits_themselves_are_allowed() -> None:
    """The minimum and the maximum of every value are accepted, and so are unusual names."""
    least = role(
        "my é role",
        resource=Resource(cpu=0.01, gpu=0, memMB=6),
        port_map={"a": 1, "b": 65_535},
        env={"A.B-c": "", "é": "="},
        args=["", "\n"],
        workspace=Workspace({}),
        mounts=[DeviceMount("/dev/x", "/dev/x"), VolumeMount("v", "/v")],
    )
    most = role("most", num_replicas=10_000, min_replicas=10_000)
    none = role("none", resource=Resource(cpu=0, gpu=0, memMB=0))
    unset = role("unset", resource=Resource(cpu=-1, gpu=-1, memMB=-1))

    assert [] == problems(app(least, most, none, unset, name="my app / run"), {}, daemon())


def test_one_call_returns_all_problems() -> None:
    """One call returns the problems of the app, of every role and with the daemon."""
    greedy = role(resource=Resource(cpu=1, gpu=3, memMB=6), max_retries=-1)
    broken = role(
        image="",
        args=["\0"],
        resource=Resource(cpu=9, gpu=0, memMB=1),
        mounts=[BindMount("a", "b")],
    )
    found = problems(app(greedy, broken, name=""), {}, daemon(gpu_ids=("g0",)))

    assert [
        "name",
        "roles",
        "roles[0].max_retries",
        "roles[1].image",
        "roles[1].args[0]",
        "roles[1].resource.memMB",
        "roles[1].mounts[0].dst_path",
        "roles[1].mounts[0].src_path",
        "roles[1].resource.cpu",
        "roles",
    ] == [problem.where for problem in found]
    assert all(problem.what and problem.fix for problem in found)


def test_one_error_lists_all_problems() -> None:
    """One error lists all problems of an app, and an app without problems is accepted."""
    with pytest.raises(InvalidAppError) as caught:
        checked_options(app(role(image="", num_replicas=0)), {"pul_policy": "never"})

    assert Opts(quiet=True) == checked_options(app(role()), {"quiet": True})
    assert (
        "invalid app 'train': 3 problems\n"
        "  - options.pul_policy: unknown option; did you mean 'pull_policy'?\n"
        "  - roles[0].image: no image is given; set image=, or the image of the role\n"
        "  - roles[0].num_replicas: 0 replicas are not possible; choose from 1 to 10000"
    ) == str(caught.value)


def test_a_worker_in_a_container_cannot_check_mounts() -> None:
    """A mounted socket does not show the files of its host; a remote daemon is no surprise."""
    wanted = app(role(mounts=[VolumeMount("v", "/v"), BindMount("/data", "/x")]))
    local = daemon()
    mounted = replace(local, engine=replace(local.engine, is_local=False))
    remote = replace(mounted, engine=replace(mounted.engine, url="tcp://gpu-1:2376"))

    (warning,) = daemon_warnings(wanted, mounted)
    assert warning.startswith("roles[0].mounts[1].src_path: '/data' is not checked")
    assert [] == [*daemon_warnings(wanted, local), *daemon_warnings(wanted, remote)]
