"""What is masked in Airflow's logs."""

from __future__ import annotations

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker

from airflow_torchx.airflow_compat import mask, masked


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
