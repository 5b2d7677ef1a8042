"""What is masked in Airflow's logs."""

from __future__ import annotations

import re

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker

from airflow_torchx.airflow_compat import mask, mask_file, masked


@pytest.mark.parametrize(("minimum", "shown"), [(5, "abc"), (3, "***")])
def test_airflow_decides_which_secrets_are_too_short(
    minimum: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of three characters is masked if min_length_masked_secret allows it."""
    masker = _secrets_masker()
    monkeypatch.setattr(masker, "min_length_to_mask", minimum)
    monkeypatch.setattr(masker, "patterns", set())
    monkeypatch.setattr(masker, "replacer", None)

    mask(["abc", "open-sesame"])

    assert f"{shown} *** ***" == masked("abc open-sesame OPEN-SESAME")


def test_a_file_is_masked_by_few_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that no program gets adds itself and its lines to what Airflow looks for."""
    masker = _secrets_masker()
    monkeypatch.setattr(masker, "patterns", set())
    monkeypatch.setattr(masker, "replacer", None)
    text = "-----BEGIN KEY-----\nfirst line\nsecond line\n-----END KEY-----"

    mask_file(text)

    assert {*map(re.escape, (text, *text.splitlines()))} == masker.patterns
    assert "a *** b" == masked("a second line b")
