"""What is known to go wrong before anything is created."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_torchx.core.engine.containers import EngineInfo
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.preflight import (
    DaemonFacts,
    checked_options,
    daemon_problems,
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


def daemon(*, gpu_ids: tuple[str, ...] = (), **looked_up: Any) -> DaemonFacts:  # noqa: ANN401 - fields of the facts
    """Return a daemon with 4 cpus."""
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
    )
    return DaemonFacts(engine=engine, **looked_up)


def problems(
    what: AppDef | Role, cfg: dict[str, Any] | None = None, facts: DaemonFacts | None = None
) -> list[Problem]:
    """Return what is wrong with an app, or with an app of one role."""
    wanted, opts = what if isinstance(what, AppDef) else app(what), Opts.parse(cfg)
    found = preflight(wanted, opts)
    return [*found, *(daemon_problems(wanted, opts, facts) if facts else ())]


#: Mistakes, and the one problem that each of them is.
MISTAKES: dict[str, tuple[AppDef | Role, Problem]] = {
    "an app without roles": (
        app(),
        Problem("roles", "the app has no roles", "give it at least one role"),
    ),
    "an app without a name": (
        app(role(), name=" "),
        Problem("name", "' ' cannot name an app", "use a printable text"),
    ),
    "an app whose name is no text for people": (
        app(role(), name="a\0b"),
        Problem("name", "'a\\x00b' cannot name an app", "use a printable text"),
    ),
    "two roles of one name": (
        app(role("ps"), role("trainer"), role("ps")),
        Problem(
            "roles",
            "2 roles are named 'ps', upper and lower case being the same",
            "give each its own name",
        ),
    ),
    "two roles that Docker's name server cannot tell apart": (
        app(role("Trainer"), role("trainer")),
        Problem(
            "roles",
            "2 roles are named 'trainer', upper and lower case being the same",
            "give each its own name",
        ),
    ),
    "a role without a name": (
        role(""),
        Problem("roles[0].name", "'' cannot name a role", "use a printable text without a slash"),
    ),
    "a role with a slash, which ends a replica's name in `torchx log`": (
        role("exp/run"),
        Problem(
            "roles[0].name",
            "'exp/run' cannot name a role",
            "use a printable text without a slash",
        ),
    ),
    "no image of a binary": (
        role(image=NONE),
        Problem("roles[0].image", "no image is given", "name the image the role runs in"),
    ),
    "no image": (
        role(image=""),
        Problem("roles[0].image", "no image is given", "name the image the role runs in"),
    ),
    "an image that was left out": (
        role(image=MISSING),
        Problem("roles[0].image", "no image is given", "name the image the role runs in"),
    ),
    "no entrypoint": (
        role(entrypoint=""),
        Problem(
            "roles[0].entrypoint",
            "no entrypoint is given",
            "name the program that the role runs",
        ),
    ),
    "an entrypoint that was left out": (
        role(entrypoint=MISSING),
        Problem(
            "roles[0].entrypoint",
            "no entrypoint is given",
            "name the program that the role runs",
        ),
    ),
    "no replicas": (
        role(num_replicas=0),
        Problem("roles[0].num_replicas", "0 replicas cannot be launched", "choose from 1 to 10000"),
    ),
    "more replicas than have names": (
        role(num_replicas=10_001),
        Problem(
            "roles[0].num_replicas",
            "10001 replicas cannot be launched",
            "choose from 1 to 10000",
        ),
    ),
    "an elastic minimum above the number": (
        role(num_replicas=2, min_replicas=3),
        Problem(
            "roles[0].min_replicas",
            "3 does not go with num_replicas=2",
            "choose from 1 to num_replicas",
        ),
    ),
    "negative retries": (
        role(max_retries=-1),
        Problem("roles[0].max_retries", "-1 is negative", "use 0 or more"),
    ),
    "a workspace beside the workspace": (
        role(workspace=Workspace({".": "../up"})),
        Problem(
            "roles[0].workspace",
            "target '../up' of '.' is outside the workspace",
            "Give a folder relative to the workspace, without '..'.",
        ),
    ),
    "an argument that ends early": (
        role(args=["a", "b\0c"]),
        Problem(
            "roles[0].args[1]",
            "it holds a zero byte",
            "remove it",
        ),
    ),
    "more cpus than a number of them can be": (
        role(resource=Resource(cpu=1e300, gpu=0, memMB=-1)),
        Problem(
            "roles[0].resource.cpu",
            "1e+300 cpus are more than any host has",
            "give 1000000 at most, 0 for no limit",
        ),
    ),
    "an image that no daemon can be asked for": (
        role(image="../Containers"),
        Problem(
            "roles[0].image",
            "'../Containers' cannot name an image",
            "write it like 'registry.example.com:5000/team/image:tag', in lower case",
        ),
    ),
    "an image with a login, which is not shown": (
        role(image="https://me:pass:word@h:5000/me/img:1"),
        Problem(
            "roles[0].image",
            "'…@h:5000/me/img:1' cannot name an image",
            "write it like 'registry.example.com:5000/team/image:tag', in lower case",
        ),
    ),
    "an entrypoint that ends early": (
        role(entrypoint="a\0b"),
        Problem("roles[0].entrypoint", "it holds a zero byte", "remove it"),
    ),
    "an argument that is a number": (
        role(args=["--lr", 0.1]),
        Problem("roles[0].args[1]", "expected a string, got 0.1", "put it in quotes"),
    ),
    "two mounts in one place": (
        role(mounts=[BindMount("/a", "/x"), BindMount("/b", "/x")]),
        Problem("roles[0].mounts", "2 mounts have the target '/x'", "give each its own dst_path"),
    ),
    "a device with other permissions": (
        role(mounts=[DeviceMount("/dev/a", "/dev/a", permissions="x")]),
        Problem("roles[0].mounts[0].permissions", "'x' are no permissions", "use letters of 'rwm'"),
    ),
    "a port above all ports": (
        role(port_map={"http": 65_536}),
        Problem("roles[0].port_map.http", "65536 is no port", "choose from 1 to 65535"),
    ),
    "port 0": (
        role(port_map={"http": 0}),
        Problem("roles[0].port_map.http", "0 is no port", "choose from 1 to 65535"),
    ),
    "less memory than Docker gives": (
        role(resource=Resource(cpu=1, gpu=0, memMB=5)),
        Problem(
            "roles[0].resource.memMB",
            "5 MB is below Docker's minimum",
            "give 6 MB or more, 0 for no limit",
        ),
    ),
    "less cpu than Docker gives": (
        role(resource=Resource(cpu=0.009, gpu=0, memMB=6)),
        Problem(
            "roles[0].resource.cpu",
            "0.009 cpus is below Docker's minimum",
            "give 0.01 or more, 0 for no limit",
        ),
    ),
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
            "begin it with a slash",
        ),
    ),
    "a relative source of a bind": (
        role(mounts=[BindMount("./a", "/b")]),
        Problem(
            "roles[0].mounts[0].src_path",
            "'./a' is not an absolute path",
            "begin it with a slash",
        ),
    ),
    "a relative device": (
        role(mounts=[DeviceMount("dev/x", "/dev/x")]),
        Problem(
            "roles[0].mounts[0].src_path",
            "'dev/x' is not an absolute path",
            "begin it with a slash",
        ),
    ),
    "a volume without a name": (
        role(mounts=[VolumeMount("", "/v")]),
        Problem("roles[0].mounts[0].src", "no volume is named", "name a volume of the daemon"),
    ),
}


@pytest.mark.parametrize(("what", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_problems_of_an_app(what: AppDef | Role, problem: Problem) -> None:
    """Each mistake is told by where it is, what it is and how to mend it."""
    assert [problem] == problems(what)


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"": "c"}, {"A\0": "c"}, {"A": "c\0"}])
def test_variables_that_no_process_can_have(env: dict[Any, Any]) -> None:
    """Names and values that would not arrive are told."""
    (problem,) = problems(role(env=env))

    assert "roles[0].env" == problem.where
    shown = next(iter(env)).replace("=B", "=…")  # what follows may be a secret
    assert f"{shown!r} cannot be an environment variable" == problem.what
    assert "no '=' in its name, a text without zero bytes" == problem.fix


def test_a_variable_that_is_no_text_is_told_without_its_value() -> None:
    """A number may be a secret as well."""
    (problem,) = problems(role(env={"PIN": 271828}))

    assert Problem("roles[0].env['PIN']", "this is no text", "give a text") == problem


def test_ports_are_published_once() -> None:
    """Two roles cannot have one port of the host; without publishing they can."""
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
                f"4.5 cpus are more than the 4 of {URL}",
                "ask for 4 at most",
            ),
            id="more cpus than the host has",
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
            id="an image that is not there and not pulled",
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
                f"all replicas together want 4 GPUs, and {URL} has 3",
                "ask for fewer, or share them between replicas with auto_set_gpus=False",
            ),
            id="more GPUs than the host has",
        ),
    ],
)
def test_problems_with_a_daemon(
    what: Role, cfg: dict[str, Any], facts: DaemonFacts, problem: Problem
) -> None:
    """What only the daemon can tell is a problem once it is asked, and not before."""
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
            id="an image that is there",
        ),
        pytest.param(
            role(num_replicas=2, resource=Resource(cpu=4, gpu=2, memMB=6)),
            {"auto_set_gpus": False},
            daemon(gpu_ids=("g0", "g1")),
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
            id="GPUs of a daemon that does not tell its ids",
        ),
        pytest.param(
            role(mounts=[BindMount("/data", "/data")]),
            {},
            daemon(absent_paths=frozenset({"/gone"})),
            id="a bind source that exists",
        ),
    ],
)
def test_apps_that_fit(what: Role, cfg: dict[str, Any], facts: DaemonFacts) -> None:
    """What can be launched has no problems."""
    assert [] == problems(what, cfg, facts)


def test_the_limits_themselves_are_allowed() -> None:
    """The least and the most of everything can be launched, and odd names can, too."""
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

    assert [] == problems(app(least, most, none, name="my app / run"), {}, daemon())


def test_everything_is_told_at_once() -> None:
    """All problems of the app, of every role and with the daemon come from one call."""
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


def test_a_wrong_app_is_refused_with_everything() -> None:
    """One error names the app and lists all problems; an app without problems goes through."""
    with pytest.raises(InvalidAppError) as caught:
        checked_options(app(role(image="", num_replicas=0)), {"pul_policy": "never"})

    assert Opts(quiet=True) == checked_options(app(role()), {"quiet": True})
    assert (
        "invalid app 'train': 3 problems\n"
        "  - options.pul_policy: there is no such option; did you mean 'pull_policy'?\n"
        "  - roles[0].image: no image is given; name the image the role runs in\n"
        "  - roles[0].num_replicas: 0 replicas cannot be launched; choose from 1 to 10000"
    ) == str(caught.value)
