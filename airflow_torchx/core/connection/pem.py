"""Certificates and keys that are given as text, read also where a form has mangled them; pure."""

from __future__ import annotations

import base64
import re
import textwrap
from dataclasses import dataclass, field
from typing import Final

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_MARK: Final = "-----BEGIN "
#: https://www.rfc-editor.org/rfc/rfc7468#section-2
_LINE_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Pem:
    """A certificate or a key as PEM text, in place of a path; shown nowhere."""

    text: str = field(repr=False)


def certificate(value: object) -> str | Pem:
    """Return the path, or the text, of a certificate with those that vouch for it.

    Raises:
        ValueError: with what to give instead; never with the value.
    """
    return _path_or_pem(value, "CERTIFICATE")


def private_key(value: object) -> str | Pem:
    """Return the path, or the text, of a private key.

    Raises:
        ValueError: with what to give instead; never with the value.
    """
    return _path_or_pem(value, "PRIVATE KEY")


def _path_or_pem(value: object, label: str) -> str | Pem:
    text = value.strip() if isinstance(value, str) else ""
    if _MARK in text:
        return Pem(_mended(text, label))
    # A key that has lost its first line is no path, and must not be told of as one.
    if text.startswith("/") and "\n" not in text:
        return text
    msg = f"give an absolute path, or all from -----BEGIN {label}----- to -----END {label}-----"
    raise ValueError(msg)


def _mended(text: str, label: str) -> str:
    """Return PEM text with line ends, which a field of one line and some shells take away."""
    blocks = _BLOCK.findall(text.replace("\\n", "\n"))
    if any("ENCRYPTED" in name or "Proc-Type:" in body for name, body in blocks):
        msg = "give it without a passphrase, as `openssl pkey` prints it: nobody is there to type"
        raise ValueError(msg)
    if not any(name.endswith(label) for name, _ in blocks):
        msg = f"give all from -----BEGIN {label}----- to -----END {label}-----"
        raise ValueError(msg)
    return "".join(_block(name, "".join(body.split())) for name, body in blocks)


def _block(name: str, body: str) -> str:
    try:
        base64.b64decode(body, validate=True)
    except ValueError:
        msg = f"give it whole: what is between BEGIN {name} and END {name} is not base64"
        raise ValueError(msg) from None
    lines = textwrap.wrap(body, _LINE_CHARS)
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])
