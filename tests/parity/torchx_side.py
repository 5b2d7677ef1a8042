"""Launches many apps with TorchX, in an environment that has it, and tells what came of them.

Reads one JSON object from its standard input: ``entropy``, of which all app ids are made, and
``cases``, by name: ``app`` (in the form of `specs.to_dict`), ``options``, and ``start``. Prints
another: ``cases``, by name: ``containers``, what an inspect tells of each, or ``refused``, the
the words of the refusal; ``vocabulary``; and ``members``. Nothing is left behind.

All is TorchX's own way, from the runner that its command line uses down to the call of Docker, but
for three things: app ids are made of the entropy that is given, no image is pulled, and a container
is started only if ``start`` is true.
"""

import dataclasses
import importlib
import json
import sys
from typing import Any

docker: Any = importlib.import_module("docker")
specs: Any = importlib.import_module("torchx.specs")
ids: Any = importlib.import_module("torchx.schedulers.ids")
containers: Any = importlib.import_module("docker.models.containers")
START: Any = containers.Container.start
MOUNTS: Any = {
    "bind": specs.BindMount,
    "volume": specs.VolumeMount,
    "device": specs.DeviceMount,
}


def app_def(data: dict[str, Any]) -> Any:  # noqa: ANN401 - TorchX's AppDef
    """Return TorchX's app for ours, written as data."""
    return specs.AppDef(**data | {"roles": [_role(role) for role in data["roles"]]})


def _role(data: dict[str, Any]) -> Any:  # noqa: ANN401 - TorchX's Role
    workspace = data["workspace"]
    mounts = [dict(mount) for mount in data["mounts"]]
    changed = {
        "retry_policy": specs.RetryPolicy[data["retry_policy"]],
        "resource": specs.Resource(**data["resource"]),
        "mounts": [MOUNTS[mount.pop("type")](**mount) for mount in mounts],
        "workspace": workspace and specs.Workspace(**workspace),
    }
    return specs.Role(**data | changed)


def outcome(runner: Any, client: Any, case: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the outcome of one case, and remove its containers."""
    containers.Container.start = START if case["start"] else lambda _self: None
    app = app_def(case["app"])
    built: set[str] = set()
    try:
        dryrun = runner.dryrun(app, "local_docker", case["options"])
        built = {role.image for role in dryrun.app.roles if role.workspace}
        runner.schedule(dryrun)
        inspect = client.api.inspect_container
        return {"containers": [inspect(found) for found in _ids(client, app.name)]}
    except Exception as why:  # noqa: BLE001 - whatever it is, a user of TorchX sees it
        return {"refused": f"{type(why).__name__}: {why}"}
    finally:
        for container_id in _ids(client, app.name):
            client.api.remove_container(container_id, force=True, v=True)
        for image in built:
            client.api.remove_image(image)


def _ids(client: Any, name: str) -> list[str]:  # noqa: ANN401 - the SDK has no types
    label = f"torchx.pytorch.org/app-id={ids.make_unique(name)}"
    return [row["Id"] for row in client.api.containers(all=True, filters={"label": label})]


def vocabulary(runner: Any) -> dict[str, list[str]]:  # noqa: ANN401 - TorchX's Runner
    """Return the names of all that TorchX knows to say about an app."""
    kinds = (specs.AppDef, specs.Role, specs.Resource)
    fields = {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in kinds}
    options = [name for name, _ in runner.scheduler_run_opts("local_docker")]
    return fields | {"options": options}


#: Classes whose members are compared, by module.
CLASSES = {
    "torchx.specs": (
        *("AppDef", "Role", "Resource", "Workspace", "RetryPolicy", "BindMount", "VolumeMount"),
        *("DeviceMount", "AppState", "RoleStatus", "ReplicaStatus", "macros", "ParsedAppHandle"),
        "runopts",
    ),
    "torchx.specs.api": ("runopt",),
    "torchx.schedulers.api": ("AppDryRunInfo", "DescribeAppResponse", "ListAppResponse", "Stream"),
    "torchx.schedulers.docker_scheduler": ("DockerScheduler", "Opts"),
    "torchx.workspace.docker_workspace": ("DockerWorkspaceMixin",),
}


def members() -> dict[str, list[str]]:
    """Return the public members of each class, fields of its objects included."""
    found = {
        name: getattr(importlib.import_module(module), name)
        for module, names in CLASSES.items()
        for name in names
    }
    return {
        name: [one for one in {*dir(kind), *_fields(kind)} if not one.startswith("_")]
        for name, kind in found.items()
    }


def _fields(kind: Any) -> set[str]:  # noqa: ANN401 - one of TorchX's classes
    return {*getattr(kind, "__dataclass_fields__", ()), *getattr(kind, "__annotations__", ())}


def main() -> None:
    """Answer what is asked on the standard input."""
    asked = json.load(sys.stdin)
    client = docker.from_env()
    images: Any = importlib.import_module("docker.models.images")
    images.ImageCollection.pull = lambda _self, image, **_arguments: client.images.get(image)
    ids.random_uint64 = lambda: asked["entropy"]
    api: Any = importlib.import_module("torchx.runner")
    with api.get_runner("torchx") as runner:
        found = {name: outcome(runner, client, case) for name, case in asked["cases"].items()}
        answer = {"cases": found, "vocabulary": vocabulary(runner), "members": members()}
    print(json.dumps(answer))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
