"""Substitutes TorchX's macros in the fields of a role."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from string import Template
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_torchx.specs.frozen import FrozenDict

if TYPE_CHECKING:
    from airflow_torchx.specs.app import Role


class macros:  # noqa: N801 - TorchX's name
    """Names the placeholders for ``args``, the values of ``env``, and ``metadata`` of a role.

    Attributes:
        img_root: root folder of the image's files; empty in a container.
        app_id: id of the app.
        replica_id: index of the replica in its role, from 0.
        rank0_env: name of the environment variable that holds the host of replica 0.
    """

    img_root: ClassVar = "${img_root}"
    app_id: ClassVar = "${app_id}"
    replica_id: ClassVar = "${replica_id}"
    rank0_env: ClassVar = "${rank0_env}"

    @dataclass(frozen=True, slots=True)
    class Values:
        """Holds the values of the macros for one replica."""

        img_root: str
        app_id: str
        replica_id: str
        rank0_env: str

        def to_dict(self) -> dict[str, Any]:
            """Return the values by name."""
            return asdict(self)

        def apply(self, role: Role) -> Role:
            """Return a copy of ``role`` with macros substituted in args, env values and metadata.

            Keys and all other fields stay unchanged.
            """
            return replace(
                role,
                args=self._nested(role.args),
                env=self._nested(role.env),
                metadata=self._nested(role.metadata),
            )

        def substitute(self, arg: str) -> str:
            """Return ``arg`` with macros substituted.

            ``$$`` becomes ``$``; a ``${name}`` that is not a macro stays.
            """
            return Template(arg).safe_substitute(self.to_dict())

        def _nested(self, value: Any) -> Any:  # noqa: ANN401 - any JSON-like value
            if isinstance(value, str):
                return self.substitute(value)
            if isinstance(value, FrozenDict):
                return {key: self._nested(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return tuple(self._nested(item) for item in value)
            return value
