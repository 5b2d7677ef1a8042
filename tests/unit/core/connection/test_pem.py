"""Certificates and keys as text, and what becomes of text on its way through a form."""

from __future__ import annotations

from typing import Final

import pytest

from airflow_torchx.core.connection.pem import Pem, certificate, private_key

BODY: Final = f"{'A' * 64}\nBBBB"
KEY: Final = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE: Final = f"-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----\n"


def test_path() -> None:
    """An absolute path is a path."""
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
def test_line_ends(text: str) -> None:
    """A field of one line takes line ends away, and shells escape them; OpenSSL wants them."""
    assert Pem(KEY) == private_key(text)


def test_chain() -> None:
    """Everything in it stays, in its order."""
    other = CERTIFICATE.replace("BBBB", "CCCC")

    assert Pem(CERTIFICATE + other) == certificate(f"{CERTIFICATE}\n{other}".replace("\n", ""))
    assert Pem(KEY + CERTIFICATE) == certificate(KEY + CERTIFICATE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key.pem", "give an absolute path, or all from -----BEGIN PRIVATE KEY-----"),
        (BODY, "give an absolute path, or all from -----BEGIN PRIVATE KEY-----"),
        (f"/{BODY}", "give an absolute path, or all from -----BEGIN PRIVATE KEY-----"),
        (None, "give an absolute path, or all from -----BEGIN PRIVATE KEY-----"),
        (CERTIFICATE, "give all from -----BEGIN PRIVATE KEY-----"),
        (KEY[:60], "give all from -----BEGIN PRIVATE KEY-----"),
        (KEY.replace("BBBB", "B"), "give it whole: what is between BEGIN RSA PRIVATE KEY and"),
        (KEY.replace("RSA", "ENCRYPTED"), "give it without a passphrase"),
        (
            KEY.replace("AAAA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,AA\n\nAAAA", 1),
            "give it without a passphrase",
        ),
    ],
)
def test_wrong(text: object, expected: str) -> None:
    """It is said what to give, and nothing of what was given."""
    with pytest.raises(ValueError, match=expected) as raised:
        private_key(text)

    assert "AAAA" not in str(raised.value)
