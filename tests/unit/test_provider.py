"""The connection form and the connection's reader agree."""

from __future__ import annotations

from typing import Any

from airflow_torchx.core.connection.settings import FIELDS
from airflow_torchx.provider import get_provider_info


def connection_type() -> dict[str, Any]:
    """Return the provider's connection type."""
    info: dict[str, Any] = get_provider_info()
    (found,) = info["connection-types"]
    return dict(found)


def test_every_field_of_a_connection_is_in_the_form() -> None:
    """The form has every field of a connection, and no other."""
    assert set(FIELDS) == set(connection_type()["conn-fields"])


def test_the_key_is_a_secret() -> None:
    """The form hides the private key, and Airflow masks it by its name."""
    fields = connection_type()["conn-fields"]
    secret = [name for name in fields if fields[name]["schema"].get("format") == "password"]

    assert ["tls_private_key"] == secret


def test_the_form_asks_for_the_port() -> None:
    """The form asks to type a port, without which Airflow refuses to test a connection."""
    form = connection_type()["ui-field-behaviour"]

    assert "port" not in form["hidden-fields"]
    assert form["placeholders"]["port"].startswith("type 0 ")
