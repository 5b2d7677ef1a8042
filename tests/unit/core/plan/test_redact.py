"""Secrets in the forms in which a program may print them."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

import pytest

from airflow_torchx.core.plan.redact import forms_to_mask, redact, secret_forms

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = 'Open/sesame? 4+2="6"'  # noqa: S105 - a test's


def test_the_longest_secret_is_masked_first() -> None:
    """A secret that contains another one is masked completely."""
    assert "*** ***" == redact("abcdef-suffix abcdef", ["abcdef", "abcdef-suffix"])


@pytest.mark.parametrize(
    "printed",
    [
        SECRET,
        SECRET.upper(),
        SECRET.lower(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        quote(SECRET),
        html.escape(SECRET),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
    ],
)
def test_a_form_is_masked_completely(printed: str) -> None:
    """A secret is masked in another case, in base64, hexadecimal, a URL, JSON and HTML."""
    assert "a *** b" == redact(f"a {printed} b", [SECRET])


QUOTED = 'key\'s \\ "Wört/+"'


@pytest.mark.parametrize(
    "printed",
    [
        repr(QUOTED)[1:-1],
        repr(QUOTED.encode())[2:-1],
        shlex.quote(QUOTED)[1:-1],
        json.dumps(QUOTED)[1:-1],
        json.dumps(QUOTED, ensure_ascii=False)[1:-1],
        quote(QUOTED).lower(),
        re.sub("%..", lambda found: found[0].lower(), quote(QUOTED)),
        QUOTED.capitalize(),
    ],
)
def test_a_quoted_form_is_masked_completely(printed: str) -> None:
    """A secret is masked as Python, a shell, JSON and a URL write its special characters."""
    assert "a *** b" == redact(f"a {printed} b", [QUOTED])


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", "\n", "@host"])
@pytest.mark.parametrize("secret", ["sesame", "open-sesame?", "~~~>>>???", "x" * 60])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_within_base64_is_masked(
    before: str, after: str, secret: str, encode: Callable[[bytes], bytes]
) -> None:
    """Of a secret in a text that is encoded, one character at most is left at each end."""
    encoded = encode(f"{before}{secret}{after}".encode()).decode()

    start, end = redact(encoded, [secret]).split("***")

    # A character has six bits. At the end, up to four of them are zeros.
    assert 6 * len(start) < 8 * len(before) + 6
    assert 6 * len(end.rstrip("=")) < 8 * len(after) + 6 + 4


def test_lines_of_the_base64_command_are_masked() -> None:
    """A long secret is masked in each line that the base64 command writes."""
    secret = "".join(f"word-{number}" for number in range(40))

    printed = base64.encodebytes(secret.encode()).decode()

    assert {"***"} == set(redact(printed, [secret]).splitlines())


def test_a_file_is_masked_line_by_line() -> None:
    """Each line of a secret is masked, unless it is an ordinary word."""
    assert "*** --- ***" == redact("first line --- second", ["first line\n---\nsecond"])


@pytest.mark.parametrize("secret", ["", "abcd", "a\nb"])
def test_a_short_secret_has_no_forms(secret: str) -> None:
    """A value of less than five characters is not masked."""
    assert frozenset() == secret_forms(secret)


def test_the_shortest_form_is_given_first() -> None:
    """The forms to mask are given once, a long one after all shorter ones of any secret."""
    key = "\n".join(f"line {number} of a key" for number in range(30))

    forms = forms_to_mask([key, "abc", "open-sesame", "OPEN-SESAME"])

    assert [*map(len, forms)] == sorted(map(len, forms))
    expected = {"abc"}.union(*map(secret_forms, (key, "open-sesame", "OPEN-SESAME")))
    assert (expected, len(expected)) == (set(forms), len(forms))


def test_a_value_that_is_not_utf8_is_masked() -> None:
    """A value with any bytes, or with half of a character as in JSON, is masked."""
    assert "***" == redact("caf\udce9-word", ["caf\udce9-word"])
    assert "***" == redact("caf\ud800-word", ["caf\ud800-word"])


def test_a_word_in_a_form_with_data() -> None:
    """A secret in the body of a form is masked."""
    assert "password=***&user=me" == redact(urlencode({"password": SECRET, "user": "me"}), [SECRET])
