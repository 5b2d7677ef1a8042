"""Options that take away what something else needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_torchx.core.engine.images import ImageDetail
from airflow_torchx.core.plan.conflicts import result_conflict
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.core.plan.preflight import (
    DaemonFacts,
    daemon_problems,
    daemon_warnings,
    preflight,
)
from airflow_torchx.core.workspace.recipe import FUNCTION_RUNNER
from airflow_torchx.specs import AppDef, BindMount, Resource, Role, VolumeMount, Workspace
from airflow_torchx.testing import FakeEngine

ENGINE = replace(FakeEngine().info(), runtimes=())


def conflicts(cfg: dict[str, Any], *roles: Role, **role: Any) -> dict[str, str]:  # noqa: ANN401 - fields of a role
    """Return what is wrong with an app of these roles, or of one, by where it is."""
    app = AppDef("train", roles or [Role("trainer", "img:1", entrypoint="run", **role)])
    return {problem.where: problem.what for problem in preflight(app, Opts.parse(cfg))}


@pytest.mark.parametrize(
    ("cfg", "role", "where"),
    [
        ({"env": {"TORCHX_CHECKPOINT_DIR": "/x"}}, {}, "options.env"),
        ({}, {"env": {"TORCHX_CHECKPOINT_DIR": "/x"}}, "roles[0].env"),
        ({"tmpfs": {"/torchx/checkpoints/x": ""}}, {}, "options.tmpfs"),
        (
            {},
            {"mounts": [VolumeMount(src="v", dst_path="/torchx/checkpoints/")]},
            "roles[0].mounts[0].dst_path",
        ),
        (
            {},
            {"mounts": [BindMount(src_path="/a", dst_path="/torchx/x/../checkpoints/y")]},
            "roles[0].mounts[0].dst_path",
        ),
    ],
)
def test_what_hides_the_checkpoints(cfg: dict[str, Any], role: dict[str, Any], where: str) -> None:
    """The folder of the checkpoints, and the variable with it, belong to the option."""
    assert {where} == conflicts({"checkpoint": "models", **cfg}, **role).keys()
    assert {} == conflicts(cfg, **role)


def test_a_policy_needs_checkpoints() -> None:
    """A policy without a place for checkpoints is a mistake."""
    what = "without checkpoint, the app has no folder for checkpoints"

    assert {"options.checkpoint_policy": what} == conflicts({"checkpoint_policy": "eager"})
    assert {} == conflicts({"checkpoint_policy": "fresh"})


def test_a_host_path_for_checkpoints_exists() -> None:
    """A path that is not on the host of a local daemon is a problem before anything is created."""
    role = Role("trainer", "img:1", entrypoint="run")
    facts = DaemonFacts(engine=ENGINE, absent_paths=frozenset({"/data"}))

    (problem,) = daemon_problems(AppDef("a", [role]), Opts(checkpoint="/data"), facts)

    assert "options.checkpoint: '/data' does not exist on this host; create it first" == str(
        problem
    )


def test_a_time_to_save_needs_a_signal() -> None:
    """Replicas that get no checkpoint signal have no time to save before SIGTERM."""
    late = {"checkpoint_before_timeout_s": 60}

    what = "without checkpoint_signal, no replica is asked to save"
    assert {"options.checkpoint_before_timeout_s": what} == conflicts(late)
    assert {} == conflicts({**late, "checkpoint_signal": "SIGUSR1"})


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("bridge", "2 replicas do not find each other on 'bridge': Docker resolves no names"),
        ("default", "2 replicas do not find each other on 'default': Docker resolves no names"),
        ("none", "2 replicas do not find each other on 'none': it connects nothing"),
        ("container:x", "2 replicas do not find each other on 'container:x': all would have the"),
    ],
)
def test_networks_on_which_replicas_do_not_find_each_other(network: str, why: str) -> None:
    """Several replicas, of one role or of several, need a network with names; one does not."""
    single = [Role(name, "img:1", entrypoint="run") for name in ("a", "b")]
    cfg = {"network": network}

    assert conflicts(cfg, num_replicas=2)["options.network"].startswith(why)
    assert conflicts(cfg, *single)["options.network"].startswith(why)
    assert {} == conflicts(cfg)


def test_essential_roles_are_roles_of_the_app() -> None:
    """An essential role that the app does not have is a problem, and so is a time for no role."""
    roles = [Role(name, "img:1", entrypoint="run") for name in ("trainer", "tensorboard")]

    assert {"options.essential_roles": "the app has no role 'traine'"} == conflicts(
        {"essential_roles": "trainer;traine"}, *roles
    )
    unused = {"options.auxiliary_grace_s": "every role of the app is essential"}
    assert unused == conflicts({"auxiliary_grace_s": 5}, *roles)
    both = {"essential_roles": ["trainer", "tensorboard"], "auxiliary_grace_s": 5}
    assert unused == conflicts(both, *roles)
    assert {} == conflicts({"essential_roles": ["trainer"], "auxiliary_grace_s": 5}, *roles)


@pytest.mark.parametrize("network", ["torchx", "mine", "host", "containers", "my-Bridge"])
def test_networks_on_which_they_do(network: str) -> None:
    """Several replicas find each other on the host's network, and on any with names."""
    assert {} == conflicts({"network": network}, num_replicas=2)


@pytest.mark.parametrize("network", ["host", "none", "container:x"])
def test_ports_that_cannot_be_published(network: str) -> None:
    """Ports are not published where a container has no address of its own."""
    cfg = {"network": network, "publish_ports": True}

    assert conflicts(cfg, port_map={"http": 80}) == {
        "options.publish_ports": f"Docker publishes no ports of a container on network {network!r}"
    }
    assert {} == conflicts(cfg) | conflicts({**cfg, "network": "bridge"}, port_map={"http": 80})


@pytest.mark.parametrize("option", [{"dns": ["1.1.1.1"]}, {"extra_hosts": {"a": "10.0.0.1"}}])
def test_names_in_the_network_of_another_container(option: dict[str, Any]) -> None:
    """Docker refuses name servers and hosts for a container that joins another one's network."""
    (name,) = option

    assert [f"options.{name}"] == [*conflicts({"network": "container:x", **option})]
    assert {} == conflicts({"network": "host", **option})


@pytest.mark.parametrize(
    ("driver", "settings", "refused"),
    [
        ("none", {}, True),
        ("syslog", {"cache-disabled": "true"}, True),
        ("splunk", {"cache-disabled": "True"}, True),
        ("syslog", {"cache-disabled": "false"}, False),
        ("syslog", {}, False),
        ("local", {"cache-disabled": "true"}, False),
        ("json-file", {"max-size": "1m"}, False),
    ],
)
def test_logs_that_cannot_be_read(driver: str, settings: dict[str, str], *, refused: bool) -> None:
    """The task log and the report of a failure need logs that Docker can read."""
    found = conflicts({"log_config": {"type": driver, "config": settings}})

    assert ["options.log_config"] * refused == [*found]


def test_cdi_needs_gpus_of_its_own() -> None:
    """Replicas that share GPUs request a count, which CDI has not."""
    cfg = {"gpu_driver": "cdi", "auto_set_gpus": False}
    resource = Resource(cpu=1, gpu=1, memMB=-1)

    assert ["options.gpu_driver"] == [*conflicts(cfg, resource=resource)]
    assert {} == conflicts({"gpu_driver": "cdi"}, resource=resource) | conflicts(cfg)


def test_a_timeout_for_gpus_that_an_app_does_not_wait_for() -> None:
    """A connection can have a timeout for all apps, also for those that share GPUs."""
    cfg = {"gpu_wait_timeout_s": 60, "auto_set_gpus": False}

    assert {} == conflicts(cfg, resource=Resource(cpu=1, gpu=1, memMB=-1))


def test_a_mount_on_a_tmpfs() -> None:
    """A path cannot be both a mount and a tmpfs."""
    mounts = [BindMount("/a", "/data"), VolumeMount("v", "/data/x"), VolumeMount("v", "/scratch/")]

    assert conflicts({"tmpfs": {"/data/x/y": "", "/scratch": "size=1m"}}, mounts=mounts) == {
        "roles[0].mounts[2].dst_path": "'/scratch/' is also in options.tmpfs"
    }


@pytest.mark.parametrize("args", [[FUNCTION_RUNNER], ["-c", f"torchrun {FUNCTION_RUNNER}"]])
def test_a_function_needs_the_working_directory_of_the_image(args: list[str]) -> None:
    """The file of a function is found in the working directory of its image only."""
    assert ["options.working_dir"] == [*conflicts({"working_dir": "/x"}, args=args)]
    assert {} == conflicts({"working_dir": "/x"}, args=["run.py"]) | conflicts({}, args=args)


@pytest.mark.parametrize(
    ("working_dir", "tmpfs", "hidden"),
    [
        ("/app", "/app", True),
        ("/app/", "/app/", True),
        ("/srv/app", "/srv", True),
        ("", "/workspace", True),
        ("/app", "/app/scratch", False),
        ("/app", "/ap", False),
    ],
)
def test_a_tmpfs_over_a_workspace(working_dir: str, tmpfs: str, *, hidden: bool) -> None:
    """A tmpfs may not hide the files of a workspace."""
    image = ImageDetail(id="sha256:1", working_dir=working_dir)
    facts = DaemonFacts(engine=ENGINE, images={"img:1": image, "img:2": None})
    opts = Opts.parse({"tmpfs": {"/scratch": "", tmpfs: ""}})

    def problems(**role: Any) -> list[str]:  # noqa: ANN401 - fields of a role
        app = AppDef("train", [Role("trainer", **{"image": "img:1", **role})])
        return [problem.where for problem in daemon_problems(app, opts, facts)]

    code = Workspace({"code": ""})
    assert ["options.tmpfs"] * hidden == problems(workspace=code)
    assert [] == problems() + problems(workspace=code, image="img:2")


@pytest.mark.parametrize(
    ("working_dir", "target", "hidden"),
    [
        ("/app", "/app", True),
        ("/app", "/app/.", True),
        ("/srv/app", "/srv/", True),
        ("", "/workspace", True),
        ("/app", "/app/data", False),
        ("/app", "/application", False),
        ("/app", "/data", False),
    ],
)
@pytest.mark.parametrize("kind", [BindMount, VolumeMount])
def test_a_mount_over_a_workspace(
    working_dir: str, target: str, kind: type[BindMount | VolumeMount], *, hidden: bool
) -> None:
    """A mount over a workspace is warned of, and refused if it hides the file of a function."""
    facts = DaemonFacts(
        engine=ENGINE, images={"img:1": ImageDetail(id="sha256:1", working_dir=working_dir)}
    )
    role = Role("a", "img:1", mounts=[kind("/x", "/y"), kind("/x", target)])

    def found(**fields: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401 - fields of a role
        app = AppDef("train", [replace(role, **fields)])
        refused = [f"{one.where}: {one.what}" for one in daemon_problems(app, Opts(), facts)]
        return refused, [*daemon_warnings(app, facts)]

    code, function = Workspace({"code": ""}), [FUNCTION_RUNNER]
    where = working_dir or "/workspace"
    what = f"roles[0].mounts[1].dst_path: {target!r} hides the workspace in {where!r}"
    fix = "; mount it at another path, or leave the workspace out"
    assert ([], [what + fix] * hidden) == found(workspace=code)
    assert ([what] * hidden, []) == found(workspace=code, args=function)
    assert ([], []) == found()


@pytest.mark.parametrize(
    ("path", "tmpfs"),
    [
        ("/scratch/a/result.json", "/scratch"),
        ("/out/../scratch/r", "/scratch/"),
        ("/scratchy/r", None),
        ("/r.json", None),
        (None, None),
    ],
)
def test_a_result_in_a_tmpfs(path: str | None, tmpfs: str | None) -> None:
    """A result cannot be read from a tmpfs, because that is gone when the container ends."""
    app = AppDef("train", [Role("trainer", "img:1", entrypoint="run")])
    found = result_conflict(path, app, Opts.parse({"tmpfs": {tmpfs or "/scratch": ""}}))

    assert (found is None) == (tmpfs is None)
    if found is not None:
        assert f"{path!r} is in {tmpfs!r}, which is gone" in found.what


@pytest.mark.parametrize(
    ("path", "mount", "refused"),
    [
        ("/dev/a/r.json", "/data", True),
        ("/data/../proc/r.json", "/data", True),
        ("/sys/r.json", "/data", True),
        ("/dev/out/r.json", "/dev/out", False),
        ("/device/r.json", "/data", False),
    ],
)
def test_a_result_in_memory(path: str, mount: str, *, refused: bool) -> None:
    """A result cannot be read from the file systems that Docker keeps in memory."""
    role = Role("trainer", "img:1", entrypoint="run", mounts=[BindMount("/out", mount)])

    found = result_conflict(path, AppDef("train", [role]), Opts())

    assert refused == (found is not None)


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({"network": "container:gone"}, ["options.network"]),
        ({"ipc_mode": "container:gone"}, ["options.ipc_mode"]),
        ({"network": "container:here", "ipc_mode": "container:here"}, []),
        ({"network": "gone", "ipc_mode": "host"}, []),
        ({"runtime": "nvidia"}, ["options.runtime"]),
        ({"runtime": "Runc"}, ["options.runtime"]),
        ({"runtime": "runc"}, []),
        ({"runtime": "io.containerd.kata.v2"}, []),
        ({"runtime": "/usr/bin/kata"}, []),
    ],
)
def test_options_that_name_something_of_the_daemon(
    cfg: dict[str, Any], expected: list[str]
) -> None:
    """A container to join must run, and the runtime must be one that the daemon can have."""
    app, opts = AppDef("train", [Role("trainer", "img:1", entrypoint="run")]), Opts.parse(cfg)
    engine = replace(ENGINE, runtimes=("io.containerd.runc.v2", "runc"))
    facts = DaemonFacts(engine=engine, not_running=frozenset({"gone"}))

    assert expected == [problem.where for problem in daemon_problems(app, opts, facts)]
    unlisted = DaemonFacts(engine=ENGINE)
    assert () == daemon_problems(app, opts, unlisted)


def test_an_interval_needs_a_url() -> None:
    """An interval without a URL is a mistake."""
    what = "without a URL as checkpoint, nothing is uploaded"
    cfg = {"checkpoint": "models", "checkpoint_interval_s": 60}

    assert {"options.checkpoint_interval_s": what} == conflicts(cfg)
    assert {} == conflicts({**cfg, "checkpoint": "s3://bucket"})
