"""Finds the forms in which a program may print a secret, and masks them in a text."""

from __future__ import annotations

import base64
import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MASK: Final = "***"
#: Masking shorter values would mask ordinary words. Airflow has a minimum of its own for its logs.
MIN_SECRET: Final = 5
# Other forms of longer secrets, like a file, are not expected, and take time to look for.
_MAX_FORMS: Final = 4_096
# What the base64 command writes into one line.
_LINE: Final = 76
#: Variables of HTTP proxies, each in both spellings that programs read.
PROXY_VARIABLES: Final = tuple(
    spelled
    for kind in ("http", "https", "no", "ftp", "all")
    for spelled in (f"{kind.upper()}_PROXY", f"{kind}_proxy")
)
#: User and password of a proxy, which may contain any character and may lack a scheme before it.
_PROXY: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?P<user>.*)@", re.IGNORECASE | re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
#: A character in a URL.
_ESCAPE: Final = re.compile("%..")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with each form of these secrets masked."""
    for form in _longest_first(frozenset(secrets)):
        text = text.replace(form, MASK)
    return text


@lru_cache(maxsize=16)
def _longest_first(secrets: frozenset[str]) -> tuple[str, ...]:
    forms = frozenset().union(*map(secret_forms, secrets))
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def proxy_secrets(env: Mapping[str, str]) -> frozenset[str]:
    """Return users and passwords in the variables of HTTP proxies, like HTTPS_PROXY."""
    secrets = set()
    for name, value in env.items():
        is_proxy = name.upper() in PROXY_VARIABLES and name.upper() != "NO_PROXY"
        if is_proxy and (match := _PROXY.match(value)):
            user, password = match["user"], match["user"].partition(":")[2]
            # A user without a password, or a short one, may be an ordinary word elsewhere.
            whole = user if password and len(user) >= MIN_SECRET else f"//{user}@"
            secrets |= {whole, unquote(whole), password, unquote(password)}
    return frozenset(secrets - {""})


def forms_to_mask(secrets: Iterable[str]) -> list[str]:
    """Return these secrets, of any length, and their other forms, each once, the shortest first."""
    forms = {form for secret in secrets for form in (secret, *secret_forms(secret))}
    return sorted(forms, key=lambda form: (len(form), form))


def secret_forms(secret: str) -> frozenset[str]:
    """Return a secret and its lines, and other forms in which programs print it.

    The other forms are other cases, base64 and hexadecimal, and as URLs, JSON, HTML, Python and a
    shell quote it.
    Values and lines of less than `MIN_SECRET` characters are left out.
    """
    if len(secret) < MIN_SECRET:
        return frozenset()
    forms = {secret, *secret.splitlines()}
    if len(secret) <= _MAX_FORMS:
        # No bytes become a surrogate below U+DC80: that comes from JSON, and no program gets it.
        encoded = _SURROGATE.sub("?", secret).encode(errors="surrogateescape")
        forms |= {
            secret.upper(),
            secret.lower(),
            secret.capitalize(),
            encoded.hex(),
            encoded.hex().upper(),
            html.escape(secret),
            *_quoted(secret, encoded),
            *_in_base64(encoded),
        }
    return frozenset(form for form in forms if len(form) >= MIN_SECRET)


def _quoted(secret: str, encoded: bytes) -> Iterator[str]:
    """Yield a secret as URLs, JSON, Python and a shell quote it, without the quotes around it."""
    for url in (quote(encoded, safe=""), quote(encoded), quote_plus(encoded)):
        yield from (url, url.lower(), _ESCAPE.sub(lambda found: found[0].lower(), url))
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield repr(encoded)[2:-1]
    yield secret.replace("'", "'\"'\"'")
    yield secret.replace("'", r"'\''")


def _in_base64(secret: bytes) -> Iterator[str]:
    """Yield a secret in base64: by itself, by its lines, and within a longer text.

    Three bytes become four characters. So there are three forms within a text, without the
    characters that depend on the bytes around the secret.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(secret).decode()
        yield whole
        yield from (whole[start : start + _LINE] for start in range(0, len(whole), _LINE))
        for before in range(3):
            text = encode(bytes(before) + secret).decode()
            # 8 bits a byte, 6 bits a character.
            yield text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
