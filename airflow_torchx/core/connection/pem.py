"""Reads certificates and keys as PEM text, and restores line breaks that a form has removed."""

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
    """A certificate or a key as PEM text; never shown."""

    text: str = field(repr=False)


def certificate(value: object) -> str | Pem:
    """Return the path or the PEM text of a certificate chain.

    Raises:
        ValueError: the value is invalid; the message says what to enter, and omits the value.
    """
    return _path_or_pem(value, "CERTIFICATE")


def private_key(value: object) -> str | Pem:
    """Return the path or the PEM text of a private key, as `certificate` does."""
    return _path_or_pem(value, "PRIVATE KEY")


def _path_or_pem(value: object, label: str) -> str | Pem:
    text = value.strip() if isinstance(value, str) else ""
    if _MARK in text:
        return Pem(_normalized(text, label))
    # A path appears in errors, so a key without its first line must not count as one.
    if text.startswith("/") and "\n" not in text:
        return text
    raise ValueError(
        f"give an absolute path, or the text from -----BEGIN {label}----- to -----END {label}-----"
    )


def _normalized(text: str, label: str) -> str:
    """Return PEM text with its line breaks, which one-line form fields and shells remove."""
    blocks = _BLOCK.findall(text.replace("\\n", "\n"))
    if any("ENCRYPTED" in name or "Proc-Type:" in body for name, body in blocks):
        raise ValueError("remove its passphrase with `openssl pkey`")
    if not any(name.endswith(label) for name, _ in blocks):
        raise ValueError(f"give the text from -----BEGIN {label}----- to -----END {label}-----")
    return "".join(_block(name, "".join(body.split())) for name, body in blocks)


def _block(name: str, body: str) -> str:
    try:
        base64.b64decode(body, validate=True)
    except ValueError:
        raise ValueError(
            f"give the complete text: the part after BEGIN {name} is not base64"
        ) from None
    lines = textwrap.wrap(body, _LINE_CHARS)
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""])
