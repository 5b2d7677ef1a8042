"""Tests of certificates and keys as PEM text."""

from __future__ import annotations

from typing import Final

import pytest

from airflow_torchx.core.connection.pem import Pem, certificate, private_key

BODY: Final = f"{'A' * 64}\nBBBB"
KEY: Final = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE: Final = f"-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----\n"


def test_an_absolute_path() -> None:
    """An absolute path is returned as a path."""
    assert "/etc/docker/key.pem" == private_key(" /etc/docker/key.pem\n")
    assert "/etc/docker/ca.pem" == certificate("/etc/docker/ca.pem")


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.strip(),
        KEY.replace("\n", ""),
        KEY.replace("\n", " "),
        KEY.replace("\n", "\r\n"),
        KEY.replace("\n", "\\n"),
        f"Bag Attributes\n  friendlyName: me\n{KEY}",
    ],
    ids=["whole", "stripped", "one line", "blanks", "CRLF", "escaped", "with attributes"],
)
def test_line_breaks_are_restored(text: str) -> None:
    """Lost and escaped line breaks are restored, because OpenSSL needs them."""
    assert Pem(KEY) == private_key(text)


def test_a_chain_keeps_every_block() -> None:
    """Every block of a chain is kept, in order."""
    other = CERTIFICATE.replace("BBBB", "CCCC")

    assert Pem(CERTIFICATE + other) == certificate(f"{CERTIFICATE}\n{other}".replace("\n", ""))
    assert Pem(KEY + CERTIFICATE) == certificate(KEY + CERTIFICATE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key.pem", "give an absolute path, or the text from -----BEGIN PRIVATE KEY-----"),
        (BODY, "give an absolute path, or the text from -----BEGIN PRIVATE KEY-----"),
        (f"/{BODY}", "give an absolute path, or the text from -----BEGIN PRIVATE KEY-----"),
        (None, "give an absolute path, or the text from -----BEGIN PRIVATE KEY-----"),
        (CERTIFICATE, "give the text from -----BEGIN PRIVATE KEY-----"),
        (KEY[:60], "give the text from -----BEGIN PRIVATE KEY-----"),
        (
            KEY.replace("BBBB", "B"),
            "give the complete text: the part after BEGIN RSA PRIVATE KEY is not",
        ),
        (KEY.replace("RSA", "ENCRYPTED"), "remove its passphrase"),
        (
            KEY.replace("AAAA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,AA\n\nAAAA", 1),
            "remove its passphrase",
        ),
    ],
)
def test_invalid_values(text: object, expected: str) -> None:
    """The error says what to enter, and does not repeat the value."""
    with pytest.raises(ValueError, match=expected) as raised:
        private_key(text)

    assert "AAAA" not in str(raised.value)
