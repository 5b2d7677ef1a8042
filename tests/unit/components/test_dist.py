"""Tests the app that dist.ddp builds; the expected values were recorded from TorchX."""

from __future__ import annotations

import copy
import shlex

import pytest

from airflow_torchx.components import dist, parse
from airflow_torchx.errors import ComponentError, InvalidAppError
from airflow_torchx.specs import (
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
)

COMMANDS = [
    (
        "--script main.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 2 --tee 3 --role '' main.py"
        ),
    ),
    (
        "-m my.pkg.train",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 2 --tee 3 "
            "--role '' -m my.pkg.train"
        ),
    ),
    (
        "--m=my.pkg.train -j 2x4",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 4 --tee 3 "
            "--role '' -m my.pkg.train"
        ),
    ),
    (
        "-j2x1 --script a/b/train.py -- --lr 0.1",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 1 --tee 3 "
            "--role '' a/b/train.py --lr 0.1"
        ),
    ),
    (
        "-j 4 --script main.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 4 --tee 3 --role '' main.py"
        ),
    ),
    (
        "--j=1:3x2 --script main.py -- --x 'y z'",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 1:3 --nproc_per_node 2 --tee 3 "
            "--role '' main.py --x 'y z'"
        ),
    ),
    (
        "-j 2x2 --rdzv_port 1234 --script main.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:1234 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 2 --tee 3 --role '' main.py"
        ),
    ),
    (
        "-j 2x2 --rdzv_backend static --script main.py",
        (
            "torchrun --rdzv_backend static --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 2 --tee 3 "
            "--role '' --node_rank '${replica_id}' main.py"
        ),
    ),
    (
        "-j 2x2 --rdzv_backend etcd-v2 --script main.py",
        (
            "torchrun --rdzv_backend etcd-v2 --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 2 --tee 3 --role '' main.py"
        ),
    ),
    (
        "-j 1x1 --rdzv_backend static --script main.py",
        (
            "torchrun --rdzv_backend static --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 1 --tee 3 "
            "--role '' --node_rank '${replica_id}' main.py"
        ),
    ),
    (
        "-j 2x2 --rdzv_conf join_timeout=600,close_timeout=600 --script main.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_conf join_timeout=600,close_timeout=600 "
            "--rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 2 --tee 3 --role '' main.py"
        ),
    ),
    (
        "--tee 0 --script main.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 2 --tee 0 --role '' main.py"
        ),
    ),
    (
        "--script main.py 'a b' '$HOME' 'it'\"'\"'s' '${app_id}' ''",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 2 --tee 3 "
            "--role '' main.py 'a b' '$HOME' 'it'\"'\"'s' '${app_id}' ''"
        ),
    ),
    (
        "--script 'my script.py'",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 "
            "--rdzv_id '${app_id}' --nnodes 1 --nproc_per_node 2 --tee 3 "
            "--role '' 'my script.py'"
        ),
    ),
    (
        "--rdzv_p 1 -j 2x1 --script m.py",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:1 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 1 --tee 3 --role '' m.py"
        ),
    ),
    (
        "-m a -j 2x1 x --script q",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 2 --nproc_per_node 1 --tee 3 "
            "--role '' -m a x --script q"
        ),
    ),
    (
        "--script=m.py -j=3x1",
        (
            "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
            "--rdzv_id '${app_id}' --nnodes 3 --nproc_per_node 1 --tee 3 --role '' m.py"
        ),
    ),
]


@pytest.mark.parametrize(("args", "expected"), COMMANDS)
def test_command(args: str, expected: str) -> None:
    """The container's command line equals TorchX's."""
    (role,) = parse("dist.ddp", shlex.split(args)).roles

    assert ("bash", ("-c", expected)) == (role.entrypoint, role.args)


def test_whole_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field of the app equals TorchX's."""
    monkeypatch.delenv("LOGLEVEL", raising=False)
    command = (
        "torchrun --rdzv_backend c10d --rdzv_endpoint $${${rank0_env}:=localhost}:29500 "
        "--rdzv_id '${app_id}' --nnodes 1:2 --nproc_per_node 3 --tee 3 --role '' train.py --lr 1"
    )

    assert dist.ddp("--lr", "1", script="train.py", image="img", j="1:2x3") == AppDef(
        name="train",
        roles=[
            Role(
                name="train",
                image="img",
                min_replicas=1,
                entrypoint="bash",
                args=["-c", command],
                env={
                    "TORCHX_TRACKING_EXPERIMENT_NAME": "default-experiment",
                    "TORCHX_TRACKING_RUN_NAME": "train",
                    "LOGLEVEL": "WARNING",
                },
                num_replicas=2,
                max_retries=0,
                retry_policy=RetryPolicy.APPLICATION,
                resource=Resource(cpu=2, gpu=0, memMB=1024),
                port_map={"c10d": 29500},
            )
        ],
        metadata={},
    )


def test_every_option_reaches_the_app() -> None:
    """Resources, retries, port, mounts and metadata arrive in the app."""
    app = parse(
        "dist.ddp",
        [
            *("--image", "img", "--cpu", "3", "--gpu", "2", "--memMB", "2048"),
            *("--max_retries", "3", "--rdzv_port", "1234", "--metadata", "k=v,l=w"),
            "--mounts=type=bind,src=/a,dst=/b,readonly,type=volume,src=v,dst=/w,type=device,src=/d",
            *("-m", "my.train"),
        ],
    )
    (role,) = app.roles

    assert {"k": "v", "l": "w"} == app.metadata
    assert ("img", 3, {"c10d": 1234}) == (role.image, role.max_retries, role.port_map)
    assert Resource(cpu=3, gpu=2, memMB=2048) == role.resource
    assert (
        BindMount("/a", "/b", read_only=True),
        VolumeMount("v", "/w"),
        DeviceMount("/d", "/d"),
    ) == role.mounts


def test_image_has_no_default() -> None:
    """Without an image argument, the role's image is empty."""
    assert "" == dist.ddp(script="main.py").roles[0].image


def test_zero_means_the_default_resource() -> None:
    """Zero CPUs and MB mean 2 CPUs and 1024 MB, as in TorchX."""
    (role,) = dist.ddp(script="main.py", cpu=0, memMB=0).roles

    assert Resource(cpu=2, gpu=0, memMB=1024) == role.resource


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--script a/b/main.py", ("default-experiment", "main", "main")),
        ("-m foo.bar", ("default-experiment", "bar", "bar")),
        ("-m foo.bar --name /", ("default-experiment", "bar", "bar")),
        ("-m foo.bar --name exp/", ("exp", "bar", "bar")),
        ("-m foo.bar --name /run", ("default-experiment", "run", "bar")),
        ("-m foo.bar --name run", ("default-experiment", "run", "bar")),
        ("-m foo.bar --name exp/run", ("exp", "run", "bar")),
        ("-m foo.bar --name a/b/c", ("a", "b/c", "bar")),
        ("-m foo.bar --name ''", ("default-experiment", "bar", "bar")),
        ("--script 'my script.py'", ("default-experiment", "my script", "my script")),
    ],
)
def test_names(args: str, expected: tuple[str, str, str]) -> None:
    """The app is named after the run, and the role after the script or module."""
    app = parse("dist.ddp", shlex.split(args))
    env = app.roles[0].env

    assert expected == (env["TORCHX_TRACKING_EXPERIMENT_NAME"], app.name, app.roles[0].name)
    assert app.name == env["TORCHX_TRACKING_RUN_NAME"]


def test_log_level_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOGLEVEL is inherited from this process unless env sets it."""
    monkeypatch.setenv("LOGLEVEL", "ERROR")

    assert "ERROR" == dist.ddp(script="a").roles[0].env["LOGLEVEL"]
    assert "INFO" == dist.ddp(script="a", env={"LOGLEVEL": "INFO"}).roles[0].env["LOGLEVEL"]


def test_debug_wins_over_env() -> None:
    """Debug and tracking variables override the user's."""
    env = {"NCCL_DESYNC_DEBUG": "0", "A": "1", "TORCHX_TRACKING_RUN_NAME": "mine"}

    assert {
        "A": "1",
        "CUDA_LAUNCH_BLOCKING": "1",
        "LOGLEVEL": "WARNING",
        "NCCL_DESYNC_DEBUG": "1",
        "TORCHX_TRACKING_EXPERIMENT_NAME": "default-experiment",
        "TORCHX_TRACKING_RUN_NAME": "a",
        "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
        "TORCH_SHOW_CPP_STACKTRACES": "1",
    } == dist.ddp(script="a", env=env | {"LOGLEVEL": "WARNING"}, debug=True).roles[0].env


def test_caller_is_left_alone() -> None:
    """The caller's dicts and lists stay unchanged."""
    env, metadata, mounts = {"A": "1"}, {"k": "v"}, ["type=device", "src=/d"]
    before = copy.deepcopy((env, metadata, mounts))
    app = dist.ddp(script="a", env=env, metadata=metadata, mounts=mounts, debug=True)

    assert before == (env, metadata, mounts)
    assert app == dist.ddp(script="a", env=env, metadata=metadata, mounts=mounts, debug=True)


@pytest.mark.parametrize(
    ("script", "m"), [(None, None), ("a.py", "a"), ("", None), (None, ""), ("", "a"), ("a.py", "")]
)
def test_script_or_module(script: str | None, m: str | None) -> None:
    """Exactly one of script and module must be given."""
    with pytest.raises(ComponentError, match="Give exactly one of script and m"):
        dist.ddp(script=script, m=m)


@pytest.mark.parametrize("j", ["", "x2", "2x", "1x2x3", "1:x2", ":2x2", "a", "-1x2", "1:2", " 1x2"])
def test_topology_has_three_forms(j: str) -> None:
    """Any other j is rejected with the valid forms."""
    with pytest.raises(ComponentError, match="expected j like 2x4, 1:2x4 or 4, got") as caught:
        dist.ddp(script="a", j=j)

    assert repr(j) in str(caught.value)


def test_named_resource_wins() -> None:
    """A named resource overrides the numbers and keeps its name as a tag."""
    (role,) = parse("dist.ddp", ["-h", "gpu.small", "--cpu", "3", "--script", "a"]).roles

    assert (8, 1, 32768) == (role.resource.cpu, role.resource.gpu, role.resource.memMB)
    assert {"torchx/named_resources.name": "gpu.small"} == role.resource.tags


@pytest.mark.parametrize(
    ("component", "h", "j", "expected"),
    [
        ("ddp", "gpu.large", "2", "--nnodes 1 --nproc_per_node 2 "),
        ("torchrun", "gpu.large", "2", "--nnodes 2 --nproc_per_node 4 "),
        ("torchrun", "gpu.large", "2x3", "--nnodes 2 --nproc_per_node 3 "),
        ("torchrun", None, "2", "--nnodes 1 --nproc_per_node 2 "),
        ("spmd", "gpu.large", "2", "--nnodes 2 --nproc_per_node 4 "),
        ("spmd", "cpu.small", "2x3", "--nnodes 2 --nproc_per_node 3 "),
    ],
)
def test_number_alone(component: str, h: str | None, j: str, expected: str) -> None:
    """A single number means processes in ddp, and nodes in the others if h is set."""
    app = getattr(dist, component)(script="a", h=h, j=j)

    assert expected in app.roles[0].args[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "dist.ddp -j 2x4 -h gpu.xlarge",
            "processes and GPUs of each node differ: 4 and 8; for one process per GPU, use 2x8",
        ),
        ("dist.ddp -h gpu.small", "differ: 2 and 1; "),
        ("dist.ddp --gpu 2 -j 1", "differ: 1 and 2; "),
        ("dist.ddp -j 1:2x4 -h gpu.medium", "use 1:2x2"),
        ("dist.torchrun -j 2x3 -h gpu.medium", "use 2x2"),
        ("dist.spmd -j 1x2", "use 1x1"),
        ("dist.ddp -j 2x8 -h gpu.xlarge", None),
        ("dist.torchrun -j 2 -h gpu.xlarge", None),
        ("dist.spmd -j 3 -h gpu.large", None),
        ("dist.ddp -j 2x4", None),
        ("dist.spmd -j 1x4 -h cpu.small", None),
        ("dist.ddp -h NULL", None),
    ],
)
def test_gpus_without_a_process_each(
    line: str, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning is logged if the nodes have GPUs, but not one for each process."""
    name, *args = shlex.split(line)

    parse(name, [*args, "--script", "a.py"])

    assert (expected or "") in caplog.text
    assert bool(caplog.records) == (expected is not None)


@pytest.mark.parametrize("line", ["-j bad --gpu 4", "--gpu 4 --cpu two", "-j 3 --gpu 4 --tee x"])
def test_no_warning_about_values_that_were_not_given(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error about arguments comes without a warning about the defaults in their place."""
    with pytest.raises(ComponentError):
        parse("dist.ddp", ["--script", "a.py", *line.split()])

    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("h", "j", "expected"),
    [
        ("cpu.small", "2", "starts one process per GPU, but 'cpu.small' has no GPU"),
        ("gpu.small", "1:2x2", "expected j like 2x4 or 2, got '1:2x2'"),
        ("gpu.small", "1x2x3", "expected j like 2x4 or 2, got '1x2x3'"),
        ("gpu.smal", "1x2", "unknown named resource 'gpu.smal'"),
    ],
)
def test_spmd_needs_nodes_and_gpus(h: str, j: str, expected: str) -> None:
    """The component spmd rejects elastic nodes, and a resource without GPUs."""
    with pytest.raises(ComponentError, match=expected):
        dist.spmd(script="a", h=h, j=j)


def test_invalid_mounts_are_rejected() -> None:
    """An invalid mount raises the error of parse_mounts."""
    with pytest.raises(InvalidAppError, match="dst is missing"):
        dist.ddp(script="a", mounts=["type=bind", "src=/a"])
