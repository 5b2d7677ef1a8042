"""Runs with Airflow's own Python, TorchX being at the end of its path: what we make of its objects.

Takes TorchX's folder and a folder of a user's, and writes a JSON object.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.extend(sys.argv[1:3])
# What TorchX says of its own old ways is not ours to mend.
warnings.simplefilter("ignore")

import torchx.specs as theirs  # noqa: E402 - found from here on
from torchx.specs.finder import get_component  # noqa: E402

from airflow_torchx import components, specs  # noqa: E402
from airflow_torchx.components.source import source_of  # noqa: E402
from airflow_torchx.errors import AirflowTorchXError, InvalidAppError  # noqa: E402
from airflow_torchx.schedulers.docker_scheduler import DockerScheduler  # noqa: E402
from airflow_torchx.testing import FakeEngine  # noqa: E402

OURS = "airflow_torchx"
NEWER = hasattr(theirs, "Workspace")

EVERYTHING: dict[str, Any] = {
    "name": "trainer",
    "image": "i",
    "min_replicas": 1,
    "entrypoint": "python",
    "args": ["train.py", "--id", theirs.macros.app_id, theirs.macros.replica_id],
    "env": {"A": "b", "R": theirs.macros.rank0_env, "I": theirs.macros.img_root},
    "num_replicas": 3,
    "max_retries": 2,
    "retry_policy": theirs.RetryPolicy.REPLICA,
    "resource": theirs.Resource(
        cpu=1, gpu=2, memMB=300, capabilities={"a": [1]}, devices={"vpc.amazonaws.com/efa": 1}
    ),
    "port_map": {"p": 1234},
    "metadata": {"local_docker": {"k": [1, {"l": None}]}},
    "mounts": [
        theirs.BindMount("/a", "/b", read_only=True),
        theirs.VolumeMount("v", "/c", read_only=True),
        theirs.DeviceMount("/dev/d", "/dev/e", "r"),
    ],
}
if NEWER:
    EVERYTHING["workspace"] = theirs.Workspace({"code": "", "data": "in"})
    EVERYTHING["resource"].tags["t"] = True


@dataclass
class Tuned(theirs.Role):  # type: ignore[misc] # has no types here
    """A role with more fields, other defaults, and a hook into TorchX's own request."""

    num_replicas: int = 4
    priority: str = "low"
    queue: str = "slow"

    def pre_proc(self, scheduler: str, dryrun_info: Any) -> Any:  # noqa: ANN401, ARG002 - TorchX's
        """Change what TorchX would send."""
        return dryrun_info


@dataclass
class Named(theirs.Role):  # type: ignore[misc] # the same
    """A role with one more field and one other default."""

    num_replicas: int = 4
    priority: str = "low"


def error(of: Any, *args: Any) -> dict[str, Any]:  # noqa: ANN401 - any call
    """Return what a call raises."""
    try:
        of(*args)
    except InvalidAppError as why:
        found = [(problem.where, problem.what, problem.fix) for problem in why.problems]
        return {"subject": why.subject, "problems": found}
    except AirflowTorchXError as why:
        return {"type": type(why).__name__, "what": why.what, "fix": why.fix}
    return {}


def refused() -> dict[str, Any]:
    """Return the error of an app with everything that cannot be kept."""
    role = Tuned("a", "i", entrypoint="e", env={"TOKEN": 12345}, queue="fast")
    if NEWER:
        # Reading the role's image would call it.
        role.overrides = {"image": lambda: sys.exit("an override was called")}
    else:
        role.base_image = "b"
    return error(specs.as_app, theirs.AppDef("n", [theirs.Role("x", "i"), role]))


def dry_run(app: Any) -> str:  # noqa: ANN401 - ours or theirs
    """Return the plan of an app, but for what chance decided."""
    with DockerScheduler("t", FakeEngine(images=["i"])) as scheduler:
        info = scheduler.submit_dryrun(app)
    return re.sub("airflow-torchx/launch-id: .*", "", str(info).replace(info.request.app_id, "ID"))


def launched(app: Any) -> list[str]:  # noqa: ANN401 - ours or theirs
    """Return the images of what is launched: as it is, built before, and with a workspace."""
    with DockerScheduler("t", FakeEngine(images=["i"])) as scheduler:
        built = scheduler.build(app)
        ids = [
            scheduler.submit(built),
            scheduler.submit(app),
            scheduler.submit(app, {}, sys.argv[2]),
        ]
        seen = [scheduler.wait(app_id) for app_id in ids]
    return [one.roles[0].image for one in seen]


def lines(file: str) -> list[list[Any]]:
    """Return, for command lines of a user's own component, our app and TorchX's."""
    answers = []
    for words in json.loads(Path(file).with_suffix(".json").read_text()):
        ours = components.parse(f"{file}:fn", words)
        app = theirs.materialize_appdef(get_component(f"{file}:fn").fn, words)
        answers.append([specs.to_dict(ours), specs.to_dict(specs.as_app(app))])
    return answers


def unknown_to_torchx() -> list[str]:
    """Return the names that our modules of TorchX's paths have, and TorchX's have not."""
    paths = ("specs.api", "specs.builders", "specs.finder", "schedulers", "schedulers.api")
    missing = []
    for path in paths:
        ours, other = (importlib.import_module(f"{top}.{path}") for top in (OURS, "torchx"))
        missing += [f"{path}.{name}" for name in ours.__all__ if not hasattr(other, name)]
    return missing


def members(types: Any) -> list[Any]:  # noqa: ANN401 - our types or TorchX's
    """Return what members of the types of TorchX's nightly answer."""
    roles = [types.Role("a", "i"), types.Role("b", "j", args=["x"])]
    app = types.AppDef("app", roles)
    texts = ["a", "a: b", "{a: b, c: null}", ""]
    workspaces = [types.Workspace.from_str(text) for text in texts]
    resource = types.Resource(1, 2, 3, {"a": 1}, {"d": 1}, {"t": 1})
    values = types.macros.Values("", "app", "0", "R")
    return [
        [(dict(one.projects), str(one), one.is_unmapped_single_project()) for one in workspaces],
        [app.get_role("b").image, app["a"].image, "b" in app, "c" in app, roles[0] in app],
        [app["b"].args == ["x"], app["b"].args + ["y"], app["b"].args[:1] == ["x"]],  # noqa: RUF005
        [asdict(types.Resource.copy(resource, b=2)), resource.is_fractional()],
        [types.resource(h="gpu.small").get_resource_name(), values.to_dict()],
        [types.named_resources["gpu.small"].gpu, "GPU.small" in types.named_resources],
    ]


def printed(name: str) -> list[Any]:
    """Return the app of a component of TorchX's, and that of its printed source."""
    file, words = Path(sys.argv[2], "printed.py"), ["--lr", "1"]
    file.write_text(source_of(name, components.get(name)))
    apps = [components.parse(one, words) for one in (name, f"{file}:{name.rpartition('.')[2]}")]
    return [specs.to_dict(app) for app in apps]


def main() -> None:
    """Answer everything at once: starting TorchX takes a second."""
    whole = theirs.AppDef("app", [theirs.Role(**EVERYTHING)], metadata={"x": "y"})
    small = theirs.Role("a", "i", entrypoint="true", num_replicas=2)
    small.resource.cpu = 0 if small.resource is not theirs.NULL_RESOURCE else -1
    app = theirs.AppDef("app", [small])
    before = repr(whole)
    answers = {
        "whole": specs.to_dict(specs.as_app(whole)),
        "unchanged": before == repr(whole) and type(whole.roles[0]) is theirs.Role,
        "least": specs.to_dict(specs.as_app(theirs.AppDef("a", [theirs.Role("r", "i")]))),
        "least_ours": specs.to_dict(specs.AppDef("a", [specs.Role("r", "i")])),
        "subclass": specs.to_dict(specs.as_app(theirs.AppDef("a", [Named("r", "i")]))),
        "refused": refused(),
        "nonsense": error(
            specs.as_app, theirs.AppDef("a", [None, theirs.Role("r", "i", mounts=[1])])
        ),
        "plan": [dry_run(app), dry_run(specs.as_app(app))],
        "launched": launched(app),
        "named": {
            h: specs.to_dict(specs.resource(h=h))
            for h in (
                "aws_p4d.24xlarge",
                "AWS_T3.Medium",
                "gpu.small",
                "cpu.micro",
                "team.big",
                "NULL",
            )
        },
        "no_name": error(lambda: specs.resource(h="team.bit")),
        "registered": [
            specs.to_dict(components.parse(name, ["--lr", "0.5", "--", "x"]))
            for name in ("my_team.trainer", "torchx:my_team.trainer")
        ],
        "not_registered": error(components.get, "my_team.trainers"),
        "not_there": error(components.get, "torchx:utils.echo"),
        "ours_wins": components.get("utils.echo") is components.utils.echo,
        "fails": error(components.parse, "my_team.fails", []),
        "lines": lines(sys.argv[3]),
        "unknown_to_torchx": unknown_to_torchx(),
        "members": [members(types) for types in (theirs, specs)] if NEWER else [],
        "printed": printed("my_team.trainer"),
    }
    print(json.dumps(answers))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
