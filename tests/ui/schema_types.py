"""Writes the types of a snapshot for the page's JavaScript, from the schema of the XCom.

.venv/bin/python -m tests.ui.schema_types
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import airflow_torchx

_PACKAGE: Final = Path(airflow_torchx.__file__).parent
SCHEMA: Final = _PACKAGE / "core/state/snapshot.v1.json"
TYPES: Final = _PACKAGE / "ui/static/snapshot-v1.d.ts"
_HEAD: Final = "// Generated from snapshot.v1.json by tests/ui/schema_types.py.\n"
_BASIC: Final = {
    "boolean": "boolean",
    "integer": "number",
    "null": "null",
    "number": "number",
    "string": "string",
}


class _Types:
    """The named types of a schema, in the order in which they are met.

    A type is named by its title, else by its key; two that have one name must be equal.
    """

    def __init__(self) -> None:
        self.named: dict[str, str] = {}

    def of(self, schema: dict[str, Any], key: str) -> str:
        """Return the type of a value as TypeScript writes it."""
        name = schema.get("title", key.capitalize())
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return self._add(
                name, f"export type {name} = {_union(map(json.dumps, schema['enum']))};"
            )
        if "anyOf" in schema:
            return _union(self.of(one, key) for one in schema["anyOf"])
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        return _union(self._basic(schema, key, name, kind) for kind in kinds)

    def _basic(self, schema: dict[str, Any], key: str, name: str, kind: str) -> str:
        if kind == "object":
            return self._object(schema, name)
        if kind == "array":
            return self._array(schema, key)
        return _BASIC[kind]

    def _object(self, schema: dict[str, Any], name: str) -> str:
        if "additionalProperties" in schema:
            return f"Record<string, {self.of(schema['additionalProperties'], name)}>"
        required = schema["required"]
        lines = []
        for key, one in schema["properties"].items():
            if about := one.get("description"):
                lines.append(f"  /** {about} */")
            lines.append(f"  {key}{'' if key in required else '?'}: {self.of(one, key)};")
        return self._add(name, "\n".join([f"export interface {name} {{", *lines, "}"]))

    def _array(self, schema: dict[str, Any], key: str) -> str:
        item = self.of(schema["items"], key.removesuffix("s")) if "items" in schema else ""
        if "prefixItems" not in schema:
            return f"({item})[]" if "|" in item else f"{item}[]"
        members = ", ".join(self.of(one, "") for one in schema["prefixItems"])
        return self._add(schema["title"], f"export type {schema['title']} = [{members}];")

    def _add(self, name: str, text: str) -> str:
        if self.named.setdefault(name, text) != text:
            message = f"two types of the schema are {name}: give one of them a title"
            raise ValueError(message)
        return name


def _union(members: Any) -> str:  # noqa: ANN401 - any iterable of texts
    return " | ".join(members)


def types(schema: dict[str, Any]) -> str:
    """Return the types of a schema as the text of a declaration file."""
    found = _Types()
    found.of(schema | {"title": "Snapshot"}, "")
    return _HEAD + "".join(f"\n{one}\n" for one in found.named.values())


if __name__ == "__main__":
    TYPES.write_text(types(json.loads(SCHEMA.read_text())))
