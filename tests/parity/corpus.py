"""Apps that say all that can be said about one, in ordinary and in odd ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_torchx.specs import (
    MISSING,
    AppDef,
    BindMount,
    DeviceMount,
    Resource,
    RetryPolicy,
    Role,
    VolumeMount,
    Workspace,
)
from tests.conftest import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Further variables of the launching process.
ENVIRON: Final = {"PARITY_A": "a", "PARITY_B": "b = ${app_id}", "PARITY_C": ""}
#: A docker configuration, for which TorchX and we give each container proxies.
DOCKER_CONFIG: Final = {
    "proxies": {
        "default": {
            "httpProxy": "http://me:word@proxy:3128",
            "httpsProxy": "http://proxy:3128",
            "ftpProxy": "ftp://proxy",
            "noProxy": "localhost,.example.com",
        }
    }
}
#: The app id, with the rest of its name, is longer than what is kept of it in a container's name.
LONG: Final = "a-name-that-goes-on-and-on-for-longer-than-thirty-characters"

_MACROS: Final = "${img_root} ${app_id} ${replica_id} ${rank0_env} $replica_id"
_TEXTS: Final = (
    "",
    " ",
    "two\nlines\ttab",
    "'single' \"double\" `back` \\",
    "übung 訓練 🚀",
    "*?[a]",
)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the daemon and the host of a run hold for it.

    Args:
        image: an image that has settings of its own: an ENTRYPOINT, variables, a volume, …
        image_id: id of the image of the tests.
        volume: name of a volume.
        folder: a folder of the host, with a file in it.
    """

    image: str = "image"
    image_id: str = "sha256:0"
    volume: str = "volume"
    folder: str = "/folder"


@dataclass(frozen=True)
class Case:
    """An app and its run options.

    Args:
        app: the app.
        options: TorchX's run options.
        start: start the containers, and do not only create them.
    """

    app: AppDef
    options: Mapping[str, object] = field(default_factory=dict)
    start: bool = False


def corpus(given: Given) -> dict[str, Case]:
    """Return all cases by name."""
    return {
        **_app_names(),
        **_role_names(),
        **_replicas(),
        **_commands(),
        **_environments(),
        **_options(),
        **_resources(),
        **_devices(),
        **_mounts(given),
        **_restarts(),
        **_images(given),
        **_notes(),
        "everything": Case(_everything(given), _EVERYTHING),
        # What is to be started has no privileges: not every daemon has them to give.
        "nearly everything": Case(_everything(given), {**_EVERYTHING, "privileged": False}),
        "nearly everything, started": Case(
            _everything(given), {**_EVERYTHING, "privileged": False}, start=True
        ),
        "two roles, started": Case(AppDef("hello", [_role(), _role(name="ps")]), start=True),
    }


def _role(**changes: Any) -> Role:  # noqa: ANN401 - fields of a Role
    return Role(
        **{"name": "trainer", "image": BUSYBOX, "entrypoint": "sleep", "args": ["9"]} | changes
    )


def _one(app: str = "hello", /, options: Mapping[str, object] | None = None, **role: Any) -> Case:  # noqa: ANN401 - see above
    return Case(AppDef(app, [_role(**role)]), options or {})


def _app_names() -> dict[str, Case]:
    return {
        "an app": _one(),
        "an app of one letter": _one("a"),
        "an app with capitals, dots and underscores": _one("My.App_v2"),
        "an app that begins with a digit": _one("3d-net"),
        "an app with a long name": _one(LONG),
        "an app whose name is cut at punctuation": _one("x" + "-._" * 11, num_replicas=2),
        "an app with a slash far in front": _one(f"team/{LONG}"),
        "an app with a space": _one("my app"),
        "an app with a slash": _one("team/app"),
        "an app with an accent": _one("métier"),
        "an app without roles": Case(AppDef("hello")),
    }


def _role_names() -> dict[str, Case]:
    long = "parameter-server-of-the-region-"
    twins = [_role(name=long + place) for place in ("east", "west")]
    cases = [_role(name=name) for name in ("ps", "PS")]
    return {
        "a role of one letter": _one(name="t"),
        "a role with capitals, dots and underscores": _one(name="Trainer.v1_x"),
        "a role that begins with punctuation": _one(name="_-.trainer"),
        "a role of 27 characters of a long app": _one(LONG, name="r" * 27),
        "a role of 28 characters of a long app": _one(LONG, name="r" * 28),
        "a role of 30 characters of a long app": _one(LONG, name="r" * 30),
        "a role of 30 characters of a short app": _one("a", name="r" * 30, num_replicas=2),
        "a role of 40 characters": _one(name="r" * 40, num_replicas=2),
        "a role that looks shortened": _one(name="trainer-0123abcd"),
        "two roles that begin alike": Case(AppDef("hello", twins)),
        "two roles that differ in case only": Case(AppDef("hello", cases)),
        "two roles of one name": Case(AppDef("hello", [_role(), _role()])),
        "a role with a space": _one(name="my trainer"),
        "a role with an accent": _one(name="élève"),
        "a role with a slash": _one(name="a/b"),
    }


def _replicas() -> dict[str, Case]:
    roles = [
        _role(name="ps", num_replicas=2, resource=Resource(cpu=0.5, gpu=0, memMB=32)),
        _role(name="reader", entrypoint="cat", args=["/etc/hosts"], env={"READER": "1"}),
        _role(name="trainer", num_replicas=3, max_retries=1, mounts=[BindMount("/etc", "/x")]),
    ]
    return {
        "three roles": Case(AppDef("hello", roles)),
        "twelve replicas": _one(num_replicas=12, args=[_MACROS], env={"WHO": "${replica_id}"}),
        "replicas it can do without": _one(num_replicas=2, min_replicas=1),
        "more replicas needed than launched": _one(num_replicas=2, min_replicas=3),
        "no replicas": _one(num_replicas=0),
    }


def _commands() -> dict[str, Case]:
    return {
        "no arguments": _one(args=()),
        "macros in arguments": _one(args=[_MACROS, "--id=${app_id}", "${app_id}${app_id}"]),
        "dollars in arguments": _one(args=["$$", "$$app_id", "$${app_id}", "a$$$$b"]),
        "no macros in arguments": _one(args=["$", "${", "$-5", "${HOME}", "$HOME", "${APP_ID}"]),
        "odd texts in arguments": _one(args=_TEXTS),
        "arguments that look like options": _one(args=["--help", "-v", "--", "--name=x"]),
        "a long argument": _one(args=["x" * 50_000]),
        "many arguments": _one(args=[str(number) for number in range(500)]),
        "an argument with a zero byte": _one(args=["a\0b"]),
        "a path as entrypoint": _one(entrypoint="/bin/sleep"),
        "a macro as entrypoint": _one(entrypoint="${app_id}"),
        "an entrypoint with a space": _one(entrypoint="sleep 9", args=[]),
        "no entrypoint": _one(entrypoint=""),
        "the entrypoint that means none": _one(entrypoint=MISSING),
    }


def _environments() -> dict[str, Case]:
    names = {"a.b": "1", "a-b": "2", "a b": "3", "é": "4", "lower": "5", "${app_id}": "6"}
    names_of_torchx = ("RANK0_HOST", "IMAGE", "JOB_ID", "REPLICA_IDX", "NUM_REPLICAS")
    claims = {f"TORCHX_{name}": "mine" for name in names_of_torchx}
    return {
        "variables": _one(env={"A": "1", "B": "two words", "C": "a=b=c"}),
        "odd values": _one(env={f"V{index}": text for index, text in enumerate(_TEXTS)}),
        "odd names of variables": _one(env=names),
        "macros in variables": _one(env={"M": _MACROS, "D": "$$HOME $HOME ${HOME} $$$$"}),
        "a variable for a proxy": _one(env={"HTTP_PROXY": "http://own"}),
        "a variable that the image has": _one(env={"PATH": "/bin"}),
        "variables that TorchX sets itself": _one(env=claims),
        "many variables": _one(env={f"V{number}": str(number) for number in range(200)}),
        "a variable with an equals sign in its name": _one(env={"A=B": "c"}),
        "a variable without a name": _one(env={"": "x"}),
    }


def _options() -> dict[str, Case]:
    over = {"copy_env": ["PARITY_*"], "env": {"PARITY_A": "of the option", "B": "of the option"}}
    return {
        "copied variables": _one(options={"copy_env": ["PARITY_*"]}),
        "copied variables by other patterns": _one(
            options={"copy_env": ["PARITY_[AB]", "?ARITY_C"]}
        ),
        "copied variables in the wrong case": _one(options={"copy_env": ["parity_*"]}),
        "variables as an option": _one(options={"env": {"A": "1", "M": _MACROS, "E": ""}}),
        "variables from everywhere": _one(options=over, env={"B": "of the role", "C": "too"}),
        "all privileges": _one(options={"privileged": True}),
        "options of workspaces without one": _one(
            options={"image_repo": "registry.example.com/team/app", "quiet": True}
        ),
    }


def _resources() -> dict[str, Case]:
    sizes = {
        "any resource": Resource(cpu=-1, gpu=-1, memMB=-1),
        "a part of a cpu": Resource(cpu=0.5, gpu=0, memMB=-1),
        "a cpu whose billionfold is a little too large": Resource(cpu=1.1, gpu=0, memMB=-1),
        "a cpu whose billionfold is a little too small": Resource(cpu=1.001, gpu=0, memMB=-1),
        "a whole cpu as a fraction": Resource(cpu=1.0, gpu=0, memMB=-1),
        "no limit": Resource(cpu=0, gpu=0, memMB=0),
        "the least memory": Resource(cpu=-1, gpu=-1, memMB=6),
        "less than the least memory": Resource(cpu=-1, gpu=-1, memMB=4),
        "less than the least cpu": Resource(cpu=0.001, gpu=-1, memMB=-1),
        "more cpus than there are": Resource(cpu=4096, gpu=0, memMB=64),
        "more memory than there is": Resource(cpu=1, gpu=0, memMB=1 << 30),
        "capabilities": Resource(1, 0, 64, capabilities={"aws.instance": "p4d"}),
        "tags": Resource(1, 0, 64, tags={"team": "vision"}),
    }
    return {name: _one(resource=size) for name, size in sizes.items()}


def _devices() -> dict[str, Case]:
    efa, neuron = "vpc.amazonaws.com/efa", "aws.amazon.com/neurondevice"
    return {
        "a GPU": _one(resource=Resource(cpu=1, gpu=1, memMB=64)),
        "two GPUs for each of two": _one(resource=Resource(-1, 2, -1), num_replicas=2),
        "EFA devices": _one(resource=Resource(1, 0, 64, devices={efa: 2})),
        "Neuron devices": _one(resource=Resource(1, 0, 64, devices={neuron: 1})),
        "devices besides a mount": _one(
            resource=Resource(1, 0, 64, devices={neuron: 1, efa: 1}),
            mounts=[DeviceMount("/dev/null", "/dev/nothing")],
        ),
        "unknown devices": _one(resource=Resource(1, 0, 64, devices={"x/y": 3, efa: 0})),
    }


def _mounts(given: Given) -> dict[str, Case]:
    binds = {
        "a folder": BindMount("/etc", "/x"),
        "a folder, read-only": BindMount("/etc", "/x", read_only=True),
        "a file": BindMount("/etc/hostname", "/x/name"),
        "slashes at the end": BindMount("/etc/", "/x/"),
        "dots in a target": BindMount("/etc", "/x/../y/./z"),
        "an odd target": BindMount("/etc", "/x/a b:c,d é ${app_id}"),
        "an odd source": BindMount(given.folder, "/x"),
        "a source that is not there": BindMount("/there/is/no/such/folder", "/x"),
        "a target that is relative": BindMount("/etc", "x"),
        "the root as a target": BindMount("/etc", "/"),
        "a volume": VolumeMount(given.volume, "/x"),
        "a volume, read-only": VolumeMount(given.volume, "/x", read_only=True),
        "a volume of a bad name": VolumeMount("/etc:/etc", "/x"),
        "a device": DeviceMount("/dev/null", "/dev/null"),
        "a device to read": DeviceMount("/dev/zero", "/dev/x/y", permissions="r"),
        "a device that is not there": DeviceMount("/dev/no-such-device", "/dev/x", "mrw"),
    }
    twice = [BindMount("/etc", "/x"), VolumeMount(given.volume, "/x")]
    return {
        **{f"mount: {name}": _one(mounts=[mount]) for name, mount in binds.items()},
        "mount: two at one target": _one(mounts=twice),
    }


def _restarts() -> dict[str, Case]:
    return {
        "retries that are negative": _one(max_retries=-1),
        **{
            f"retries of the {policy.value.lower()}": _one(max_retries=3, retry_policy=policy)
            for policy in RetryPolicy
        },
    }


def _images(given: Given) -> dict[str, Case]:
    over = {"FROM_IMAGE": "of the role"}
    return {
        "an image by its id": _one(image=given.image_id),
        "an image by its full name": _one(image=f"docker.io/{BUSYBOX}"),
        "an image with settings of its own": _one(image=given.image, num_replicas=2),
        "an image whose settings are overridden": _one(image=given.image, env=over, args=()),
        "an image with capitals": _one(image="Busybox:local"),
        "a workspace": _one(workspace=Workspace({given.folder: ""})),
    }


def _notes() -> dict[str, Case]:
    nested = {"docker": {"note": _MACROS, "list": ["${app_id}", {"x": "$$"}]}, "k8s.x": 1}
    return {
        "metadata of a role": _one(metadata=nested),
        "metadata of the app": Case(AppDef("hello", [_role()], {"owner": "${app_id}"})),
        "ports": _one(port_map={"tensorboard": 6006, "http": 80}),
        "a port that is none": _one(port_map={"http": 70_000}),
    }


_EVERYTHING: Final = {
    "copy_env": ["PARITY_*"],
    "env": {"A": "1"},
    "privileged": True,
    "quiet": True,
}


def _everything(given: Given) -> AppDef:
    trainer = _role(
        num_replicas=2,
        min_replicas=2,
        args=["600"],
        env={"WHO": "${replica_id}"},
        max_retries=2,
        retry_policy=RetryPolicy.REPLICA,
        resource=Resource(0.5, 0, 64, capabilities={"a": 1}, tags={"b": 2}),
        port_map={"http": 80},
        metadata={"note": "${app_id}"},
        mounts=[
            BindMount("/etc", "/mnt/etc", read_only=True),
            VolumeMount(given.volume, "/mnt/volume"),
            DeviceMount("/dev/null", "/dev/nothing"),
        ],
    )
    return AppDef("everything", [trainer, _role(name="ps", args=["600"])], {"owner": "me"})
