"""Tests which values are texts and numbers, wherever a user can give one."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import pytest

from airflow_torchx.core.plan.options import Opts
from airflow_torchx.errors import AirflowTorchXError, ComponentError, InvalidAppError
from airflow_torchx.operators import TorchXDockerOperator
from airflow_torchx.specs import AppDef, BindMount, Resource, Role, as_app


class Mode(str, Enum):  # noqa: UP042 - its text is not its value
    """Has texts, and prints as its name."""

    FAST = "fast"


class Kind(StrEnum):
    """Has texts."""

    FAST = "fast"


class Count(IntEnum):
    """Has numbers."""

    TWO = 2


@dataclasses.dataclass
class Tensor:
    """A number of a foreign type."""

    value: float
    shape: tuple[int, ...] = ()

    def __float__(self) -> float:
        return self.value

    def item(self) -> float:
        """Return the number."""
        return self.value


class Index:
    """A whole number of a foreign type."""

    def __index__(self) -> int:
        return 2


BYTES = (b"3", bytearray(b"3"), memoryview(b"3"))
VALUES = [
    (Mode.FAST, "fast"),
    (Kind.FAST, "fast"),
    (Count.TWO, "2"),
    (Decimal("0.10"), "0.10"),
    (Fraction(1, 2), "1/2"),
    (Tensor(0.5), "0.5"),
    (Index(), "2"),
    (True, "True"),
]


def name(value: object) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


def operator(**arguments: Any) -> TorchXDockerOperator:  # noqa: ANN401 - the operator's own
    """Return an operator with an app."""
    return TorchXDockerOperator(task_id="t", **{"app": AppDef("a", [Role("r", "i")]), **arguments})


@pytest.mark.parametrize(("value", "text"), VALUES, ids=[type(one).__name__ for one, _ in VALUES])
def test_a_scalar_is_written_alike_everywhere(value: object, text: str) -> None:
    """An argument, a variable and an option are the same text for the same value."""
    role = Role("r", "i", args=[value], env={"A": value})  # type: ignore[list-item, dict-item]
    (made,) = operator(app=AppDef("a", [role]), env={"B": value}).app_def().roles
    args = ["--msg", value]
    (echo,) = operator(app=None, component="utils.echo", component_args=args).app_def().roles
    opts = Opts.parse({"env": {"A": value}, "labels": {"b": value}})

    assert ([text], {"A": text, "B": text}, [text]) == (made.args, made.env, echo.args)
    assert ({"A": text}, {"b": text}) == (opts.env, opts.labels)


def test_members_of_enumerations_in_an_app() -> None:
    """An app holds the values of an enumeration's members, in every field."""
    fast: Any = Mode.FAST
    role = Role(fast, fast, args=[fast], env={fast: fast})
    mount = BindMount(fast, fast)

    assert f"{AppDef('fast', [Role('fast', 'fast', args=['fast'], env={'fast': 'fast'})])}" == (
        f"{AppDef(fast, [role])}"
    )
    assert "fast fast" == f"{mount.src_path} {mount.dst_path}"
    assert "fast" == f"{Opts(network=fast).network}"


@pytest.mark.parametrize(
    ("value", "number"), [(Decimal("2.0"), 2), (Fraction(4, 2), 2), (Tensor(2.0), 2), (Index(), 2)]
)
def test_numbers_of_any_type(value: Any, number: int) -> None:  # noqa: ANN401 - any number
    """A resource, a role, a mapping and an option take a number of any type."""
    given = Resource(cpu=value, gpu=value, memMB=value)
    mapping = {"name": "a", "roles": [{"name": "r", "image": "i", "num_replicas": value}]}

    assert Resource(number, number, number) == given
    assert {int} == {type(one) for one in (given.cpu, given.gpu, given.memMB)}
    assert number == as_app(mapping).roles[0].num_replicas
    assert (number, number) == (
        Opts(keep_images=value).keep_images,
        Opts(stop_grace_s=value).stop_grace_s,
    )


@pytest.mark.parametrize("data", BYTES, ids=name)
@pytest.mark.parametrize(
    "option", ["cap_add", "env", "keep_images", "network", "quiet", "stop_grace_s", "user"]
)
def test_bytes_are_not_an_option(option: str, data: object) -> None:
    """Bytes are neither a text, nor a number, nor a list."""
    with pytest.raises(InvalidAppError, match=f"options.{option}: "):
        Opts.parse({option: data})


@pytest.mark.parametrize("data", [*BYTES, Tensor(0.5, (1,))], ids=name)
def test_bytes_and_arrays_are_not_a_text_of_an_app(data: Any) -> None:  # noqa: ANN401 - any type
    """Bytes and arrays are refused wherever a text, a number or a list of texts is meant."""
    role = {"name": "r", "image": "i", "args": [data], "env": {"A": data}, "num_replicas": data}

    with pytest.raises(InvalidAppError) as caught:
        as_app({"name": "a", "roles": [role]})
    assert ["roles[0].args[0]", "roles[0].env['A']", "roles[0].num_replicas"] == [
        problem.where for problem in caught.value.problems
    ]
    for args in (data, [data]):
        with pytest.raises(ComponentError, match=r"component_args(\[0\])?: expected a string or"):
            operator(app=None, component="utils.echo", component_args=args).app_def()
    with pytest.raises(ComponentError, match="unknown component"):
        operator(app=None, component=data).app_def()
    with pytest.raises(AirflowTorchXError):
        Role("r", "i", args=data)
    with pytest.raises(InvalidAppError, match="'B' needs strings"):
        operator(env={"B": data}).app_def()


@pytest.mark.parametrize("data", [b"\3", bytearray(b"\3")], ids=repr)
def test_bytes_are_not_exit_codes(data: Any) -> None:  # noqa: ANN401 - another type
    """Bytes are not a list of exit codes."""
    with pytest.raises(ValueError, match="give exit codes from 1 to 255"):
        operator(skip_on_exit_code=data)
