"""GPUs in responses of the Engine API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from airflow_torchx.core.engine.containers import GpuRequest
from airflow_torchx.docker_engine.gpus import gpu_requests, local_models, reported_gpus

if TYPE_CHECKING:
    from pathlib import Path

DRIVER: Final = {"Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container"}}}
RESOURCES: Final = {
    "GenericResources": [
        {"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": "GPU-45cbf7b"}},
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-16a23f1"}},
        {"NamedResourceSpec": {"Kind": "nic", "Value": "x"}},
        {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
    ]
}


def discovered(*ids: str, kind: str = "nvidia.com/gpu") -> dict[str, Any]:
    """Return a response of a daemon that discovers CDI devices, in Docker's order."""
    names = sorted(f"{kind}={gpu_id}" for gpu_id in ids)
    others = [{"Source": "cdi", "ID": "vendor.com/nic=0"}]
    return {"DiscoveredDevices": [*({"Source": "cdi", "ID": name} for name in names), *others]}


@pytest.fixture
def local_gpus(tmp_path: Path) -> Path:
    """Return the folder in which a driver lists two GPUs."""
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("0", "1", "GPU-1", "GPU-2", "all"), ("GPU-1", "GPU-2")),
        (("0", "1", "all"), ("0", "1")),
        (("gpu0", "gpu1", "all"), ("gpu0", "gpu1")),
        (("0", "gpu0", "GPU-1", "all"), ("GPU-1",)),
        (("0", "1", "gpu0", "gpu1", "all"), ("0", "1")),
        (("all",), ()),
    ],
)
def test_discovered(ids: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Of the names of each GPU in CDI, UUIDs are preferred, and never mixed with indices."""
    assert expected == reported_gpus(discovered(*ids), local_gpus=None).ids


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("0", "0:0", "0:1", "GPU-1", "MIG-1", "MIG-2", "all"), ("MIG-1", "MIG-2")),
        (("0", "0:0", "0:1", "all"), ("0:0", "0:1")),
        (("0", "1", "1:0", "1:1", "all"), ("0", "1:0", "1:1")),
        (("gpu0", "gpu1", "mig1:0", "all"), ("gpu0", "mig1:0")),
        (("0", "1", "1:0", "gpu0", "gpu1", "mig1:0", "all"), ("0", "1:0")),
        (("0", "1", "1:0", "GPU-1", "GPU-2", "MIG-1", "all"), ("0", "1:0")),
        (("GPU-1", "MIG-1", "MIG-2", "all"), ("MIG-1", "MIG-2")),
    ],
)
def test_mig(ids: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """A GPU that is divided into MIG devices is not listed beside them.

    A UUID does not show which GPU it is a part of, so beside undivided GPUs, indices are taken.
    """
    assert expected == reported_gpus(discovered(*ids), local_gpus=None).ids


def test_vendors() -> None:
    """The ids are of one vendor, NVIDIA first, and the kind is that vendor's."""
    amd = discovered("0", "1", "all", kind="amd.com/gpu")
    unique = discovered("0", "0x9e", "all", kind="amd.com/gpu")
    both = {
        "DiscoveredDevices": amd["DiscoveredDevices"] + discovered("0")["DiscoveredDevices"],
    }

    assert (("0", "1"), "amd.com/gpu") == reported_gpus(amd, local_gpus=None)[:2]
    assert (("0x9e",), "amd.com/gpu") == reported_gpus(unique, local_gpus=None)[:2]
    assert (("0",), "nvidia.com/gpu") == reported_gpus(both, local_gpus=None)[:2]


def test_sources(local_gpus: Path) -> None:
    """GPU ids come from CDI, else from the daemon's resources, else from the driver."""
    cdi = {**DRIVER, **RESOURCES, **discovered("0", "1", "all")}
    resources = {**DRIVER, **RESOURCES, **discovered()}

    assert (("0", "1"), "nvidia.com/gpu") == reported_gpus(cdi, local_gpus=local_gpus)[:2]
    assert (("GPU-45cbf7b", "GPU-16a23f1"), "") == reported_gpus(resources, local_gpus=local_gpus)[
        :2
    ]
    assert (("0", "1"), "nvidia.com/gpu") == reported_gpus(DRIVER, local_gpus=local_gpus)[:2]
    assert ((), "") == reported_gpus(DRIVER, local_gpus=None)[:2]
    assert ((), "") == reported_gpus({}, local_gpus=local_gpus)[:2]


def test_the_order_of_indices(local_gpus: Path) -> None:
    """Docker sorts the names of CDI; the driver of this host knows the order of the GPUs."""
    first, second = (path / "information" for path in sorted(local_gpus.iterdir()))
    first.write_text("GPU UUID: GPU-ff")
    second.write_text("GPU UUID: GPU-11")
    cdi = {**DRIVER, **discovered("0", "1", "all", "GPU-ff", "GPU-11")}

    assert (("GPU-11", "GPU-ff"), "nvidia.com/gpu", False) == reported_gpus(cdi, local_gpus=None)
    found = reported_gpus(cdi, local_gpus=local_gpus)
    assert (("GPU-ff", "GPU-11"), "nvidia.com/gpu", True) == found


def test_local_gpus(local_gpus: Path) -> None:
    """The driver's file of each GPU has its model and UUID, or question marks until it knows it.

    UUIDs and indices are never mixed.
    """
    text = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 250\nGPU UUID: \t {}\n"
    first, second = (path / "information" for path in sorted(local_gpus.iterdir()))
    first.write_text(text.format("GPU-????????-????-????-????-????????????"))
    second.write_text(text.format("GPU-45cbf7b"))
    (local_gpus / "0000:03:00.0" / "information").mkdir(parents=True)  # cannot be read
    model = "NVIDIA A100-SXM4-40GB"

    assert ("0", "1", "2") == reported_gpus(DRIVER, local_gpus=local_gpus).ids
    assert {"0": model, "1": model, "2": ""} == local_models(local_gpus)
    (local_gpus / "0000:03:00.0" / "information").rmdir()
    first.write_text(text.format("GPU-16a23f1"))
    assert ("GPU-16a23f1", "GPU-45cbf7b") == reported_gpus(DRIVER, local_gpus=local_gpus).ids
    assert {} == local_models(local_gpus / "absent")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {"Driver": "", "Count": 2, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}},
            (GpuRequest(count=2),),
        ),
        (
            {"Driver": "nvidia", "Count": -1, "Capabilities": [["tpu"], ["compute", "gpu"]]},
            (GpuRequest(count=-1),),
        ),
        (
            {"Driver": "", "Count": 0, "DeviceIDs": ["0", "GPU-1"], "Capabilities": [["gpu"]]},
            (GpuRequest(count=2, device_ids=("0", "GPU-1")),),
        ),
        (
            {
                "Driver": "cdi",
                "Count": 0,
                "DeviceIDs": ["nvidia.com/gpu=all"],
                "Capabilities": None,
            },
            (GpuRequest(count=1, device_ids=("all",), driver="cdi"),),
        ),
        (
            {"Driver": "cdi", "DeviceIDs": ["amd.com/gpu=0", "vendor.com/nic=0", "amd.com/gpu=1"]},
            (GpuRequest(count=2, device_ids=("0", "1"), driver="cdi", kind="amd.com/gpu"),),
        ),
        ({"Driver": "cdi", "DeviceIDs": ["vendor.com/nic=0"]}, ()),
        ({"Driver": "", "Count": 1, "Capabilities": [["tpu"]]}, ()),
        # TorchX's request.
        ({"Driver": "", "Count": 1, "Capabilities": [["compute"]]}, (GpuRequest(count=1),)),
        ({"Driver": "nvidia", "Count": 1, "Capabilities": None}, (GpuRequest(count=1),)),
        ({"Driver": "tpu", "Count": 1, "Capabilities": None}, ()),
    ],
)
def test_requests(request_: dict[str, Any], expected: tuple[GpuRequest, ...]) -> None:
    """Requests for other devices than GPUs are ignored; ids of CDI are without their kind."""
    assert expected == tuple(gpu_requests([request_]))


def test_several_requests() -> None:
    """A container may request GPUs several times, as `docker run --device` does, or never."""
    one, other = ({"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={index}"]} for index in "01")

    assert [("0",), ("1",)] == [found.device_ids for found in gpu_requests([one, other])]
    assert [] == list(gpu_requests(None))
