"""What Airflow shows of a connection is what is read of one."""

from __future__ import annotations

from typing import Any

from airflow_torchx.core.connection.settings import FIELDS
from airflow_torchx.provider import get_provider_info


def connection_type() -> dict[str, Any]:
    """Return what the provider says of its connection type."""
    info: dict[str, Any] = get_provider_info()
    (found,) = info["connection-types"]
    return dict(found)


def test_every_field_of_a_connection_is_in_the_form() -> None:
    """And none that does not exist."""
    assert set(FIELDS) == set(connection_type()["conn-fields"])


def test_the_key_is_a_secret() -> None:
    """The form hides it, and Airflow masks what has such a name wherever it shows one."""
    fields = connection_type()["conn-fields"]
    secret = [name for name in fields if fields[name]["schema"].get("format") == "password"]

    assert ["tls_private_key"] == secret
