"""Tests of planning the containers of an app."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_torchx import __version__
from airflow_torchx.core.engine import labels
from airflow_torchx.core.engine.containers import (
    ContainerSpec,
    GpuRequest,
    HostOptions,
    PortBinding,
)
from airflow_torchx.core.plan.identity import container_name
from airflow_torchx.core.plan.job_plan import (
    DEVICE_PATHS,
    JobPlan,
    LaunchContext,
    plan,
    requested_gpus,
)
from airflow_torchx.core.plan.options import Opts
from airflow_torchx.specs import (
    NULL_RESOURCE,
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
)

APP_ID = "train-x1y2"
HANDLE = f"local_docker://torchx/{APP_ID}"

NAMES = st.text("ab-._/ 0é", min_size=1, max_size=40)
WORDS = st.text("ab$ {}=", max_size=8)


def role(name: str = "trainer", **fields: object) -> Role:
    """Return a role that can run."""
    given: dict[str, Any] = {"image": "img:1", "entrypoint": "python", **fields}
    return Role(name, **given)


def app(*roles: Role) -> AppDef:
    """Return an app of these roles, by default of one ordinary role."""
    return AppDef("train", roles or (role(),))


def wants(
    cpu: float = -1, gpu: int = -1, mem_mb: int = -1, devices: dict[str, int] | None = None
) -> Resource:
    """Return a resource that requests only these."""
    return Resource(cpu, gpu, mem_mb, devices=devices or {})


def planned(
    what: AppDef | Role,
    cfg: dict[str, Any] | None = None,
    **launch: object,
) -> JobPlan:
    """Return the plan of an app, or of one role."""
    facts: dict[str, Any] = {
        "app_id": APP_ID,
        "handle": HANDLE,
        "launch_id": "word",
        "environ": {},
        **launch,
    }
    wanted = what if isinstance(what, AppDef) else app(what)
    return plan(wanted, Opts.parse(cfg), LaunchContext(**facts))


def only(
    what: Role,
    cfg: dict[str, Any] | None = None,
    **launch: object,
) -> ContainerSpec:
    """Return the container of a role with one replica."""
    (container,) = planned(what, cfg, **launch).containers
    return container


def test_a_plan_has_everything_that_a_launch_does() -> None:
    """The smallest app has one container, whose every field is set by the plan."""
    assert JobPlan(
        app_id=APP_ID,
        handle=HANDLE,
        launch_id="word",
        containers=(
            ContainerSpec(
                role="trainer",
                replica=0,
                name="train-x1y2-trainer-0",
                image="img:1",
                entrypoint="python",
                args=(),
                env={
                    "TORCHX_RANK0_HOST": "train-x1y2-trainer-0",
                    "TORCHX_IMAGE": "img:1",
                    "TORCHX_JOB_ID": HANDLE,
                    "TORCHX_REPLICA_IDX": "0",
                    "TORCHX_NUM_REPLICAS": "1",
                    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "7",
                    "TORCHELASTIC_ERROR_FILE": "/tmp/torchelastic_error.json",  # noqa: S108 - in a container
                    "TORCHX_PROGRESS_FILE": "/tmp/torchx_progress.jsonl",  # noqa: S108 - in a container
                },
                labels={
                    "torchx.pytorch.org/version": __version__,
                    "torchx.pytorch.org/app-id": APP_ID,
                    "torchx.pytorch.org/role-name": "trainer",
                    "torchx.pytorch.org/replica-id": "0",
                    "airflow-torchx/app-name": "train",
                    "airflow-torchx/handle": HANDLE,
                    "airflow-torchx/launch-id": "word",
                    "airflow-torchx/roles": '{"trainer": 1}',
                    "airflow-torchx/failure-policy": "fail_fast",
                    "airflow-torchx/stop-grace-s": "10",
                    "airflow-torchx/gpus": "",
                },
                network="torchx",
            ),
        ),
        network="torchx",
        pull_policy="missing",
    ) == planned(role())


def test_replicas_come_in_order() -> None:
    """A plan has one container per replica, by role and index."""
    job = planned(app(role("ps", num_replicas=2), role("trainer", image="img:2", num_replicas=3)))

    assert [("ps", 0), ("ps", 1), ("trainer", 0), ("trainer", 1), ("trainer", 2)] == [
        (spec.role, spec.replica) for spec in job.containers
    ]
    assert ["0", "1", "0", "1", "2"] == [s.labels[labels.REPLICA_ID] for s in job.containers]
    assert ["ps", "ps", "trainer", "trainer", "trainer"] == [
        spec.labels[labels.ROLE_NAME] for spec in job.containers
    ]
    assert {"ps": 2, "trainer": 3} == json.loads(job.containers[4].labels[labels.ROLES])


def test_images_are_listed_once() -> None:
    """A plan lists each image once, by first use."""
    roles = [role("a", image="z"), role("b", image="y"), role("c", image="z")]

    assert ("z", "y") == planned(app(*roles)).images


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            role,
            NAMES,
            args=st.lists(WORDS, max_size=3),
            env=st.dictionaries(WORDS, WORDS, max_size=3),
            num_replicas=st.integers(1, 3),
            resource=st.builds(
                wants,
                st.sampled_from([-1, 0, 0.5, 2]),
                st.integers(-1, 2),
                devices=st.dictionaries(
                    st.sampled_from([*DEVICE_PATHS, "?"]), st.integers(0, 2), max_size=2
                ),
            ),
            mounts=st.lists(st.just(DeviceMount("/dev/x", "/dev/x")), max_size=1),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda role: role.name,
    )
)
def test_planning_twice_gives_the_same_and_leaves_the_app_alone(roles: list[Role]) -> None:
    """A plan depends only on its arguments, and planning does not change the app."""
    what = app(*roles)
    before = copy.deepcopy(what)
    first = planned(what)

    assert first == planned(what)
    assert before == what


@settings(max_examples=40, deadline=None)
@given(NAMES, st.lists(NAMES, min_size=1, max_size=3, unique=True))
def test_every_replica_finds_rank_0_under_the_name_of_its_container(
    app_id: str, names: list[str]
) -> None:
    """The rendezvous host is the name of the first container, whatever the names are."""
    job = planned(app(*(role(name, num_replicas=2) for name in names)), app_id=app_id)
    (rank0,) = {spec.env["TORCHX_RANK0_HOST"] for spec in job.containers}

    assert rank0 == job.containers[0].name == container_name(app_id, names[0], 0)
    assert len(job.containers) == len({spec.name for spec in job.containers})


def test_rank_0_of_an_app_id_that_begins_with_punctuation_resolves() -> None:
    """An id that is cut before a dash names the container and the rendezvous host alike."""
    spec = only(role(), app_id="123.-_application-t4rcs9x6sv1mbcdf")

    assert "application-t4rcs9x6sv1mbcdf-trainer-0" == spec.name
    assert spec.name == spec.env["TORCHX_RANK0_HOST"]


@pytest.mark.parametrize(
    ("network", "replicas", "rank0", "addresses"),
    [
        ("torchx", 2, "train-x1y2-trainer-0", []),
        ("bridge", 1, "train-x1y2-trainer-0", []),
        ("host", 2, "train-x1y2-trainer-0", ["127.0.1.1", "127.0.1.2"]),
        ("host", 1, "localhost", []),
        ("none", 1, "train-x1y2-trainer-0", ["127.0.1.1"]),
        ("container:x", 1, "localhost", []),
    ],
)
def test_names_on_other_networks(
    network: str, replicas: int, rank0: str, addresses: list[str]
) -> None:
    """Rank 0 has a name that resolves on every network; where Docker resolves none, it is added."""
    cfg = {"network": network, "extra_hosts": {"a": "10.0.0.1"}}
    specs = planned(role(num_replicas=replicas), cfg).containers

    hosts = {f"train-x1y2-trainer-{index}": one for index, one in enumerate(addresses)}
    assert {rank0} == {spec.env["TORCHX_RANK0_HOST"] for spec in specs}
    assert [{**hosts, "a": "10.0.0.1"}] * replicas == [spec.host.extra_hosts for spec in specs]


def test_addresses_of_many_replicas_differ() -> None:
    """Every replica of every role has its own address on the network of the host."""
    many = [role(name, num_replicas=200) for name in ("a", "b")]

    hosts = planned(app(*many), {"network": "host"}).containers[0].host.extra_hosts

    assert 400 == len(set(hosts.values())) == len(hosts)


def test_a_working_directory_beside_a_workspace_is_warned_of() -> None:
    """A working directory that is not the workspace's makes relative paths miss its files."""
    wanted = role(workspace=Workspace({"code": ""}))

    assert "options.working_dir: relative paths start at '/x'" in str(
        planned(wanted, {"working_dir": "/x"}).warnings
    )
    assert () == planned(wanted).warnings + planned(role(), {"working_dir": "/x"}).warnings


def test_env_precedence() -> None:
    """Each source of variables overrides those before it; TorchX's own variables win."""
    forced = ["TORCHX_RANK0_HOST", "TORCHX_IMAGE", "TORCHX_JOB_ID"]
    sources = ["proxy", "ambient", "copied", "option", "role", "private"]
    names = [*sources, *forced]
    proxy, ambient, copied, option, own, private = (
        dict.fromkeys(names[start:], source) for start, source in enumerate(sources)
    )
    spec = only(
        role(env=own),
        {"copy_env": ["*"], "env": option},
        environ=copied,
        private_env=private,
        ambient_env=ambient,
        proxy_env=proxy,
    )

    assert {
        **{source: source for source in sources},
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "7",
        "TORCHELASTIC_ERROR_FILE": "/tmp/torchelastic_error.json",  # noqa: S108 - in a container
        "TORCHX_PROGRESS_FILE": "/tmp/torchx_progress.jsonl",  # noqa: S108 - in a container
        "TORCHX_REPLICA_IDX": "0",
        "TORCHX_NUM_REPLICAS": "1",
        "TORCHX_RANK0_HOST": "train-x1y2-trainer-0",
        "TORCHX_IMAGE": "img:1",
        "TORCHX_JOB_ID": HANDLE,
    } == spec.env


def test_trackers() -> None:
    """Trackers override the role's variables but not private ones, and have macros."""
    own = {"TORCHX_TRACKERS": "other", "TORCHX_TRACKER_C_CONFIG": "role"}
    trackers = {"a": "s3://x/${app_id}/${replica_id}", "my.mod:f": "", "c": "c", "d": "d"}
    spec = only(
        role(env=own), {"trackers": trackers}, private_env={"TORCHX_TRACKER_D_CONFIG": "private"}
    )

    assert {
        "TORCHX_TRACKERS": "a,my.mod:f,c,d",
        "TORCHX_TRACKER_A_CONFIG": f"s3://x/{APP_ID}/0",
        "TORCHX_TRACKER_C_CONFIG": "c",
        "TORCHX_TRACKER_D_CONFIG": "private",
    } == {name: value for name, value in spec.env.items() if "TRACKER" in name}


@pytest.mark.parametrize(
    ("grace_s", "timeout"), [(60, "57"), (10, "7"), (4.9, "1"), (2.5, "1"), (0, "1")]
)
def test_torchrun_leaves_its_workers_the_grace_period(grace_s: float, timeout: str) -> None:
    """Workers of torchrun have almost the whole grace period of their container."""
    spec = only(role(), {"stop_grace_s": grace_s})

    assert timeout == spec.env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]


def test_torchrun_passes_the_checkpoint_signal_on() -> None:
    """With a checkpoint signal, torchrun hands it to its workers, and leaves them time to save."""
    spec = only(role(), {"checkpoint_signal": "SIGUSR1"})

    assert "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1" == spec.env["PET_SIGNALS_TO_HANDLE"]
    assert "120" == spec.env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    assert ("SIGUSR1", "120") == (
        spec.labels["airflow-torchx/checkpoint-signal"],
        spec.labels["airflow-torchx/checkpoint-s"],
    )
    own = only(role(env={"PET_SIGNALS_TO_HANDLE": "SIGTERM"}), {"checkpoint_signal": "SIGUSR1"})
    assert "SIGTERM" == own.env["PET_SIGNALS_TO_HANDLE"]


def test_a_long_grace_period_is_longer_than_a_save() -> None:
    """A checkpoint signal does not shorten the time after SIGTERM."""
    options = {"checkpoint_signal": "SIGHUP", "checkpoint_before_timeout_s": 5, "stop_grace_s": 60}
    spec = only(role(), options)

    assert "57" == spec.env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    assert "SIGTERM,SIGINT,SIGHUP,SIGQUIT" == spec.env["PET_SIGNALS_TO_HANDLE"]


@pytest.mark.parametrize("name", ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCHELASTIC_ERROR_FILE"])
def test_what_torchrun_gets_can_be_set(name: str) -> None:
    """Every source of variables overrides those for torchrun."""
    found = (
        only(role(), {"copy_env": ["TORCH*"]}, environ={name: "1"}),
        only(role(), {"env": {name: "2"}}),
        only(role(env={name: "3"})),
        only(role(), private_env={name: "4"}),
    )

    assert ["1", "2", "3", "4"] == [spec.env[name] for spec in found]


def test_the_file_for_progress() -> None:
    """No source of variables overrides the file that is read, and a pattern is a label."""
    name, path = "TORCHX_PROGRESS_FILE", "/tmp/torchx_progress.jsonl"  # noqa: S108 - in a container
    found = only(role(env={name: "3"}), {"env": {name: "2"}, "progress_pattern": "(?P<step>.)"})

    assert path == found.env[name]
    assert "(?P<step>.)" == found.labels["airflow-torchx/progress-pattern"]


def test_every_replica_knows_itself() -> None:
    """Each replica of each role has its index in the role and the number of the role's replicas."""
    job = planned(app(role("ps"), role("trainer", num_replicas=3)))

    assert [("0", "1"), ("0", "3"), ("1", "3"), ("2", "3")] == [
        (spec.env["TORCHX_REPLICA_IDX"], spec.env["TORCHX_NUM_REPLICAS"]) for spec in job.containers
    ]


@pytest.mark.parametrize(
    ("name", "known"), [("TORCHX_REPLICA_IDX", "0"), ("TORCHX_NUM_REPLICAS", "1")]
)
def test_what_a_replica_knows_of_itself_can_be_set(name: str, known: str) -> None:
    """The options, the role and private variables override it, as in TorchX, which sets neither.

    A copied variable describes the launching process.
    """
    found = (
        only(role(), {"copy_env": ["*"]}, environ={name: "copied"}),
        only(role(), {"env": {name: "option"}}),
        only(role(env={name: "role"})),
        only(role(), private_env={name: "private"}),
    )

    assert [known, "option", "role", "private"] == [spec.env[name] for spec in found]


def test_only_named_variables_are_copied() -> None:
    """Patterns are globs, and case-sensitive."""
    environ = {"NCCL_DEBUG": "INFO", "NCCL_IB": "1", "nccl_x": "2", "HOME": "/root", "LANG": "C"}
    spec = only(role(), {"copy_env": ["NCCL_*", "LAN?"]}, environ=environ)

    assert {"NCCL_DEBUG": "INFO", "NCCL_IB": "1", "LANG": "C"} == {
        name: value for name, value in spec.env.items() if not name.startswith("TORCH")
    }


def test_copied_and_private_variables_are_secret() -> None:
    """Copied and private variables are secret."""
    job = planned(
        role(env={"LR": "0.1"}),
        {"copy_env": ["HF_*"], "env": {"OPT": "1"}},
        environ={"HF_HOME": "/hf", "HOME": "/root"},
        private_env={"PG": "pw"},
    )

    assert {"HF_HOME", "PG"} == job.secret_env


def test_macros_are_filled_in_per_replica() -> None:
    """Macros in args and env are replaced by the app, the replica and the host of rank 0."""
    text = "${app_id} ${replica_id} ${rank0_env} <${img_root}>"
    first, second = planned(role(args=[text], env={"X": text}, num_replicas=2)).containers

    assert (f"{APP_ID} 0 TORCHX_RANK0_HOST <>",) == first.args
    assert (f"{APP_ID} 1 TORCHX_RANK0_HOST <>",) == second.args
    assert f"{APP_ID} 1 TORCHX_RANK0_HOST <>" == second.env["X"]


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("$$HOME", "$HOME"),
        ("$${app_id}", "${app_id}"),
        ("${HOME} $HOME", "${HOME} $HOME"),
        ("100$", "100$"),
        ("${TORCHX_RANK0_HOST:=localhost}", "${TORCHX_RANK0_HOST:=localhost}"),
        ("$${${rank0_env}:=localhost}", "${TORCHX_RANK0_HOST:=localhost}"),
    ],
)
def test_dollars_are_left_to_the_shell(written: str, filled: str) -> None:
    """``$$`` becomes one dollar, and unknown macros are left to the shell."""
    assert (filled,) == only(role(args=[written])).args


def test_macros_in_other_fields_are_kept() -> None:
    """Macros in the image, the entrypoint and the options' env are kept, as in TorchX."""
    spec = only(role(image="${app_id}", entrypoint="${app_id}"), {"env": {"X": "${app_id}"}})

    assert ("${app_id}",) * 3 == (spec.image, spec.entrypoint, spec.env["X"])


def test_the_entrypoint_replaces_that_of_the_image() -> None:
    """The entrypoint of a role replaces that of the image."""
    spec = only(role(entrypoint="torchrun", args=["--nnodes", "2"]))

    assert ("torchrun", ("--nnodes", "2")) == (spec.entrypoint, spec.args)


def test_labels_of_users_cannot_replace_ours() -> None:
    """Labels of the options and the launch are added, and cannot replace the plan's own."""
    spec = only(
        role(), {"labels": {"team": "a", "cost": "1"}}, labels={"cost": "2", labels.APP_ID: "x"}
    )

    assert {"team": "a", "cost": "2", labels.APP_ID: APP_ID}.items() <= spec.labels.items()


def test_essential_roles_are_labels() -> None:
    """Every container names the essential roles; the others have a grace period of their own."""
    roles = app(role("trainer"), role("ps"))
    opts = {"essential_roles": ["trainer"], "auxiliary_grace_s": 2.5, "stop_grace_s": 60}

    trainer, ps = planned(roles, opts).containers

    chosen = {labels.ESSENTIAL_ROLES: '["trainer"]', labels.AUXILIARY_GRACE: "2.5"}
    assert chosen.items() <= trainer.labels.items()
    assert chosen.items() <= ps.labels.items()
    assert (60, 2.5) == (trainer.stop_grace_s, ps.stop_grace_s)
    plain = planned(roles).containers[0]
    assert not set(chosen) & set(plain.labels)


def test_an_app_that_may_stall_writes_its_stacks() -> None:
    """The time without progress is a label, and Python's fault handler is enabled."""
    spec = only(role(), {"stalled_after_s": 900})
    own = only(role(env={"PYTHONFAULTHANDLER": "0"}), {"stalled_after_s": 900})

    assert "900" == spec.labels[labels.STALLED_AFTER]
    assert ("1", "0") == (spec.env["PYTHONFAULTHANDLER"], own.env["PYTHONFAULTHANDLER"])
    assert "PYTHONFAULTHANDLER" not in only(role(), {}).env


def test_failure_policy_and_grace_are_labels() -> None:
    """Failure policy and grace period are labels, and the grace period is set on the container."""
    spec = only(role(), {"failure_policy": "wait_all", "stop_grace_s": 2.5})

    assert "wait_all" == spec.labels[labels.FAILURE_POLICY]
    assert "2.5" == spec.labels[labels.STOP_GRACE]
    assert 2.5 == spec.stop_grace_s


@pytest.mark.parametrize(
    ("resource", "nano_cpus", "memory_mib"),
    [
        (NULL_RESOURCE, None, None),
        (wants(cpu=0, mem_mb=0), 0, 0),
        (wants(cpu=2, mem_mb=1024), 2_000_000_000, 1024),
        (wants(cpu=0.5), 500_000_000, None),
        (wants(mem_mb=6), None, 6),
    ],
)
def test_resources(resource: Resource, nano_cpus: int | None, memory_mib: int | None) -> None:
    """CPUs are in billionths and memory in MiB, and negative values mean the daemon's defaults."""
    spec = only(role(resource=resource))

    assert (nano_cpus, memory_mib, None) == (spec.nano_cpus, spec.memory_mib, spec.gpus)


def gpus(job: JobPlan) -> list[GpuRequest | None]:
    """Return the GPUs of each container."""
    return [spec.gpus for spec in job.containers]


def held(job: JobPlan) -> list[str | None]:
    """Return the GPUs that each container holds, by its label."""
    return [spec.labels.get(labels.GPUS) for spec in job.containers]


def test_gpus_are_given_to_the_replicas_in_order() -> None:
    """Each replica has GPUs of its own, and a label with their ids."""
    trainer = role(num_replicas=2, resource=wants(gpu=2))
    server = role("ps", num_replicas=2)
    scorer = role("eval", resource=wants(gpu=1))
    job = planned(app(trainer, server, scorer), {"gpu_driver": "cdi"})
    request = partial(GpuRequest, driver="cdi", kind="amd.com/gpu")

    given = job.with_gpus(["g0", "g1", "g2", "g3", "g4"], "amd.com/gpu")

    assert 5 == job.own_gpus == requested_gpus(app(trainer, server, scorer))
    assert [None, None, "", "", None] == held(job)
    assert ["g0,g1", "g2,g3", "", "", "g4"] == held(given)
    assert [
        request(count=2, device_ids=("g0", "g1")),
        request(count=2, device_ids=("g2", "g3")),
        None,
        None,
        request(count=1, device_ids=("g4",)),
    ] == gpus(given)


def test_gpus_without_ids_are_counted() -> None:
    """A replica that takes all GPUs of a daemon, whose ids are unknown, requests a count."""
    given = planned(role(resource=wants(gpu=2))).with_gpus(["all"], "")

    assert [GpuRequest(count=2)] == gpus(given)
    assert ["all"] == held(given)


def test_shared_gpus_are_the_first_ones() -> None:
    """Replicas that share GPUs request a count, as TorchX does, and hold the first GPUs."""
    trainer = role(num_replicas=2, resource=wants(gpu=2))
    job = planned(app(trainer, role("ps")), {"auto_set_gpus": False})

    assert 0 == job.own_gpus
    assert [GpuRequest(count=2), GpuRequest(count=2), None] == gpus(job)
    assert ["0,1", "0,1", ""] == held(job)


@pytest.mark.parametrize("count", [-1, 0])
@pytest.mark.parametrize("auto", [True, False])
def test_a_role_without_gpus(count: int, *, auto: bool) -> None:
    """A role without GPUs requests none, and its label shows that it holds none."""
    what = role(resource=wants(gpu=count))
    job = planned(what, {"auto_set_gpus": auto})

    assert [None] == gpus(job)
    assert [""] == held(job)
    assert 0 == job.own_gpus == requested_gpus(app(what))


def test_named_devices_are_torchx() -> None:
    """EFA and Neuron devices become host devices, numbered from 0."""
    named = {"vpc.amazonaws.com/efa": 2, "aws.amazon.com/neurondevice": 1}
    job = planned(role(resource=wants(devices=named), num_replicas=2))

    assert (
        (
            DeviceMount("/dev/infiniband/uverbs0", "/dev/infiniband/uverbs0", "rwm"),
            DeviceMount("/dev/infiniband/uverbs1", "/dev/infiniband/uverbs1", "rwm"),
            DeviceMount("/dev/neuron0", "/dev/neuron0", "rwm"),
        )
        == job.containers[0].devices
        == job.containers[1].devices
    )
    assert () == job.warnings


def test_an_unknown_device_is_a_warning() -> None:
    """An unknown device is ignored with a warning that lists the known ones."""
    job = planned(app(role("ps"), role(resource=wants(devices={"acme.com/npu": 4}))))

    expected = (
        "roles[1].resource.devices: 'acme.com/npu' is ignored; "
        "known devices: vpc.amazonaws.com/efa, aws.amazon.com/neurondevice"
    )

    assert () == job.containers[1].devices
    assert (expected,) == job.warnings


def test_mounts_are_split() -> None:
    """Mounts are split into volumes and devices, in order."""
    volume, device, bind = (
        VolumeMount("v", "/v"),
        DeviceMount("/dev/x", "/dev/y", "r"),
        BindMount("/a", "/b"),
    )
    named = wants(devices={"aws.amazon.com/neurondevice": 1})
    spec = only(role(mounts=[volume, device, bind], resource=named))

    assert (volume, bind) == spec.mounts
    assert (device, DeviceMount("/dev/neuron0", "/dev/neuron0")) == spec.devices


def test_ports_are_published_on_request() -> None:
    """Replica 0 gets the role's port numbers, and the other replicas free ports."""
    what = role(port_map={"c10d": 29500, "http": 80}, num_replicas=2)
    first, second = planned(what, {"publish_ports": True}).containers

    assert (
        PortBinding(container_port=29500, host_port=29500),
        PortBinding(container_port=80, host_port=80),
    ) == first.ports
    assert (
        PortBinding(container_port=29500, host_port=0),
        PortBinding(container_port=80, host_port=0),
    ) == second.ports
    assert {()} == {spec.ports for spec in planned(what).containers}


def test_retries_are_restarts() -> None:
    """With policy REPLICA, the daemon restarts a failed replica as often as the role may retry."""
    own = only(role(max_retries=3, retry_policy=RetryPolicy.REPLICA))

    assert 3 == own.max_restarts
    assert labels.RETRIES not in own.labels
    assert "TORCHX_RESTART" not in own.env


@pytest.mark.parametrize("policy", [RetryPolicy.APPLICATION, RetryPolicy.ROLE])
def test_retries_by_rounds(policy: RetryPolicy) -> None:
    """With the other policies, the labels say so, and the daemon restarts nothing."""
    own = only(role(max_retries=3, retry_policy=policy), final_exit_codes=[85, 3, 85])

    assert 0 == own.max_restarts
    assert f'{{"trainer": ["{policy.value}", 3]}}' == own.labels[labels.RETRIES]
    assert "3,85" == own.labels[labels.NO_RESTART_EXIT_CODES]
    assert "0" == own.env["TORCHX_RESTART"]


def test_options_reach_the_containers() -> None:
    """Network, pull policy and host options are passed on."""
    cfg = {"network": "own", "pull_policy": "never", "privileged": True, "ipc_mode": "host"}
    job = planned(role(), cfg)

    assert ("own", "never", "own") == (job.network, job.pull_policy, job.containers[0].network)
    assert HostOptions(privileged=True, ipc_mode="host") == job.containers[0].host


def test_a_plan_shows_no_values_of_variables() -> None:
    """The repr of a plan has no values of variables, because tracebacks show local variables."""
    job = planned(role(env={"API_TOKEN": "hunter22"}), private_env={"PIN": "271828"})

    assert "hunter22" not in repr(job)
    assert "271828" not in repr(job)


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        (
            {"num_replicas": 4, "min_replicas": 2},
            "roles[0].min_replicas: ignored; all 4 replicas are launched",
        ),
    ],
)
def test_unsupported_features_are_warnings(fields: dict[str, Any], warning: str) -> None:
    """A feature of TorchX that is not supported is a warning."""
    assert (warning,) == planned(role(**fields)).warnings


def test_the_retry_policy_of_docker() -> None:
    """The retry policy REPLICA needs no warning."""
    assert () == planned(role(max_retries=2, retry_policy=RetryPolicy.REPLICA)).warnings
